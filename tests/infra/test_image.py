"""The container image: ours, one of the user's own, AWS's."""

from __future__ import annotations

import json

import pytest

from .conftest import MODEL, stacks, statements


@pytest.mark.parametrize(
    ("name", "file", "platform"),
    [
        ("realtime", "image/Dockerfile.cpu", "linux/amd64"),
        ("graviton", "image/Dockerfile.cpu", "linux/arm64"),
        ("gpu", "image/Dockerfile.gpu", "linux/amd64"),
        ("serverless", "image/Dockerfile.cpu", "linux/amd64"),
    ],
)
def test_the_image_is_built_for_the_instance(name: str, file: str, platform: str) -> None:
    assets = json.loads(next(stacks(name).assembly.glob("*model.assets.json")).read_text(encoding="utf-8"))
    (image,) = assets["dockerImages"].values()
    assert (image["source"]["dockerFile"], image["source"]["platform"]) == (file, platform)
    shipped = stacks(name).assembly / image["source"]["directory"]
    assert (shipped / "server.py").is_file()
    assert not list(shipped.rglob("__pycache__"))


def test_an_image_of_ones_own_needs_no_docker() -> None:
    uri = "123456789012.dkr.ecr.us-east-1.amazonaws.com/team/sagerank:1.2"
    found = stacks("realtime", image=uri)
    assert found.one(MODEL)["PrimaryContainer"]["Image"] == uri
    assets = json.loads(next(found.assembly.glob("*model.assets.json")).read_text(encoding="utf-8"))
    assert not assets.get("dockerImages")
    pulls = [
        s
        for p in found.resources("AWS::IAM::Policy")
        for s in statements(p)
        if "ecr:BatchGetImage" in s["Action"]
    ]
    assert ":ecr:us-east-1:123456789012:repository/team/sagerank" in json.dumps(pulls)


def test_awss_own_container_of_the_region() -> None:
    assert "763104351884.dkr.ecr.eu-west-1." in json.dumps(
        stacks("realtime", image="dlc", region="eu-west-1").one(MODEL)
    )
    assert "-gpu-" in json.dumps(stacks("gpu", image="dlc").one(MODEL)["PrimaryContainer"]["Image"])
