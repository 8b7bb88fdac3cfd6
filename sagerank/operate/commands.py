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
    "region": "AWS region (default: AWS_REGION, AWS_DEFAULT_REGION, or the profile's)",
}
_DRY_REGION = "us-east-1"  # of a dry run where nothing says another

# By whether there is an endpoint; AWS's usual times, and none of ours.
_TYPICAL = {
    True: "usually 10 to 15 minutes, most of them until SageMaker has started the endpoint",
    False: "usually 3 to 5 minutes",
}


def add(commands: Any) -> None:
    """Add the commands to the subparsers of `sagerank`."""

    def command(name: str, run: Callable[[argparse.Namespace], int], description: str) -> Any:
        sub = commands.add_parser(name, help=description, description=description)
        sub.set_defaults(run=lambda options: _guarded(run, options), extra="infra")
        sub.add_argument("--json", action="store_true", help="print JSON")
        sub.add_argument("--profile", help="of the AWS configuration (default: AWS_PROFILE)")
        sub.add_argument("--endpoint-url", help="where the AWS API is, if not at AWS")
        return sub

    def named(name: str, run: Callable[[argparse.Namespace], int], description: str) -> Any:
        sub = command(name, run, description)
        sub.add_argument(
            "name", nargs="?", default="sagerank", help="of the deployment (default: %(default)s)"
        )
        sub.add_argument("--region", help=_OWN["region"])
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
        "--dry-run",
        action="store_true",
        help="show what would be deployed and its cost, and stop: no credentials, weights or Docker needed",
    )
    deploy.add_argument("--output", type=Path, help="with --dry-run: folder that the templates stay in")
    deploy.add_argument(
        "--bootstrap",
        action="store_true",
        help="also set the CDK up in this account and region, where it is not",
    )
    deploy.add_argument("cdk", nargs="*", help="after --: passed to `cdk deploy`")

    verify = named(
        "verify", _verify, "check that an endpoint runs what was deployed and scores the golden pairs"
    )
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
    transform.add_argument("--no-wait", action="store_true", help="create the job and return")

    destroy = named("destroy", _destroy, "delete a deployment, and prove that nothing is left")
    destroy.add_argument("--yes", action="store_true", help="do not ask")


def _guarded(run: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    from .account import sentences

    with sentences():
        return run(options)


def _account(options: argparse.Namespace) -> Account:
    from .account import Account

    return Account(options.region, profile=options.profile, endpoint_url=options.endpoint_url)


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
def _watching(what: str, usual: str, interrupted: str) -> Iterator[Callable[[str, float], None]]:
    """Show progress on a line that is written over, and elsewhere a line for each new status; `interrupted` is said at Ctrl-C.

    usual: how long it takes, said once.
    """
    last = ""

    def progress(status: str, seconds: float) -> None:
        nonlocal last
        if not last:
            _say(f"Waiting for {what}: {usual}")
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
    if options.output and not options.dry_run:
        raise OperateError("--output goes with --dry-run: a deployment's templates are in CloudFormation.")
    given = _given(options)
    options.region = deploy.named(options.config, given).get("region")
    if options.dry_run:
        return _dry(options, given)
    account = _account(options)
    wanted = deploy.want(options.config, {**given, "region": account.region})
    config = wanted.config
    # All that may be missing, before anything is downloaded or built.
    place = deploy.locate(account, config)
    if not place.bootstrapped and not options.bootstrap:
        raise OperateError(
            f"The CDK is not set up in account {place.account}, {place.region}: give --bootstrap once. It makes the stack CDKToolkit (a bucket, a "
            "repository, roles), and whoever may use its roles may do what CloudFormation may, by default everything."
        )
    deploy.require_tools(config)
    _say(
        "Building the artefact, where it is not yet, and synthesising the stacks: seconds, or minutes where a model is downloaded"
    )
    with deploy.plan(wanted, place) as planned:
        _say("\n".join(screen.plan(planned)))
        if not _agreed(options, "Deploy?"):
            _say("Nothing was deployed.")
            return 1
        if not place.bootstrapped:
            _say("Setting up the CDK: about 2 minutes")
            deploy.bootstrap(place, options.profile)
        where = f"{config.name} --region {config.region}"
        _say(f"Deploying {', '.join(planned.assembly.stacks)}: {_TYPICAL[config.traits.endpoint]}")
        try:
            deploy.deploy(planned, options.cdk, options.profile)
        except KeyboardInterrupt:
            _say(f"\nCloudFormation goes on with what it was given: see `sagerank status {where}`.")
            raise
    if not config.traits.endpoint:
        _say(
            f"Deployed. Score a file with `sagerank transform {where} --instance {config.instance} --input FILE`."
        )
        if options.json:
            _print_json({"name": config.name, "region": config.region, "mode": config.mode, "verified": None})
        return 0
    if not config.traits.own_container:
        _say(f"Deployed. A Marketplace package has no golden pairs to verify; see `sagerank status {where}`.")
        return 0
    options.name, options.region = config.name, config.region
    options.model, options.tolerance, options.expect_config = None, None, ""
    return _verify(options)


def _given(options: argparse.Namespace) -> dict[str, str]:
    """The options of the configuration, from those of their own and from -c. Raises OperateError where they disagree."""
    given = {name: value for name in _OWN if (value := getattr(options, name))}
    for text in options.context:
        name, separator, value = text.partition("=")
        if not separator:
            raise OperateError(f"-c {text}: give OPTION=VALUE, such as -c autoscaling.max=8.")
        if given.get(name, value) != value:
            raise OperateError(f"--{name} is {given[name]!r} and -c {name} is {value!r}: give one of them.")
        given[name] = value
    return given


def _dry(options: argparse.Namespace, given: dict[str, str]) -> int:
    """Show what a deployment would be. Credentials only add whose account it would go to."""
    from sagerank.aws import NoRegion

    from . import cdk, deploy
    from .account import sentences

    assumed = ""
    try:
        account = _account(options)
    except NoRegion:
        options.region = assumed = _DRY_REGION
        account = _account(options)
    wanted = deploy.want(options.config, {**given, "region": account.region})
    cdk.require_node()
    try:
        with sentences():
            place = deploy.locate(account, wanted.config)
    except OperateError as error:
        place = deploy.Place(region=account.region, unknown=str(error))
    _say("Synthesising the stacks: about 5 s")
    with deploy.plan(wanted, place, shape=True, folder=options.output) as planned:
        if options.json:
            _print_json(
                {
                    "name": planned.config.name,
                    "account": place.account,
                    "region": place.region,
                    "bootstrapped": place.bootstrapped,
                    "stacks": list(planned.assembly.stacks),
                    "resources": planned.assembly.stacks,
                    "estimate": planned.assembly.estimate,
                    "templates": options.output,
                }
            )
        else:
            _show(screen.plan(planned))
            _show(screen.dry(assumed=assumed, kept=options.output))
    return 0


def _verify(options: argparse.Namespace) -> int:
    from .verify import verify

    manifest = None
    if options.model:
        from sagerank.models.build import resolve
        from sagerank_inference.artefact import Manifest

        manifest = Manifest.read(resolve(options.model))
    account = _account(options)
    account.sign_in()
    _wait(account, options.name)
    _say("Asking the endpoint for the golden pairs: seconds, or minutes where it starts from zero")
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
    with _watching(name, "an endpoint usually takes AWS 5 to 10 minutes", hint) as progress:
        return wait(account, name, progress)


def _status(options: argparse.Namespace) -> int:
    from .status import status

    account = _account(options)
    account.sign_in()
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
    account.sign_in()
    found, number = idle(account, options.days)
    if options.json:
        _print_json([dataclasses.asdict(each) | {"usd_per_month": each.usd_per_month} for each in found])
    else:
        _show(screen.idle(found, number, account.region, options.days))
    return 1 if found and options.fail else 0


def _transform(options: argparse.Namespace) -> int:
    from . import transform

    account, began = _account(options), time.monotonic()
    account.sign_in()
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
        usual = "usually 5 minutes until the instance runs, and then as long as scoring takes"
        with _watching(title, usual, hint) as progress:
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
    from . import cdk, destroy

    account = _account(options)
    account.sign_in()
    cdk.require_node()
    _say("Looking for what the deployment has")
    doomed = destroy.survey(account, options.name)
    for line in screen.doomed(doomed, account.number, account.region):
        _say(line)
    if not _agreed(options, "Delete?"):
        _say("Nothing was deleted.")
        return 1
    _say("Deleting: usually 5 to 15 minutes, longest with a VPC")
    destroy.destroy(account, doomed)
    _say(f"Looking up whether {len(doomed.resources)} resources are gone: less than a minute")
    rest = destroy.left(account, doomed)
    if options.json:
        _print_json(dataclasses.asdict(rest) | {"checked": len(doomed.resources), "ok": not rest.left})
    else:
        _show(screen.left(doomed, rest))
    return 1 if rest.left else 0
