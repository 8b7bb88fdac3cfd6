"""No command, server or client sends a packet to anyone who was not named, or writes a file where none is said to be kept.

Each runs in a network that has a name server and a gateway, behind which every packet is read (tests/containers/wire.py), with a home
and a temporary folder that are empty, and without a variable that would switch a library's reports off. What it writes anywhere is
read from its system calls (tests/writes.py).
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from sagerank.models.build import MICRO
from sagerank.operate import tools
from sagerank_inference import quiet

from .conftest import ROOT
from .containers.wire import Wire, wire
from .writes import tracing, written

_QUERY = "what causes rain"
_PASSAGES = ["Clouds cool and drop water.", "A cat sleeps."]
# What collects reports sends them after a while: ONNX Runtime 9 seconds after it was loaded.
_WAITED = "import time; time.sleep(12)"
_HANDLED = f"""
import json
from sagerank_inference import handler
model = handler.model_fn({str(MICRO)!r})
body = json.dumps({{"query": {_QUERY!r}, "documents": {_PASSAGES!r}}})
asked = handler.input_fn(body, "application/json")
assert handler.output_fn(handler.predict_fn(asked, model), "application/json")
{_WAITED}
"""
_SERVED = f"""
import subprocess, sys
from contextlib import closing
from sagerank.client import RerankClient
from tests.servers import BEARER, Door, proxied, wait_for
serve = Door()
serve.host, serve.port = "127.0.0.1", 8081
command = [sys.executable, "-P", "-m", "sagerank", "serve", "--model", "micro", "--port", "8081"]
with subprocess.Popen(command) as process:
    wait_for(lambda: serve.ping() == 200)
    with proxied("--url", "http://127.0.0.1:8081") as proxy:
        for port, headers in ((8081, {{}}), (proxy.port, BEARER)):
            with RerankClient.http(f"http://127.0.0.1:{{port}}", headers=headers) as client:
                assert len(client.rerank({_QUERY!r}, {_PASSAGES!r}).results) == 2
        exec({_HANDLED!r})
    process.terminate()
"""
_PLANNED = """
import os, subprocess, sys
from pathlib import Path
from sagerank.cli import main
from sagerank.operate import deploy
from sagerank.operate.account import Account
from tests.local_aws.launch import ACCOUNT, REGION, running
with running(Path("log")) as environment:
    del environment["CDK_DISABLE_VERSION_CHECK"], environment["CDK_DOCKER"]
    os.environ.update(environment)
    assert main(["deploy", "--model", "micro", "--mode", "serverless", "--plan", "plan.tar.gz"]) == 0
    account = Account(REGION, endpoint_url=environment["AWS_ENDPOINT_URL"])
    deploy.bootstrap(deploy.Place(region=REGION, account=ACCOUNT), account, "")
"""
_SAGERANK = ("-m", "sagerank")
_MICRO = ("--model", "micro", "--mode", "serverless", "--region", "eu-west-1")
_ACCOUNT = ("--region", "eu-west-1", "--account", "123456789012")
_SAMPLE = ROOT / "sagerank/evaluation/sample"
_DISTILLED = (
    *(
        "distil",
        "--passages",
        str(_SAMPLE / "passages.jsonl.gz"),
        "--queries",
        str(_SAMPLE / "queries.jsonl.gz"),
    ),
    *(
        "--teacher",
        "micro",
        "--start",
        "micro",
        "--layers",
        "0",
        "--limit",
        "8",
        "--made-queries",
        "0",
        "--steps",
        "2",
    ),
    *(
        "--queries-per-step",
        "2",
        "--max-tokens",
        "64",
        "--gate",
        str(_SAMPLE / "heldout"),
        "--gate-queries",
        "4",
    ),
    *("--retention", "0", "--dtype", "float16"),
)
# The CDK's libraries, unpacked: half a minute where every test has its own.
_JSII = str(Path.home() / ".cache/aws/jsii/package-cache")
_MATPLOTLIB = ("home/.cache/matplotlib", "home/.config/matplotlib")
_TORCH = f"tmp/torchinductor_{getpass.getuser()}"
# What is run, the modules that it needs, and what it may leave below home, temporary folder and working directory.
COMMANDS: dict[str, tuple[Sequence[str], Sequence[str], Sequence[str]]] = {
    "demo": ((*_SAGERANK, "demo"), (), ("home/.cache/sagerank",)),
    "rerank": (
        (*_SAGERANK, "rerank", "--model", "micro", _QUERY, str(ROOT / "examples/passages.txt")),
        (),
        ("home/.cache/sagerank",),
    ),
    "doctor": ((*_SAGERANK, "doctor"), (), ("home/.cache/sagerank",)),
    "cost": ((*_SAGERANK, "cost", "--format", "html"), ("matplotlib",), _MATPLOTLIB),
    "build": (
        (*_SAGERANK, "build", "--model", "../../model", "--output", "built"),
        ("torch", "onnx"),
        ("cwd/built", "home/.cache/sagerank", _TORCH),
    ),
    "bench": (
        (*_SAGERANK, "bench", "latency", "--documents", "1", "--calls", "2", "--plot", "drawn.svg"),
        ("matplotlib", "onnx", "torch"),
        ("cwd/drawn.svg", "home/.cache/sagerank", *_MATPLOTLIB, _TORCH),
    ),
    "eval": (
        (*_SAGERANK, "eval", "--data", str(ROOT / "sagerank/evaluation/sample/heldout"), "--model", "micro"),
        ("bm25s",),
        ("home/.cache/sagerank",),
    ),
    "connect": (
        (*_SAGERANK, "connect", "opensearch", "--endpoint", "reranker", *_ACCOUNT, "--output", "pieces"),
        (),
        ("cwd/pieces",),
    ),
    "dry run": (
        (*_SAGERANK, "deploy", *_MICRO, "--dry-run", "--output", "templates"),
        ("aws_cdk",),
        ("cwd/templates", "home/.cdk/cache", _JSII),
    ),
    "policies": (
        (*_SAGERANK, "policies", *_MICRO, "-c", "account=123456789012"),
        ("aws_cdk",),
        ("home/.cdk/cache", _JSII),
    ),
    "plan and bootstrap": (
        ("-c", _PLANNED),
        ("aws_cdk", "moto"),
        ("cwd/plan.tar.gz", "cwd/log", "home/.cache/sagerank", "home/.cdk/cache", _JSII),
    ),
    "distil": (
        (*_SAGERANK, *_DISTILLED, "--output", "student"),
        ("torch", "bm25s", "matplotlib"),
        ("cwd/student", "cwd/student.work", "home/.cache/sagerank", *_MATPLOTLIB, _TORCH),
    ),
    "server, proxy, client and handler": (("-c", _SERVED), (), ()),
}
# Of a command that is told more: a proxy, which nothing on this machine is asked through; and that this is no instance of EC2,
# whose own address botocore asks for credentials.
_TOLD = {
    "server, proxy, client and handler": dict.fromkeys(
        ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"),
        "http://192.0.2.9:3128",
    ),
    "dry run": {"AWS_EC2_METADATA_DISABLED": "true"},
    "plan and bootstrap": {"CDK_VALIDATION": "false"},  # seconds, which the dry run takes
}


@pytest.fixture
def network() -> Iterator[Wire]:
    if os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("a network of its own needs root on Linux")
    if not shutil.which("strace"):
        pytest.skip("what is written is read by strace, which is not installed")
    if find_spec("aws_cdk"):
        tools.cdk()  # by npm where it is missing, as there is no registry in the other network
    try:
        made = wire()
        found = made.__enter__()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no such network can be made here: {getattr(error, 'stderr', error)!r}")
    yield found
    made.__exit__(None, None, None)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("model", "place/home", "place/tmp", "place/cwd"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        shutil.copyfile(MICRO / name, tmp_path / "model" / name)
    return tmp_path / "place"


def run(network: Wire, place: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run Python there, and write a report of it beside the place."""
    servers = network.options[1].partition(":")[0]
    inside = [
        *("nsenter", f"--net={network.name.removeprefix('ns:')}", "unshare", "--mount", "sh", "-ec"),
        'mount --bind "$1" /etc/resolv.conf; shift; exec "$@"',
        *("sh", servers, *tracing(report(place)), sys.executable, "-P", *words),
    ]
    environ: Mapping[str, str] = {
        **{name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ},
        "HOME": str(place / "home"),
        "TMPDIR": str(place / "tmp"),
        "PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in ("", "inference", "cost", "infra")),
        "PYTHONDONTWRITEBYTECODE": "1",
        "JSII_RUNTIME_PACKAGE_CACHE_ROOT": _JSII,
        **more,
    }
    return subprocess.run(
        inside, cwd=place / "cwd", env=environ, capture_output=True, text=True, check=False, timeout=240
    )


def report(place: Path) -> Path:
    return place.with_name("report")


def strays(place: Path, kept: Sequence[str]) -> set[str]:
    """What was written and is not kept: anywhere, but for what came and went in the temporary folder and the working directory."""
    keep = {place / name for name in kept}
    passing = (place / "tmp", place / "cwd")
    found = {
        path
        for path in written(report(place), place / "cwd")
        if not {path, *path.parents} & {*keep, *passing}
    }
    found |= {path for path in place.rglob("*") if not {path, *path.parents} & keep and path.parent != place}
    above = {parent for path in keep for parent in path.parents}
    return {os.path.relpath(path, place) for path in found - above}


@pytest.mark.parametrize("name", COMMANDS)
def test_it_calls_nobody_and_leaves_nothing(name: str, network: Wire, place: Path) -> None:
    words, needed, kept = COMMANDS[name]
    if missing := [module for module in needed if find_spec(module) is None]:
        pytest.skip(f"{missing[0]} is not installed")
    done = run(network, place, *words, **_TOLD.get(name, {}))
    assert done.returncode == 0, done.stderr[-2000:]
    assert not network.packets
    assert not strays(place, kept)


def test_the_page_names_every_folder_that_keeps_something() -> None:
    page = (ROOT / "docs/data-handling.md").read_text(encoding="utf-8")
    places = {name for _, _, kept in COMMANDS.values() for name in kept if not name.startswith("cwd/")}
    for name in places:
        shown = (
            name.replace(str(Path.home()), "~").replace("home/", "~/").replace("tmp/", "").partition("_")[0]
        )
        assert f"`{shown}" in page, name


def test_a_packet_and_files_would_be_seen(network: Wire, place: Path, tmp_path: Path) -> None:
    """A file that stays, one that does not, a folder, and one that a child makes elsewhere."""
    code = (
        "import os, pathlib, socket, subprocess; home = pathlib.Path.home(); (home / 'stays').touch(); "
        "(home / 'new').touch(); (home / 'new').rename(home / 'gone'); (home / 'gone').unlink(); os.mkdir('../tmp/folder'); "
        f"subprocess.run(['touch', {str(tmp_path / 'elsewhere')!r}], check=True); "
        "socket.getaddrinfo('example.org', 443)"
    )
    done = run(network, place, "-c", code, RES_OPTIONS="timeout:1 attempts:1")
    assert done.returncode == 1
    assert b"\x07example\x03org\x00" in b"".join(network.packets)
    seen = {"home/stays", "home/new", "home/gone", "tmp/folder", "../elsewhere"}
    assert strays(place, ()) == seen


def test_credentials_are_looked_for_on_this_machine_and_in_ec2_alone(network: Wire, place: Path) -> None:
    """Where it has none, botocore asks the address at which an instance of EC2 has its own."""
    done = run(network, place, *_SAGERANK, "status", "reranker", "--region", "eu-west-1")
    assert done.returncode == 2
    assert "No AWS credentials were found" in done.stderr
    frames = [packet for packet in network.packets if packet[12:14] == b"\x08\x00"]
    assert {socket.inet_ntoa(packet[30:34]) for packet in frames} == {"169.254.169.254"}
    assert len(frames) == len(network.packets)


def test_what_the_cdks_command_would_report_would_be_seen(network: Wire, place: Path) -> None:
    """Where nothing told it not to: it fetches notices."""
    (place / "cwd/app").mkdir()
    (place / "cwd/app/manifest.json").write_text('{"version": "36.0.0"}', encoding="utf-8")
    code = (
        "import subprocess; from sagerank.operate import tools; command, _ = tools.cdk(); "
        "subprocess.run([command, 'list', '--app', 'app'], timeout=60)"
    )
    done = run(network, place, "-c", code, RES_OPTIONS="timeout:1 attempts:1")
    assert done.returncode == 0, done.stderr[-2000:]
    assert b"cdk" in b"".join(network.packets)


def test_what_onnx_runtime_would_report_would_be_seen(network: Wire, place: Path) -> None:
    """The reason for these tests: with its telemetry left on, the handler is no longer silent."""
    (variable,) = quiet.ONNX_RUNTIME
    done = run(network, place, "-c", _HANDLED, **{variable: "0"})
    assert done.returncode == 0, done.stderr[-2000:]
    assert b"microsoft" in b"".join(network.packets)
    assert any("Microsoft" in path for path in strays(place, ()))
