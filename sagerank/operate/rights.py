"""Whether the model's role may read a job's input, write its answers, and use their key: IAM itself is asked, before a job exists."""

from __future__ import annotations

from typing import Any

from . import OperateError, iam, key_policy, terminal
from .account import Account
from .iam import Answer
from .stored import bucket_and_key


def check(account: Account, model: str, *, source: str, target: str) -> None:
    """Raise OperateError where IAM says that the role of `model` may not; say so where IAM may not be asked.

    source, target: addresses in S3, of a file or folder, and of a folder. What their buckets' own policies refuse, only S3 knows.
    """
    role = account.client("sagemaker").describe_model(ModelName=model)["ExecutionRoleArn"]
    partition = role.split(":")[1]
    bucket, prefix = bucket_and_key(source)
    found = _first(account, bucket, prefix)
    read = {
        "s3:GetObject": f"arn:{partition}:s3:::{bucket}/{found}",
        "s3:ListBucket": f"arn:{partition}:s3:::{bucket}",
    }
    out, folder = bucket_and_key(f"{target.rstrip('/')}/")
    written = {"s3:PutObject": f"arn:{partition}:s3:::{out}/{folder}{found.rpartition('/')[2]}.out"}
    for option, address, asked in (("data.read", source, read), ("data.write", target, written)):
        refused = _refused(account, role, asked, prefix)
        if refused is None:
            terminal.say(
                "Whether the model's role may read the input and write the answers is not checked: iam:SimulatePrincipalPolicy is not allowed to you."
            )
            return
        if refused:
            raise OperateError(
                f"The model's role {role} has no right to {', '.join(refused)} at {address}: deploy it with the prefix in {option}, or give another address."
            )


def check_key(account: Account, model: str, key: str) -> None:
    """Raise OperateError for a key of the answers that cannot be used, or not by the role of `model`; say so where that is not to be told."""
    arn = key_policy.require_enabled(account, key, "--output-key")
    role = account.client("sagemaker").describe_model(ModelName=model)["ExecutionRoleArn"]
    wish = iam.Request(who=role, action="kms:GenerateDataKey")
    held = key_policy.read(account, arn) if arn.startswith("arn:") else None
    refused = _refused(account, role, {wish.action: arn}, "") if arn.startswith("arn:") else None
    by_iam = Answer.UNKNOWN if refused is None else Answer.NO if refused else Answer.YES
    if held is None:
        answer = Answer.UNKNOWN
    else:  # a policy that names the role needs no IAM
        named = iam.judged(held, wish, delegated=False)
        answer = max(named, min(iam.judged(held, wish), by_iam))
    if answer is Answer.NO:
        raise OperateError(
            f"The model's role {role} may not use --output-key {key}: deploy it with the key's ARN in data.keys, beside data.write, or give another key."
        )
    if answer is Answer.UNKNOWN:
        terminal.say(
            f"Whether the model's role may use --output-key {key} is not to be told from here: it needs kms:GenerateDataKey."
        )


def _first(account: Account, bucket: str, prefix: str) -> str:
    """An object that the job would read: rights are rights to objects. The prefix itself where none is to be seen."""
    from botocore.exceptions import ClientError

    try:
        listed = account.client("s3").list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
    except ClientError:  # the caller's rights are not the role's
        return prefix
    if not listed.get("Contents"):
        raise OperateError(
            f"There is nothing at s3://{bucket}/{prefix}: give the address of a file or folder."
        )
    return str(listed["Contents"][0]["Key"])


def _refused(account: Account, role: str, asked: dict[str, str], prefix: str) -> list[str] | None:
    """The actions that IAM does not allow the role; None where it may not be asked."""
    from botocore.exceptions import ClientError

    listed = {"ContextKeyName": "s3:prefix", "ContextKeyValues": [prefix], "ContextKeyType": "string"}
    refused: list[str] = []
    for action, resource in asked.items():
        try:
            answer: Any = account.client("iam").simulate_principal_policy(
                PolicySourceArn=role, ActionNames=[action], ResourceArns=[resource], ContextEntries=[listed]
            )
        except ClientError as error:
            if "AccessDenied" in error.response["Error"].get("Code", ""):
                return None
            raise
        (found,) = answer["EvaluationResults"]
        # A condition on what is not said here, such as the bucket's account, decides only in earnest.
        if found["EvalDecision"] != "allowed" and not found.get("MissingContextValues"):
            refused.append(action)
    return refused
