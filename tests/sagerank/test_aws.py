"""One rule for region and profile, and the same answer of it from everything that asks AWS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sagerank import aws
from sagerank.client import RerankClient
from sagerank.errors import InvalidRequest
from sagerank.operate.account import Account

_CONFIG = "[default]\nregion = eu-central-1\n[profile work]\nregion = eu-north-1\n[profile bare]\n"


@pytest.fixture(autouse=True)
def configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "config").write_text(_CONFIG)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))


def _transport(region: str | None, profile: str | None) -> str:
    with RerankClient.sagemaker("x", region=region, profile=profile) as client:
        return str(client.transport._region)  # type: ignore[attr-defined]


def _sdk(region: str | None, profile: str | None) -> str:
    sdk = pytest.importorskip("sagerank.sagemaker")
    # An image of another region is refused.
    image = (
        f"123456789012.dkr.ecr.{aws.session(region, profile).get_config_variable('region')}.amazonaws.com/x:y"
    )
    with pytest.MonkeyPatch.context() as patch:
        if profile:
            patch.setenv("AWS_PROFILE", profile)
        config = sdk.config(
            model="micro", instance="ml.c7i.large", image=image, region=region, artefact="s3://ours/a.tar.gz"
        )
        with sdk.predictor("x", region=region) as client:
            assert client.transport._region == config.region
    return str(config.region)


@pytest.mark.parametrize(
    "region_of",
    [
        lambda region, profile: aws.session(region, profile).get_config_variable("region"),
        lambda region, profile: Account(region, profile=profile).region,
        _transport,
        _sdk,
    ],
    ids=["session", "account", "client", "sagemaker"],
)
@pytest.mark.parametrize(
    ("environment", "region", "profile", "expected"),
    [
        ({}, None, None, "eu-central-1"),
        ({}, None, "work", "eu-north-1"),
        ({"AWS_PROFILE": "work"}, None, None, "eu-north-1"),
        ({"AWS_DEFAULT_REGION": "us-west-2", "AWS_PROFILE": "work"}, None, None, "us-west-2"),
        ({"AWS_REGION": "us-east-2", "AWS_DEFAULT_REGION": "us-west-2"}, None, "work", "us-east-2"),
        ({"AWS_REGION": "us-east-2"}, "ap-south-1", "work", "ap-south-1"),
    ],
)
def test_the_nearest_to_the_caller_says_the_region(
    region_of: Callable[[str | None, str | None], str],
    environment: dict[str, str],
    region: str | None,
    profile: str | None,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    assert region_of(region, profile) == expected


@pytest.mark.parametrize(
    ("region", "profile", "sentence"),
    [
        (None, "bare", "No AWS region is set: give --region"),
        ("eu-wst-1", None, "region is 'eu-wst-1'.*did you mean eu-west-1?"),
        ("nowhere", None, "give one such as eu-west-1"),
        (None, "wrok", "There is no AWS profile 'wrok': did you mean work?"),
        ("eu-west-1", "nobody", "There is no AWS profile 'nobody': run `aws configure list-profiles`"),
    ],
)
def test_what_does_not_exist_is_one_sentence(region: str | None, profile: str | None, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence) as error:
        aws.session(region, profile)
    assert isinstance(error.value, aws.NoRegion) == (profile == "bare")


def test_a_configuration_that_cannot_be_read_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("region = eu-west-1\n")
    with pytest.raises(InvalidRequest, match="The AWS configuration cannot be used"):
        aws.session("eu-west-1")
