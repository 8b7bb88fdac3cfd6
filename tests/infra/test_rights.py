"""Rights beyond a deployment's own: data in other buckets, roles and boundaries of an organisation, and what may pass a VPC's endpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sagerank_infra.app import build
from sagerank_infra.endpoint_policy import NO_FINER_GRAIN
from sagerank_infra.options import ConfigError

from .conftest import EVERY, MODEL, Synthesised, listed, new_app, stacks, statements
from .synth import example

BOUNDARY, ROLE = "arn:aws:iam::123456789012:policy/bound", "arn:aws:iam::123456789012:role/theirs"
KEY = "arn:aws:kms:us-east-1:210987654321:key/theirs"


def granted(found: Synthesised, action: str) -> list[dict[str, Any]]:
    every = (each for policy in found.resources("AWS::IAM::Policy") for each in statements(policy))
    return [each for each in every if action in listed(each["Action"])]


def arns(statement: dict[str, Any]) -> str:
    return json.dumps(statement["Resource"])


def test_input_and_answers_in_other_buckets_are_named_by_prefix_and_key() -> None:
    there = {
        "data__read": "s3://theirs/in/,s3://others/",
        "data__write": "s3://theirs/out/",
        "data__keys": KEY,
    }
    found = stacks("batch", **there)
    read = [each for each in granted(found, "s3:GetObject") if "theirs" in arns(each)]
    assert [":s3:::theirs/in/*" in arns(each) and ":s3:::others/*" in arns(each) for each in read] == [True]
    conditions = {json.dumps(each.get("Condition")) for each in granted(found, "s3:ListBucket")}
    assert json.dumps({"StringLike": {"s3:prefix": "in/*"}}) in conditions
    (written,) = [each for each in granted(found, "s3:PutObject") if "theirs" in arns(each)]
    assert ":s3:::theirs/out/*" in arns(written)
    assert "theirs/in" not in arns(written)
    assert [each["Action"] for each in granted(found, "kms:GenerateDataKey") if each["Resource"] == KEY] == [
        "kms:GenerateDataKey"
    ]
    only_read = stacks("batch", data__read="s3://theirs/in/", data__keys=KEY)
    assert KEY not in [each["Resource"] for each in granted(only_read, "kms:GenerateDataKey")]


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("realtime", {"data__read": "s3://theirs/in/"}, "batch and async, and mode is 'realtime'"),
        ("async", {"data__write": "s3://theirs/out/"}, "data.write is for mode batch"),
        ("batch", {"data__keys": KEY}, "give those too"),
        ("batch", {"data__read": "s3://theirs/in"}, "end with a slash"),
        ("batch", {"data__read": "s3://theirs/*/"}, "end with a slash"),
        (
            "batch",
            {"data__read": "s3://theirs/", "data__keys": KEY.replace("us-east-1", "eu-west-1")},
            "data.keys",
        ),
        ("realtime", {"role": "theirs"}, "the ARN of an IAM role"),
        ("realtime", {"role": ROLE, "account": "210987654321"}, "role is of account 123456789012"),
        ("realtime", {"permissions_boundary": ROLE}, "the ARN of an IAM policy"),
        ("realtime", {"bootstrap_qualifier": "much-too-long"}, "at most 10"),
    ],
)
def test_what_cannot_be_granted_is_a_sentence(name: str, options: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        example(name, **options)


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_a_boundary_is_on_every_role_the_stacks_make(name: str, preset: str) -> None:
    roles = stacks(name, preset, permissions_boundary=BOUNDARY).resources("AWS::IAM::Role")
    assert {each["Properties"]["PermissionsBoundary"] for each in roles} == {BOUNDARY}


@pytest.mark.parametrize("name", ["realtime", "async", "batch"])
def test_a_role_of_the_users_own_is_used_and_not_changed(name: str) -> None:
    found = stacks(name, role=ROLE, capture__percent="0" if name == "batch" else "10")
    assert {each["Properties"]["ExecutionRoleArn"] for each in found.resources(MODEL)} == {ROLE}
    trusting = json.dumps([each["Properties"] for each in found.resources("AWS::IAM::Role")])
    assert "sagemaker.amazonaws.com" not in trusting
    for policy in found.resources("AWS::IAM::Policy"):
        assert "theirs" not in json.dumps(policy["Properties"]["Roles"])


def test_a_bootstrap_qualifier_is_followed_by_assets_and_by_the_role() -> None:
    found = stacks("realtime", bootstrap_qualifier="ours")
    (pull,) = granted(found, "ecr:BatchGetImage")
    assert "cdk-ours-container-assets-" in arns(pull)
    assert "hnb659fds" not in json.dumps(found.templates)
    assert "hnb659fds" not in (found.assembly / "manifest.json").read_text(encoding="utf-8")


def test_the_cdks_context_says_the_qualifier_where_the_option_does_not() -> None:
    app = new_app(context={"@aws-cdk/core:bootstrapQualifier": "theirs"})
    build(app, example("realtime"))
    template = (Path(app.synth().directory) / "sagerank-model.template.json").read_text(encoding="utf-8")
    assert "cdk-theirs-container-assets-" in template
    assert "hnb659fds" not in template


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_a_vpcs_endpoints_let_this_account_do_what_the_deployment_does(name: str, preset: str) -> None:
    for endpoint in stacks(name, preset).resources("AWS::EC2::VPCEndpoint"):
        found = list(endpoint["Properties"]["PolicyDocument"]["Statement"])
        for statement in found:
            equal = statement["Condition"]["StringEquals"]
            assert "aws:PrincipalAccount" in equal
            if statement["Resource"] == "*":
                assert set(listed(statement["Action"])) <= set(NO_FINER_GRAIN)
                assert "aws:ResourceAccount" in equal


def test_buckets_of_others_pass_the_gateway_where_the_configuration_names_them() -> None:
    found = stacks("batch", data__read="s3://theirs/in/", artefact="s3://artefacts-elsewhere/model.tar.gz")
    (gateway,) = found.resources("AWS::EC2::VPCEndpoint")
    text = json.dumps(gateway["Properties"]["PolicyDocument"])
    assert "s3:::theirs/*" in text
    assert "s3:::artefacts-elsewhere/*" in text


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_no_service_is_let_in_without_a_condition(name: str, preset: str) -> None:
    """The CDK's target of a rule would let EventBridge into topic and key for whoever asks it to."""
    found = stacks(name, preset)
    documents = [each["Properties"]["PolicyDocument"] for each in found.resources("AWS::SNS::TopicPolicy")]
    documents += [each["Properties"]["KeyPolicy"] for each in found.resources("AWS::KMS::Key")]
    for statement in (each for document in documents for each in document["Statement"]):
        if "Service" in statement["Principal"]:
            assert statement["Condition"], statement
            assert "events.amazonaws.com" not in listed(statement["Principal"]["Service"])
    (rule,) = found.resources("AWS::Events::Rule")
    (target,) = rule["Properties"]["Targets"]
    assert target["RoleArn"]


@pytest.mark.parametrize("preset", ["dev", "prod"])
def test_prod_is_protected_from_deletion(preset: str) -> None:
    manifest = json.loads((stacks("realtime", preset).assembly / "manifest.json").read_text(encoding="utf-8"))
    made = [each for each in manifest["artifacts"].values() if each["type"] == "aws:cloudformation:stack"]
    protected = {each["properties"].get("terminationProtection", False) for each in made}
    assert protected == {preset == "prod"}


def test_a_folder_without_a_slash_gets_one() -> None:
    found = stacks("realtime", artefact="s3://models/tiny")
    source = found.one(MODEL)["PrimaryContainer"]["ModelDataSource"]["S3DataSource"]
    assert source["S3Uri"] == "s3://models/tiny/"
    (read,) = [each for each in granted(found, "s3:GetObject") if "models" in arns(each)]
    assert "s3:::models/tiny/*" in arns(read)
