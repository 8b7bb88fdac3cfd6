"""One rule for region and profile, and the same answer of it from everything that asks AWS: each command and function is run,
and what it signs its first request for is its answer.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sagerank import aws
from sagerank.cli import main
from sagerank.client import RerankClient
from sagerank.errors import InvalidRequest
from sagerank.operate.account import Account

_CONFIG = "[default]\nregion = eu-central-1\n[profile work]\nregion = eu-north-1\n[profile bare]\n"
_KEYS = "aws_access_key_id = AKID{0}\naws_secret_access_key = none\n"


@pytest.fixture(autouse=True)
def configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "CDK_"))]:
        monkeypatch.delenv(name)
    (tmp_path / "config").write_text(_CONFIG)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    keys = "".join(f"[{name}]\n{_KEYS.format(name)}" for name in ("default", "work"))
    (tmp_path / "credentials").write_text(keys)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def _transport(region: str | None, profile: str | None) -> str:
    with RerankClient.sagemaker("x", region=region, profile=profile) as client:
        return str(client.transport._region)  # type: ignore[attr-defined]


def _sdk(region: str | None, profile: str | None) -> str:
    sdk = pytest.importorskip("sagerank.sagemaker")
    session = sdk.default_session(region, profile)
    # An image of another region is refused.
    image = f"123456789012.dkr.ecr.{session.region_name}.amazonaws.com/x:y"
    config = sdk.config(
        model="micro", instance="ml.c7i.large", image=image, artefact="s3://ours/a.tar.gz", session=session
    )
    with sdk.predictor("x", session=session) as client:
        assert client.transport._region == config.region
    return str(config.region)


def _app(region: str | None, profile: str | None) -> str:
    """As `python -m sagerank_infra.app` alone reads it, whose profile is the environment's."""
    from sagerank_infra.config import DeployConfig

    given = {"model": "micro", "mode": "serverless", "artefact": "s3://ours/a.tar.gz"}
    with pytest.MonkeyPatch.context() as patch:
        if profile:
            patch.setenv("AWS_PROFILE", profile)
        return DeployConfig.read(None, {**given, "region": region} if region else given).region


class _Recorder(ThreadingHTTPServer):
    """Refuses whatever is asked, and keeps whose key signed it, for which region."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Refusal)
        self.scopes: list[tuple[str, str]] = []


class _Refusal(BaseHTTPRequestHandler):
    server: _Recorder

    def do_POST(self) -> None:
        scope = re.search(r"Credential=(\w+)/\d+/([\w-]+)/", self.headers["Authorization"])
        assert scope
        self.server.scopes.append((scope[1], scope[2]))
        body = b'{"__type": "AccessDeniedException", "message": "no"}'
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = do_POST

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def recorder() -> Iterator[_Recorder]:
    with _Recorder() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


_COMMANDS = {
    "deploy": ["deploy", "--model", "micro", "--mode", "serverless", "--yes"],
    "status": ["status"],
    "verify": ["verify"],
    "idle": ["idle"],
    "destroy": ["destroy", "--yes"],
    "transform": ["transform", "--input", "s3://ours/in.jsonl", "--instance", "ml.c7i.large"],
    "rerank": ["rerank", "ice", "--sample", "--endpoint", "x"],
    "cost measure": ["cost", "measure", "--endpoint", "x", "--instance", "ml.c7i.large", "--model", "micro"],
    "distil": ["distil", "--sagemaker", "--name", "x", "--role", "arn:aws:iam::123456789012:role/x", "--bucket", "ours",
               "--image", "x", "--teacher", "micro", "--passages", "@", "--queries", "@", "--gate", "@"],
}  # fmt: skip
_CASES = pytest.mark.parametrize(
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


@pytest.mark.parametrize("command", _COMMANDS)
@_CASES
def test_every_command_asks_by_the_same_rule(
    command: str,
    environment: dict[str, str],
    region: str | None,
    profile: str | None,
    expected: str,
    recorder: _Recorder,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "texts.jsonl").write_text('{"_id": "1", "text": "ice"}\n', encoding="utf-8")
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{recorder.server_port}")
    words = [str(tmp_path / "texts.jsonl") if word == "@" else word for word in _COMMANDS[command]]
    words += ["--region", region] if region else []
    words += ["--profile", profile] if profile else []
    recorder.scopes.clear()
    assert main(words) == 2
    owner = profile or environment.get("AWS_PROFILE", "default")
    assert recorder.scopes[0] == (f"AKID{owner}", expected)


@_CASES
def test_what_asks_nobody_says_the_same_region(
    environment: dict[str, str],
    region: str | None,
    profile: str | None,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    chosen = ["--region", region] if region else []
    chosen += ["--profile", profile] if profile else []
    where = ["--endpoint", "x", "--account", "123456789012"]
    assert main(["connect", "opensearch", *where, *chosen]) == 0
    assert f"arn:aws:sagemaker:{expected}:123456789012:endpoint/x" in capsys.readouterr().out
    assert main(["doctor", "--json", *chosen]) == 0
    (found,) = [each for each in json.loads(capsys.readouterr().out) if each["name"] == "aws"]
    assert expected in found["detail"]
    assert (profile or environment.get("AWS_PROFILE", "default")) in found["detail"]


@pytest.mark.parametrize(
    "region_of",
    [
        lambda region, profile: aws.session(region, profile).get_config_variable("region"),
        lambda region, profile: Account(region, profile=profile).region,
        _transport,
        _sdk,
        _app,
    ],
    ids=["session", "account", "client", "sagemaker", "app"],
)
@_CASES
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
