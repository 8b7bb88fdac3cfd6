"""What outlives an endpoint: key, log, data, topic, and the artefact."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from aws_cdk.assertions import Match

from .conftest import BUCKET, CONFIG, ENDPOINTS, EVERY, MODEL, stacks, statements, synthesise
from .synth import example


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_what_holds_data_is_encrypted_and_private(name: str, preset: str) -> None:
    found = (
        stacks(name, preset, capture__percent="10") if name in ("realtime", "async") else stacks(name, preset)
    )
    found["model"].has_resource_properties("AWS::KMS::Key", {"EnableKeyRotation": True})
    for bucket in found.resources(BUCKET):
        properties = bucket["Properties"]
        (rule,) = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
        assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
        kept = {
            each["Prefix"]
            for each in properties["LifecycleConfiguration"]["Rules"]
            if each["ExpirationInDays"]
        }
        assert kept == {"input/", "output/", "capture/"}
        found["model"].has_resource_properties(
            "AWS::S3::BucketPolicy",
            {
                "PolicyDocument": {
                    "Statement": Match.array_with(
                        [
                            Match.object_like(
                                {"Effect": "Deny", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}
                            )
                        ]
                    )
                }
            },
        )
    for topic in found.resources("AWS::SNS::Topic"):
        assert topic["Properties"]["KmsMasterKeyId"]
    for group in found.resources("AWS::Logs::LogGroup"):
        assert group["Properties"]["RetentionInDays"]
    if name in ENDPOINTS:
        found["model"].has_resource_properties("AWS::Logs::LogGroup", {"KmsKeyId": Match.any_value()})


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_the_preset_decides_what_outlives_the_stack(name: str, preset: str) -> None:
    found = stacks(name, preset)
    wanted = "Retain" if preset == "prod" else "Delete"
    kept = [
        each for kind in ("AWS::KMS::Key", BUCKET, "AWS::Logs::LogGroup") for each in found.resources(kind)
    ]
    assert {each["DeletionPolicy"] for each in kept} == {wanted}


def test_a_local_artefact_keeps_its_suffix_and_only_it_can_be_read(archive: Path) -> None:
    config = example("realtime", model="micro", artefact=str(archive))
    found = synthesise(config)
    assets = json.loads(next(found.assembly.glob("*model.assets.json")).read_text(encoding="utf-8"))
    (key,) = {
        d["objectKey"]
        for f in assets["files"].values()
        if f["displayName"] == "sagerank artefact"
        for d in f["destinations"].values()
    }
    (source,) = {
        f["source"]["path"] for f in assets["files"].values() if f["displayName"] == "sagerank artefact"
    }
    assert re.fullmatch(r"[0-9a-f]{64}\.tar\.gz", key)
    assert (found.assembly / source).read_bytes() == archive.read_bytes()
    assert json.dumps(found.one(MODEL)["PrimaryContainer"]["ModelDataUrl"]).endswith(f'/{key}"}}')
    assert found.outputs()["ModelDataUri"] == found.one(MODEL)["PrimaryContainer"]["ModelDataUrl"]
    reads = [
        s for p in found.resources("AWS::IAM::Policy") for s in statements(p) if "s3:GetObject" in s["Action"]
    ]
    assert len(reads) == 1
    assert f"/{key}" in json.dumps(reads[0]["Resource"])


def test_an_unpacked_artefact_is_a_prefix() -> None:
    found = stacks("realtime", artefact="s3://models/tiny/")
    source = {"CompressionType": "None", "S3DataType": "S3Prefix", "S3Uri": "s3://models/tiny/"}
    assert found.one(MODEL)["PrimaryContainer"]["ModelDataSource"] == {"S3DataSource": source}
    assert "ModelDataUrl" not in found.one(MODEL)["PrimaryContainer"]
    found["endpoint"].has_resource_properties(
        "AWS::IAM::Policy",
        {
            "PolicyDocument": {
                "Statement": Match.array_with(
                    [
                        Match.object_like(
                            {"Action": "s3:ListBucket", "Condition": {"StringLike": {"s3:prefix": "tiny/*"}}}
                        )
                    ]
                )
            }
        },
    )


def test_an_own_key_and_awss_keys() -> None:
    arn = "arn:aws:kms:us-east-1:123456789012:key/1"
    assert stacks("realtime", encryption__key=arn).one(CONFIG)["KmsKeyId"] == arn
    assert not stacks("realtime", encryption__key="aws").resources("AWS::KMS::Key")
    assert "KmsKeyId" not in stacks("realtime", encryption__key="aws").one(CONFIG)


def test_alarms_and_budgets_may_publish_and_people_subscribe() -> None:
    found = stacks("realtime", alarms__email="oncall@example.com")
    found["model"].has_resource_properties(
        "AWS::SNS::Subscription", {"Protocol": "email", "Endpoint": "oncall@example.com"}
    )
    services = ["budgets.amazonaws.com", "cloudwatch.amazonaws.com"]
    allowed = Match.object_like(
        {"Effect": "Allow", "Action": "sns:Publish", "Principal": {"Service": services}}
    )
    found["model"].has_resource_properties(
        "AWS::SNS::TopicPolicy", {"PolicyDocument": {"Statement": Match.array_with([allowed])}}
    )
    for policy in found.resources("AWS::KMS::Key"):
        principals = json.dumps([s["Principal"] for s in policy["Properties"]["KeyPolicy"]["Statement"]])
        assert all(service in principals for service in services)
