"""The CDK app. `cdk.json` runs it as `python -P -m sagerank_infra.app`; run by hand it synthesises, or prints the schema."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import aws_cdk as cdk
from constructs import Construct

from . import plain, rules
from .config import ConfigError, DeployConfig, json_schema
from .reranker import Reranker, tag

_REFERENCES = "@aws-cdk/core:defaultCrossStackReferences"
_CONTEXT = {
    # Traces hold the paths of this machine, and equal configurations must make equal bytes.
    "aws:cdk:disable-stack-trace": True,
    "aws:cdk:disable-creation-stack-traces": True,
    # What another stack imports can neither change nor go, so that most updates would be refused: references are weak
    # (Fn::GetStackOutput). What earlier versions imported stays exported, so that their stacks can be updated to these.
    _REFERENCES: "both",
}


class Deployment(Reranker):
    """A reranker whose parts are stacks of their own, by lifetime, so that each can go without those before it."""

    def __init__(self, scope: Construct, config: DeployConfig) -> None:
        self._scope = scope
        super().__init__(scope, config.name, config=config)

    def place(self, part: str) -> tuple[Construct, str]:
        config = self.config
        stack = _Stack(
            self._scope,
            f"{config.name}-{part}",
            stack_name=f"{config.name}-{part}",
            env=cdk.Environment(account=config.account or None, region=config.region),
            # None: the context's, else the CDK's own.
            synthesizer=cdk.DefaultStackSynthesizer(
                generate_bootstrap_version_rule=config.bootstrap_rule,
                qualifier=config.bootstrap_qualifier or None,
            ),
            termination_protection=config.termination_protection,
            description=f"sagerank {config.name}: {part}",
        )
        for key, value in _CONTEXT.items():
            if stack.node.try_get_context(key) is None:
                stack.node.set_context(key, value)
                if key == _REFERENCES:  # an app that chose itself is told of what it chose
                    cdk.Annotations.of(stack).acknowledge_warning(
                        "@aws-cdk/core:crossStackReferencesBothTransitional",
                        "Stacks of earlier versions may still import what these export.",
                    )
        tag(stack, config)
        # A construct of this name adds nothing to the logical ids of what is in it.
        return stack, "Default"


class _Stack(cdk.Stack):
    @property
    def availability_zones(self) -> list[str]:
        # CDK would ask AWS for those of a given account and region; CloudFormation knows them when it deploys.
        return []


def build(scope: Construct, config: DeployConfig) -> Deployment:
    """Make the stacks of a deployment in an app or a stage."""
    made = Deployment(scope, config)
    stacks = [cdk.Stack.of(part) for part in (made.model, made.endpoint, made.observability)]
    for before, after in pairwise(stacks):
        after.add_stack_dependency(before)
    return made


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
    return rules.read(file, {**context, **given})


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
        "--plain", action="store_true", help="one stack without bootstrap and assets, with parameters"
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
            config = read(app, options.config, _pairs(options.context))
            made = plain.build(app, config) if options.plain else build(app, config)
        except ConfigError as error:
            print(f"sagerank: {error}", file=sys.stderr)
            return 2
        app.synth()
    if "CDK_OUTDIR" not in os.environ:  # the CDK's own command prints the stacks' notes, the cost among them
        print(f"Estimated cost: {made.observability.cost}", file=sys.stderr)
    return 0


def _pairs(options: Sequence[str]) -> dict[str, str]:
    pairs = [option.partition("=") for option in options]
    wrong = [option for option, (_, equals, _) in zip(options, pairs, strict=True) if not equals]
    if wrong:
        raise ConfigError(f"-c {wrong[0]} has no value: give OPTION=VALUE, such as mode=serverless.")
    return {name: text for name, _, text in pairs}


if __name__ == "__main__":
    sys.exit(main())
