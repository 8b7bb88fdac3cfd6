"""What the commands of `operate` do with their options: ask AWS, print what is found, and return the exit code.

What a command needs is imported when it runs.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sagerank.aws import ENDPOINT_NAME

from . import OperateError, screen, terminal

if TYPE_CHECKING:
    from .account import Account
    from .endpoint import Endpoint


def _signed_in(options: argparse.Namespace) -> Account:
    from .account import of

    name = getattr(options, "name", "sagerank")
    if re.fullmatch(ENDPOINT_NAME, name) is None:
        raise OperateError(
            f"There can be no deployment {name!r}: names are at most 63 letters, digits and inner hyphens."
        )
    account = of(options)
    account.sign_in()
    return account


def deploy(options: argparse.Namespace) -> int:
    from .deploying import run

    code = run(options, options.own)
    return verify(options) if code is None else code


def policies(options: argparse.Namespace) -> int:
    from .policies import run

    return run(options, options.own)


def template(options: argparse.Namespace) -> int:
    from .template import run

    return run(options, options.own)


def verify(options: argparse.Namespace) -> int:
    from .verify import verify

    account, manifest = _signed_in(options), None
    if options.model:
        from sagerank.models.build import resolve
        from sagerank_inference.artefact import Manifest

        manifest = Manifest.read(resolve(options.model))
    _wait(account, options.name)
    terminal.say("Asking the endpoint for the golden pairs: seconds, or minutes where it starts from zero")
    with terminal.watching(options.name, terminal.FIRST_INSTANCE, "Stopped waiting.") as progress:
        verdict = verify(
            account,
            options.name,
            manifest=manifest,
            tolerance=options.tolerance,
            wanted=options.expect_config,
            progress=progress,
        )
    if options.json:
        terminal.print_json(dataclasses.asdict(verdict) | {"ok": verdict.ok})
    else:
        terminal.show(screen.verdict(verdict))
    return 0 if verdict.ok else 1


def _wait(account: Account, name: str) -> Endpoint:
    from .endpoint import wait

    hint = f"Stopped waiting; AWS goes on. See `sagerank status {name} --region {account.region}`."
    with terminal.watching(name, "an endpoint usually takes AWS 5 to 10 minutes", hint) as progress:
        return wait(account, name, progress)


def status(options: argparse.Namespace) -> int:
    from .status import status

    account = _signed_in(options)
    if options.wait:
        _wait(account, options.name)
    found = status(account, options.name)
    if options.json:
        terminal.print_json(
            dataclasses.asdict(found) | {"mode": found.endpoint.mode, "rolled_back": found.rolled_back}
        )
    else:
        print(screen.status(found))
    return 0


def idle(options: argparse.Namespace) -> int:
    from .idle import idle

    if not 1 <= options.days <= 455:
        raise OperateError(
            f"--days is {options.days}: give 1 to 455, for as long as CloudWatch keeps its points."
        )
    account = _signed_in(options)
    found, number = idle(account, options.days)
    if options.json:
        terminal.print_json(
            [dataclasses.asdict(each) | {"usd_per_month": each.usd_per_month} for each in found]
        )
    else:
        print(screen.idle(found, number, account.region, options.days))
    return 1 if found and options.fail else 0


def transform(options: argparse.Namespace) -> int:
    from . import transform

    account, began = _signed_in(options), time.monotonic()
    remote = options.output if options.output.startswith("s3://") else ""
    if options.count < 1:
        raise OperateError(f"--count is {options.count}: give at least 1.")
    job = transform.Job(instance=options.instance, count=options.count)
    title, target = transform.start(
        account,
        options.name,
        options.input,
        job,
        content_type=options.content_type,
        output=remote,
        output_key=options.output_key,
    )
    files: list[Path] = []
    status = "InProgress"
    if options.no_wait:
        terminal.say(f"The job {title} was created; its answers will be in {target}/.")
    else:
        hint = f"The job goes on: stop it with `aws sagemaker stop-transform-job --transform-job-name {title} --region {account.region}`."
        usual = "usually 5 minutes until the instance runs, and then as long as scoring takes"
        with terminal.watching(title, usual, hint) as progress:
            status = transform.wait(account, title, progress)
        files = [] if remote else transform.download(account, target, Path(options.output))
    if options.json:
        terminal.print_json(
            {
                "job": title,
                "status": status,
                "output": target,
                "files": files,
                "seconds": round(time.monotonic() - began, 1),
            }
        )
    else:
        print("\n".join(map(str, files)) or target)
    return 0


def destroy(options: argparse.Namespace) -> int:
    from . import destroy, tools

    account = _signed_in(options)
    tools.node()
    terminal.say("Looking for what the deployment has")
    doomed = destroy.survey(account, options.name)
    for line in screen.doomed(doomed, account.number, account.region):
        terminal.say(line)
    if not options.unprotect:
        destroy.require_unprotected(doomed)
    if not terminal.agreed(options, "Delete?"):
        terminal.say("Nothing was deleted.")
        return 1
    terminal.say("Deleting: usually 5 to 15 minutes, longest with a VPC")
    failed = ""
    try:
        destroy.destroy(account, doomed)
    except OperateError as error:  # what is left is wanted all the more
        failed = str(error)
        terminal.say(failed)
    terminal.say(f"Looking up whether {len(doomed.resources)} resources are gone: less than a minute")
    rest = destroy.left(account, doomed)
    ok = not (rest.left or failed)
    if options.json:
        terminal.print_json(dataclasses.asdict(rest) | {"checked": len(doomed.resources), "ok": ok})
    else:
        terminal.show(screen.left(doomed, rest))
    return 0 if ok else 1
