"""The region of a deployment that names none: by the rule of sagerank's commands (sagerank.aws), without asking AWS."""

from __future__ import annotations

import os

from .options import ConfigError

LAST = "us-east-1"  # as the CDK's command has it


def region() -> str:
    """What the CDK's command says, else AWS_REGION, else AWS_DEFAULT_REGION, else AWS_PROFILE's profile, else us-east-1.

    Raises ConfigError for a profile that does not exist.
    """
    # The CDK's command has followed the rule already, with its own --profile.
    for name in ("CDK_DEFAULT_REGION", "AWS_REGION", "AWS_DEFAULT_REGION"):
        if chosen := os.environ.get(name):
            return chosen
    import botocore.session
    from botocore.exceptions import BotoCoreError

    try:
        return botocore.session.Session().get_config_variable("region") or LAST
    except BotoCoreError as error:
        raise ConfigError(f"region is not given, and the AWS configuration has none: {error}.") from None
