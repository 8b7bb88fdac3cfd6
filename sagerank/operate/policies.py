"""`sagerank policies`: what an existing role, a key of one's own and a caller must be allowed, read from the stacks' own templates."""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import OperateError, cdk, tools
from .account import of, sentences
from .deploy import Wanted, chosen, named, want
from .iam import listed
from .stacks import PARTS
from .templates import Templates
from .terminal import print_json, say
from .transform import titled

if TYPE_CHECKING:
    from sagerank_infra.config import DeployConfig

Statement = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Documents:
    """Policy documents. trust, role: of the model's role. caller: of whoever asks the model.

    key: of a key, whole, after the statement that every key has; None where the keys are AWS's own.
    """

    trust: Statement
    role: Statement
    key: Statement | None
    caller: Statement


def run(options: argparse.Namespace, own: Sequence[str]) -> int:
    """Print policy documents: the ones asked for, or all. AWS is asked for the account's number, unless `account` gives it."""
    cdk.check()
    given = chosen(options, own)
    options.region = named(options.config, given).get("region")
    account = of(options)
    wanted = want(options.config, {**given, "region": account.region})
    tools.node()
    asked = [name for name in ("role", "key", "caller") if getattr(options, f"for_{name}")]
    if asked == ["key"] and wanted.config.encryption.key == "aws":
        raise OperateError(
            "encryption.key is aws, and the policies of AWS's own keys are AWS's: give -c encryption.key=new, or the ARN of a key of yours."
        )
    number = wanted.config.account
    if not number:
        try:
            with sentences():
                account.sign_in()
                number = account.number
        except OperateError as error:
            raise OperateError(
                f"{str(error).removesuffix('.')}; or give -c account=NUMBER, and AWS is not asked."
            ) from None
    found = asdict(documents(wanted, number))
    if found["key"] and "key" in (asked or ["key"]):
        say(
            "The first statement for a key is the one that every key has: a key of yours keeps its own statements, and gets the others beside them."
        )
    if asked in (["key"], ["caller"]):
        print_json(found[asked[0]])
    else:
        wanted_names = {"trust" if "role" in asked else "", *asked} if asked else found.keys()
        print_json({name: each for name, each in found.items() if name in wanted_names})
    return 0


def documents(wanted: Wanted, account: str) -> Documents:
    """What a deployment's role, key and callers are allowed, in the account of twelve digits. AWS is not asked.

    What CloudFormation has yet to name stands there as a pattern, with the deployment's tag or the account as a condition.
    """
    config = wanted.config
    found = _templates(wanted, account)
    match config.encryption.key:
        case "aws":
            key = []
        case "new":
            key = list(_key(found, config))
        case _:
            key = key_statements(wanted, account)
    role, trust = _model_role(found)
    return Documents(
        trust,
        _document(_rights(found, role)),
        _document([_all(found, _account_of(config.encryption.key, account)), *key]) if key else None,
        _document(_caller(found, config, config.role or role)),
    )


def key_statements(wanted: Wanted, account: str) -> list[Statement]:
    """What a key's own policy needs: what the policy of one that the stacks make says, and the roles."""
    return list(_key(_templates(wanted, account, **{"encryption.key": "new"}), wanted.config))


def _templates(wanted: Wanted, account: str, **more: str) -> Templates:
    """Of the deployment with a role of its own."""
    config = wanted.config
    options = {**wanted.options, "role": "", **more}
    with tempfile.TemporaryDirectory(prefix="sagerank-cdk-") as scratch:
        cdk.synthesise(options, Path(scratch), file=wanted.file, validate=False)
        return Templates.read(Path(scratch), name=config.name, region=config.region, account=account)


def _document(statements: Iterable[Statement]) -> Statement:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _model_role(found: Templates) -> tuple[str, Statement]:
    """The role that SageMaker takes on, and whom it trusts."""
    ((role, trust),) = (
        (name, role["AssumeRolePolicyDocument"])
        for name, role in found.named("AWS::IAM::Role")
        if "sagemaker.amazonaws.com" in json.dumps(role)
    )
    return role, dict(trust)


def _rights(found: Templates, role: str) -> Iterator[Statement]:
    """The statements of the model's role, from every stack that adds some."""
    for policy in found.of_type("AWS::IAM::Policy"):
        if role in policy["Roles"]:
            yield from _patterned(found, policy)


def _patterned(found: Templates, policy: Mapping[str, Any]) -> Iterator[Statement]:
    """The statements of a policy, split by what their patterns need besides."""
    for statement in policy["PolicyDocument"]["Statement"]:
        resources: dict[str, list[str]] = {}
        for resource in listed(statement["Resource"]):
            named = _assets(found, resource)
            resources.setdefault(json.dumps(_besides(found, named)), []).append(named)
        for besides, named_all in resources.items():
            yield _statement(
                statement["Action"],
                list(dict.fromkeys(named_all)),
                statement.get("Condition", {}),
                json.loads(besides),
            )


def _statement(actions: Any, resources: Any, *conditions: Statement, **principal: Any) -> Statement:
    merged: Statement = {}
    for operator, keys in ((operator, keys) for each in conditions for operator, keys in each.items()):
        merged[operator] = {**merged.get(operator, {}), **keys}
    found = {"Effect": "Allow", **principal, "Action": actions, "Resource": resources}
    return {**found, "Condition": merged} if merged else found


def _besides(found: Templates, resource: str) -> Statement:
    """What makes a pattern no wider than the deployment."""
    if re.search(r":(key|subnet/|security-group/)/?\*$", resource):
        return {"StringEquals": {"aws:ResourceTag/sagerank:name": found.name}}
    if re.search(r":s3:::[^/]*\*", resource):
        return {"StringEquals": {"aws:ResourceAccount": found.account}}
    return {}


def _assets(found: Templates, resource: str) -> str:
    """In the bootstrap's bucket another artefact has another name: so any archive there."""
    if re.search(r":s3:::(not-yet/|cdk-[a-z0-9]+-assets-)", resource) is None:
        return resource
    qualifier = re.search(r"/cdk-bootstrap/([a-z0-9]+)/", json.dumps(found.stacks))
    bucket = f"cdk-{qualifier[1] if qualifier else '*'}-assets-{found.account}-{found.region}"
    return f"arn:{found.partition}:s3:::{bucket}/*.tar.gz"


def _key(found: Templates, config: DeployConfig) -> Iterator[Statement]:
    """What services may by the key's policy alone; and the roles, for a policy that leaves nothing to IAM."""
    (key,) = found.of_type("AWS::KMS::Key")
    for statement in key["KeyPolicy"]["Statement"]:
        if statement["Action"] != "kms:*":  # the account's own, which every key has
            yield statement
    made, _ = _model_role(found)
    role = config.role or made
    using = [
        each for policy in found.of_type("AWS::IAM::Policy") if _names_key(policy) for each in policy["Roles"]
    ]
    roles = list(dict.fromkeys(role if each == made else each for each in using))
    account = _all(found, found.account)["Principal"]
    used = ["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey"]
    yield _statement(used, "*", {"ArnLike": {"aws:PrincipalArn": roles}}, Principal=account)
    granted = {"Bool": {"kms:GrantIsForAWSResource": "true"}}  # the instances' volumes, of EBS
    own = {"ArnLike": {"aws:PrincipalArn": [role]}}
    yield _statement(["kms:CreateGrant"], "*", own, granted, Principal=account)


def _names_key(policy: Mapping[str, Any]) -> bool:
    return any("kms:" in json.dumps(each["Action"]) for each in policy["PolicyDocument"]["Statement"])


def _all(found: Templates, account: str) -> Statement:
    """That an account may do all with its key: without it nobody could change the policy any more."""
    root = {"AWS": f"arn:{found.partition}:iam::{account}:root"}
    return _statement("kms:*", "*", Principal=root)


def _account_of(key: str, account: str) -> str:
    return key.split(":")[4] if key.startswith("arn:") else account


def _caller(found: Templates, config: DeployConfig, role: str) -> Iterator[Statement]:
    """What the caller policy allows; of mode batch, which has none, to run jobs, write requests and read answers, by `sagerank transform` too.

    A job takes the role of its model, and nobody has to pass one.
    """
    if config.traits.endpoint:
        for policy in found.of_type("AWS::IAM::ManagedPolicy"):  # of a fleet, one for each model
            yield from _patterned(found, policy)
        return
    jobs = ["sagemaker:CreateTransformJob", "sagemaker:DescribeTransformJob", "sagemaker:StopTransformJob"]
    stamped = titled(config.name, "????????-??????")
    yield _statement(jobs, found.arn("sagemaker", f"transform-job/{stamped}"))
    bucket, _ = next(found.named("AWS::S3::Bucket"))
    own = {"StringEquals": {"aws:ResourceAccount": found.account}}
    yield _statement(["s3:PutObject"], f"{bucket}/input/*", own)
    yield _statement(["s3:GetObject"], f"{bucket}/output/*", own)
    yield _statement(["s3:ListBucket", "s3:GetEncryptionConfiguration"], bucket, own)
    # By what `sagerank transform` looks at first: stacks by their names, and what the model's role may.
    stacks = [found.arn("cloudformation", f"stack/{config.name}-{part}/*") for part in PARTS]
    yield _statement(["cloudformation:DescribeStacks"], stacks)
    yield _statement(["sagemaker:DescribeModel"], found.arn("sagemaker", "model/*"))
    yield _statement(["iam:SimulatePrincipalPolicy"], role)
    if config.encryption.key != "aws":
        arn = config.encryption.key if config.encryption.key != "new" else found.arn("kms", "key/*")
        yield _statement(["kms:Decrypt", "kms:GenerateDataKey"], arn, _besides(found, arn))
