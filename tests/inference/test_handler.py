"""The handler in AWS's real toolkit, from an unpacked model.tar.gz with code/ alone on the path."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from sagerank.models.build import MICRO, archive
from sagerank_inference import handler
from sagerank_inference.archive import manifest_sha256, unpack
from sagerank_inference.artefact import ArtefactError

from ..conftest import alone
from ..servers import wait_for

# Runs in a process whose only copy of our code is the archive's; what it prints is JSON.
DRIVER = """
import json, sys, types, warnings
warnings.filterwarnings("ignore")
from sagemaker_inference.default_handler_service import DefaultHandlerService
from sagemaker_inference.transformer import Transformer
import sagerank_inference.handler
class Context:
    def __init__(self, content_type):
        self.system_properties = {"model_dir": sys.argv[1], "gpu_id": None}
        header = {"Content-Type": content_type, "Accept": "application/json"}
        self.headers, self.status, self.phrase = header, 200, ""
        self.request_processor = [self]
    def get_request_header(self, index, name): return self.headers.get(name)
    def get_all_request_header(self, index): return self.headers
    def get_request_properties(self): return self.headers
    def set_response_status(self, code=200, phrase="", idx=0): self.status, self.phrase = code, phrase
    def get_request_id(self, index=0): return "id"
    def set_response_content_type(self, index, value): self.content_type = value
service = DefaultHandlerService()
service.initialize(Context("application/json"))
for content_type, body in json.load(sys.stdin):
    context = Context(content_type)
    answer = service.handle([{"body": body.encode()}], context)[0]
    print(json.dumps([context.status, answer if isinstance(answer, str) else answer.decode()]))
"""


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toolkit")
    archive("micro", folder / "model.tar.gz", code=True)
    (folder / "model").mkdir()
    unpack(folder / "model.tar.gz", folder / "model", code=True)
    return folder / "model"


def toolkit(model_dir: Path, folder: Path, requests: list[tuple[str, str]]) -> list[tuple[int, Any]]:
    """Answers of AWS's toolkit, run in a folder where the archive's code is all there is of ours."""
    environment = alone(
        model_dir / "code",
        SAGEMAKER_PROGRAM="sagerank_inference.handler",
        SAGEMAKER_BASE_DIR=str(model_dir.parent),
        SAGEMAKER_MODEL_SERVER_WORKERS="2",
    )
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-c", DRIVER, str(model_dir)],
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def test_the_toolkit_serves_every_dialect_and_refuses_with_its_status(
    model_dir: Path, hostile: Path, micro: Any
) -> None:
    jina = json.dumps({"query": "what causes rain", "documents": ["Clouds drop water.", "Cats."]})
    tei = json.dumps(
        {"query": "what causes rain", "texts": ["Clouds drop water.", "Cats."], "raw_scores": True}
    )
    answers = toolkit(
        model_dir,
        hostile,
        [
            ("application/json", jina),
            ("application/json", tei),
            ("application/json", "{"),
            ("image/png", jina),
            ("application/json", json.dumps({"query": "q", "documents": ["x " * 9000], "truncate": False})),
            ("application/json", jina),
        ],
    )
    assert [status for status, _ in answers] == [200, 200, 400, 415, 400, 200]
    assert json.loads(answers[0][1])["object"] == "rerank"
    scores = {item["index"]: item["score"] for item in json.loads(answers[1][1])}
    expected = micro.score("what causes rain", ["Clouds drop water.", "Cats."]).values
    assert [scores[0], scores[1]] == pytest.approx(list(expected), abs=1e-5)
    assert "not JSON" in answers[2][1]


def test_settings_are_read_with_the_model_and_hold_for_every_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGERANK_MAX_DOCUMENTS", "2")
    monkeypatch.setattr(handler, "_limits", handler._limits)  # put back at the end
    handler.model_fn(str(MICRO))
    monkeypatch.setenv("SAGERANK_MAX_DOCUMENTS", "nonsense")
    with pytest.raises(Exception, match="3 documents, more than 2"):
        handler.input_fn(b'{"query":"q","documents":["a","b","c"]}', "application/json")


def test_the_handler_takes_the_pinned_artefact_and_no_other(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler, "_limits", handler._limits)  # put back at the end
    monkeypatch.setenv("SAGERANK_MANIFEST_SHA256", manifest_sha256(model_dir))
    handler.model_fn(str(model_dir))
    monkeypatch.setenv("SAGERANK_MANIFEST_SHA256", "0" * 64)
    with pytest.raises(ArtefactError, match="is of another artefact"):
        handler.model_fn(str(model_dir))


def test_the_code_in_the_archive_imports_alone(model_dir: Path, hostile: Path) -> None:
    code = """
import importlib.util, sagerank_inference.handler
print(sagerank_inference.__file__)
assert not any(map(importlib.util.find_spec, ("sagerank", "sagerank_cost", "sagerank_infra")))
"""
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-c", code],
        env=alone(model_dir / "code"),
        cwd=hostile,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == str(model_dir / "code/sagerank_inference/__init__.py"), done.stderr


# AWS's launcher, but with its configuration beside the model and not in /etc, and on loopback alone.
LAUNCHER = """
import sys, warnings
warnings.filterwarnings("ignore")
import sagemaker_inference.model_server as server
server.MMS_CONFIG_FILE = sys.argv[1]
real = server._generate_mms_config_properties
server._generate_mms_config_properties = lambda *a, **k: real(*a, **k).replace("http://0.0.0.0", "http://127.0.0.1")
server.start_model_server()
"""


def _free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.skipif(shutil.which("java") is None, reason="multi-model-server needs Java")
def test_the_server_of_aws_containers_serves_the_handler(model_dir: Path, tmp_path: Path) -> None:
    port = next(port for port in range(18_090, 18_190) if _free(port))  # it refuses ports beyond 32767
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SAGERANK")},
        # The launcher looks for the `multi-model-server` command and starts its own workers' `python`.
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SAGEMAKER_PROGRAM": "sagerank_inference.handler",
        "SAGEMAKER_BASE_DIR": str(model_dir.parent),
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "SAGEMAKER_MODEL_SERVER_WORKERS": "1",
        "TEMP": str(tmp_path),
    }
    environment.pop("PYTHONPATH", None)
    log = (tmp_path / "log").open("w")
    # A session of its own, since SIGTERM to the launcher does not always reach Java and the workers.
    launcher = subprocess.Popen(
        [sys.executable, "-P", "-c", LAUNCHER, str(tmp_path / "mms.properties")],
        env=environment,
        cwd=tmp_path,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )

    def call(path: str, body: bytes | None = None, **more: str) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json", **more}
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
        except OSError:
            return 0, b""

    try:
        wait_for(lambda: call("/ping")[0] == 200)
        code, body = call("/invocations", json.dumps({"query": "rain", "texts": ["clouds", "cats"]}).encode())
        assert (code, len(json.loads(body))) == (200, 2)
        code, body = call("/invocations", b'{"query":"","texts":["a"]}')
        assert code == 422
        assert b"query is blank" in body
        assert call("/invocations", json.dumps({"query": "rain", "texts": ["clouds"]}).encode())[0] == 200
        texts = json.dumps({"query": "rain", "texts": ["clouds", "cats"]}).encode()
        code, body = call("/invocations", texts, Accept="text/csv")
        assert (code, len(list(map(float, body.split())))) == (200, 2)
        pairs = {"Content-Type": "text/csv", "Accept": "text/csv"}
        code, body = call("/invocations", b"rain,clouds\nrain,cats\n", **pairs)
        assert (code, len(list(map(float, body.split())))) == (200, 2)
    finally:
        os.killpg(launcher.pid, signal.SIGKILL)
        launcher.wait()
        log.close()
