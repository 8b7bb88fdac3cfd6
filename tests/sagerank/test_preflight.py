"""What `sagerank deploy` looks at in AWS before it deploys: an image in ECR, an artefact in S3."""

from __future__ import annotations

import hashlib
import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from sagerank.models.build import MICRO
from sagerank.operate import OperateError, change, deploy, image
from sagerank.operate.account import Account
from sagerank.operate.cdk import Assembly
from sagerank_infra import rules
from sagerank_infra.config import DeployConfig

from ..local_aws.launch import ACCOUNT, REGION

DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
OCI = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def push(account: Account, kind: str, architecture: str = "amd64") -> str:
    """An image whose configuration was uploaded as a registry's client does; its address."""
    ecr, name = account.client("ecr"), f"team/{uuid.uuid4().hex}"
    ecr.create_repository(repositoryName=name)
    content = json.dumps({"architecture": architecture, "config": {}, "name": name}).encode()
    upload = ecr.initiate_layer_upload(repositoryName=name)["uploadId"]
    ecr.upload_layer_part(
        repositoryName=name,
        uploadId=upload,
        partFirstByte=0,
        partLastByte=len(content) - 1,
        layerPartBlob=content,
    )
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    ecr.complete_layer_upload(repositoryName=name, uploadId=upload, layerDigests=[digest])
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": {"digest": digest},
        "layers": [],
    }
    if kind == INDEX:
        manifest = {"schemaVersion": 2, "mediaType": kind, "manifests": []}
    ecr.put_image(
        repositoryName=name, imageTag="1", imageManifest=json.dumps(manifest), imageManifestMediaType=kind
    )
    return f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{name}:1"


def config(address: str, **given: Any) -> DeployConfig:
    return DeployConfig(**{"model": "micro", "instance": "ml.c7i.large", "image": address, **given})


def test_an_image_that_runs_on_the_instance_passes(account: Account) -> None:
    assert image.check(config(push(account, DOCKER)), account) == ""
    assert image.check(config(push(account, DOCKER), mode="serverless", instance=""), account) == ""
    assert image.check(config(push(account, DOCKER, "arm64"), instance="ml.c8g.large"), account) == ""
    assert image.check(config("dockerfile"), account) == ""


def test_an_image_that_aws_would_refuse_is_one_sentence(account: Account) -> None:
    for kind, sentence in ((OCI, "is a manifest of OCI"), (INDEX, "is an index of several images")):
        with pytest.raises(OperateError, match=f"{sentence} .*skopeo copy --format v2s2"):
            image.check(config(push(account, kind)), account)
    with pytest.raises(OperateError, match="is built for arm64, and ml.c7i.large is amd64"):
        image.check(config(push(account, DOCKER, "arm64")), account)
    for address in (push(account, DOCKER)[:-1] + "2", f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/none:1"):
        with pytest.raises(OperateError, match="There is no image .* in ECR: push it first"):
            image.check(config(address), account)


def test_an_image_that_may_not_be_looked_at_is_said_to_be_unknown(away: Account) -> None:
    said = image.check(config(f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/any:1"), away)
    assert "could not be looked at, and AWS may refuse it: AWS could not be reached" in said


def test_artefacts_in_s3_are_pinned_to_what_lies_there(account: Account) -> None:
    s3, own = account.client("s3"), hashlib.sha256((MICRO / "manifest.json").read_bytes()).hexdigest()
    s3.upload_file(str(MICRO / "manifest.json"), "artefacts", "unpacked/manifest.json")

    def pinned(artefact: str, **more: str) -> tuple[deploy.Wanted, list[str]]:
        options = {"model": "micro", "instance": "ml.c7i.large", "artefact": artefact, **more}
        return deploy.pin(deploy.want(None, options), account)

    for address in ("s3://artefacts/model.tar.gz", "s3://artefacts/unpacked/"):
        wanted, (note,) = pinned(address)
        assert wanted.config.artefact_sha256 == own
        assert rules.read(None, wanted.options) == wanted.config
        assert note == f"{address} is pinned to what lies there now, manifest {own}"
    wanted, notes = pinned("s3://artefacts/model.tar.gz", artefact_sha256=own)
    assert (wanted.config.artefact_sha256, notes) == (own, [])
    with pytest.raises(OperateError, match=f"artefact_sha256 is e{{64}}, and the manifest at .* has {own}"):
        pinned("s3://artefacts/model.tar.gz", artefact_sha256="e" * 64)
    variants = json.dumps([{"name": "B", "weight": 1, "artefact": "s3://artefacts/unpacked/"}])
    wanted, notes = pinned("s3://artefacts/model.tar.gz", variants=variants)
    assert (wanted.config.variants[0].artefact_sha256, len(notes)) == (own, 2)
    with pytest.raises(OperateError, match="There is no artefact at s3://artefacts/none.tar.gz"):
        pinned("s3://artefacts/none.tar.gz")
    s3.put_object(Bucket="artefacts", Key="other.tar.gz", Body=b"no archive")
    with pytest.raises(OperateError, match="cannot be unpacked"):
        pinned("s3://artefacts/other.tar.gz")


def test_an_artefact_that_may_not_be_read_is_said_not_to_be_pinned(away: Account) -> None:
    options = {"model": "micro", "instance": "ml.c7i.large", "artefact": "s3://artefacts/model.tar.gz"}
    wanted, (note,) = deploy.pin(deploy.want(None, options), away)
    assert wanted.config.artefact_sha256 == ""
    assert note.startswith("s3://artefacts/model.tar.gz is not pinned: AWS could not be reached")
    given = deploy.want(None, {**options, "artefact_sha256": "e" * 64})
    wanted, (note,) = deploy.pin(given, away)
    assert wanted.config.artefact_sha256 == "e" * 64
    assert "is not looked at: AWS could not be reached" in note


def test_a_stack_that_somebody_changes_meanwhile_is_told(account: Account) -> None:
    def template(estimate: str, days: int) -> str:
        group = {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": name, "RetentionInDays": days}}
        output = {"EstimatedMonthlyCost": {"Value": estimate}}
        return json.dumps({"Resources": {"Group": group}, "Outputs": output})

    formation, name = account.client("cloudformation"), f"told-{uuid.uuid4().hex[:8]}"
    none = change.deployed(account, name)
    none.require({})
    now = Assembly(Path(), {f"{name}-model": {}}, {}, "USD 1,088.40 a month (traffic); hours 1,078.11", "")
    assert change.cost(none, now) == "Deployed now: nothing"
    stack = f"{name}-observability"
    formation.create_stack(StackName=stack, TemplateBody=template("USD 90.00 a month (traffic); hours 80", 1))
    first = change.deployed(account, name)
    first.require(first.state)
    assert change.cost(first, now) == "Deployed now: USD 90.00 a month; the new estimate is USD 998.40 more"
    with pytest.raises(OperateError, match=r"it was not there, and is of 20.*: somebody deployed meanwhile"):
        first.require(none.state)
    formation.update_stack(StackName=stack, TemplateBody=template("at least USD 1.00 a month (traffic)", 7))
    second = change.deployed(account, name)
    with pytest.raises(OperateError, match="somebody deployed meanwhile"):
        second.require(first.state)
    assert change.cost(second, now) == "Deployed now: at least USD 1.00 a month"
    formation.delete_stack(StackName=stack)
    with pytest.raises(OperateError, match="and is not there"):
        change.deployed(account, name).require(second.state)
