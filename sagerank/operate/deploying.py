"""The commands that read a configuration: `sagerank deploy`, what it looks for, says and asks, in order; and `sagerank policies`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict

from sagerank.aws import NoRegion

from . import OperateError, cdk, deploy, key_policy, log_group, policies, screen, stacks, tools
from .account import of, sentences
from .terminal import agreed, print_json, say, show

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
    given = _given(options, own)
    options.region = deploy.named(options.config, given).get("region")
    if options.dry_run:
        return _dry(options, given)
    account = of(options)
    wanted = deploy.want(options.config, {**given, "region": account.region})
    config = wanted.config
    # All that may be missing, before anything is downloaded or built.
    place = deploy.locate(account, config)
    deploy.require_account(config, place)
    if config.encryption.key.startswith("arn:"):
        key_policy.check(account, config.encryption.key, policies.key_statements(wanted, place.account))
    deployed = "model" in stacks.find(account, config.name)
    words = [*log_group.adopt(account, config, deployed=deployed), *options.cdk]
    if not place.bootstrapped and not options.bootstrap:
        raise OperateError(
            f"The CDK is not set up in account {place.account}, {place.region}: give --bootstrap once. It makes the stack CDKToolkit (a bucket, a "
            "repository, roles), and whoever may use its roles may do what CloudFormation may, by default everything."
        )
    deploy.require_tools(config)
    say(
        "Building the artefact, where it is not yet, and synthesising the stacks: seconds, or minutes where a model is downloaded"
    )
    with deploy.plan(wanted, place) as planned:
        say("\n".join(screen.plan(planned)))
        if not agreed(options, "Deploy?"):
            say("Nothing was deployed.")
            return 1
        if not place.bootstrapped:
            say("Setting up the CDK: about 2 minutes")
            deploy.bootstrap(place, account, config.bootstrap_qualifier)
        where = f"{config.name} --region {config.region}"
        say(f"Deploying {', '.join(planned.assembly.stacks)}: {_TYPICAL[config.traits.endpoint]}")
        try:
            deploy.deploy(planned, words, account)
        except KeyboardInterrupt:
            say(f"\nCloudFormation goes on with what it was given: see `sagerank status {where}`.")
            raise
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


def _given(options: argparse.Namespace, own: Sequence[str]) -> dict[str, str]:
    """The options of the configuration, from those of their own and from -c. Raises OperateError where they disagree."""
    given = {name: value for name in own if (value := getattr(options, name))}
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
    deploy.require_account(wanted.config, place)
    say("Synthesising the stacks: about 10 s")
    with deploy.plan(wanted, place, shape=True, folder=options.output) as planned:
        if options.json:
            print_json(
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
            show(screen.plan(planned))
            show(screen.dry(assumed=assumed, kept=options.output))
    return 0


def show_policies(options: argparse.Namespace, own: Sequence[str]) -> int:
    """Print policy documents: the ones asked for, or all. AWS is asked for the account's number, unless `account` gives it."""
    cdk.check()
    given = _given(options, own)
    options.region = deploy.named(options.config, given).get("region")
    account = of(options)
    wanted = deploy.want(options.config, {**given, "region": account.region})
    tools.node()
    number = wanted.config.account
    if not number:
        account.sign_in()
        number = account.number
    found = asdict(policies.documents(wanted, number))
    asked = [name for name in ("role", "key", "caller") if getattr(options, f"for_{name}")]
    if asked == ["role"]:
        print_json({name: found[name] for name in ("trust", "role")})
    elif len(asked) == 1:
        print_json(found[asked[0]])
    else:
        print_json(found)
    return 0
