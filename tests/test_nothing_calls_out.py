"""No command, server or client sends a packet to anyone who was not named, or leaves a file outside what is said to keep some.

Each runs in a network that has a name server and a gateway, behind which every packet is read (tests/containers/wire.py), with a home
and a temporary folder that are empty, and without a variable that would switch a library's reports off.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from sagerank.models.build import MICRO
from sagerank_inference import quiet

from .conftest import ROOT
from .containers.wire import Wire, wire

_QUERY = "what causes rain"
_PASSAGES = ["Clouds cool and drop water.", "A cat sleeps."]
# What collects reports sends them after a while.
_WAITED = "import time; time.sleep(12)"
_SERVED = f"""
from sagerank.client import RerankClient
from tests.servers import running
with running() as server:
    server.wait_until_ready()
    with RerankClient.http(f"http://127.0.0.1:{{server.port}}") as client:
        assert len(client.rerank({_QUERY!r}, {_PASSAGES!r}).results) == 2
    {_WAITED}
"""
_HANDLED = f"""
import json
from sagerank_inference import handler
model = handler.model_fn({str(MICRO)!r})
body = json.dumps({{"query": {_QUERY!r}, "documents": {_PASSAGES!r}}})
asked = handler.input_fn(body, "application/json")
assert handler.output_fn(handler.predict_fn(asked, model), "application/json")
{_WAITED}
"""
_SYNTHESISED = """
import aws_cdk
from sagerank_infra.app import build
from tests.infra.synth import example
app = aws_cdk.App(outdir="assembly")
build(app, example("realtime"))
app.synth()
"""
_SAGERANK = ("-m", "sagerank")
# What is run, the modules that it needs, and the folders below home, temporary folder and working directory that it may write to.
COMMANDS: dict[str, tuple[Sequence[str], Sequence[str], Sequence[str]]] = {
    "demo": ((*_SAGERANK, "demo"), (), ("home/.cache/sagerank",)),
    "rerank": (
        (*_SAGERANK, "rerank", "--model", "micro", _QUERY, str(ROOT / "examples/passages.txt")),
        (),
        ("home/.cache/sagerank",),
    ),
    "doctor": ((*_SAGERANK, "doctor"), (), ("home/.cache/sagerank",)),
    "cost": ((*_SAGERANK, "cost"), (), ()),
    "build": (
        (*_SAGERANK, "build", "--model", str(MICRO), "--output", "built"),
        ("torch", "onnx"),
        ("cwd/built", "home/.cache/sagerank"),
    ),
    "eval": (
        (*_SAGERANK, "eval", "--data", str(ROOT / "sagerank/evaluation/sample/heldout"), "--model", "micro"),
        ("bm25s",),
        ("home/.cache/sagerank",),
    ),
    "synth": (("-c", _SYNTHESISED), ("aws_cdk",), ("cwd/assembly", "home/.cache/aws/jsii")),
    "server and client": (("-c", _SERVED), (), ()),
    "handler": (("-c", _HANDLED), (), ()),
}


@pytest.fixture
def network() -> Iterator[Wire]:
    if os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("a network of its own needs root on Linux")
    try:
        made = wire()
        found = made.__enter__()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no such network can be made here: {getattr(error, 'stderr', error)!r}")
    yield found
    made.__exit__(None, None, None)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("home", "tmp", "cwd"):
        (tmp_path / name).mkdir()
    return tmp_path


def run(network: Wire, place: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run Python there."""
    servers = network.options[1].partition(":")[0]
    inside = [
        *("nsenter", f"--net={network.name.removeprefix('ns:')}", "unshare", "--mount", "sh", "-ec"),
        'mount --bind "$1" /etc/resolv.conf; shift; exec "$@"',
        *("sh", servers, sys.executable, "-P", *words),
    ]
    environ: Mapping[str, str] = {
        **{name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ},
        "HOME": str(place / "home"),
        "TMPDIR": str(place / "tmp"),
        "PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in ("", "inference", "cost", "infra")),
        "PYTHONDONTWRITEBYTECODE": "1",
        **more,
    }
    return subprocess.run(
        inside, cwd=place / "cwd", env=environ, capture_output=True, text=True, check=False, timeout=240
    )


def left(place: Path) -> list[str]:
    """Files below the place, by their path in it."""
    return sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if not path.is_dir())


@pytest.mark.parametrize("name", COMMANDS)
def test_it_calls_nobody_and_leaves_nothing(name: str, network: Wire, place: Path) -> None:
    words, needed, kept = COMMANDS[name]
    if missing := [module for module in needed if find_spec(module) is None]:
        pytest.skip(f"{missing[0]} is not installed")
    done = run(network, place, *words)
    assert done.returncode == 0, done.stderr[-2000:]
    assert not network.packets
    strays = [path for path in left(place) if not path.startswith(tuple(f"{folder}/" for folder in kept))]
    assert not strays


def test_a_packet_and_a_file_would_be_seen(network: Wire, place: Path) -> None:
    code = (
        "import pathlib, socket; pathlib.Path.home().joinpath('stray').touch(); "
        "socket.getaddrinfo('example.org', 443)"
    )
    done = run(network, place, "-c", code, RES_OPTIONS="timeout:1 attempts:1")
    assert done.returncode == 1
    assert b"\x07example\x03org\x00" in b"".join(network.packets)
    assert left(place) == ["home/stray"]


def test_what_onnx_runtime_would_report_would_be_seen(network: Wire, place: Path) -> None:
    """The reason for these tests: with its telemetry left on, the handler is no longer silent."""
    (variable,) = quiet.ONNX_RUNTIME
    done = run(network, place, "-c", _HANDLED, **{variable: "0"})
    assert done.returncode == 0, done.stderr[-2000:]
    assert b"microsoft" in b"".join(network.packets)
    assert any("Microsoft" in path for path in left(place))
