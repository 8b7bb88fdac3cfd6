"""The wheel as a stranger has it: alone in an environment, in a folder full of the stranger's own files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT, free_port
from .local_aws.launch import running as local_aws

pytestmark = pytest.mark.installed

# What a project may hold beside us: the packages' old names, a data folder of ours, and names of what we import.
FILES = ("inference.py", "cost.py", "infra.py", "evaluation/__init__.py", "distillation/__init__.py")
SHADOWS = ("json.py", "numpy.py", "yaml.py", "httpx2.py", "uvicorn.py", "aws_cdk.py", "cost/__init__.py")
SECONDS = 600


@pytest.fixture(scope="module")
def python() -> Iterator[Path]:
    """The interpreter of an environment with the wheel and what its extras bring, readable for every user."""
    folder = Path(tempfile.mkdtemp(prefix="sagerank-wheel-"))
    folder.chmod(0o755)
    try:
        wheels = sorted((ROOT / "dist").glob("*.whl"), key=lambda path: path.stat().st_mtime)
        if not wheels:
            pytest.fail("There is no wheel in dist/: `make release` builds one and runs these tests.")
        subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
        path = folder / "env/bin/python"
        pinned = ["-c", str(ROOT / "requirements/test.txt")]
        install = [str(path), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        wanted = [*pinned, f"{wheels[-1]}[cpu,cost,infra]"]
        subprocess.run([*install, *wanted], check=True, timeout=SECONDS)
        yield path
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def theirs(python: Path) -> Iterator[Path]:
    """A folder of a user's files, each of which leaves a mark when it is executed. Fails where one has."""
    folder = Path(tempfile.mkdtemp(prefix="theirs-"))
    folder.chmod(0o777)
    for name in (*FILES, *SHADOWS):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"open({str(folder / 'executed')!r}, 'a').write({name!r})\nraise SystemExit(99)\n")
    (folder / "sagerank").mkdir()
    (folder / "sagerank/data.csv").write_text("text\n")
    yield folder
    executed = folder / "executed"
    shown = executed.read_text() if executed.exists() else ""
    shutil.rmtree(folder)
    assert not shown, f"executed: {shown}"


def environment(**changes: str | None) -> dict[str, str]:
    """A plain one, without this test's own paths; None takes a variable out."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    # Nothing switches off ONNX Runtime's telemetry, which says on standard error where it cannot keep an identity: we do.
    wanted = {**kept, "AWS_EC2_METADATA_DISABLED": "true", **changes}
    return {name: text for name, text in wanted.items() if text is not None}


def run(python: Path, cwd: Path, *words: str, **options: Any) -> str:
    """Standard output of a `sagerank` command."""
    command = [str(python.with_name("sagerank")), *words]
    options.setdefault("env", environment())
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, encoding="utf-8", timeout=SECONDS, **options
    )
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def test_the_client_is_imported_where_the_users_files_have_our_rooms_names(
    python: Path, theirs: Path
) -> None:
    for name in SHADOWS:  # `python -c` puts the working directory before everything, as its user asked
        (theirs / name).unlink()
    code = "import sagerank; from sagerank import RerankClient, AsyncRerankClient, errors, __version__; print(__version__)"
    done = subprocess.run([python, "-c", code], cwd=theirs, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert run(python, theirs, "--version") == f"sagerank {done.stdout}"


def test_a_light_client_needs_no_extra(python: Path, theirs: Path) -> None:
    """Nothing but the base dependencies is loaded by a client that calls a server."""
    code = (
        "import sys\n"
        "from sagerank import RerankClient\n"
        "RerankClient.sagemaker('x', region='eu-west-1').close()\n"
        "heavy = {'numpy', 'onnxruntime', 'tokenizers', 'starlette', 'torch', 'rich'} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    subprocess.run([python, "-P", "-c", code], cwd=theirs, env=environment(), check=True)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("demo",), "documents per 50 ms"),
        (("doctor",), "ok    golden scores"),
        (("cost", "--rate", "0.2", "--p95", "2", "--min-ndcg", "49"), "Run turbo"),
        (("rerank", "what causes rain", "texts.txt", "--top-n", "1"), "drops fall"),
        (("build", "--output", "model.tar.gz"), "sagerank-micro"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_commands_run_in_a_users_folder(
    python: Path, theirs: Path, words: tuple[str, ...], shown: str
) -> None:
    (theirs / "texts.txt").write_text("Cats sleep.\nClouds cool, and drops fall as rain.\n")
    assert shown in run(python, theirs, *words)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_server_runs_in_a_users_folder(python: Path, theirs: Path, host: str) -> None:
    port = free_port()
    server = subprocess.Popen(
        [python.with_name("sagerank"), "serve", "--host", host, "--port", str(port)],
        cwd=theirs,
        env=environment(HTTP_PROXY="http://127.0.0.1:9", http_proxy="http://127.0.0.1:9"),
        stdout=subprocess.DEVNULL,
    )
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                assert direct.open(f"{url}/ping", timeout=5).status == 200
                break
            except OSError:
                assert server.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
        code = (
            "import sys; from sagerank import RerankClient\n"
            "with RerankClient.http(sys.argv[1]) as client: print(client.rerank('q', ['a', 'b']).model)"
        )
        done = subprocess.run(
            [python, "-P", "-c", code, url],
            cwd=theirs,
            env=environment(HTTP_PROXY="http://127.0.0.1:9", http_proxy="http://127.0.0.1:9"),
            capture_output=True,
            text=True,
        )
        assert (done.stdout, done.stderr) == ("sagerank-micro\n", "")
    finally:
        server.terminate()
        assert server.wait(60) == 0


HARSH: dict[str, dict[str, str | None]] = {
    "C locale": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "no HOME": {"HOME": None},
    "HOME that cannot be written": {"HOME": "/proc/self"},
    "proxies": dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9"),
}


@pytest.mark.parametrize("name", HARSH)
def test_commands_run_in_a_harsh_environment(python: Path, theirs: Path, name: str) -> None:
    (theirs / "texts.txt").write_text("Čas běží.\nDéšť padá z mraků. \u2028 雨\n", encoding="utf-8")
    env = environment(**HARSH[name])
    ranked = run(python, theirs, "rerank", "déšť", "texts.txt", env=env)
    assert "雨" in ranked
    assert len(ranked.splitlines()) in (2, 3)
    assert json.loads(run(python, theirs, "demo", "--json", env=env))["order"]
    run(python, theirs, "doctor", env=env)
    run(python, theirs, "cost", "--rate", "0.2", "--format", "html", env=env)


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="only root can become another user, by setpriv",
)
def test_commands_run_as_a_user_without_a_name_who_may_write_nowhere(python: Path, theirs: Path) -> None:
    (theirs / "empty").mkdir(mode=0o555)
    theirs.chmod(0o555)
    # It may read what this test's user may, since the interpreter can lie in a folder that nobody else enters.
    reader = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    become = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", *reader]
    nowhere = str(theirs / "empty")
    env = environment(HOME="/nonexistent", TMPDIR=nowhere, XDG_CACHE_HOME=nowhere)
    for words in (["rerank", "q", "-"], ["doctor"], ["cost", "--rate", "0.2"]):
        done = subprocess.run(
            [*become, python.with_name("sagerank"), *words],
            cwd=theirs,
            env=env,
            input="a text\n",
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert (done.returncode, done.stderr) == (0, ""), words


def test_deploy_synthesises_from_the_wheel(python: Path, theirs: Path, tmp_path: Path) -> None:
    """With the CDK's own command line, fetched once into the cache, and no checkout."""
    with local_aws(tmp_path / "log") as aws:
        env = environment(**aws, XDG_CACHE_HOME=str(tmp_path / "cache"))
        words = [
            "deploy",
            "--model",
            "micro",
            "--mode",
            "realtime",
            "--instance",
            "ml.c7i.large",
            "--dry-run",
            "--json",
        ]
        shown = run(python, theirs, *words, env=env)
    assert json.loads(shown)["estimate"]
    assert "cdk.out" not in os.listdir(theirs)
