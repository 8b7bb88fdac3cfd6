"""`sagerank deploy | policies | template | verify | status | idle | transform | destroy`: what a command needs is imported when it runs."""

from __future__ import annotations

import argparse
import dataclasses
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sagerank.aws import PROFILE_HELP, REGION_HELP
from sagerank_cost.text import examples

from . import OperateError, screen, terminal

if TYPE_CHECKING:
    from .account import Account
    from .endpoint import Endpoint

# Options of their own for what every deployment decides; the rest is -c OPTION=VALUE.
_OWN = {
    "name": "of the endpoint, and the prefix of its stacks (default: sagerank)",
    "model": "micro, tiny, turbo, base, or a cascade such as tiny>base@20",
    "mode": "realtime, serverless, async, scale-to-zero, batch or marketplace (default: realtime)",
    "instance": "hosting type, such as ml.c7i.large; none in serverless",
    "preset": "dev or prod (default: dev)",
    "region": REGION_HELP,
}


# SageMaker's own, of endpoints that were not made here, too.
_NAME = r"[A-Za-z0-9](-*[A-Za-z0-9]){0,62}"

# Two of each command, for its help.
_EXAMPLES = {
    "deploy": (
        "sagerank deploy --model tiny --instance ml.c7i.large --dry-run",
        "sagerank deploy --config sagerank.yaml --yes",
    ),
    "policies": (
        "sagerank policies --role --config sagerank.yaml",
        "sagerank policies --key -c account=123456789012 --instance ml.c7i.large",
    ),
    "template": (
        "sagerank template --mode serverless --output sagerank.yaml",
        "sagerank template --config s.yaml --format terraform --output main.tf.json",
    ),
    "verify": ("sagerank verify", "sagerank verify my-reranker --region eu-west-1 --json"),
    "status": ("sagerank status", "sagerank status my-reranker --region eu-west-1 --wait"),
    "idle": ("sagerank idle --region eu-west-1", "sagerank idle --days 30 --fail"),
    "transform": (
        "sagerank transform --input requests.jsonl --instance ml.c7i.xlarge",
        "sagerank transform --input s3://B/in --output s3://B/o --instance ml.m5.large",
    ),
    "destroy": ("sagerank destroy", "sagerank destroy my-reranker --region eu-west-1 --yes"),
}


def add(commands: Any) -> None:
    """Add the commands to the subparsers of `sagerank`."""

    def command(
        name: str, run: Callable[[argparse.Namespace], int], description: str, *, asks: bool = True
    ) -> Any:
        epilog = examples(*_EXAMPLES[name])
        sub = commands.add_parser(name, help=description, description=description, epilog=epilog)
        # Only the CDK app needs what is not always installed.
        extra = "infra" if name in ("deploy", "policies", "template") else ""
        sub.set_defaults(run=lambda options: _guarded(run, options), extra=extra, group="deploy")
        if asks:
            _add_account(sub)
        return sub

    def named(name: str, run: Callable[[argparse.Namespace], int], description: str) -> Any:
        sub = command(name, run, description)
        sub.add_argument(
            "name", nargs="?", default="sagerank", help="of the deployment (default: %(default)s)"
        )
        sub.add_argument("--region", help=_OWN["region"])
        return sub

    def configured(
        name: str, run: Callable[[argparse.Namespace], int], description: str, *, asks: bool = True
    ) -> Any:
        sub = command(name, run, description, asks=asks)
        for option, meaning in _OWN.items():
            sub.add_argument(f"--{option}", help=meaning)
        sub.add_argument(
            "--config", type=Path, help="configuration file: YAML, TOML or JSON; options override it"
        )
        sub.add_argument(
            "-c",
            "--context",
            action="append",
            default=[],
            metavar="OPTION=VALUE",
            help="any other option, such as autoscaling.max=8",
        )
        return sub

    deploy = configured("deploy", _deploy, "deploy a model to SageMaker with the AWS CDK, and verify it")
    deploy.add_argument("--yes", action="store_true", help="do not ask")
    deploy.add_argument(
        "--dry-run",
        action="store_true",
        help="show what would be deployed and its cost, and stop: no credentials, weights or Docker needed",
    )
    deploy.add_argument("--output", type=Path, help="with --dry-run: folder that the templates stay in")
    deploy.add_argument(
        "--plan",
        type=Path,
        metavar="FILE",
        help="write what would be deployed to a file for a reviewer, and stop",
    )
    deploy.add_argument("--apply", type=Path, metavar="FILE", help="deploy a reviewed plan, and nothing else")
    deploy.add_argument(
        "--bootstrap",
        action="store_true",
        help="also set the CDK up in this account and region, where it is not",
    )
    deploy.add_argument("cdk", nargs="*", help="after --: passed to `cdk deploy`")

    policies = configured(
        "policies",
        _policies,
        "print the policies that a role, a key and callers need",
    )
    for who, meaning in {
        "role": "the role that the model runs with: its policy, and whom it trusts",
        "key": "a KMS key of yours, whole: with the statement that every key has",
        "caller": "whoever asks the model",
    }.items():
        policies.add_argument(f"--{who}", dest=f"for_{who}", action="store_true", help=f"of {meaning}")

    _add_template(configured)

    verify = named("verify", _verify, "check that an endpoint runs what was deployed, and its scores")
    verify.add_argument(
        "--model", help="judge by this model's golden pairs (default: the deployed artefact's own)"
    )
    verify.add_argument(
        "--tolerance",
        type=float,
        help="of a logit (default: 0.001; on GPU 0.15 of the golden logits' range, at least 0.1)",
    )
    verify.add_argument(
        "--expect-config",
        default="",
        help="name of the endpoint configuration it must run (default: its stack's)",
    )

    status = named("status", _status, "one screen about an endpoint")
    status.add_argument("--wait", action="store_true", help="until nothing is under way any more")

    idle = command("idle", _idle, "find endpoints that nobody calls, and what they cost")
    idle.add_argument("--region", help=_OWN["region"])
    idle.add_argument("--days", type=int, default=7, help="without an invocation (default: %(default)s)")
    idle.add_argument("--fail", action="store_true", help="exit with 1 where one is found")

    transform = named("transform", _transform, "score a file or an S3 folder in a batch job")
    transform.add_argument(
        "--input", required=True, help="JSON Lines, JSON or CSV: a file, or s3://BUCKET/PREFIX"
    )
    transform.add_argument(
        "--output", default=".", help="folder for the answers, or s3://BUCKET/FOLDER (default: here)"
    )
    transform.add_argument("--instance", required=True, help="type the job runs on, such as ml.c7i.xlarge")
    transform.add_argument(
        "--count", type=int, default=1, help="of instances; a file goes to one (default: %(default)s)"
    )
    transform.add_argument("--content-type", default="", help="of the input (default: by its name)")
    transform.add_argument(
        "--output-key", default="", help="ARN of the KMS key of the answers (default: the deployment's)"
    )
    transform.add_argument("--no-wait", action="store_true", help="create the job and return")

    destroy = named("destroy", _destroy, "delete a deployment, and prove that nothing is left")
    destroy.add_argument("--yes", action="store_true", help="do not ask")
    destroy.add_argument(
        "--unprotect", action="store_true", help="turn the stacks' termination protection off first"
    )


def _add_account(sub: argparse.ArgumentParser) -> None:
    """The options of a command that asks AWS."""
    sub.add_argument("--json", action="store_true", help="print JSON")
    sub.add_argument("--profile", help=PROFILE_HELP)
    sub.add_argument("--endpoint-url", help="where the AWS API is, if not at AWS")


def _add_template(configured: Callable[..., Any]) -> None:
    about = "write a plain template for those who do not use the CDK"
    template = configured("template", _template, about, asks=False)
    template.add_argument(
        "--format",
        default="cloudformation",
        choices=("cloudformation", "terraform"),
        help="cloudformation (YAML) or terraform (JSON) (default: %(default)s)",
    )
    template.add_argument("--output", type=Path, metavar="FILE", help="(default: what is printed)")


def _guarded(run: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    from .account import sentences

    with sentences():
        return run(options)


def _signed_in(options: argparse.Namespace) -> Account:
    from .account import of

    name = getattr(options, "name", "sagerank")
    if re.fullmatch(_NAME, name) is None:
        raise OperateError(
            f"There can be no deployment {name!r}: names are at most 63 letters, digits and inner hyphens."
        )
    account = of(options)
    account.sign_in()
    return account


def _deploy(options: argparse.Namespace) -> int:
    from .deploying import run

    code = run(options, list(_OWN))
    return _verify(options) if code is None else code


def _policies(options: argparse.Namespace) -> int:
    from .policies import run

    return run(options, list(_OWN))


def _template(options: argparse.Namespace) -> int:
    from .template import run

    return run(options, list(_OWN))


def _verify(options: argparse.Namespace) -> int:
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


def _status(options: argparse.Namespace) -> int:
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


def _idle(options: argparse.Namespace) -> int:
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


def _transform(options: argparse.Namespace) -> int:
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


def _destroy(options: argparse.Namespace) -> int:
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
