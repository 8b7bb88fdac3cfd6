"""`sagerank deploy | verify | status | idle | transform | destroy`: what a command needs is imported when it runs."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import OperateError, screen

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
    "region": "AWS region (default: us-east-1)",
}


# Two of each command, for its help.
_EXAMPLES = {
    "deploy": (
        "sagerank deploy --model tiny --instance ml.c7i.large --dry-run",
        "sagerank deploy --config sagerank.yaml --yes",
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

    def command(name: str, run: Callable[[argparse.Namespace], int], description: str) -> Any:
        epilog = "\n  ".join(("examples:", *_EXAMPLES[name]))
        sub = commands.add_parser(name, help=description, description=description, epilog=epilog)
        # Only the CDK app needs what is not always installed.
        extra = "infra" if name == "deploy" else ""
        sub.set_defaults(run=lambda options: _guarded(run, options), extra=extra, group="deploy")
        sub.add_argument("--json", action="store_true", help="print JSON")
        sub.add_argument("--endpoint-url", help="where the AWS API is, if not at AWS")
        return sub

    def named(name: str, run: Callable[[argparse.Namespace], int], description: str) -> Any:
        sub = command(name, run, description)
        sub.add_argument(
            "name", nargs="?", default="sagerank", help="of the deployment (default: %(default)s)"
        )
        sub.add_argument("--region", help="AWS region")
        return sub

    deploy = command("deploy", _deploy, "deploy a model to SageMaker with the AWS CDK, and verify it")
    for option, meaning in _OWN.items():
        deploy.add_argument(f"--{option}", help=meaning)
    deploy.add_argument(
        "--config", type=Path, help="configuration file: YAML, TOML or JSON; options override it"
    )
    deploy.add_argument(
        "-c",
        "--context",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="any other option, such as autoscaling.max=8",
    )
    deploy.add_argument("--yes", action="store_true", help="do not ask")
    deploy.add_argument(
        "--dry-run", action="store_true", help="show what would be deployed and its cost, and stop"
    )
    deploy.add_argument(
        "--bootstrap",
        action="store_true",
        help="also set the CDK up in this account and region, where it is not",
    )
    deploy.add_argument("cdk", nargs="*", help="after --: passed to `cdk deploy`")

    verify = named("verify", _verify, "check that an endpoint runs what was deployed, and its scores")
    verify.add_argument(
        "--model", help="judge by this model's golden pairs (default: the deployed artefact's own)"
    )
    verify.add_argument("--tolerance", type=float, help="of a logit (default: 0.001, or 0.1 on GPU)")
    verify.add_argument(
        "--expect-config",
        default="",
        help="name of the endpoint configuration it must run (default: its stack's)",
    )

    status = named("status", _status, "one screen about an endpoint")
    status.add_argument("--wait", action="store_true", help="until nothing is under way any more")

    idle = command("idle", _idle, "find endpoints that nobody calls, and what they cost")
    idle.add_argument("--region", help="AWS region")
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
    transform.add_argument("--no-wait", action="store_true", help="create the job and return")

    destroy = named("destroy", _destroy, "delete a deployment, and prove that nothing is left")
    destroy.add_argument("--yes", action="store_true", help="do not ask")


def _guarded(run: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    from .account import sentences

    with sentences():
        return run(options)


def _account(options: argparse.Namespace, region: str | None = None) -> Account:
    from .account import Account

    return Account(region or options.region, endpoint_url=options.endpoint_url)


def _print_json(value: object) -> None:
    print(
        json.dumps(
            value, indent=2, default=lambda each: float(each) if isinstance(each, Decimal) else str(each)
        )
    )


def _show(lines: Iterable[str]) -> None:
    print("\n".join(lines))


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _agreed(options: argparse.Namespace, question: str) -> bool:
    if options.yes:
        return True
    if not sys.stdin.isatty():
        raise OperateError("Nobody can be asked here: give --yes.")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


@contextmanager
def _watching(what: str, interrupted: str) -> Iterator[Callable[[str, float], None]]:
    """Show progress on a line that is written over, and elsewhere a line for each new status; `interrupted` is said at Ctrl-C."""
    last = ""

    def progress(status: str, seconds: float) -> None:
        nonlocal last
        if sys.stderr.isatty():
            print(f"\r{what}: {status}, {seconds:.0f} s", end="", file=sys.stderr, flush=True)
        elif status != last:
            _say(f"{what}: {status}")
        last = status

    try:
        yield progress
    except KeyboardInterrupt:
        _say(f"\n{interrupted}")
        raise
    finally:
        if last and sys.stderr.isatty():
            _say("")


def _deploy(options: argparse.Namespace) -> int:
    from . import cdk, deploy

    cdk.check()

    context = {name: value for name in _OWN if (value := getattr(options, name))}
    for text in options.context:
        name, separator, value = text.partition("=")
        if not separator:
            raise OperateError(f"-c {text}: give OPTION=VALUE, such as -c autoscaling.max=8.")
        if context.get(name, value) != value:
            raise OperateError(f"--{name} is {context[name]!r} and -c {name} is {value!r}: give one of them.")
        context[name] = value
    _say("Checking the configuration and synthesising the stacks")
    with deploy.plan(options.config, context, lambda region: _account(options, region)) as planned:
        _say(str(planned))
        if options.dry_run:
            return _dry(options, planned)
        if not planned.bootstrapped and not options.bootstrap:
            raise OperateError(
                f"The CDK is not set up in account {planned.account}, {planned.region}: give --bootstrap once. It makes the stack CDKToolkit (a bucket, a "
                "repository, roles), and whoever may use its roles may do what CloudFormation may, by default everything."
            )
        if not _agreed(options, "Deploy?"):
            _say("Nothing was deployed.")
            return 1
        if not planned.bootstrapped:
            deploy.bootstrap(planned.account, planned.region)
        config = planned.config
        try:
            deploy.deploy(planned, options.cdk)
        except KeyboardInterrupt:
            _say(
                f"\nCloudFormation goes on with what it was given: see `sagerank status {config.name} --region {config.region}`."
            )
            raise
    if not config.traits.endpoint:
        _say(
            f"Deployed. Score a file with `sagerank transform {config.name} --region {config.region} --instance {config.instance} --input FILE`."
        )
        if options.json:
            _print_json({"name": config.name, "region": config.region, "mode": config.mode, "verified": None})
        return 0
    if not config.traits.own_container:
        _say(
            f"Deployed. A Marketplace package has no golden pairs to verify; see `sagerank status {config.name} --region {config.region}`."
        )
        return 0
    options.name, options.region = config.name, config.region
    options.model, options.tolerance, options.expect_config = None, None, ""
    return _verify(options)


def _dry(options: argparse.Namespace, planned: Any) -> int:
    if options.json:
        _print_json(
            {
                "name": planned.config.name,
                "account": planned.account,
                "region": planned.region,
                "bootstrapped": planned.bootstrapped,
                "stacks": planned.assembly.stacks,
                "estimate": planned.assembly.estimate,
            }
        )
    return 0


def _verify(options: argparse.Namespace) -> int:
    from .verify import verify

    manifest = None
    if options.model:
        from sagerank.models.build import resolve
        from sagerank_inference.artefact import Manifest

        manifest = Manifest.read(resolve(options.model))
    account = _account(options)
    _wait(account, options.name)
    verdict = verify(
        account, options.name, manifest=manifest, tolerance=options.tolerance, wanted=options.expect_config
    )
    if options.json:
        _print_json(dataclasses.asdict(verdict) | {"ok": verdict.ok})
    else:
        _show(screen.verdict(verdict))
    return 0 if verdict.ok else 1


def _wait(account: Account, name: str) -> Endpoint:
    from .endpoint import wait

    hint = f"Stopped waiting; AWS goes on. See `sagerank status {name} --region {account.region}`."
    with _watching(name, hint) as progress:
        return wait(account, name, progress)


def _status(options: argparse.Namespace) -> int:
    from .status import status

    account = _account(options)
    if options.wait:
        _wait(account, options.name)
    found = status(account, options.name)
    if options.json:
        _print_json(
            dataclasses.asdict(found) | {"mode": found.endpoint.mode, "rolled_back": found.rolled_back}
        )
    else:
        _show(screen.status(found))
    return 0


def _idle(options: argparse.Namespace) -> int:
    from .idle import idle

    if not 1 <= options.days <= 455:
        raise OperateError(
            f"--days is {options.days}: give 1 to 455, for as long as CloudWatch keeps its points."
        )
    account = _account(options)
    found, number = idle(account, options.days)
    if options.json:
        _print_json([dataclasses.asdict(each) | {"usd_per_month": each.usd_per_month} for each in found])
    else:
        _show(screen.idle(found, number, account.region, options.days))
    return 1 if found and options.fail else 0


def _transform(options: argparse.Namespace) -> int:
    from . import transform

    account, began = _account(options), time.monotonic()
    remote = options.output if options.output.startswith("s3://") else ""
    if options.count < 1:
        raise OperateError(f"--count is {options.count}: give at least 1.")
    job = transform.Job(instance=options.instance, count=options.count)
    title, target = transform.start(
        account, options.name, options.input, job, content_type=options.content_type, output=remote
    )
    files: list[Path] = []
    status = "InProgress"
    if options.no_wait:
        _say(f"The job {title} was created; its answers will be in {target}/.")
    else:
        hint = f"The job goes on: stop it with `aws sagemaker stop-transform-job --transform-job-name {title} --region {account.region}`."
        with _watching(title, hint) as progress:
            status = transform.wait(account, title, progress)
        files = [] if remote else transform.download(account, target, Path(options.output))
    if options.json:
        _print_json(
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
    from . import destroy

    account = _account(options)
    doomed = destroy.survey(account, options.name)
    for line in screen.doomed(doomed, account.number, account.region):
        _say(line)
    if not _agreed(options, "Delete?"):
        _say("Nothing was deleted.")
        return 1
    destroy.destroy(account, doomed)
    rest = destroy.left(account, doomed)
    if options.json:
        _print_json(dataclasses.asdict(rest) | {"checked": len(doomed.resources), "ok": not rest.left})
    else:
        _show(screen.left(doomed, rest))
    return 1 if rest.left else 0
