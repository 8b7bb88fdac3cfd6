"""Whether the policy of a KMS key of the user's own lets the deployment use it: what CloudFormation and AWS's services would find out late."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from . import OperateError, terminal
from .account import Account

Statement = Mapping[str, Any]


def check(account: Account, key: str, needed: Iterable[Statement]) -> None:
    """Raise OperateError naming whom the policy of `key` does not let do what `needed` says; say so where it may not be read."""
    from botocore.exceptions import ClientError

    try:
        policy = account.client("kms").get_key_policy(KeyId=key, PolicyName="default")["Policy"]
    except ClientError as error:
        if "AccessDenied" not in error.response["Error"].get("Code", ""):
            raise
        terminal.say(
            "The policy of encryption.key may not be read by you (kms:GetKeyPolicy), and is not checked: see `sagerank policies --key`."
        )
        return
    missing = dict.fromkeys(_missing(json.loads(policy)["Statement"], needed))
    if missing:
        raise OperateError(
            f"The policy of encryption.key does not let {', '.join(missing)} use the key as the deployment needs it: add the statements that `sagerank policies --key` prints, with the same options."
        )


def _missing(held: Any, needed: Iterable[Statement]) -> Iterator[str]:
    """Every principal that lacks an action it needs."""
    allowing = [each for each in _listed(held) if each["Effect"] == "Allow"]
    for statement in needed:
        context = {
            name: _listed(values)[0]
            for keys in statement.get("Condition", {}).values()
            for name, values in keys.items()
        }
        for principal in _principals(statement):
            # Who has a role is written in the condition; the principal there is the whole account.
            shown = context.get("aws:PrincipalArn", principal)
            for action in _listed(statement["Action"]):
                wanted = action.rstrip("*")
                if not any(_allows(each, principal, shown, wanted, context) for each in allowing):
                    yield shown


def _allows(statement: Statement, principal: str, role: str, action: str, context: Mapping[str, str]) -> bool:
    who = any(_is(each, principal) or each == role for each in _principals(statement))
    what = any(fnmatchcase(action, each) for each in _listed(statement.get("Action", ())))
    return (
        who
        and what
        and all(_holds(operator, keys, context) for operator, keys in statement.get("Condition", {}).items())
    )


def _holds(operator: str, keys: Mapping[str, Any], context: Mapping[str, str]) -> bool:
    """Whether conditions hold, as far as their keys are known here; others are given the benefit of the doubt."""
    known = {key.lower(): text for key, text in context.items()}
    if "Not" in operator or not operator.startswith(("String", "Arn", "Bool")):
        return True
    return all(
        any(fnmatchcase(known[key.lower()], str(pattern)) for pattern in _listed(values))
        for key, values in keys.items()
        if key.lower() in known
    )


def _is(given: str, principal: str) -> bool:
    """Whether a policy's word for a principal means it: an account may be its number."""
    return given in ("*", principal) or (principal.endswith(":root") and given == principal.split(":")[4])


def _principals(statement: Statement) -> list[str]:
    given = statement.get("Principal", {})
    return [given] if isinstance(given, str) else [each for kind in given.values() for each in _listed(kind)]


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
