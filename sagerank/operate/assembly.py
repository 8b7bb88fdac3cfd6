"""Cloud assemblies that we write ourselves, of stacks that are deployed, so that the CDK's command line changes or deletes them.

It does that with the roles of its bootstrap, which whoever deploys may use; CloudFormation itself may be closed to them.
"""

from __future__ import annotations

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
        _write(Path(folder), account, doomed, {})
        cdk.run(["destroy", "--all", "--force", "--app", folder], account, cwd=Path(folder))


def deploy(account: Account, stack: Stack, template: Mapping[str, Any]) -> None:
    """`cdk deploy` of another template for a stack. Raises OperateError where it fails."""
    with tempfile.TemporaryDirectory(prefix="sagerank-cdk-") as folder:
        _write(Path(folder), account, [stack], {stack.name: template})
        words = ["deploy", stack.name, "--require-approval", "never", "--app", folder]
        cdk.run(words, account, cwd=Path(folder))


def _write(
    folder: Path, account: Account, stacks: Sequence[Stack], templates: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write stacks, each after the one before, so that they go in the reverse order; what stands in no template stays as it is."""
    where = f"{account.number}-{account.region}"
    artifacts: dict[str, Any] = {}
    for position, stack in enumerate(stacks):
        file = f"{stack.name}.template.json"
        (folder / file).write_text(json.dumps(templates.get(stack.name, {})), encoding="utf-8")
        artifacts[stack.name] = {
            "type": "aws:cloudformation:stack",
            "environment": f"aws://{account.number}/{account.region}",
            "displayName": stack.name,
            "dependencies": [stacks[position - 1].name] if position else [],
            "properties": {
                "templateFile": file,
                "stackName": stack.name,
                "tags": dict(stack.tags),
                "terminationProtection": stack.protected,
                "assumeRoleArn": f"arn:${{AWS::Partition}}:iam::{account.number}:role/cdk-hnb659fds-deploy-role-{where}",
                "cloudFormationExecutionRoleArn": f"arn:${{AWS::Partition}}:iam::{account.number}:role/cdk-hnb659fds-cfn-exec-role-{where}",
            },
        }
    (folder / "manifest.json").write_text(
        json.dumps({"version": _SCHEMA, "artifacts": artifacts}), encoding="utf-8"
    )
