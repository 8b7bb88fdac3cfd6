"""What a deployment tells others: outputs of its stacks, and the same as parameters of Systems Manager under /sagerank/NAME/."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from .config import DeployConfig


def publish(scope: Construct, config: DeployConfig, output: str, value: str, *, parameter: str) -> None:
    """Make `value` the output of that name and the standard parameter (free of charge) /sagerank/NAME/`parameter`.

    Those of a component of a fleet end in its name.
    """
    output += config.component
    parameter = "-".join(filter(None, (parameter, config.component)))
    cdk.CfnOutput(scope, output, value=value)
    ssm.StringParameter(
        scope,
        f"{output}Parameter",
        parameter_name=f"/sagerank/{config.name}/{parameter}",
        string_value=value,
        description=f"{output} of {config.name}",
    )
