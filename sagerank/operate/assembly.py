"""Cloud assemblies that we write ourselves, of stacks that are deployed, so that the CDK's command line changes or deletes them.

It does that with the roles of its bootstrap, which whoever deploys may use; CloudFormation itself may be closed to them.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import cdk
from .account import Account
from .stacks import Stack

# The oldest schema with all that is written here; every newer command line reads it.
_SCHEMA = "36.0.0"


def destroy(account: Account, doomed: Sequence[Stack]) -> None:
    """`cdk destroy`: it needs the stacks' names, not what they were made of. Raises OperateError where it fails."""
    with tempfile.TemporaryDirectory(prefix="sagerank-cdk-") as folder:
        _write_empty(Path(folder), account, doomed)
        cdk.run(["destroy", "--all", "--force", "--app", folder], account, cwd=Path(folder))


def deploy(
    account: Account, stack: Stack, template: Mapping[str, Any], planned: Path, extra: Sequence[str] = ()
) -> None:
    """`cdk deploy` of another template for a deployed stack, by the roles and the bucket that an assembly has for it.

    extra: more words for the CDK's command. Raises OperateError where it fails.
    """
    with tempfile.TemporaryDirectory(prefix="sagerank-cdk-") as folder:
        _write_other(Path(folder), stack, template, planned)
        words = ["deploy", stack.name, "--require-approval", "never", "--app", folder]
        cdk.run([*words, *extra], account, cwd=Path(folder))


def _write_other(folder: Path, stack: Stack, template: Mapping[str, Any], planned: Path) -> None:
    """Write the one stack of `planned` with another template, by way of the CDK's bucket: inline it would become YAML."""
    body = json.dumps(template)
    manifest = json.loads((planned / "manifest.json").read_text(encoding="utf-8"))
    own, assets = manifest["artifacts"][stack.name], f"{stack.name}.assets"
    uploads = json.loads((planned / f"{assets}.json").read_text(encoding="utf-8"))
    was = own["properties"]["stackTemplateAssetObjectUrl"].rpartition("/")[2].removesuffix(".json")
    own["dependencies"] = [assets]
    own.pop("additionalMetadataFile", None)
    own["properties"] |= {"tags": dict(stack.tags), "terminationProtection": stack.protected}
    manifest["artifacts"] = {stack.name: own, assets: manifest["artifacts"][assets]}
    uploads |= {"files": {was: uploads["files"][was]}, "dockerImages": {}}
    (folder / own["properties"]["templateFile"]).write_text(body, encoding="utf-8")
    for name, content in (("manifest.json", manifest), (f"{assets}.json", uploads)):
        # The bucket knows a template by the hash of what is in it.
        text = json.dumps(content).replace(was, hashlib.sha256(body.encode()).hexdigest())
        (folder / name).write_text(text, encoding="utf-8")


def _write_empty(folder: Path, account: Account, stacks: Sequence[Stack]) -> None:
    """Write empty stacks, each after the one before, so that they go in the reverse order."""
    where = f"{account.number}-{account.region}"
    artifacts: dict[str, Any] = {}
    for position, stack in enumerate(stacks):
        (folder / f"{stack.name}.template.json").write_text("{}", encoding="utf-8")
        artifacts[stack.name] = {
            "type": "aws:cloudformation:stack",
            "environment": f"aws://{account.number}/{account.region}",
            "displayName": stack.name,
            "dependencies": [stacks[position - 1].name] if position else [],
            "properties": {
                "templateFile": f"{stack.name}.template.json",
                "stackName": stack.name,
                "assumeRoleArn": f"arn:${{AWS::Partition}}:iam::{account.number}:role/cdk-{stack.qualifier}-deploy-role-{where}",
                "cloudFormationExecutionRoleArn": f"arn:${{AWS::Partition}}:iam::{account.number}:role/cdk-{stack.qualifier}-cfn-exec-role-{where}",
            },
        }
    (folder / "manifest.json").write_text(
        json.dumps({"version": _SCHEMA, "artifacts": artifacts}), encoding="utf-8"
    )
