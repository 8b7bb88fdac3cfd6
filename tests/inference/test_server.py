"""The real server process with the real model, up to its death."""

from __future__ import annotations

import asyncio
import base64
import concurrent.futures
import hashlib
import http.client
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
import pytest
from botocore.config import Config

from sagerank.models.build import MICRO
from sagerank_inference.contract import Scores, Timings
from sagerank_inference.metrics import Metrics
from sagerank_inference.service import Service, sizes
from sagerank_inference.settings import Settings

from ..conftest import ROOT
from ..servers import BODY, Server, run, running, wait_for


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as server:
        server.wait_until_ready()
        yield server


def test_ping_is_503_until_the_model_is_ready() -> None:
    with running() as server:
        seen = list[int]()

        def ready() -> bool:
            seen.append(server.ping())
            return seen[-1] == 200

        wait_for(ready)
        assert 503 in seen


def test_every_path_reranks(server: Server) -> None:
    for path in ("/invocations", "/rerank", "/v1/rerank", "/v2/rerank"):
        code, answer = server.post(path=path)
        assert code == 200
        assert sorted(item["index"] for item in answer["results"]) == [0, 1]


def test_boto3_reaches_it_as_a_sagemaker_endpoint(server: Server) -> None:
    runtime = boto3.client(
        "sagemaker-runtime",
        endpoint_url=f"http://127.0.0.1:{server.port}",
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=Config(retries={"total_max_attempts": 1}),
    )
    try:
        answer = runtime.invoke_endpoint(EndpointName="any", ContentType="application/json", Body=BODY)
        assert len(json.loads(answer["Body"].read())["results"]) == 2
        with pytest.raises(botocore.exceptions.ClientError) as caught:
            runtime.invoke_endpoint(EndpointName="any", ContentType="application/json", Body=b"{}")
        assert caught.value.response["Error"]["Code"] == "ModelError"
        assert caught.value.response["OriginalStatusCode"] == 400
    finally:
        runtime.close()


def test_scores_do_not_depend_on_the_company(server: Server, micro: Any) -> None:
    """64 clients at once, each its own query and documents: everybody gets what the engine gives them alone."""

    def rerank(number: int) -> list[float]:
        documents = [f"document {number} " + "word " * (number * 3 % 50), f"{number}"]
        code, answer = server.post(json.dumps({"query": f"query {number}", "documents": documents}).encode())
        assert code == 200
        return [item["relevance_score"] for item in sorted(answer["results"], key=lambda item: item["index"])]

    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        together = list(pool.map(rerank, range(64)))
    for number, scores in enumerate(together):
        assert scores == pytest.approx(rerank(number), abs=1e-5)


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b'{"query":1,"documents":[]}', "application/json", 422),
        (b'{"query":"","documents":["a"]}', "application/json", 422),
        (b'{"query":"q","documents":[]}', "application/json", 422),
        (json.dumps({"query": "q", "documents": ["a"] * 10_001}).encode(), "application/json", 413),
        (b'{"query":"q","documents":["' + b"a" * 7_000_000 + b'"]}', "application/json", 413),
        (b'{"query":"q","documents":["\\ud800"]}', "application/json", 422),
        (b'{"query":"q","documents":["a"],"top_n":NaN}', "application/json", 400),
        (b'{"question":"q"}', "application/json", 400),
        (BODY, "image/png", 415),
        (
            json.dumps({"query": "q", "documents": ["a " * 9000], "truncate": False}).encode(),
            "application/json",
            400,
        ),
    ],
)
def test_bad_input_is_refused_and_the_next_request_works(
    server: Server, body: bytes, content_type: str, status: int
) -> None:
    try:
        code, answer = server.post(body, content_type=content_type)
    except (BrokenPipeError, ConnectionResetError):
        # A body that is refused by its announced length may meet a closed door while it is still being sent.
        assert status == 413
    else:
        assert code == status
        detail = answer["detail"]
        assert (detail if isinstance(detail, str) else detail["message"]).endswith((".", "}."))
    assert server.post()[0] == 200


def test_a_body_without_a_length_is_cut_off_at_the_limit(server: Server) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(8):
            yield b"x" * 1_000_000

    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request(
            "POST", "/invocations", chunks(), {"Content-Type": "application/json"}, encode_chunked=True
        )
        assert connection.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError):
        pass
    finally:
        connection.close()
    assert server.post()[0] == 200


def test_unknown_paths_and_methods_say_what_is_there(server: Server) -> None:
    assert server.call("GET", "/nothing")[0] == 404
    code, answer, _ = server.call("GET", "/invocations")
    assert code == 405
    assert "POST /invocations" in answer["detail"]["message"]


def test_request_ids_are_kept_or_made(server: Server) -> None:
    headers = server.call(
        "POST", "/invocations", BODY, Content_Type="application/json", X_Request_Id="abc-1"
    )[2]
    assert headers["x-request-id"] == "abc-1"
    assert "forward;dur=" in headers["server-timing"]
    headers = server.call(
        "POST", "/invocations", BODY, Content_Type="application/json", X_Request_Id="a b\tc"
    )[2]
    assert len(headers["x-request-id"]) == 32


def test_metrics_count(server: Server) -> None:
    server.post()
    text = server.call("GET", "/metrics")[1]
    assert "sagerank_ready 1.0" in text
    assert 'sagerank_requests_total{dialect="jina",status="200"}' in text
    assert (
        float(next(line for line in text.splitlines() if line.startswith("sagerank_tokens_total")).split()[1])
        > 0
    )


def test_long_documents_are_scored_whole(server: Server, micro: Any) -> None:
    """What answers the query stands beyond the context, in the second window."""
    filler = "The committee met on Tuesday and approved the minutes. " * 900
    documents = [filler, filler + " Rain falls when clouds cool and water condenses into drops."]
    code, answer = server.post(json.dumps({"query": "what causes rain", "documents": documents}).encode())
    assert code == 200
    by_index = {item["index"]: item["relevance_score"] for item in answer["results"]}
    windows = micro.tokeniser("what causes rain", documents)
    assert windows.document.count(1) > 1
    expected = micro.score("what causes rain", documents).values
    assert (by_index[1] > by_index[0]) == (expected[1] > expected[0])


def test_killing_the_model_answers_everyone_and_heals() -> None:
    with running() as server:
        wait_for(lambda: server.ping() == 200)
        first = server.worker()
        slow = json.dumps({"query": "q", "documents": ["long " * 8000] * 3}).encode()
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            answers = [pool.submit(server.post, slow) for _ in range(4)]
            wait_for(lambda: "sagerank_batch_pairs_count 0.0" not in server.call("GET", "/metrics")[1])
            os.kill(first, signal.SIGKILL)
            wait_for(lambda: server.ping() == 503)
            codes = {answer.result(timeout=60)[0] for answer in answers}
        assert codes == {200}, "the next one got them"
        wait_for(lambda: server.ping() == 200)
        assert server.worker() != first
        assert server.post()[0] == 200
        log = server.stop()
        assert any(entry["event"] == "restarting" and "SIGKILL" in entry["reason"] for entry in log)


def test_another_artefact_that_is_laid_in_place_is_not_taken_over_by_half(tmp_path: Path) -> None:
    """A worker that is started again serves what the first one did, or the server ends and says so."""
    folder = tmp_path / "model"
    shutil.copytree(MICRO, folder)
    with running(SAGERANK_MODEL_DIR=str(folder)) as server:
        wait_for(lambda: server.ping() == 200)
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        (folder / "manifest.json").write_text(json.dumps(manifest | {"model": "other"}), encoding="utf-8")
        os.kill(server.worker(), signal.SIGKILL)
        assert server.process.wait(timeout=60) == 1
        (failed,) = [entry for entry in server.stop() if entry["event"] == "failed"]
        assert "is of another artefact than the one that was deployed" in failed["reason"]


def test_a_library_that_panics_at_the_first_text_ends_the_server(tmp_path: Path) -> None:
    """A character map without an end of its own, which the tokenizer reads when it meets a letter that is mapped."""
    folder = tmp_path / "model"
    shutil.copytree(MICRO, folder)
    units = [0] * 256
    units[0xC3] = 0xC3 | 1 << 30
    trie = struct.pack("<256I", *units)
    charsmap = base64.b64encode(struct.pack("<I", len(trie)) + trie + b"\0").decode()
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    mapped = {"type": "Precompiled", "precompiled_charsmap": charsmap}
    tokenizer["normalizer"] = {"type": "Sequence", "normalizers": [mapped, tokenizer["normalizer"]]}
    text = json.dumps(tokenizer).encode()
    (folder / "tokenizer.json").write_bytes(text)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"]["tokenizer.json"] = hashlib.sha256(text).hexdigest()
    manifest["sizes"]["tokenizer.json"] = len(text)
    manifest["golden"][0]["document"] = "caf\u00e9"
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with running(SAGERANK_MODEL_DIR=str(folder)) as server:
        assert server.process.wait(timeout=60) == 1
        (failed,) = [entry for entry in server.stop() if entry.get("event") == "failed"]
        assert "is not a tokenizer this version of tokenizers reads" in failed["reason"]


def test_a_model_that_hangs_is_replaced() -> None:
    with running(SAGERANK_BATCH_SECONDS="1") as server:
        wait_for(lambda: server.ping() == 200)
        first = server.worker()
        os.kill(first, signal.SIGSTOP)
        assert server.post()[0] == 200, "by the next one"
        wait_for(lambda: server.ping() == 200 and server.worker() != first)
        assert server.post()[0] == 200


def test_a_server_whose_model_keeps_dying_ends_so_that_it_is_replaced() -> None:
    with running() as server:
        for _ in range(3):
            wait_for(lambda: server.ping() == 200)
            os.kill(server.worker(), signal.SIGKILL)
            wait_for(lambda: server.ping() != 200)
        output, _ = server.process.communicate(timeout=60)
        assert server.process.returncode == 1
        assert "died 3 times in a row" in output


def test_ping_knows_at_once_that_the_model_died_whatever_is_being_read() -> None:
    text = json.dumps({"query": "q", "documents": ["a b " * 1_400_000]}).encode()
    with running(SAGERANK_REQUEST_SECONDS="6") as server, concurrent.futures.ThreadPoolExecutor(4) as pool:
        server.wait_until_ready()
        reading = [pool.submit(server.post, text) for _ in range(3)]
        time.sleep(0.3)
        os.kill(server.worker(), signal.SIGKILL)
        wait_for(lambda: server.ping() == 503, 2)
        assert server.post()[0] == 200, "waits for the next one"
        assert {answer.result()[0] for answer in reading} <= {200, 429, 504}


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/invocations", {"query": "q", "texts": ["a b " * 30_000] * 40}, lambda answer: answer["error"]),
        ("/v2/rerank", {"query": "q", "documents": ["a b " * 30_000] * 40}, lambda answer: answer["message"]),
    ],
)
def test_the_servers_own_errors_have_the_callers_form(
    path: str, body: dict[str, Any], message: Callable[[Any], str]
) -> None:
    with running(SAGERANK_REQUEST_SECONDS="0.5") as server:
        server.wait_until_ready()
        code, answer = server.post(json.dumps(body).encode(), path)
        assert code == 504
        assert "fewer or shorter documents" in message(answer)


def test_many_queries_in_one_body_hold_nobody_up() -> None:
    lines = "".join(json.dumps({"query": f"q{n}", "documents": ["a"]}) + "\n" for n in range(10_000)).encode()
    pairs = json.dumps({"text_pairs": [[f"q{n}", "a"] for n in range(10_000)]}).encode()
    with running() as server, concurrent.futures.ThreadPoolExecutor(8) as pool:
        server.wait_until_ready()
        large = [pool.submit(server.post, lines, "/invocations", "application/jsonlines") for _ in range(2)]
        large += [pool.submit(server.post, pairs) for _ in range(2)]
        slowest = 0.0
        while not all(answer.done() for answer in large):
            began = time.monotonic()
            assert server.ping() == 200
            assert server.post()[0] == 200
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.05)
        assert {answer.result()[0] for answer in large} == {200}
        # A request of ten seconds would be the fault; how fast it is, `make chaos` says.
        assert slowest < 5
        assert len(large[0].result()[1]) == 10_000


def test_unsent_and_unread_bodies_take_no_room_from_small_requests() -> None:
    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 6290000\r\n\r\n"
    with running() as server:
        server.wait_until_ready()
        large = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(6)]
        try:
            for one in large:
                with suppress(OSError):
                    one.sendall(head + b"x" * 6_000_000)
            refused = [one for one in large if select.select([one], [], [], 0.5)[0]]
            assert len(refused) == 3, "there is room for three"
            assert all(b" 429 " in one.recv(100) for one in refused)
            assert server.post()[0] == 200
        finally:
            for one in large:
                one.close()
        wait_for(
            lambda: server.post(json.dumps({"query": "q", "documents": ["a" * 200_000]}).encode())[0] == 200
        )


def test_who_announces_and_does_not_send_keeps_nobody_out() -> None:
    with running() as server:
        server.wait_until_ready()
        head = "POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n"
        idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(300)]
        try:
            for number, one in enumerate(idle):
                one.sendall(head.format(6_000_000 if number < 4 else 65_536).encode())
            assert server.post()[0] == 200
            assert server.post(json.dumps({"query": "q", "documents": ["a" * 200_000]}).encode())[0] == 200
        finally:
            for one in idle:
                one.close()


def _gone(pid: int) -> bool:
    """Whether a process has ended; a zombie has."""
    path = Path(f"/proc/{pid}/cmdline")
    return not path.exists() or not path.read_bytes()


def test_the_model_dies_with_the_server() -> None:
    with running() as server:
        wait_for(lambda: server.ping() == 200)
        child = server.worker()
        assert (
            Path(f"/proc/{child}/oom_score_adj").read_text() == "1000\n"
        )  # where memory runs out, it goes first
        server.process.kill()
        wait_for(lambda: _gone(child))


@pytest.mark.parametrize(
    ("number", "patience"),
    [(signal.SIGKILL, 0.0), (signal.SIGKILL, 0.1), (signal.SIGKILL, 0.6), (signal.SIGHUP, 0.6)],
)
def test_the_model_dies_with_a_server_that_ends_while_it_loads(number: int, patience: float) -> None:
    """At its first moments, when nothing was asked of the kernel yet, and when it hangs in the load."""
    with running(SAGERANK_DRAIN_SECONDS="0.1") as server:
        wait_for(lambda: bool(server.children()))
        child = server.worker()
        if patience > 0.2:
            # What it asks of the kernel first is done by then.
            wait_for(lambda: Path(f"/proc/{child}/oom_score_adj").read_text().strip() == "1000")
            os.kill(child, signal.SIGSTOP)
        time.sleep(patience)
        server.process.send_signal(number)
        began = time.monotonic()
        wait_for(lambda: _gone(child))
        assert time.monotonic() - began < 10
        server.process.wait(15)


def test_hanging_up_is_as_good_as_sigterm_unless_it_is_ignored() -> None:
    with running() as server:
        server.wait_until_ready()
        child = server.worker()
        server.process.send_signal(signal.SIGHUP)
        assert server.process.wait(20) == 0
        assert _gone(child)
    process = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}  # nohup
    with running(process=process) as server:
        server.wait_until_ready()
        server.process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert server.post()[0] == 200


def test_a_log_line_says_what_a_padded_batch_would_have_held() -> None:
    scores = [[Scores((0.5, 0.1), 3, (5, 2), Timings(0, 0, 0))], [Scores((), 3, (), Timings(0, 0, 0))]]
    assert sizes(scores) == {"documents": 2, "tokens": 13, "computed": 13, "padded": 16}


def test_sigterm_finishes_what_is_under_way_and_logs_no_text() -> None:
    with running() as server, concurrent.futures.ThreadPoolExecutor() as pool:
        wait_for(lambda: server.ping() == 200)
        secret = json.dumps({"query": "zebracrossing", "documents": ["hippopotamus " * 4000] * 2}).encode()
        answer = pool.submit(server.post, secret)
        wait_for(
            lambda: "sagerank_queued_tokens 0.0" not in server.call("GET", "/metrics")[1] or answer.done()
        )
        server.post(b'{"query":"zebracrossing","documents":[{"hippopotamus":[null]}],"rank_fields":["x"]}')
        log = server.stop()
        assert answer.result()[0] == 200
        assert server.process.returncode == 0
        assert {entry["status"] for entry in log if entry["event"] == "request"} == {200, 400}
        assert "zebra" not in json.dumps(log)
        assert "hippo" not in json.dumps(log)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs IPv6")
@pytest.mark.parametrize(("host", "answering"), [("*", ["127.0.0.1", "::1"]), ("::1", ["::1"])])
def test_it_answers_on_ipv4_and_ipv6(host: str, answering: list[str]) -> None:
    with running(SAGERANK_HOST=host) as server:
        wait_for(lambda: server.ping(answering[0]) != 0)
        for address in ("127.0.0.1", "::1"):
            assert (server.ping(address) != 0) == (address in answering)


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with running(SAGERANK_PORT=str(port)) as server:
            output, _ = server.process.communicate(timeout=60)
    assert server.process.returncode == 2
    assert f"127.0.0.1 port {port}" in json.loads(output.splitlines()[-1])["reason"]


def test_it_serves_any_text_in_the_posix_locale_without_home_user_or_writable_folder(tmp_path: Path) -> None:
    """As a container of an odd platform does: an unknown user, a read-only root, and a proxy for everything."""
    os.chmod(tmp_path, 0o755)
    model = tmp_path / "modèle"
    shutil.copytree(MICRO, model)
    environment = {name: text for name, text in os.environ.items() if name not in ("HOME", "USER", "LANG")}
    environment |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment |= dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"), "http://127.0.0.1:9")
    process: dict[str, Any] = {"env": environment, "cwd": "/"}
    if os.geteuid() == 0 and _readable_by_others(tmp_path):
        process |= {"user": 54321, "group": 54321, "extra_groups": []}
    body = json.dumps({"query": "où ☃", "documents": ["ça 雪", "🐈"]}, ensure_ascii=False).encode()
    with running(process=process, SAGERANK_MODEL_DIR=str(model)) as server:
        server.wait_until_ready()
        code, answer = server.post(body)
        assert (code, sorted(item["document"]["text"] for item in answer["results"])) == (
            200,
            ["ça 雪", "🐈"],
        )
        assert [entry["event"] for entry in server.stop()] == ["ready", "request"]


def _readable_by_others(folder: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in (folder, *folder.parents, *ROOT.parents))


def test_nothing_of_the_users_runs_in_server_or_worker(hostile: Path) -> None:
    with running(process={"cwd": hostile}) as server:
        server.wait_until_ready()
        assert server.post()[0] == 200


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (
            {"SAGERANK_MODEL_DIR": "/nowhere"},
            "is /nowhere, which cannot be opened (No such file or directory)",
        ),
        ({"SAGERANK_MODEL_DIR": __file__}, "which cannot be opened (Not a directory)"),
        ({"SAGERANK_BATCH_TOKEN": "1"}, "did you mean SAGERANK_BATCH_TOKENS"),
        ({"SAGERANK_DRAIN_SECONDS": "inf"}, "give a number"),
        ({"SAGERANK_HOST": "not a host"}, "give one address or name"),
        ({"SAGERANK_HOST": "a" * 70}, "set SAGERANK_HOST or SAGERANK_PORT"),
    ],
)
def test_a_server_that_cannot_start_says_why_and_exits(settings: dict[str, Any], reason: str) -> None:
    with running(process={"stderr": subprocess.PIPE}, **settings) as server:
        output, errors = server.process.communicate(timeout=60)
        assert (server.process.returncode, errors) == (2, "")
        assert reason in json.loads(output.splitlines()[-1])["reason"]


def test_the_embedded_model_is_served_only_where_it_is_asked_for() -> None:
    nowhere = "/nowhere"
    with running(SAGERANK_MODEL_DIR=nowhere) as server:
        output, _ = server.process.communicate(timeout=60)
        assert server.process.returncode == 2
        assert "serve the embedded model by the argument micro" in json.loads(output)["reason"]
    with running(word="micro", SAGERANK_MODEL_DIR=nowhere) as server:
        server.wait_until_ready()
        assert server.call("GET", "/ping")[1] == {"status": "ready", "model": "sagerank-micro"}
    with running(word="mirco") as server:
        output, _ = server.process.communicate(timeout=60)
        assert server.process.returncode == 2
        assert "'mirco' is nothing that this server does: give serve, or micro" in output


def test_a_drift_takes_the_server_out_of_service_and_is_a_metric() -> None:
    async def test() -> None:
        metrics = Metrics()
        service = Service(Settings(model_dir=MICRO, golden_seconds=0.05), metrics)
        under_way = asyncio.create_task(service.run(lambda: None))
        try:
            while service.state != "ready":
                await asyncio.sleep(0.01)
            assert b"sagerank_drifted 0.0" in metrics.render()
            (stage,) = service._stages
            pair, *others = stage.manifest.golden
            manifest = replace(stage.manifest, golden=(replace(pair, logit=pair.logit + 0.5), *others))
            service._stages[0] = replace(stage, manifest=manifest)
            while service.state == "ready":
                await asyncio.sleep(0.01)
            assert service.state == "drifted"
            assert b"sagerank_drifted 1.0" in metrics.render()
            assert b"sagerank_ready 0.0" in metrics.render()
        finally:
            under_way.cancel()
            with suppress(asyncio.CancelledError):
                await under_way

    run(test)


@pytest.fixture
def drifted(tmp_path: Path) -> Path:
    """A model that does not score its golden pairs as its manifest says."""
    for path in MICRO.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["golden"][0]["logit"] += 0.5
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path


def test_a_model_that_cannot_be_used_is_exit_code_1_though_requests_are_open(drifted: Path) -> None:
    with running(SAGERANK_MODEL_DIR=str(drifted)) as server:
        wait_for(lambda: server.ping() == 503)
        with (
            socket.create_connection(("127.0.0.1", server.port)) as half,
            socket.create_connection(("127.0.0.1", server.port)),
        ):
            half.sendall(b"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{")
            output, _ = server.process.communicate(timeout=15)  # and not the 25 of a drain
        assert server.process.returncode == 1
        failed = [entry for entry in map(json.loads, output.splitlines()) if entry["event"] == "failed"]
        assert "golden pairs" in failed[0]["reason"]


def test_another_artefact_than_the_pinned_one_is_never_served(tmp_path: Path) -> None:
    """Nothing is wrong with it: it is the one that somebody put in place of the deployed one."""
    for path in MICRO.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"model": "other"}))
    own = hashlib.sha256((MICRO / "manifest.json").read_bytes()).hexdigest()
    with running(SAGERANK_MODEL_DIR=str(tmp_path)) as server:
        server.wait_until_ready()
        assert server.call("GET", "/ping")[1]["model"] == "other"
    with running(SAGERANK_MODEL_DIR=str(tmp_path), SAGERANK_MANIFEST_SHA256=own) as server:
        output, _ = server.process.communicate(timeout=60)
        assert server.process.returncode == 1
        events = [json.loads(line) for line in output.splitlines()]
        assert "is of another artefact than the one that was deployed" in events[-1]["reason"]
        assert "ready" not in [event["event"] for event in events]
    with running(SAGERANK_MANIFEST_SHA256=own) as server:
        server.wait_until_ready()
        assert server.post()[0] == 200


def test_a_golden_mismatch_is_never_served(drifted: Path) -> None:
    with running(SAGERANK_MODEL_DIR=str(drifted)) as server:
        output, _ = server.process.communicate(timeout=60)
        assert server.process.returncode == 1
        assert "golden pairs" in json.loads(output.splitlines()[-1])["reason"]
