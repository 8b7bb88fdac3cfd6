"""`sagerank deploy`: what it looks for, says and asks, in order."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from sagerank.aws import NoRegion
from sagerank_cost.text import width
from sagerank_inference.artefact import sha256

from . import (
    OperateError,
    cdk,
    change,
    deploy,
    image,
    key_policy,
    log_group,
    policies,
    quotas,
    review,
    screen,
    tools,
    updating,
)
from .account import Account, of, sentences
from .posture import posture
from .terminal import agreed, print_json, say, say_as_it_is, show

_DRY_REGION = "us-east-1"  # of a dry run where nothing says another
# By whether there is an endpoint; AWS's usual times, and none of ours.
_TYPICAL = {
    True: "usually 10 to 15 minutes, most of them until SageMaker has started the endpoint",
    False: "usually 3 to 5 minutes",
}


def run(options: argparse.Namespace, own: Sequence[str]) -> int | None:
    """Deploy, or plan to; the exit code, or None where the endpoint `options.name` is to be verified.

    own: the options of the configuration that have one of the command's.
    """
    cdk.check()
    if options.output and not options.dry_run:
        raise OperateError("--output goes with --dry-run: a deployment's templates are in CloudFormation.")
    if options.plan and (options.dry_run or options.bootstrap or options.cdk):
        raise OperateError(
            "--plan deploys nothing: leave out --dry-run, --bootstrap and what is for `cdk deploy`."
        )
    if any(
        word in ("--no-execute", "prepare-change-set", "--method=prepare-change-set") for word in options.cdk
    ):
        raise OperateError(
            "A change set that is not executed changes nothing, and what comes after an update would be done all the same: give --plan FILE instead."
        )
    if options.plan:
        tools.require_writable(options.plan, "--plan")
    if options.output and options.output.exists() and not options.output.is_dir():
        raise OperateError(f"--output is {options.output}, which is a file: give a folder for the templates.")
    given = deploy.chosen(options, own)
    if options.apply:
        return _apply(options, given)
    options.region = deploy.named(options.config, given).get("region")
    if options.dry_run:
        return _dry(options, given)
    account = of(options)
    wanted = deploy.want(options.config, {**given, "region": account.region})
    if options.plan:
        deploy.require_other(options.plan, "--plan", wanted)
        return _plan(options, account, wanted)
    return _deploy(options, account, wanted)


def _deploy(
    options: argparse.Namespace,
    account: Account,
    wanted: deploy.Wanted,
    reviewed: review.Review | None = None,
) -> int | None:
    """Show what changes, ask, and deploy it. reviewed: the plan that it has to be."""
    config = wanted.config
    place, words = _ready(options, account, wanted, reviewed.account if reviewed else "")
    with _planned(account, wanted, place) as planned:
        before = change.deployed(account, config.name)
        if reviewed:
            reviewed.require(planned.assembly)
            before.require(reviewed.deployed)
        say("\n".join(_changes(planned, before, account)))
        say_as_it_is(change.difference(planned.assembly, account, width(sys.stderr)))
        if not agreed(options, "Deploy?"):
            say("Nothing was deployed.")
            return 1
        change.deployed(account, config.name).require(before.state)
        if not place.bootstrapped:
            say("Setting up the CDK: about 2 minutes")
            deploy.bootstrap(place, account, config.bootstrap_qualifier)
        where = f"{config.name} --region {config.region}"
        say(f"Deploying {', '.join(planned.assembly.stacks)}: {_TYPICAL[config.traits.endpoint]}")
        deploy.deploy(planned, words, options.cdk, account)
    if not config.traits.endpoint:
        say(
            f"Deployed. Score a file with `sagerank transform {where} --instance {config.instance} --input FILE`."
        )
        if options.json:
            print_json({"name": config.name, "region": config.region, "mode": config.mode, "verified": None})
        return 0
    if not config.traits.own_container:
        say(f"Deployed. A Marketplace package has no golden pairs to verify; see `sagerank status {where}`.")
        return 0
    options.name, options.region = config.name, config.region
    options.model, options.tolerance, options.expect_config = None, None, ""
    return None


def _ready(
    options: argparse.Namespace, account: Account, wanted: deploy.Wanted, planned: str = ""
) -> tuple[deploy.Place, list[str]]:
    """Look for all that may be missing, before anything is downloaded or built: where it goes, and words for `cdk deploy`.

    planned: the account that a plan was made for. A plan needs neither the CDK's bucket nor Docker. Raises OperateError.
    """
    config = wanted.config
    place = deploy.locate(account, config)
    for number in (config.account, planned):
        deploy.require_account(number, place)
    if not (place.bootstrapped or options.bootstrap or options.plan):
        raise OperateError(
            f"The CDK is not set up in account {place.account}, {place.region}: give --bootstrap once. It makes the stack CDKToolkit (a bucket, a "
            "repository, roles), and whoever may use its roles may do what CloudFormation may, by default everything."
        )
    tools.node()
    if config.encryption.key.startswith("arn:"):
        key_policy.check(account, config.encryption.key, policies.key_statements(wanted, place.account))
    for note in quotas.check(config, account):
        say(note)
    others = {"encryption.artefact_key": [config.encryption.artefact_key], "data.keys": config.data.keys}
    for option, keys in others.items():
        for key in filter(None, keys):
            key_policy.require_enabled(account, key, option)
    words = log_group.adopt(account, config)
    if options.plan:
        tools.cdk()
    else:
        deploy.require_tools(config, reviewed=bool(planned))
    if note := image.check(config, account):
        say(note)
    return place, words


@contextmanager
def _planned(account: Account, wanted: deploy.Wanted, place: deploy.Place) -> Iterator[deploy.Plan]:
    """The stacks of a configuration, with its artefacts in S3 pinned to what lies there."""
    wanted, notes = deploy.pin(wanted, account)
    for note in notes:
        say(note)
    say(
        "Building the artefact, where it is not yet, and synthesising the stacks: seconds, or minutes where a model is downloaded"
    )
    with deploy.plan(wanted, place) as planned:
        yield planned


def _changes(planned: deploy.Plan, before: change.Deployed, account: Account) -> Iterator[str]:
    """What is to be agreed to. Raises OperateError where what is deployed cannot become it."""
    outlook = updating.outlook(account, planned.config.name, planned.assembly)
    yield from screen.plan(planned)
    yield change.cost(before, planned.assembly)
    yield from outlook


def _plan(options: argparse.Namespace, account: Account, wanted: deploy.Wanted) -> int:
    """Write the plan of a deployment to a file, and deploy nothing."""
    place, _ = _ready(options, account, wanted)
    with _planned(account, wanted, place) as planned:
        before = change.deployed(account, planned.config.name)
        heading = list(_changes(planned, before, account))
        said = change.difference(planned.assembly, account, review.COLUMNS)
        sum = review.write(planned, before.state, heading, said, options.plan)
    if options.json:
        print_json(
            {
                "plan": options.plan,
                "sha256": sum,
                "name": planned.config.name,
                **_where(place),
                "estimate": planned.assembly.estimate,
                "deployed": before.estimate,
            }
        )
    else:
        show(heading)
        show(
            [
                f"{options.plan}, SHA-256 {sum}: read its {review.TEXT}, and deploy it with `sagerank deploy --apply {options.plan}{'' if place.bootstrapped else ' --bootstrap'}`.",
                "Nothing was uploaded or deployed.",
            ]
        )
    return 0


def _apply(options: argparse.Namespace, given: dict[str, str]) -> int | None:
    """Deploy a plan as its file has it. Only files of this machine may be given beside it."""
    others = given.keys() - {"region", *(f"image_build.{name}" for name in review.SECRETS)}
    if others or options.config or options.plan or options.dry_run or options.cdk:
        raise OperateError(
            "--apply deploys what its file says: plan again for another configuration, and leave out all but --region, --profile, --bootstrap, --yes and `-c image_build.pip` and `.certificates`."
        )
    with TemporaryDirectory(prefix="sagerank-plan-") as scratch:
        reviewed, file = review.read(options.apply, Path(scratch))
        region = given.get("region", reviewed.region)
        if region != reviewed.region:
            raise OperateError(
                f"--region is {region}, and {options.apply} was planned for {reviewed.region}: leave the option out, or plan for that region."
            )
        options.region = region
        wanted = deploy.want(file, given)
        if (wanted.config.name, wanted.config.region) != (reviewed.name, reviewed.region):
            raise OperateError(
                f"{options.apply} names another deployment than its own configuration: plan again."
            )
        say(f"{options.apply}, SHA-256 {sha256(options.apply)}, with the configuration")
        say_as_it_is(review.shown(reviewed.configuration))
        return _deploy(options, of(options), wanted, reviewed)


def _dry(options: argparse.Namespace, given: dict[str, str]) -> int:
    """Show what a deployment would be. Credentials only add whose account it would go to."""
    assumed = ""
    try:
        account = of(options)
    except NoRegion:
        options.region = assumed = _DRY_REGION
        account = of(options)
    wanted = deploy.want(options.config, {**given, "region": account.region})
    tools.node()
    try:
        with sentences():
            place = deploy.locate(account, wanted.config)
    except OperateError as error:
        place = deploy.Place(region=account.region, unknown=str(error))
    deploy.require_account(wanted.config.account, place)
    say("Synthesising the stacks: about 10 s")
    with deploy.plan(wanted, place, shape=True, folder=options.output) as planned:
        if options.json:
            print_json(
                {
                    "name": planned.config.name,
                    **_where(place),
                    "bootstrapped": place.bootstrapped,
                    "stacks": list(planned.assembly.stacks),
                    "resources": planned.assembly.stacks,
                    "security": posture(planned.config, planned.assembly),
                    "estimate": planned.assembly.estimate,
                    "budget_activation": planned.assembly.activation,
                    "templates": options.output,
                }
            )
        else:
            show(screen.plan(planned))
            show(screen.dry(assumed=assumed, kept=options.output))
    return 0


def _where(place: deploy.Place) -> dict[str, str]:
    return {"account": place.account, "region": place.region}
