"""`sagerank template`: a deployment as one plain template, for those who do not use the CDK."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import OperateError, artefact, cdk, deploy, terraform, tools
from .terminal import say

# CloudFormation takes no larger template in a call; from a bucket it takes more.
_INLINE_BYTES = 51_200


def run(options: argparse.Namespace, own: Sequence[str]) -> int:
    """Print the template, or write it to `options.output`; AWS is not asked. own: as of deploying.run."""
    cdk.check()
    wanted = deploy.want(options.config, deploy.chosen(options, own))
    if options.output:
        _require_written(options.output, options.format)
        deploy.require_other(options.output, "--output", wanted)
    tools.node()
    template = _template(wanted)
    if options.format == "terraform":
        translated, notes = terraform.translate(template)
        for note in notes:
            say(note)
        text = json.dumps(translated, indent=2, ensure_ascii=False) + "\n"
    else:
        text = _yaml(template)
        if len(text.encode()) > _INLINE_BYTES:
            say("The template is over 51,200 bytes: `aws cloudformation deploy` wants --s3-bucket for it.")
    if options.output is None:
        sys.stdout.write(text)
    else:
        options.output.write_text(text, encoding="utf-8")
    return 0


def _require_written(file: Path, form: str) -> None:
    """Raise OperateError for a name that Terraform would not read, or where no file can be written."""
    if form == "terraform" and not file.name.endswith(".tf.json"):
        raise OperateError(
            f"--output is {str(file)!r}: Terraform reads JSON from files named .tf.json, such as main.tf.json."
        )
    tools.require_writable(file, "--output")


def _template(wanted: deploy.Wanted) -> dict[str, Any]:
    given, later = dict(wanted.options), wanted.config.artefact == deploy.LATER
    for index, each in enumerate(wanted.config.components):
        if each.artefact == deploy.LATER:
            raise OperateError(
                f"components[{index}] has no artefact, and a template brings none: give its s3:// address."
            )
    if wanted.config.traits.own_container and not wanted.config.artefact.startswith("s3://"):
        artefact.check(Path(wanted.config.artefact))
        given = deploy.absolute(wanted.config, given)
    with tempfile.TemporaryDirectory(prefix="sagerank-cdk-") as scratch:
        found = cdk.synthesise(given, Path(scratch), file=wanted.file, validate=False, plain=True)
    (made,) = found.templates.values()
    template = {"Description": made["Description"], "Parameters": made.get("Parameters", {}), **made}
    if later:
        for name in ("ArtefactBucket", "ArtefactKey"):
            template["Parameters"][name].pop("Default")
    return {name: each for name, each in template.items() if each}


def _yaml(template: dict[str, Any]) -> str:
    import yaml

    return str(yaml.safe_dump(template, sort_keys=False, width=120, allow_unicode=True))
