"""The policy of a key, judged by IAM's rules: yes, no, or not to be told; and a no is never wrong."""

from __future__ import annotations

from typing import Any

import pytest

from sagerank.operate.iam import Answer, Request, judged, requests

YES, NO, UNKNOWN = Answer.YES, Answer.NO, Answer.UNKNOWN
ACCOUNT = "123456789012"
ROOT = f"arn:aws:iam::{ACCOUNT}:root"
MADE = f"arn:aws:iam::{ACCOUNT}:role/sagerank-model-RoleE0-*"
THEIRS = f"arn:aws:iam::{ACCOUNT}:role/team/theirs"
LOG = "arn:aws:logs:us-east-1:123456789012:log-group:/aws/sagemaker/Endpoints/sagerank"
LOGS = Request(
    who="logs.us-east-1.amazonaws.com",
    action="kms:Encrypt",
    context={"kms:encryptioncontext:aws:logs:arn": LOG},
)


def role(who: str = MADE, action: str = "kms:Decrypt", **context: str) -> Request:
    return Request(who=who, action=action, context={key.replace("__", ":"): v for key, v in context.items()})


def statement(principal: Any, action: Any = "kms:*", effect: str = "Allow", **more: Any) -> dict[str, Any]:
    who = {"Service" if str(principal).endswith(".com") else "AWS": principal}
    given = {"Principal": who, "Action": action, "Effect": effect, "Resource": "*", **more}
    return {key: value for key, value in given.items() if value is not None}


def when(operator: str, **keys: Any) -> dict[str, Any]:
    return {"Condition": {operator: {key.replace("__", ":"): value for key, value in keys.items()}}}


@pytest.mark.parametrize(
    ("policy", "request_", "answer"),
    [
        ([], role(), NO),
        ([statement(ROOT)], role(), YES),
        ([statement(ACCOUNT)], role(), YES),
        ([statement("999999999999")], role(), NO),
        ([statement("*")], role(), YES),
        ([statement("*")], LOGS, UNKNOWN),
        ([statement(ROOT)], LOGS, NO),
        ([statement([ROOT, THEIRS])], role(THEIRS), YES),
        ([statement(THEIRS)], role(THEIRS), YES),
        ([statement(MADE.replace("*", "ABC"))], role(), UNKNOWN),
        ([statement(f"arn:aws:sts::{ACCOUNT}:assumed-role/theirs/me")], role(THEIRS), UNKNOWN),
        ([statement(f"arn:aws:sts::{ACCOUNT}:assumed-role/other/me")], role(THEIRS), NO),
        ([statement("AROAEXAMPLEID")], role(THEIRS), UNKNOWN),
        # Actions: patterns, without case, and all but some.
        ([statement(ROOT, ["kms:Describe*", "KMS:decr?pt"])], role(), YES),
        ([statement(ROOT, "kms:Encrypt")], role(), NO),
        ([statement(ROOT, None, NotAction="kms:Delete*")], role(), YES),
        ([statement(ROOT, None, NotAction=["kms:Delete*", "kms:Decrypt"])], role(), NO),
        ([statement(ROOT, Resource="arn:aws:kms:us-east-1:123456789012:key/1")], role(), UNKNOWN),
        # All but some principals, which an account, a role and its session may be.
        ([{**statement(ROOT), "Principal": None, "NotPrincipal": {"AWS": THEIRS}}], role(), UNKNOWN),
        # Denials win, and doubtful ones make it doubtful.
        ([statement(ROOT), statement("*", "kms:Decrypt", "Deny")], role(), NO),
        ([statement(ROOT), statement("*", "kms:Encrypt", "Deny")], role(), YES),
        ([statement(ROOT), statement("*", effect="Deny", **when("Bool", aws__MultiFactorAuthPresent="false"))], role(), UNKNOWN),
        ([statement(ROOT), statement("*", effect="Deny", **when("StringNotEquals", kms__CallerAccount=ACCOUNT))], role(), YES),
        ([statement(ROOT), statement("*", effect="Deny", **when("StringNotEquals", aws__PrincipalOrgID="o-1"))], role(), UNKNOWN),
        # Conditions: every value, known keys in any case, the rest doubtful.
        ([statement(ROOT, **when("ArnLike", aws__PrincipalArn=["arn:aws:iam::1:role/a", MADE]))], role(), YES),
        ([statement(ROOT, **when("ArnLike", AWS__principalarn=f"arn:aws:iam::{ACCOUNT}:role/sagerank-*"))], role(), YES),
        ([statement(ROOT, **when("ArnLike", aws__PrincipalArn=MADE.replace("*", "A*")))], role(), UNKNOWN),
        ([statement(ROOT, **when("ArnLike", aws__PrincipalArn=f"arn:aws:iam::{ACCOUNT}:role/other-*"))], role(), NO),
        ([statement(ROOT, **when("ArnLike", aws__PrincipalArn="arn:aws:iam::*"))], role(), UNKNOWN),
        ([statement(ROOT, **when("StringEquals", aws__PrincipalArn=THEIRS))], role(THEIRS), YES),
        ([statement(ROOT, **when("StringEquals", aws__PrincipalArn=[THEIRS.replace("theirs", "x"), THEIRS]))], role(THEIRS), YES),
        ([statement(ROOT, **when("StringEquals", kms__CallerAccount="999999999999"))], role(), NO),
        ([statement(ROOT, **when("StringEqualsIfExists", kms__ViaService="s3.us-east-1.amazonaws.com"))], role(), UNKNOWN),
        ([statement(ROOT, **when("StringEquals", aws__PrincipalOrgID="o-1"))], role(), UNKNOWN),
        ([statement(ROOT, **when("ForAnyValue:StringEquals", kms__CallerAccount=ACCOUNT))], role(), UNKNOWN),
        ([statement(ROOT, **when("StringLike", aws__PrincipalArn="arn:aws:iam::${aws:PrincipalAccount}:*"))], role(), UNKNOWN),
        ([statement(ROOT, **when("Bool", kms__GrantIsForAWSResource=True))], role(kms__grantisforawsresource="true"), YES),
        ([statement(LOGS.who, **when("ArnLike", kms__EncryptionContext__aws__logs__arn=["arn:aws:logs:us-east-1:1:*", f"{LOG[:50]}*"]))], LOGS, YES),
        ([statement(LOGS.who, **when("ArnEquals", kms__EncryptionContext__aws__logs__arn="arn:aws:logs:us-east-1:1:log-group:x"))], LOGS, NO),
        ([statement(LOGS.who, **when("StringLike", kms__EncryptionContext__aws__logs__arn="arn:aws:logs:*[!x]*"))], LOGS, NO),
    ],
)  # fmt: skip
def test_a_policy_is_judged_as_iam_would(policy: list[Any], request_: Request, answer: Answer) -> None:
    assert judged(policy, request_) is answer


def test_what_is_left_to_iam_names_nobody() -> None:
    assert judged([statement(ROOT)], role(THEIRS), delegated=False) is NO
    assert judged([statement(THEIRS)], role(THEIRS), delegated=False) is YES
    assert judged([statement(THEIRS), statement(ROOT, effect="Deny")], role(THEIRS), delegated=False) is NO


def test_every_role_of_a_condition_asks_for_every_action() -> None:
    needed = statement(
        ROOT, ["kms:Decrypt", "kms:ReEncrypt*"], **when("ArnLike", aws__PrincipalArn=[THEIRS, MADE])
    )
    asked = [(each.who, each.action) for each in requests([needed])]
    actions = ("kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo")
    assert asked == [(who, action) for who in (THEIRS, MADE) for action in actions]
    only = statement(ROOT, **when("ArnLike", aws__PrincipalArn=THEIRS))
    assert {each.who for each in requests([needed]) if judged([only], each) is NO} == {MADE}
