"""deploy, --plan and policies where nobody is signed in, or is no longer: one sentence, exit code 2, and nothing made."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sagerank.cli import main

GIVEN = ("--model", "micro", "--instance", "ml.c7i.large")
COMMANDS = (("deploy", "--yes"), ("deploy", "--plan", "plan.tar.gz"), ("policies",), ("policies", "--key"))
WHERE = ("--region", "eu-west-1")


class _Expired(BaseHTTPRequestHandler):
    """AWS, to which the token has ended."""

    def do_POST(self) -> None:
        message = "The security token included in the request is expired"
        text = f"<ErrorResponse><Error><Code>ExpiredToken</Code><Message>{message}</Message></Error></ErrorResponse>"
        if "X-Amz-Target" in self.headers:  # of services that speak JSON, such as SSM
            text = json.dumps({"__type": "ExpiredTokenException", "message": message})
        body = text.encode()
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def expired() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Expired) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "PROFILE", "REGION", "DEFAULT_REGION", "ENDPOINT_URL"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(list(words)) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1), err
    assert not Path("plan.tar.gz").exists()
    assert not Path("cache").exists()
    return err.removeprefix("sagerank: ")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_without_credentials_region_or_profile_there_is_one_sentence(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    without = "No AWS credentials were found: run `aws configure` or `aws sso login`, set AWS_PROFILE"
    assert said(capsys, *command, *GIVEN, *WHERE).startswith(without)
    assert said(capsys, *command, *GIVEN).startswith("No AWS region is set: give --region")
    none = "There is no AWS profile 'none': run `aws configure list-profiles`."
    assert said(capsys, *command, *GIVEN, *WHERE, "--profile", "none").startswith(none)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_credentials_that_have_ended_are_one_sentence(
    command: tuple[str, ...],
    expired: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "ended")
    text = said(capsys, *command, *GIVEN, *WHERE, "--endpoint-url", expired)
    assert text.startswith("AWS does not accept the credentials (ExpiredToken")
    assert "): sign in again" in text


@pytest.mark.parametrize("name", ["a b", "../up", "naïve", "x" * 64, "a" + "-" * 62 + "b", "-"])
@pytest.mark.parametrize("command", ["status", "verify", "destroy"])
def test_a_name_that_no_deployment_has_is_one_sentence(
    command: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"There can be no deployment {name!r}: names are" in said(capsys, command, *WHERE, name)


def test_a_home_that_is_not_there_and_a_folder_that_nobody_writes_to_are_enough(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0o555)
    monkeypatch.chdir(tmp_path / "closed")
    assert main(["deploy", *GIVEN, *WHERE, "--dry-run"]) == 0
    assert list(Path().iterdir()) == []
