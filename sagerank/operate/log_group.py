"""The log group that SageMaker names after the endpoint: one that an earlier deployment kept is taken over by the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import OperateError, terminal
from .account import Account
from .stacks import find, resources_of

if TYPE_CHECKING:
    from sagerank_infra.config import DeployConfig

# CloudFormation imports by a change set what has a name of its own and the policy Retain.
_IMPORT = "--import-existing-resources"


def adopt(account: Account, config: DeployConfig) -> list[str]:
    """The words for `cdk deploy` by which a kept log group comes into the stack; none where there is none.

    Raises OperateError where it stands in the way.
    """
    from sagerank_infra.fleet import models
    from sagerank_infra.metrics import log_group

    if not config.traits.endpoint:
        return []
    model = find(account, config.name).get("model")
    made = resources_of(account, model) if model and model.made else ()
    own = {resource.id for resource in made if resource.type == "AWS::Logs::LogGroup"}
    names = [log_group(each) for each in models(config) if log_group(each) not in own]
    kept = [name for name in names if _exists(account, name)]
    for name in kept:
        if config.removal != "retain":
            raise OperateError(
                f"The log group {name} of an earlier endpoint is still there, and CloudFormation would refuse to make it: delete it with `aws logs delete-log-group --log-group-name {name} --region {config.region}`, give another name, or take it over with -c removal=retain."
            )
        terminal.say(
            f"The log group {name} was kept by an earlier deployment: its stack takes it over, with the key it has."
        )
    return [_IMPORT] if kept else []


def _exists(account: Account, name: str) -> bool:
    groups = account.pages("logs", "describe_log_groups", "logGroups", logGroupNamePrefix=name)
    return any(group["logGroupName"] == name for group in groups)
