"""The endpoint that is connected, as AWS's policies and addresses name it. Nothing is asked of AWS."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..aws import ENDPOINT_NAME, NoRegion, session
from ..errors import InvalidRequest

# What stands where an option was not given, and that option.
ACCOUNT, REGION = "YOUR_ACCOUNT_ID", "YOUR_REGION"
ACCESS_KEY, SECRET_KEY, PROXY_KEY = "YOUR_ACCESS_KEY", "YOUR_SECRET_KEY", "YOUR_PROXY_KEY"
PLACEHOLDERS = {
    ACCOUNT: "--account gives it",
    REGION: "--region gives it",
    ACCESS_KEY: "of a user who has policy.json",
    SECRET_KEY: "of a user who has policy.json",
    PROXY_KEY: "what the proxy has in SAGERANK_PROXY_KEY",
}


@dataclass(frozen=True, slots=True)
class Piece:
    """A file to paste or to keep: its name, what to do with it, and its content."""

    name: str
    what: str
    content: str


def piece(name: str, what: str, value: Mapping[str, object]) -> Piece:
    """Return a piece of JSON."""
    return Piece(name, what, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint of SageMaker, and one of its inference components where it has some."""

    name: str
    component: str | None = None
    region: str = REGION
    account: str = ACCOUNT
    partition: str = "aws"
    suffix: str = "amazonaws.com"  # of its region's addresses
    profile: str | None = None  # of the AWS configuration on this machine

    @property
    def url(self) -> str:
        """Where it is invoked."""
        return f"https://runtime.sagemaker.{self.region}.{self.suffix}/endpoints/{self.name}/invocations"

    def policy(self, what: str) -> Piece:
        """Return the IAM policy that allows to invoke it, and nothing else."""
        kinds = {"endpoint": self.name, "inference-component": self.component}
        # SageMaker writes the names in its ARNs in small letters, and IAM compares letter by letter.
        names = [
            (kind, each)
            for kind, name in kinds.items()
            if name
            for each in dict.fromkeys((name, name.lower()))
        ]
        arn = f"arn:{self.partition}:sagemaker:{self.region}:{self.account}"
        statement = {
            "Effect": "Allow",
            "Action": "sagemaker:InvokeEndpoint",
            "Resource": [f"{arn}:{kind}/{name}" for kind, name in names],
        }
        return piece("policy.json", what, allow(statement))


def allow(statement: Mapping[str, object]) -> dict[str, object]:
    """Return an IAM policy of one statement."""
    return {"Version": "2012-10-17", "Statement": [statement]}


def endpoint(
    name: str,
    component: str | None,
    region: str | None,
    account: str | None,
    profile: str | None = None,
) -> Endpoint:
    """Return the endpoint of these options; without a region that of sagerank.aws's rule.

    Raises InvalidRequest for what AWS would not take.
    """
    for option, given in (("--endpoint", name), ("--component", component)):
        if given and not re.fullmatch(ENDPOINT_NAME, given):
            raise InvalidRequest(
                f"{option} is {given!r}: names have at most 63 letters, digits and inner hyphens."
            )
    if account and not re.fullmatch(r"[0-9]{12}", account):
        raise InvalidRequest(f"--account is {account!r}: give its 12 digits.")
    account = account or ACCOUNT
    try:
        made = session(region, profile)
    except NoRegion:
        return Endpoint(name, component, account=account, profile=profile)
    chosen = made.get_config_variable("region")
    (found,) = (part for part in made.get_data("partitions")["partitions"] if chosen in part["regions"])
    suffix: str = found["outputs"]["dnsSuffix"]
    return Endpoint(name, component, chosen, account, found["id"], suffix, profile)
