"""What `sagerank connect` prints is read by what would read it, and what a client would then send is answered."""

from __future__ import annotations

import json
import math
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template
from typing import Any

import pytest
import yaml

from sagerank.cli import main
from sagerank_inference.engine import Engine

from ...docs.commands import read
from ...local_aws.launch import REGION
from ...servers import KEY, Server, proxied

QUERY = 'what causes "rain"\non the \\coast\\ of Øresund?\u2028'
DOCUMENTS = [
    'A cat "sleeps".\n\tAll day.',
    "Clouds cool and drop water: \\o/ 雨 🌧\u2028",
    "Rain falls. " * 40,
]
WHERE = ("--endpoint", "My-reranker", "--region", "eu-west-1", "--account", "111122223333")
CLIENTS = ("opensearch", "elasticsearch", "dify", "litellm", "open-webui")


def connect(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, str]:
    """The content of each file that the command gives, by its name."""
    assert main(["connect", *words, "--json"]) == 0
    return {each["name"]: each["content"] for each in json.loads(capsys.readouterr().out)}


@pytest.fixture(autouse=True)
def no_region(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No AWS configuration but what a test gives."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))


@pytest.mark.parametrize("component", [[], ["--component", "part"]], ids=["whole", "component"])
@pytest.mark.parametrize("client", CLIENTS)
def test_what_is_printed_is_what_its_reader_reads(
    client: str, component: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pieces = connect(capsys, client, *WHERE, *component)
    for name, content in pieces.items():
        match Path(name).suffix:
            case ".json":
                assert isinstance(json.loads(content), dict)
            case ".yaml":
                assert isinstance(yaml.safe_load(content), dict)
            case ".env":
                assert all(re.fullmatch(r"[A-Z_]+=\S+", line) for line in content.splitlines())
            case _:
                subprocess.run(["bash", "-n"], input=content, text=True, check=True)
    (statement,) = json.loads(pieces["policy.json"])["Statement"]
    assert statement["Action"] == "sagemaker:InvokeEndpoint"
    arn = "arn:aws:sagemaker:eu-west-1:111122223333"
    expected = [f"{arn}:endpoint/My-reranker", f"{arn}:endpoint/my-reranker"]
    assert statement["Resource"] == expected + ([f"{arn}:inference-component/part"] if component else [])
    assert not [name for name, content in pieces.items() if "YOUR_A" in content and "KEY" not in content]
    # What is not JSON says the same, each file behind a line that says what to do with it.
    assert main(["connect", client, *WHERE, *component]) == 0
    printed = capsys.readouterr().out
    assert all(
        re.search(rf"^# {name}: .+\n{re.escape(content)}", printed, re.M) for name, content in pieces.items()
    )


def test_what_is_not_known_stands_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["connect", "elasticsearch", "--endpoint", "e"]) == 0
    printed = capsys.readouterr().out
    assert "arn:aws:sagemaker:YOUR_REGION:YOUR_ACCOUNT_ID:endpoint/e" in printed
    told = re.findall(r"^# Put in place of (\w+): ", printed, re.M)
    assert told == ["YOUR_ACCOUNT_ID", "YOUR_REGION", "YOUR_ACCESS_KEY", "YOUR_SECRET_KEY"]


def test_the_region_is_the_configurations_and_names_its_part_of_aws(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "cn-north-1")
    pieces = connect(capsys, "opensearch", "--endpoint", "e", "--account", "111122223333")
    connector = json.loads(pieces["connector.json"])
    assert connector["actions"][0]["url"].startswith("https://runtime.sagemaker.cn-north-1.amazonaws.com.cn/")
    assert connector["credential"]["roleArn"] == "arn:aws-cn:iam::111122223333:role/opensearch-calls-e"
    assert "arn:aws-cn:sagemaker:cn-north-1" in pieces["policy.json"]


def rendered(action: dict[str, Any]) -> str:
    """The body that ml-commons makes of connector.pre_process.cohere.rerank's parameters: a query without its quotes, a list as JSON."""
    given = {"query": json.dumps(QUERY)[1:-1], "documents": json.dumps(DOCUMENTS), "top_n": "3"}
    return Template(action["request_body"].replace("${parameters.", "${")).substitute(given)


def test_opensearch_gets_the_scores_in_the_order_of_its_documents(
    server: Server, micro: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    pieces = connect(capsys, "opensearch", *WHERE, "--field", 'a "field"')
    (action,) = json.loads(pieces["connector.json"])["actions"]
    status, scores = server.post(rendered(action).encode(), content_type=action["headers"]["content-type"])
    assert status == 200
    # A list, which the connector's script finds as params.result.
    assert scores == pytest.approx(probabilities(micro), abs=1e-6)
    assert "params.result" in action["post_process_function"]
    (processor,) = json.loads(pieces["pipeline.json"])["response_processors"]
    assert processor["rerank"]["context"]["document_fields"] == ['a "field"']


def probabilities(micro: Engine) -> list[float]:
    return [1 / (1 + math.exp(-logit)) for logit in micro.score(QUERY, DOCUMENTS).values]


@pytest.mark.parametrize(
    "endpoint", [["whole"], ["parts", "--component", "reranker"]], ids=["whole", "component"]
)
def test_opensearch_and_elasticsearch_reach_an_endpoint(
    aws: dict[str, str], micro: Engine, endpoint: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    import boto3
    import httpx2
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    where = ["--endpoint", *endpoint, "--region", REGION]
    connector = json.loads(connect(capsys, "opensearch", *where)["connector.json"])
    (action,) = connector["actions"]
    # Signed as ml-commons signs: every header of the action, for the region and service of the parameters.
    address = re.sub(r"^https://[^/]+", aws["AWS_ENDPOINT_URL"], action["url"])
    request = AWSRequest(action["method"], address, data=rendered(action), headers=action["headers"])
    parameters = connector["parameters"]
    SigV4Auth(Credentials("AKIDlocal", "local"), parameters["service_name"], parameters["region"]).add_auth(
        request
    )
    answer = httpx2.post(address, content=request.data, headers=dict(request.headers), trust_env=False)
    assert answer.json() == pytest.approx(probabilities(micro), abs=1e-6), answer.text

    settings = json.loads(connect(capsys, "elasticsearch", *where)["inference.json"])["service_settings"]
    runtime = boto3.Session("AKIDlocal", "local", region_name=settings["region"]).client(
        "sagemaker-runtime", endpoint_url=aws["AWS_ENDPOINT_URL"]
    )
    component = settings.get("inference_component_name")
    given = {"InferenceComponentName": component} if component else {}
    body = json.dumps({"input": DOCUMENTS, "query": QUERY, "return_documents": True})
    said = runtime.invoke_endpoint(
        EndpointName=settings["endpoint_name"], ContentType="application/json", Body=body, **given
    )
    ranked = json.loads(said["Body"].read())["rerank"]
    got = {one["index"]: one["relevance_score"] for one in ranked}
    assert [got[index] for index in range(3)] == pytest.approx(probabilities(micro), abs=1e-6)


class Recorder(BaseHTTPRequestHandler):
    """Answers as OpenSearch does where a connector and a model are made, and keeps what was sent."""

    seen: list[tuple[str, str, Any, str | None, str | None]]

    def answer(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        token = self.headers["X-Amz-Security-Token"]
        self.seen.append((self.command, self.path, body, self.headers["Authorization"], token))
        said = b'{"connector_id": "c-1", "model_id": "m-1"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_POST = do_PUT = answer

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def cluster() -> Iterator[tuple[str, list[Any]]]:
    """An address that takes what setup.sh posts, and what it took."""
    handler = type("Kept", (Recorder,), {"seen": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{listening.server_address[1]}", handler.seen  # type: ignore[attr-defined]
        listening.shutdown()
        thread.join()


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed here")
@pytest.mark.parametrize("signed", [True, False])
def test_setup_posts_the_files_and_carries_the_ids(
    cluster: tuple[str, list[Any]], signed: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, seen = cluster
    folder = tmp_path / "opensearch"
    assert main(["connect", "opensearch", *WHERE, "--output", str(folder)]) == 0
    assert "connector.json" in capsys.readouterr().out
    keys = {
        "AWS_ACCESS_KEY_ID": "AKIDlocal",
        "AWS_SECRET_ACCESS_KEY": "secret/+1",
        "AWS_SESSION_TOKEN": "token/+=",
    }
    plain = {
        "PATH": "/usr/bin:/bin:/usr/local/bin",
        "HOME": str(tmp_path),
        "NO_PROXY": "*",
        "OPENSEARCH": url,
    }
    subprocess.run(
        ["bash", str(folder / "setup.sh")],
        env={**plain, **(keys if signed else {})},
        check=True,
        timeout=60,
        capture_output=True,
    )
    assert [(method, path) for method, path, *_ in seen] == [
        ("POST", "/_plugins/_ml/connectors/_create"),
        ("POST", "/_plugins/_ml/models/_register?deploy=true"),
        ("PUT", "/_search/pipeline/sagerank"),
    ]
    connector, model, pipeline = (body for _, _, body, _, _ in seen)
    assert connector == json.loads((folder / "connector.json").read_text())
    assert (model["function_name"], model["connector_id"]) == ("remote", "c-1")
    (processor,) = pipeline["response_processors"]
    assert processor["rerank"]["ml_opensearch"] == {"model_id": "m-1"}
    for *_, authorization, token in seen:
        assert (token or "") == (keys["AWS_SESSION_TOKEN"] if signed else "")
        assert ("/eu-west-1/es/aws4_request" in (authorization or "")) is signed


def test_what_is_there_is_compared_whatever_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "search.json").write_bytes(b"\xff\xfe")
    assert main(["connect", "elasticsearch", "--endpoint", "e", "--output", str(tmp_path)]) == 2
    assert "search.json is there already" in capsys.readouterr().err


def test_a_field_is_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a shell hands over in another encoding than its own cannot be written."""
    words = [
        "connect",
        "elasticsearch",
        "--endpoint",
        "e",
        "--field",
        "\udcff",
        "--output",
        str(tmp_path / "new"),
    ]
    assert main(words) == 2
    assert "--field is '\\udcff'" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_files_of_ones_own_are_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["connect", "elasticsearch", "--endpoint", "e", "--output", str(tmp_path)]
    assert main(words) == main(words) == 0
    (tmp_path / "search.json").write_text("{}")
    (tmp_path / "inference.json").unlink()
    assert main(words) == 2
    assert "search.json is there already" in capsys.readouterr().err
    assert (tmp_path / "search.json").read_text() == "{}"
    assert not (tmp_path / "inference.json").exists()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080", "http://localhost:9000/", "https://rerank.example/team", "http://door"]
)
def test_the_proxy_listens_where_the_client_asks(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    pieces = connect(capsys, "litellm", *WHERE, "--component", "part", "--url", url)
    variable, command = pieces["proxy.sh"].splitlines()
    assert variable.startswith("export SAGERANK_PROXY_KEY=")
    read(command.removeprefix("sagerank "))
    words = shlex.split(command)
    assert words[2:8] == ["--endpoint", "My-reranker", "--component", "part", "--region", "eu-west-1"]
    others = {
        "http://127.0.0.1:8080": [],
        "http://localhost:9000/": ["--port", "9000"],
        "https://rerank.example/team": ["--host", "*"],
        "http://door": ["--host", "*", "--port", "80"],
    }
    assert words[8:] == others[url]
    (model,) = yaml.safe_load(pieces["config.yaml"])["model_list"]
    assert model["litellm_params"]["api_base"] == url.rstrip("/")


def test_applications_that_know_a_url_are_answered(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    behind = f"http://127.0.0.1:{server.port}"
    body = {"model": "sagerank", "query": QUERY, "documents": DOCUMENTS, "top_n": 3}
    _, expected = server.post(json.dumps(body).encode(), "/v1/rerank")
    with proxied("--url", behind) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"

        def asked(address: str) -> list[tuple[int, float]]:
            status, answer, _ = proxy.ask(address.removeprefix(url), json.dumps(body))
            assert status == 200
            return [(each["index"], each["relevance_score"]) for each in answer["results"]]

        lines = connect(capsys, "open-webui", *WHERE, "--url", url)["open-webui.env"].splitlines()
        environment = dict(line.split("=", 1) for line in lines)
        # LiteLLM and Dify add a path to what they are given, Open WebUI posts to it.
        config = yaml.safe_load(connect(capsys, "litellm", *WHERE, "--url", url)["config.yaml"])
        form = yaml.safe_load(connect(capsys, "dify", *WHERE, "--url", url)["dify.yaml"])
        addresses = (
            environment["RAG_EXTERNAL_RERANKER_URL"],
            config["model_list"][0]["litellm_params"]["api_base"] + "/rerank",
            form["API Base URL"] + "/rerank",
        )
        for address in addresses:
            got = asked(address)
            assert [index for index, _ in got] == [each["index"] for each in expected["results"]]
            assert [score for _, score in got] == pytest.approx(
                [each["relevance_score"] for each in expected["results"]], abs=1e-6
            )
    assert KEY not in str((environment, config, form))


def test_dify_asks_an_endpoint_itself_where_its_form_can_name_it(capsys: pytest.CaptureFixture[str]) -> None:
    def form(*words: str) -> dict[str, str]:
        return yaml.safe_load(connect(capsys, "dify", "--endpoint", "e", *words)["dify.yaml"])  # type: ignore[no-any-return]

    assert form("--region", "eu-central-1")["sagemaker endpoint"] == "e"
    assert form()["AWS Region"] == "YOUR_REGION"
    # Not in its list of regions, a component, or a URL that is wanted.
    for words in (["--region", "eu-west-1"], ["--component", "c"], ["--url", "http://door:8080"]):
        assert "API Base URL" in form(*words)


def test_a_server_needs_no_proxy(capsys: pytest.CaptureFixture[str]) -> None:
    for client in CLIENTS[2:]:
        pieces = connect(capsys, client, "--url", "http://[::1]:8080/x/")
        (content,) = pieces.values()
        assert "http://[::1]:8080/x" in content
        assert "YOUR" not in content
        assert "PROXY" not in content


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["opensearch"], "give --endpoint."),
        (["litellm"], "give --endpoint, or --url of a server."),
        (["opensearch", "--endpoint", "a/b"], "--endpoint is 'a/b': names have"),
        (["elasticsearch", "--endpoint", "e", "--component", '"'], "--component is '\"'"),
        (["opensearch", "--endpoint", "e", "--account", "12"], "give its 12 digits"),
        (["opensearch", "--endpoint", "e", "--role", "name"], "give an ARN such as"),
        (["opensearch", "--endpoint", "e", "--region", "eu-wst-1"], "did you mean eu-west-1?"),
        (["opensearch", "--endpoint", "e", "--url", "http://h"], "--url says nothing to opensearch"),
        (["elasticsearch", "--endpoint", "e", "--role", "r"], "--role says nothing to elasticsearch"),
        (["dify", "--endpoint", "e", "--field", "f"], "--field says nothing to dify"),
        (["dify", "--url", "http://h", "--component", "c"], "go with --endpoint"),
        (["open-webui", "--url", "h:8080"], "--url is no address"),
        (["open-webui", "--url", "http://me:secret@h"], "without a password"),
        (["open-webui", "--url", "http://h:port"], "--url is no address"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["connect", *words]) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.out == ""
    assert "secret" not in said.err
