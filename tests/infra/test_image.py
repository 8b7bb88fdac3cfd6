"""The container image: ours, one of the user's own, AWS's."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from sagerank_infra.app import build

from .conftest import MODEL, Synthesised, new_app, stacks, statements, synthesise
from .synth import example


def asset(found: Synthesised) -> tuple[str, dict[str, Any]]:
    """The name of the image that is built, and what it is built from."""
    assets = json.loads(next(found.assembly.glob("*model.assets.json")).read_text(encoding="utf-8"))
    ((name, image),) = assets["dockerImages"].items()
    return name, image["source"]


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
    source = asset(stacks(name))[1]
    assert (source["dockerFile"], source["platform"]) == (file, platform)
    shipped = stacks(name).assembly / source["directory"]
    assert (shipped / "server.py").is_file()
    assert {path.suffix for path in shipped.rglob("*") if path.parent.name not in ("image", "micro")} <= {
        ".py",
        "",  # folders
    }


def test_whoever_builds_the_image_it_is_the_same_and_of_dockers_own_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_docker = asset(stacks("realtime"))
    assert by_docker[1]["dockerOutputs"] == ["type=docker,oci-mediatypes=false"]
    assert by_docker[1]["dockerBuildSecrets"] == {}
    monkeypatch.setenv("CDK_DOCKER", "/usr/bin/podman")
    told, trusted = tmp_path / "pip.conf", tmp_path / "ca.pem"
    for file in (told, trusted):
        file.touch()
    behind = {"image_build.pip": str(told), "image_build.certificates": str(trusted)}
    by_podman = asset(synthesise(example("realtime", **behind)))
    assert "dockerOutputs" not in by_podman[1]
    assert by_podman[1]["dockerBuildSecrets"] == {"pip": f"src={told}", "ca": f"src={trusted}"}
    assert by_podman[0] == by_docker[0]


def test_podman_that_would_push_what_sagemaker_refuses_stops_the_cdk(monkeypatch: pytest.MonkeyPatch) -> None:
    def errors() -> list[str]:
        app = new_app()
        build(app, example("realtime"))
        messages: list[dict[str, str]] = []
        for file in Path(app.synth().directory).glob("*.metadata.json"):
            messages += itertools.chain(*json.loads(file.read_text(encoding="utf-8")).values())
        return [entry["data"] for entry in messages if entry["type"] == "aws:cdk:error"]

    monkeypatch.delenv("BUILDAH_FORMAT", raising=False)
    assert not errors()
    monkeypatch.setenv("CDK_DOCKER", "podman")
    (said,) = errors()
    assert "SageMaker refuses: set BUILDAH_FORMAT=docker" in said
    monkeypatch.setenv("BUILDAH_FORMAT", "docker")
    assert not errors()


def test_another_base_is_another_image() -> None:
    base = "public.ecr.aws/docker/library/python:3.11-slim-bookworm"
    name, source = asset(stacks("realtime", **{"image_build.base": base}))
    assert source["dockerBuildArgs"]["BASE"] == base
    assert name != asset(stacks("realtime"))[0]


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
