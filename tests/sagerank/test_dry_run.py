"""`sagerank deploy --dry-run`: no credentials, no weights, no Docker, no network; and the plan says what it could not know."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path

import pytest

from sagerank.cli import main
from sagerank.operate import OperateError, artefact, cdk
from sagerank_infra import rules
from sagerank_infra.config import DeployConfig


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine that was never set up for AWS, whose caches are empty."""
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_PROFILE",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
    ):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "CDK_DOCKER"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def test_a_dry_run_needs_nothing_and_says_what_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["deploy", "--model", "turbo>base@20", "--instance", "ml.c7i.xlarge", "--dry-run"]
    assert main([*command, "--output", "templates"]) == 0
    first, cost, *rest = capsys.readouterr().out.splitlines()
    assert first == "sagerank: turbo>base@20, realtime on ml.c7i.xlarge, preset dev, us-east-1"
    assert cost.startswith("Estimated cost: USD ")
    assert [line.partition(":")[0] for line in rest[-4:]] == [
        "Account unknown",
        "Region us-east-1, as none is set",
        "Templates",
        "Nothing was built, uploaded or deployed, or compared with what is deployed",
    ]
    said = dict(
        re.split(r" {2,}", line.strip(), maxsplit=1)
        for line in rest
        if line.startswith("  ") and "   " in line
    )
    assert said["capture"] == "none: no request or answer is kept"
    assert said["key"] == "new, rotated every year"
    template = json.loads(Path("templates/sagerank-endpoint.template.json").read_text())
    types = [resource["Type"] for resource in template["Resources"].values()]
    assert types.count("AWS::SageMaker::Endpoint") == 1
    assert not Path("cache").exists(), "something was built"


def test_the_json_of_a_dry_run_is_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["deploy", "--model", "tiny", "--mode", "serverless", "--region", "eu-west-1"]
    assert main([*command, "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["account"], found["bootstrapped"], found["region"]) == ("", None, "eu-west-1")
    assert found["stacks"] == list(found["resources"])
    assert found["resources"]["sagerank-endpoint"]["AWS::SageMaker::Endpoint"] == 1
    assert found["estimate"].startswith("USD ")
    assert found["budget_activation"].endswith("TagKey=sagerank:name,Status=Active")


def test_a_dry_run_shows_what_a_security_reviewer_looks_at(capsys: pytest.CaptureFixture[str]) -> None:
    boundary, role = (f"arn:aws:iam::123456789012:{name}" for name in ("policy/bound", "role/theirs"))
    options = {
        "permissions_boundary": boundary,
        "role": role,
        "encryption.key": "aws",
        "network.vpc": "none",
        "removal": "retain",
        "capture.percent": "10",
        "artefact": "s3://models/tiny/model.tar.gz",
        "alarms.email": "me@example.com",
    }
    given = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    command = ["deploy", "--model", "tiny", "--instance", "ml.c7i.large", "--region", "us-east-1", *given]
    assert main([*command, "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["security"]
    assert found["roles"].startswith(f"{role}, yours and not changed, for sagemaker; new, for events")
    assert found["boundary"] == f"{boundary}, on 1 role"
    assert found["key"] == "keys of AWS"
    assert found["network"] == "no VPC; the container reaches nothing (network isolation)"
    assert found["capture"] == "10 % of requests and answers, in the data bucket for 14 days"
    assert found["data"] == "1 bucket of its own, closed to the public"
    assert found["artefact"].startswith("not pinned by SHA-256 here: `deploy` pins what it can read in S3; ")
    assert found["removal"] == "termination protection off; `destroy` keeps LogGroup, Bucket"
    assert found["alarms_to"] == "me@example.com"


def test_each_models_artefact_is_pinned_or_not(capsys: pytest.CaptureFixture[str]) -> None:
    own = {"name": "turbo", "model": "turbo", "artefact": "s3://models/turbo/model.tar.gz"}
    given = ["--mode", "scale-to-zero", "--instance", "ml.c7i.xlarge", "--region", "us-east-1"]
    for more, said in (
        ({}, "1 of 2 pinned by SHA-256 here: "),
        ({"artefact_sha256": "a" * 64}, "pinned by SHA-256; "),
    ):
        listed = f"components={json.dumps([own | more])}"
        assert main(["deploy", "--model", "micro", *given, "-c", listed, "--dry-run", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["security"]["artefact"].startswith(said)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--instance", "ml.c7i.lrge", "--dry-run"], "did you mean ml.c7i.large?"),
        (["--region", "eu-wst-1", "--dry-run"], "did you mean eu-west-1?"),
        (["--profile", "none", "--dry-run"], "There is no AWS profile 'none'"),
        (["--output", "x"], "--output goes with --dry-run"),
        ([], "No AWS region is set"),
        (["--region", "eu-west-1"], "No AWS credentials were found"),
    ],
)
def test_what_cannot_be_planned_or_deployed_is_one_sentence(
    more: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["deploy", "--model", "tiny", "--instance", "ml.c7i.large", *more]) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert err.count("\n") == 1


def test_the_plan_needs_node(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "")
    assert main(["deploy", "--model", "tiny", "--instance", "ml.c7i.large", "--dry-run"]) == 2
    assert "The CDK needs Node.js 20 or newer, and there is none on PATH" in capsys.readouterr().err


def test_the_plan_shows_no_banner_of_an_old_node_over_the_reason(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", raising=False)
    with pytest.raises(OperateError):
        cdk.synthesise({"mode": "none"}, Path("out"))
    assert capfd.readouterr().err.startswith("sagerank: ")


def test_a_damaged_archive_in_the_cache_is_packed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    packed = artefact.built("micro", code=False)
    whole, made = packed.read_bytes(), packed.stat().st_ino
    assert artefact.built("micro", code=False).stat().st_ino == made
    packed.write_bytes(whole[: len(whole) // 2])
    assert artefact.built("micro", code=False).read_bytes() == whole


def test_an_archive_that_holds_no_artefact_is_not_planned_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though its manifest has the parameters that the model should have, which is all that the stacks ask."""
    made = artefact.of_shape(DeployConfig(model="micro", instance="ml.c7i.large"), tmp_path)
    arguments = ["--model", "micro", "--instance", "ml.c7i.large", "-c", f"artefact={made}"]
    assert main(["deploy", *arguments, "--dry-run"]) == 2
    assert "is not of format 2, nor of 1" in capsys.readouterr().err


@pytest.mark.parametrize("image", ["dockerfile", "dlc"])
@pytest.mark.parametrize("model", ["micro", "base", "tiny>base@20"])
def test_the_shape_of_every_model_passes_for_its_artefact(model: str, image: str, tmp_path: Path) -> None:
    config = DeployConfig(model=model, instance="ml.c7i.xlarge", image=image)
    made = artefact.of_shape(config, tmp_path)
    assert made.stat().st_size < 1000
    with tarfile.open(made) as archive:
        assert "manifest.json" in archive.getnames()
    options = {"model": model, "instance": "ml.c7i.xlarge", "image": image, "artefact": str(made)}
    assert rules.read(None, options).artefact == str(made)
