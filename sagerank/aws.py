"""Which AWS is meant: one rule for region and profile, wherever sagerank asks AWS."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from .errors import InvalidRequest

if TYPE_CHECKING:
    import botocore.session

SIGN_IN = "run `aws configure` or `aws sso login`, set AWS_PROFILE to a profile that has them, or give this process a role"

# SageMaker's own rule, also of endpoints that were not made here.
ENDPOINT_NAME = r"(?=.{1,63}$)[a-zA-Z0-9]+(-+[a-zA-Z0-9]+)*"

# Of --region and --profile, in every command that has them.
REGION_HELP = "AWS region (default: AWS_REGION, AWS_DEFAULT_REGION, or the profile's)"
PROFILE_HELP = "of the AWS configuration (default: AWS_PROFILE)"

# In place of botocore's own text, which holds the address, or what a profile's process printed.
MALFORMED = "The AWS configuration is malformed: check --endpoint-url (in Python endpoint_url=) and AWS_ENDPOINT_URL, which are addresses such as http://localhost:5123, and the profile."


class NoRegion(InvalidRequest):
    """Nothing says which region is meant."""


def session(region: str | None = None, profile: str | None = None) -> botocore.session.Session:
    """A session of botocore whose region is set; `boto3.Session(botocore_session=...)` takes it.

    The region is the one given, else AWS_REGION's, else AWS_DEFAULT_REGION's, else the profile's, and that profile is the one
    given or AWS_PROFILE's. No call is made. Raises NoRegion where there is none, and InvalidRequest for a
    profile or region that does not exist.
    """
    import botocore.session
    from botocore.exceptions import BotoCoreError, ProfileNotFound

    # A session of its own: the default one is shared by the process and keeps the first credentials it saw.
    made = botocore.session.Session(profile=profile)
    try:
        made.get_scoped_config()
        # boto3 by itself does not read AWS_REGION, as the AWS CLI, the CDK and AWS's other SDKs do.
        chosen = region or os.environ.get("AWS_REGION") or made.get_config_variable("region")
    except ProfileNotFound:
        asked = profile or str(made.get_config_variable("profile"))
        raise InvalidRequest(
            f"There is no AWS profile {asked!r}: {_nearest(asked, made.available_profiles, 'run `aws configure list-profiles`.')}"
        ) from None
    except BotoCoreError as error:
        raise InvalidRequest(f"The AWS configuration cannot be used: {error}") from None
    if not chosen:
        raise NoRegion(
            "No AWS region is set: give --region (in Python region=), or set AWS_REGION, or the profile's with `aws configure set region`."
        )
    regions = [name for part in made.get_data("partitions")["partitions"] for name in part["regions"]]
    if chosen not in regions:
        raise InvalidRequest(
            f"region is {chosen!r}, which the installed AWS SDK does not know: "
            f"{_nearest(chosen, regions, 'give one such as eu-west-1.')} For a newer region, pip install --upgrade boto3."
        )
    made.set_config_variable("region", chosen)
    return made


def _nearest(name: str, known: Iterable[str], otherwise: str) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    return f"did you mean {near[0]}?" if near else otherwise
