"""The command line as a person runs it: real processes, the embedded model."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sagerank.cli import SHELLS, main
from sagerank.evaluation import DEMO

from ..conftest import free_port
from ..servers import running, wait_for

posix = pytest.mark.skipif(os.name != "posix", reason="the server's worker and bash need POSIX")


def sagerank(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sagerank.cli", *arguments]
    given = {name: text for name, text in os.environ.items() if name != "COLUMNS"}
    return subprocess.run(
        command, input=stdin, env=given, capture_output=True, text=True, check=False, timeout=120
    )


@posix
def test_demo_puts_the_relevant_passages_on_top() -> None:
    done = sagerank("demo", "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    sample = json.loads(DEMO.read_text())
    relevant = [index for index, passage in enumerate(sample["passages"]) if passage["relevant"]]
    assert len(shown["passages"]) >= 30
    assert shown["relevant"] == relevant
    assert set(relevant) <= set(shown["order"][: 2 * len(relevant)])
    assert shown["order"][0] in relevant
    assert shown["scores"] == sorted(shown["scores"], reverse=True)


@posix
def test_rerank_from_a_file_a_pipe_and_a_server(tmp_path: Path) -> None:
    texts = ["Cats sleep all day.", "Rain falls when clouds cool."]
    (tmp_path / "plain.txt").write_text("\n".join(texts) + "\n\n")
    here = json.loads(sagerank("rerank", "what causes rain", str(tmp_path / "plain.txt"), "--json").stdout)
    assert [item["document"] for item in here["results"]][0] == texts[1]
    lines = "\n".join(json.dumps({"text": text, "id": index}) for index, text in enumerate(texts))
    top = sagerank("rerank", "what causes rain", "--top-n", "1", stdin=lines).stdout
    best = sagerank("rerank", json.loads(DEMO.read_text())["query"], "--sample", "--top-n", "1").stdout
    assert best.split("\t")[2].startswith("The different stages of sleep")
    assert top.split("\t")[1:] == ["1", texts[1] + "\n"]
    with running() as server:
        wait_for(lambda: server.ping() == 200)
        url = f"http://127.0.0.1:{server.port}"
        there = json.loads(
            sagerank("rerank", "what causes rain", str(tmp_path / "plain.txt"), "--url", url, "--json").stdout
        )
    scores = [[item["score"] for item in ranking["results"]] for ranking in (here, there)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)


def test_build_and_doctor(tmp_path: Path) -> None:
    output = tmp_path / "model.tar.gz"
    assert (
        json.loads(sagerank("build", "--output", str(output), "--json").stdout)["model"] == "sagerank-micro"
    )
    done = sagerank("doctor", "--model", str(output), "--json")
    assert all(check["ok"] is not False for check in json.loads(done.stdout))
    broken = tmp_path / "broken.tar.gz"
    broken.write_bytes(output.read_bytes()[:1000])
    done = sagerank("doctor", "--model", str(broken))
    assert done.returncode == 1
    assert "FAIL  artefact" in done.stdout
    assert "sagerank build" in done.stdout


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read from /proc")
def test_memory_stays_flat_with_length() -> None:
    """Four times the tokens: a matrix of heads x tokens^2 would take sixteen times the memory."""

    def peak(tokens: int) -> float:
        done = sagerank("bench", "memory", "--tokens", str(tokens), "--json")
        point = json.loads(done.stdout)
        assert point["tokens"] == tokens
        return float(point["peak_rss_mb"] - point["loaded_rss_mb"])

    assert peak(8192) < 4 * peak(2048) + 50


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["rerank", "q", "/nowhere"], "There is no file /nowhere"),
        (["rerank", "q", "x", "--sample"], "not both"),
        (["rerank", " ", "-"], "query is blank"),
        (["rerank", "q", "-", "--model", "larger"], "There is no model 'larger'"),
        (["rerank", "q", "-", "--model", "tinny"], "did you mean tiny?"),
        (["rerank", "q", "-", "--url", "x", "--endpoint", "y"], "not both"),
        (["rerank", "q", "-", "--url", "ftp://x"], "not an HTTP URL"),
        (["build", "--code", "--output", "folder"], "--code goes with"),
        (["bench", "memory", "--tokens", "0"], "at least 1"),
        (["serve", "--model", "base"], "give the folder that holds your copy"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    done = sagerank(*arguments, stdin="a document\n")
    assert sentence in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert done.returncode == 2
    assert not list(tmp_path.iterdir())


@posix
def test_no_documents_and_a_closed_pipe() -> None:
    done = sagerank("rerank", "q")
    assert done.returncode == 2
    assert done.stderr.startswith("sagerank: There are no documents in standard input: give a file")
    shell = f"{sys.executable} -m sagerank.cli doctor | head -n 1"
    closed = subprocess.run(
        ["bash", "-c", shell], capture_output=True, text=True, check=False, env={**os.environ}, timeout=60
    )
    assert closed.stderr == ""


@pytest.mark.parametrize(
    ("shell", "code"),
    [
        ("rerank q <&-", 2),
        ("rerank q FILE 2>&-", 0),
        ("rerank q FILE | true", 0),
        ("cost --rate 0.2 | true", 0),
    ],
)
def test_closed_streams(shell: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "FILE").write_text("a text\n[" + "[" * 100_000 + "\n")
    words = f"set -o pipefail; {sys.executable} -P -m sagerank.cli {shell}"
    done = subprocess.run(["bash", "-c", words], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@posix
def test_rerank_does_not_wait_for_a_keyboard() -> None:
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "sagerank.cli", "rerank", "what causes rain"]
    done = subprocess.run(command, stdin=theirs, capture_output=True, text=True, timeout=60)
    os.close(ours)
    os.close(theirs)
    sentence = "There are no documents: give a file with one document a line, pipe one in, or take --sample."
    assert (done.returncode, done.stderr) == (2, f"sagerank: {sentence}\n")


def test_a_dead_port_is_given_up_soon(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After as many tries as a person would wait for."""
    longest: list[float] = []

    def pause(low: float, high: float) -> float:
        longest.append(high)
        return low

    monkeypatch.setattr("random.uniform", pause)
    assert main(["rerank", "q", "--sample", "--url", f"http://127.0.0.1:{free_port()}"]) == 2
    assert "could not be reached" in capsys.readouterr().err
    assert sum(longest[:-1]) < 2  # seconds; after the last try there is no pause


@posix
def test_serve_says_where_it_is_and_what_to_try() -> None:
    port = free_port()
    command = [sys.executable, "-m", "sagerank.cli", "serve", "--port", str(port)]
    with (
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server,
        ending(server),
    ):
        assert server.stderr
        first, _, curl = (server.stderr.readline() for _ in range(3))
        assert first == f"Serving micro at http://127.0.0.1:{port} until Ctrl-C. Try:\n"
        url, body = re.findall(r"(http\S+) .* -d '(.*)'", curl)[0]
        # It listens from the first line on, and answers once the model is loaded.
        wait_for(lambda: ask(f"http://127.0.0.1:{port}/ping")[0] == 200)
        status, answer = ask(url, body.encode())
        best = json.loads(answer)["results"][0]
        assert (status, best["index"]) == (200, 1)
        assert best["relevance_score"] > 0.9
        again = sagerank("serve", "--port", str(port))
        assert again.returncode == 2
        assert "Address already in use): give another --port" in again.stderr


@contextmanager
def ending(server: subprocess.Popen[str]) -> Iterator[None]:
    """End it as Ctrl-C does."""
    try:
        yield
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0


def ask(url: str, body: bytes | None = None) -> tuple[int, bytes]:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, b""


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_is_a_script_that_its_shell_takes(shell: str, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(sagerank("completion", shell).stdout)
    assert "top-n" in script.read_text()
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed here")
    subprocess.run([shell, "-n", script], check=True)
    if shell == "bash":
        (tmp_path / "texts.txt").touch()
        lines = {
            "sagerank rer": "rerank",
            "sagerank rerank --top": "--top-n",
            "sagerank build --precision ''": "fp32 bf16 int8",
            "sagerank cost bre": "breakeven",
            "sagerank rerank query te": "texts.txt",
        }
        words = "; ".join(
            f"COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMPREPLY=(); _shtab_sagerank; echo ${{COMPREPLY[*]}}"
            for line in lines
        )
        # Outside of a real completion, compopt has nothing to set.
        code = f"source '{script}'; compopt() {{ :; }}; {words}"
        done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
        assert done.stdout.splitlines() == list(lines.values()), done.stderr
