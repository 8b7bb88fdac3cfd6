"""Whether the policy of a KMS key of the user's own lets the deployment use it: what CloudFormation and AWS's services would find out late."""

from __future__ import annotations

import json
from collections.abc import Iterable

from . import OperateError, terminal
from .account import Account
from .iam import Answer, Statement, judged, listed, requests


def check(account: Account, key: str, needed: Iterable[Statement]) -> None:
    """Raise OperateError for a key that is not enabled, or naming whom its policy does not let do what `needed` says.

    Says so where the policy may not be read, or does not tell.
    """
    require_enabled(account, key, "encryption.key")
    held = read(account, key)
    if held is None:
        terminal.say(
            "The policy of encryption.key may not be read by you (kms:GetKeyPolicy), and is not checked: see `sagerank policies --key`."
        )
        return
    found: dict[Answer, list[str]] = {answer: [] for answer in Answer}
    for request in requests(needed):
        answer = judged(held, request)
        if answer is Answer.NO and _granted(account, key, request.who):
            answer = Answer.UNKNOWN
        found[answer].append(request.who)
    advice = "statements that `sagerank policies --key` prints, with the same options"
    if missing := dict.fromkeys(found[Answer.NO]):
        raise OperateError(
            f"The policy of encryption.key does not let {', '.join(missing)} use the key as the deployment needs it: add the {advice}."
        )
    if unknown := dict.fromkeys(found[Answer.UNKNOWN]):
        terminal.say(
            f"Whether the policy of encryption.key lets {', '.join(unknown)} use the key cannot be told from here, for its conditions or principals: compare it with the {advice}."
        )


def require_enabled(account: Account, key: str, option: str) -> str:
    """The key's ARN, or the key as it is given where it may not be described. Raises OperateError unless it can be used at all."""
    from botocore.exceptions import ClientError

    try:
        found = account.client("kms").describe_key(KeyId=key)["KeyMetadata"]
    except ClientError as error:
        code = error.response["Error"].get("Code", "")
        if "AccessDenied" in code:
            return key
        if "NotFound" in code:
            raise OperateError(
                f"{option} is {key}, and there is no such key in {account.region}: give one of that region."
            ) from None
        raise
    if found["KeyState"] != "Enabled":
        raise OperateError(
            f"{option} is {key}, and that key is {found['KeyState']}: enable it, or give another."
        )
    return str(found["Arn"])


def read(account: Account, key: str) -> list[Statement] | None:
    """The statements of a key's policy; None where it may not be read."""
    from botocore.exceptions import ClientError

    try:
        policy = account.client("kms").get_key_policy(KeyId=key, PolicyName="default")["Policy"]
    except ClientError as error:
        if "AccessDenied" not in error.response["Error"].get("Code", ""):
            raise
        return None
    return listed(json.loads(policy)["Statement"])


def _granted(account: Account, key: str, who: str) -> bool:
    """Whether a role that is there already may have what it needs by a grant, beside the policy."""
    from botocore.exceptions import ClientError

    if not who.startswith("arn:") or who.endswith("*"):
        return False
    try:
        return bool(account.client("kms").list_grants(KeyId=key, GranteePrincipal=who)["Grants"])
    except ClientError:
        return True
