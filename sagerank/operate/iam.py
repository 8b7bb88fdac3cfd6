"""IAM's rules, as far as they can be followed without what only AWS knows: whether a policy's statements let somebody do something.

An answer is yes, no, or not to be told from here. The rules are of the policies of keys, whose resource is the key itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

Statement = Mapping[str, Any]

# What the patterns in AWS's own statements ask for at least.
_ACTIONS = {
    "kms:GenerateDataKey*": ("kms:GenerateDataKey",),
    "kms:ReEncrypt*": ("kms:ReEncryptFrom", "kms:ReEncryptTo"),
}
# Operators of conditions by whether a value is a pattern; with Not, IfExists or a quantifier around them.
_OPERATORS = {"StringEquals": False, "StringLike": True, "ArnEquals": True, "ArnLike": True, "Bool": False}


class Answer(IntEnum):
    """In this order, so that `min` is and, and `max` is or."""

    NO = 0
    UNKNOWN = 1
    YES = 2

    def __invert__(self) -> Answer:
        return Answer(2 - self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Somebody's wish to use a key. who: a service's name, or a role's ARN, with a star where its end is not known yet."""

    who: str
    action: str
    context: Mapping[str, str] = field(default_factory=dict)  # condition keys in lower case

    @property
    def account(self) -> str:
        return self.who.split(":")[4] if self.who.startswith("arn:") else ""


def requests(needed: Iterable[Statement]) -> Iterator[Request]:
    """What statements ask for, one by one: of each principal, or of each role that their condition names."""
    for statement in needed:
        conditions = {
            name.lower(): [str(each) for each in listed(values)]
            for keys in statement.get("Condition", {}).values()
            for name, values in keys.items()
        }
        roles = conditions.pop("aws:principalarn", [])
        context = {name: values[0] for name, values in conditions.items()}
        for who in roles or _named(statement["Principal"]):
            for action in listed(statement["Action"]):
                for each in _ACTIONS.get(action, (action,)):
                    yield Request(who=who, action=each, context=context)


def judged(held: Iterable[Statement], request: Request, *, delegated: bool = True) -> Answer:
    """Whether the statements of a key's policy allow it. delegated: by leaving it to IAM, too, which then has to allow it."""
    found = dict.fromkeys(("Allow", "Deny"), Answer.NO)
    for statement in held:
        effect = statement["Effect"]
        found[effect] = max(found[effect], _applies(statement, request, delegated or effect == "Deny"))
    return min(found["Allow"], ~found["Deny"])


def _applies(statement: Statement, request: Request, delegated: bool) -> Answer:
    return min(
        _principal(statement, request, delegated),
        _action(statement, request.action),
        # In a key's policy it is the key, in whatever words.
        Answer.YES if "*" in listed(statement.get("Resource", ())) else Answer.UNKNOWN,
        *(_holds(name, keys, request) for name, keys in statement.get("Condition", {}).items()),
    )


def _principal(statement: Statement, request: Request, delegated: bool) -> Answer:
    if "NotPrincipal" in statement:  # which has to name account, role and session to mean one of them
        return Answer.UNKNOWN
    named = _named(statement.get("Principal", {}))
    return max((_is(each, request, delegated) for each in named), default=Answer.NO)


def _is(given: str, request: Request, delegated: bool) -> Answer:
    """Whether a policy's word for a principal means who asks; roles are meant by their account, too, or by an id."""
    if not request.account:
        return Answer.UNKNOWN if given == "*" else _answer(given == request.who)
    if given in (request.account, f"{request.who.partition('::')[0]}::{request.account}:root"):
        return _answer(delegated)
    if given == "*":
        return Answer.YES
    if given == request.who:
        return Answer.YES
    session = re.fullmatch(r"arn:[^:]+:sts::(\d+):assumed-role/([^/]+)/.*", given)
    if session and session[1] == request.account:  # it leaves out the role's path
        return min(Answer.UNKNOWN, _within(session[2], request.who.rpartition("/")[2]))
    return Answer.UNKNOWN if given.startswith("AROA") else min(Answer.UNKNOWN, _within(given, request.who))


def _action(statement: Statement, action: str) -> Answer:
    name = "NotAction" if "NotAction" in statement else "Action"
    found = any(_like(action.lower(), str(each).lower()) for each in listed(statement.get(name, ())))
    return _answer(found == (name == "Action"))


def _holds(operator: str, keys: Mapping[str, Any], request: Request) -> Answer:
    """Whether a condition's keys all hold; what is not known here may or may not."""
    known = {name.lower(): text for name, text in request.context.items()}
    if request.account:
        known |= {"aws:principalarn": request.who, "aws:principalaccount": request.account}
        known["kms:calleraccount"] = request.account
    name = operator.removesuffix("IfExists").replace("Not", "")
    found = Answer.YES
    for key, values in keys.items():
        text = known.get(key.lower())
        if text is None or name not in _OPERATORS:
            found = min(found, Answer.UNKNOWN)
            continue
        equal = max((_matches(text, str(each), name) for each in listed(values)), default=Answer.NO)
        found = min(found, ~equal if "Not" in operator else equal)
    return found


def _matches(text: str, value: str, operator: str) -> Answer:
    """Whether a known text, whose end may be a star, is a condition's value."""
    pattern = _OPERATORS[operator]
    # Parts of an ARN are compared one by one.
    if "${" in value or (operator.startswith("Arn") and value.count(":") < 5):
        return Answer.UNKNOWN
    if value.lower() in ("true", "false"):
        return _answer(text.lower() == value.lower())
    if not text.endswith("*"):
        return _answer(_like(text, value) if pattern else text == value)
    if not pattern:
        return min(Answer.UNKNOWN, _within(value, text))
    if "?" not in value and _like(text, value):
        return Answer.YES
    # Both are patterns, and have texts in common unless their beginnings differ.
    begins = [text[:-1], re.split(r"[*?]", value)[0]]
    length = min(map(len, begins))
    return _answer(begins[0][:length] == begins[1][:length]) and Answer.UNKNOWN


def _within(text: str, pattern: str) -> Answer:
    return _answer(_like(text, pattern))


def _like(text: str, pattern: str) -> bool:
    """IAM's own patterns: a star is any text, a question mark any sign."""
    parts = (".*" if sign == "*" else "." if sign == "?" else re.escape(sign) for sign in pattern)
    return re.fullmatch("".join(parts), text, re.DOTALL) is not None


def _answer(sure: bool) -> Answer:
    return Answer.YES if sure else Answer.NO


def _named(principal: Any) -> list[str]:
    """The principals of a statement."""
    if isinstance(principal, str):
        return [principal]
    return [str(each) for kind in principal.values() for each in listed(kind)]


def listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
