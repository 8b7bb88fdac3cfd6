"""Who passes the proxy's door, and how those who do not are told."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from sagerank.cli import main
from sagerank.errors import InvalidRequest
from sagerank.proxy.keys import is_loopback, read_keys

from ...servers import KEY, Proxied, proxied
from ..scripted import Script

BODY = json.dumps({"query": "q", "documents": ["a"]})
OTHER = "another-key-of-it"


def basic(login: str) -> str:
    return "Basic " + base64.b64encode(login.encode()).decode()


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": f"bearer   {KEY}"},
        {"Authorization": KEY},
        {"Authorization": basic(f"anyone:{KEY}")},
        {"X-Api-Key": KEY},
        {"Api-Key": KEY},
        {"Authorization": "Bearer something-of-a-gateway", "x-api-key": KEY},
    ],
)
def test_a_key_is_taken_where_sdks_put_it(proxy: Proxied, headers: dict[str, str]) -> None:
    assert proxy.call("POST", "/v1/rerank", BODY, **headers)[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {KEY}x"},
        {"Authorization": f"Bearer {KEY[:-1]}"},
        {"Authorization": f"Bearer {KEY.upper()}"},
        {"Authorization": f"Bearer {KEY} {KEY}"},
        {"Authorization": "Basic !!!"},
        {"Authorization": basic(KEY + ":")},
        {"X-Api-Key": "ÿ"},
        {"Cookie": f"key={KEY}"},
    ],
)
@pytest.mark.parametrize("path", ["/v1/rerank", "/metrics", "/v1/models", "/", "/nowhere"])
def test_nothing_else_is_a_key(proxy: Proxied, path: str, headers: dict[str, str]) -> None:
    method, body = ("POST", BODY) if "rerank" in path else ("GET", None)
    status, answer, told = proxy.call(method, path, body, **headers)
    assert (status, told["www-authenticate"]) == (401, 'Bearer realm="sagerank"')
    assert "key" in answer["detail"]["message"]
    assert answer["detail"]["request_id"] == told["x-request-id"]


@pytest.mark.parametrize(
    ("path", "headers", "sentence"),
    [
        ("/v1/rerank", {}, lambda answer: answer["detail"]["message"]),
        ("/v2/rerank", {}, lambda answer: answer["message"]),
        ("/rerank", {}, lambda answer: answer["error"]),
        ("/v1/rerank", {"X-Fern-Sdk-Name": "cohere"}, lambda answer: answer["message"]),
    ],
)
def test_a_refusal_has_the_form_of_the_callers_api(
    proxy: Proxied, path: str, headers: dict[str, str], sentence: Any
) -> None:
    status, answer, _ = proxy.call("POST", path, BODY, **headers)
    assert status == 401
    assert sentence(answer).startswith("No key was sent")


@pytest.mark.parametrize("path", ["/ping", "/health", "/healthz", "/ping/"])
def test_whoever_watches_over_it_needs_no_key(proxy: Proxied, path: str) -> None:
    assert proxy.call("GET", path)[0] == 200


def test_a_large_body_without_a_key_is_refused_and_the_connection_lives(proxy: Proxied) -> None:
    assert proxy.call("POST", "/v1/rerank", b" " * 3_000_000)[0] == 401
    assert proxy.call("POST", "/v1/rerank", BODY, Authorization=f"Bearer {KEY}")[0] == 200


def runtime(proxy: Proxied, key: str) -> Any:
    return boto3.client(
        "sagemaker-runtime",
        endpoint_url=f"http://127.0.0.1:{proxy.port}",
        region_name="eu-west-1",
        aws_access_key_id=key,
        aws_secret_access_key="any",
        config=Config(retries={"total_max_attempts": 1}),
    )


def test_awss_sdk_gives_the_key_as_its_access_key_id(proxy: Proxied) -> None:
    ask = {"EndpointName": "any", "ContentType": "application/json", "Body": BODY}
    answer = runtime(proxy, KEY).invoke_endpoint(**ask)
    assert len(json.loads(answer["Body"].read())["results"]) == 1
    with pytest.raises(ClientError, match="This key is not known here") as caught:
        runtime(proxy, OTHER).invoke_endpoint(**ask)
    assert caught.value.response["Error"]["Code"] == "UnrecognizedClientException"


def test_several_keys_are_good_at_once(script: Script, tmp_path: Path) -> None:
    """While one is replaced by another."""
    file = tmp_path / "keys"
    file.write_text(f"# of the search team\n{OTHER}\n\n  {OTHER}-2  \r\n", encoding="utf-8")
    with proxied("--url", script.url, "--key-file", str(file)) as own:
        for key, status in ((KEY, 200), (OTHER, 200), (f"{OTHER}-2", 200), (f"{OTHER}-3", 401)):
            assert own.call("POST", "/v1/rerank", BODY, Authorization=f"Bearer {key}")[0] == status


def test_without_a_key_only_programs_of_this_machine_are_answered(script: Script) -> None:
    """And no web page that somebody looks at here, by whatever name it has this machine called."""
    with proxied("--url", script.url, SAGERANK_PROXY_KEY="") as own:

        def status(**headers: str) -> int:
            return own.call("POST", "/v1/rerank", BODY, **headers)[0]

        assert status() == status(Host="localhost:1") == status(Host="[::1]:8080") == 200
        assert status(Host="runtime.sagemaker.eu-west-1.amazonaws.com") == 200  # cohere's SageMaker client
        assert status(Origin="http://localhost:3000") == status(Sec_Fetch_Site="none") == 200
        for headers in (
            {"Host": "evil.example"},
            {"Host": "127.0.0.1.evil.example"},
            {"Host": "amazonaws.com.evil.example"},
            {"Host": ""},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Sec_Fetch_Site": "cross-site"},
        ):
            assert status(**headers) == 401, headers
    assert len(script.bodies) == 6


def test_a_page_of_an_origin_that_is_named_asks_before_it_has_a_key(script: Script) -> None:
    page = "https://app.example"
    with proxied("--url", script.url, "--cors-origins", page) as own:
        asked = {"Origin": page, "Access-Control-Request-Method": "POST"}
        status, _, headers = own.call("OPTIONS", "/v1/rerank", **asked)
        assert (status, headers["access-control-allow-origin"]) == (200, page)
        status, _, headers = own.call("POST", "/v1/rerank", BODY, Origin=page)
        assert (status, headers["access-control-allow-origin"]) == (401, page)


@pytest.mark.parametrize(
    "text", ["", "# none\n\n", "short\n", f"{KEY} {KEY}\n", f"{KEY}\nsch\xfcssel-f\xfcr-alle\n"]
)
def test_a_file_without_good_keys_is_refused_without_quoting_it(text: str, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidRequest) as caught:
        read_keys(file, {})
    assert "holds no key" in str(caught.value) or "is no key: give 16 to 512" in str(caught.value)
    assert KEY not in str(caught.value)


def test_an_empty_variable_is_no_key() -> None:
    with pytest.raises(InvalidRequest, match="SAGERANK_PROXY_KEY is no key"):
        read_keys(None, {"SAGERANK_PROXY_KEY": ""})
    assert read_keys(None, {}) == ()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost", "LocalHost"])
def test_what_others_do_not_reach(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "*", "::", "10.0.0.1", "localhost.example", "", "::ffff:10.0.0.1"]
)
def test_what_others_reach_needs_a_key(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert not is_loopback(host)
    if host:
        assert main(["proxy", "--url", "http://127.0.0.1:9", "--host", host]) == 2
        assert "there is no key: set SAGERANK_PROXY_KEY or give --key-file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--url", "http://h", "--component", "c"], "go with --endpoint"),
        (["--url", "ftp://h"], "That is not an HTTP URL"),
        (["--endpoint", "e", "--region", "nowhere"], "region is 'nowhere'"),
        (["--url", "http://h", "--key-file", "/no/such/file"], "/no/such/file: No such file"),
    ],
)
def test_what_cannot_be_served_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["proxy", *arguments]) == 2
    assert sentence in capsys.readouterr().err
