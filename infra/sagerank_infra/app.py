"""The CDK app. `cdk.json` runs it as `python -P -m sagerank_infra.app`; run by hand it synthesises, or prints the schema."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam

from . import image, rules
from .config import ConfigError, DeployConfig, json_schema, read_file
from .endpoint import EndpointStack
from .hosting import tags
from .model import ModelStack
from .network import NetworkStack, Placement
from .observability import ObservabilityStack

# CloudFormation accepts tags on these only since recently, and not everything that reads templates does.
_UNTAGGED = ["AWS::ApplicationAutoScaling::ScalableTarget", "AWS::CloudWatch::Dashboard"]
_CONTEXT = {
    # Traces hold the paths of this machine, and equal configurations must make equal bytes.
    "aws:cdk:disable-stack-trace": True,
    "aws:cdk:disable-creation-stack-traces": True,
    # A stack cannot be deleted while another uses what it exports.
    "@aws-cdk/core:defaultCrossStackReferences": "strong",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stacks:
    """The four stacks of a deployment; network is None without a VPC of its own."""

    network: NetworkStack | None
    model: ModelStack
    endpoint: EndpointStack
    observability: ObservabilityStack


def build(app: cdk.App, config: DeployConfig) -> Stacks:
    """Make four stacks, by lifetime; what one knows, the next is given."""
    for key, value in _CONTEXT.items():
        if app.node.try_get_context(key) is None:
            app.node.set_context(key, value)
    env = cdk.Environment(account=config.account or None, region=config.region)

    def common(what: str) -> dict[str, Any]:
        return {
            "env": env,
            "synthesizer": cdk.DefaultStackSynthesizer(
                generate_bootstrap_version_rule=config.bootstrap_rule,
                qualifier=image.bootstrap_qualifier(app, config),
            ),
            "termination_protection": config.termination_protection,
            "description": f"sagerank {config.name}: {what}",
        }

    network, placement = None, None
    if config.vpc == "new":
        network = NetworkStack(app, f"{config.name}-network", config=config, **common("network"))
        placement = network.placement
    elif config.vpc != "none":
        placement = Placement(
            subnets=list(config.network.subnets), security_groups=list(config.network.security_groups)
        )
    model = ModelStack(app, f"{config.name}-model", config=config, placement=placement, **common("model"))
    endpoint = EndpointStack(
        app, f"{config.name}-endpoint", config=config, model=model, placement=placement, **common("endpoint")
    )
    observability = ObservabilityStack(
        app,
        f"{config.name}-observability",
        config=config,
        model=model,
        endpoint=endpoint,
        **common("observability"),
    )
    endpoint.add_stack_dependency(model)
    observability.add_stack_dependency(endpoint)
    made: list[cdk.Stack] = [model, endpoint, observability, *([network] if network else [])]
    for stack in made:
        if config.permissions_boundary:
            boundary = iam.ManagedPolicy.from_managed_policy_arn(
                stack, "Boundary", config.permissions_boundary
            )
            iam.PermissionsBoundary.of(stack).apply(boundary)
        for name, text in tags(config).items():
            cdk.Tags.of(stack).add(name, text, exclude_resource_types=_UNTAGGED)
    return Stacks(network=network, model=model, endpoint=endpoint, observability=observability)


def read(app: cdk.App, file: Path | None, given: Mapping[str, str]) -> DeployConfig:
    """Read and check a configuration, from the app's context too: cdk.json's and that of `cdk -c`."""
    # The CDK's own keys have a colon, but for one that says whether its command line may report its use.
    context = {
        key: text
        for key, text in app.node.get_all_context().items()
        if ":" not in key and key != "cli-telemetry"
    }
    named = context.pop("config", None)
    file = file or (Path(named) if named else None)
    options = {**context, **given}
    region = os.environ.get(
        "CDK_DEFAULT_REGION"
    )  # the CDK's command says which: its environment's or profile's
    if region and "region" not in options and not (file and "region" in read_file(file)):
        options["region"] = region
    return rules.read(file, options)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m sagerank_infra.app", description="Synthesise the stacks."
    )
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of a configuration file")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="YAML, TOML or JSON, as `cdk -c config=FILE`"
    )
    parser.add_argument(
        "-c", "--context", action="append", default=[], metavar="OPTION=VALUE", help="as of `cdk -c`"
    )
    parser.add_argument(
        "--output", metavar="FOLDER", help="of the cloud assembly; without one it is not kept"
    )
    options = parser.parse_args(arguments)
    if options.schema:
        print(json.dumps(json_schema(), indent=2))
        return 0
    with ExitStack() as scratch:
        # The CDK would choose a temporary folder that stays. Its own command says which.
        folder = options.output or os.environ.get("CDK_OUTDIR")
        try:
            app = cdk.App(outdir=folder or scratch.enter_context(tempfile.TemporaryDirectory()))
            stacks = build(app, read(app, options.config, _pairs(options.context)))
        except ConfigError as error:
            print(f"sagerank: {error}", file=sys.stderr)
            return 2
        app.synth()
    if "CDK_OUTDIR" not in os.environ:  # the CDK's own command prints the stacks' notes, the cost among them
        print(f"Estimated cost: {stacks.observability.cost}", file=sys.stderr)
    return 0


def _pairs(options: Sequence[str]) -> dict[str, str]:
    pairs = [option.partition("=") for option in options]
    wrong = [option for option, (_, equals, _) in zip(options, pairs, strict=True) if not equals]
    if wrong:
        raise ConfigError(f"-c {wrong[0]} has no value: give OPTION=VALUE, such as mode=serverless.")
    return {name: text for name, _, text in pairs}


if __name__ == "__main__":
    sys.exit(main())
