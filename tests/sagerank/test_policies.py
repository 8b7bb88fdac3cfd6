"""`sagerank policies` where no AWS is asked: patterns that mean one deployment, and what it says where it cannot answer."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from sagerank.cli import main
from sagerank.operate import deploy, policies
from sagerank.operate.stacks import PARTS

from ..local_aws.launch import ACCOUNT, REGION

GIVEN = ("--model", "micro", "--instance", "ml.c7i.large")


@pytest.fixture(autouse=True)
def away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_PROFILE",
        "AWS_REGION",
        "AWS_ENDPOINT_URL",
    ):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))


@pytest.mark.parametrize("mode", ["async", "batch"])
def test_no_pattern_means_a_deployment_whose_name_begins_alike(mode: str) -> None:
    options = {"model": "micro", "mode": mode, "instance": "ml.c7i.large", "region": REGION}
    wanted = deploy.want(None, {**options, "name": "sagerank-prod"})
    text = json.dumps(asdict(policies.documents(wanted, ACCOUNT)))
    patterns = set(re.findall(r"arn:aws:[^\"]*sagerank-prod[^\"]*[*?][^\"]*", text))
    assert any(":s3:::" in each for each in patterns)
    assert any(":role/" in each for each in patterns)
    own = [f":sagerank-prod-{part}{end}" for part in PARTS for end in "-/"]
    for pattern in patterns:
        name = ":" + re.split(r"s3:::|stack/|role/|job/|log-group:|sns:[^:]+:\d+:", pattern)[-1]
        assert name.startswith((*own, ":sagerank-prod-?", ":/aws/sagemaker/Endpoints/sagerank-prod:")), (
            pattern
        )
    # A job of another deployment, with a name as `transform` gives it.
    jobs = [each for each in patterns if ":transform-job/" in each]
    assert len(jobs) == (mode == "batch")
    for each in jobs:
        assert fnmatchcase(each.replace("????????-??????", "20261128-101010"), each)
        assert not fnmatchcase(each.replace("????????-??????", "two-20261128-101010"), each)


def test_a_key_of_awss_own_has_no_policy_to_print(capsys: pytest.CaptureFixture[str]) -> None:
    given = [*GIVEN, "--region", REGION, "-c", f"account={ACCOUNT}", "-c", "encryption.key=aws"]
    assert main(["policies", "--key", *given]) == 2
    said = capsys.readouterr()
    assert "give -c encryption.key=new, or the ARN of a key of yours" in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert main(["policies", *given]) == 0
    assert json.loads(capsys.readouterr().out)["key"] is None


def test_what_is_asked_for_is_printed_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    given = [*GIVEN, "--region", REGION, "-c", f"account={ACCOUNT}"]
    found = {}
    for names in ((), ("role",), ("role", "caller"), ("key", "caller"), ("caller",)):
        assert main(["policies", *given, *(f"--{name}" for name in names)]) == 0
        found[names] = json.loads(capsys.readouterr().out)
    assert list(found[()]) == ["trust", "role", "key", "caller"]
    assert list(found["role",]) == ["trust", "role"]
    assert list(found["role", "caller"]) == ["trust", "role", "caller"]
    assert list(found["key", "caller"]) == ["key", "caller"]
    assert found["caller",] == found[()]["caller"]


def test_without_credentials_it_says_how_to_do_without(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policies", *GIVEN, "--region", REGION]) == 2
    err = capsys.readouterr().err
    assert err.startswith("sagerank: No AWS credentials were found: ")
    assert err.endswith("; or give -c account=NUMBER, and AWS is not asked.\n")
    assert main(["policies", *GIVEN]) == 2
    assert "No AWS region is set: give --region" in capsys.readouterr().err
