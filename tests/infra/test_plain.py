"""One template without bootstrap and assets: what the stacks have, with image and artefact as parameters."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from sagerank_inference.archive import manifest_sha256
from sagerank_infra import plain
from sagerank_infra.options import ConfigError

from .conftest import ENDPOINTS, EVERY, MODEL, new_app, stacks
from .synth import EXAMPLES, example

_IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/team/rerank"


@cache
def synthesised(name: str, preset: str = "dev", /, **options: str) -> Path:
    app = new_app()
    plain.build(app, example(name, preset, **options))
    (path,) = Path(app.synth().directory).glob("*.template.json")
    return path


def template(name: str, preset: str = "dev", /, **options: str) -> dict[str, Any]:
    return dict(json.loads(synthesised(name, preset, **options).read_text(encoding="utf-8")))


def of_type(found: dict[str, Any], kind: str) -> dict[str, Any]:
    (only,) = (each for each in found["Resources"].values() if each["Type"] == kind)
    return dict(only["Properties"])


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_it_has_every_resource_and_output_of_the_stacks_and_nothing_of_the_cdk(
    name: str, preset: str
) -> None:
    found, deployed = template(name, preset), stacks(name, preset)
    types = Counter(each["Type"] for each in found["Resources"].values())
    assert types == Counter(
        each["Type"] for stack in deployed.templates.values() for each in stack["Resources"].values()
    )
    assert not [kind for kind in types if kind.startswith(("Custom::", "AWS::Lambda::", "AWS::CDK::"))]
    own = {key for key in deployed.outputs() if not key.startswith(("ExportsOutput", "PublishOutput"))}
    assert found["Outputs"].keys() == own
    text = json.dumps(found)
    for word in (
        "bootstrap",
        "cdk-hnb659fds",
        "aws:asset",
        "aws:cdk:path",
        "Fn::GetStackOutput",
        "us-east-1a",
    ):
        assert word not in text.lower()
    retained = {
        each["Type"] for each in found["Resources"].values() if each.get("DeletionPolicy") == "Retain"
    }
    assert bool(retained) == (preset == "prod")


def test_cfn_lint_is_clean_in_every_mode_and_preset() -> None:
    templates = [str(synthesised(name, preset)) for name, preset in EVERY]
    done = subprocess.run(
        [sys.executable, "-c", "from cfnlint.runner import main; main()", "-i", "W3005", "-t", *templates],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_a_fleet_of_several_models_has_their_artefacts_in_s3() -> None:
    turbo = {"name": "turbo", "model": "turbo", "artefact": "s3://models/turbo/model.tar.gz"}
    found = template("scale-to-zero", components=json.dumps([turbo]))
    urls = [
        each["Properties"]["PrimaryContainer"]["ModelDataUrl"]
        for each in found["Resources"].values()
        if each["Type"] == MODEL
    ]
    assert "s3://models/turbo/model.tar.gz" in urls
    assert len(urls) == 2
    assert {"InferenceComponentName", "InferenceComponentNameturbo"} <= found["Outputs"].keys()


@pytest.mark.parametrize("name", EXAMPLES)
def test_equal_configurations_make_equal_bytes_whatever_the_account(name: str) -> None:
    first = synthesised(name).read_bytes()
    synthesised.cache_clear()
    assert synthesised(name).read_bytes() == first
    assert "999999999999" not in json.dumps(template(name, account="999999999999"))


@pytest.mark.parametrize("name", [name for name in ENDPOINTS if name != "marketplace"])
def test_image_and_artefact_are_parameters_with_what_was_given(name: str) -> None:
    tag = "arm64-1" if name == "graviton" else "amd64-1"
    found = template(name, image=f"{_IMAGE}:{tag}", artefact_sha256="a" * 64)
    defaults = {key: each.get("Default") for key, each in found["Parameters"].items()}
    assert defaults == {
        "Image": f"{_IMAGE}:{tag}",
        "ArtefactBucket": "example-models",
        "ArtefactKey": "tiny/model.tar.gz",
        "ArtefactSha256": "a" * 64,
    }
    container = of_type(found, MODEL)["PrimaryContainer"]
    assert container["Image"] == {"Ref": "Image"}
    assert container["Environment"]["SAGERANK_MANIFEST_SHA256"] == {"Ref": "ArtefactSha256"}
    parts = ["s3://", {"Ref": "ArtefactBucket"}, "/", {"Ref": "ArtefactKey"}]
    assert container["ModelDataUrl"] == {"Fn::Join": ["", parts]}


def test_without_an_image_and_a_sum_there_is_no_such_default() -> None:
    parameters = template("realtime")["Parameters"]
    assert "Default" not in parameters["Image"]
    assert parameters["ArtefactSha256"]["Default"] == "any"  # which the server takes for: not pinned


def test_a_local_archive_gives_its_sum_and_no_address(archive: Path) -> None:
    parameters = template("realtime", model="micro", artefact=str(archive))["Parameters"]
    assert parameters["ArtefactSha256"]["Default"] == manifest_sha256(archive)
    assert not {"Default"} & (parameters["ArtefactBucket"].keys() | parameters["ArtefactKey"].keys())


def test_an_unpacked_artefact_is_a_folder() -> None:
    found = template("realtime", artefact="s3://models/tiny")
    assert found["Parameters"]["ArtefactKey"]["Default"] == "tiny/"
    source = of_type(found, MODEL)["PrimaryContainer"]["ModelDataSource"]["S3DataSource"]
    assert source["S3DataType"] == "S3Prefix"


def test_awss_own_container_is_no_parameter() -> None:
    found = template("realtime", image="dlc")
    assert "Image" not in found["Parameters"]
    assert "huggingface" in json.dumps(of_type(found, MODEL)["PrimaryContainer"]["Image"])


def test_variants_that_share_the_artefact_share_its_sum(archive: Path) -> None:
    shared = {"name": "b", "weight": 1}
    own = {"name": "c", "weight": 1, "artefact": "s3://other/model.tar.gz"}
    found = template("realtime", variants=json.dumps([shared, own]))
    pinned = [
        each["Properties"]["PrimaryContainer"].get("Environment", {}).get("SAGERANK_MANIFEST_SHA256")
        for each in found["Resources"].values()
        if each["Type"] == MODEL
    ]
    assert sorted(map(str, pinned)) == ["None", "{'Ref': 'ArtefactSha256'}", "{'Ref': 'ArtefactSha256'}"]
    variants = json.dumps([{"name": "b", "weight": 1, "artefact": str(archive)}])
    with pytest.raises(ConfigError, match="a template brings no file: give its s3:// address"):
        template("realtime", variants=variants, model="micro", artefact=str(archive))
