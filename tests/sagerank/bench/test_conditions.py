"""The machine's conditions, and what is said where the system does not tell them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from sagerank.bench.conditions import _VECTOR, Conditions, Sample, conditions, instruction_set, sample
from sagerank.models.build import MICRO
from sagerank_inference.artefact import sha256

from ...conftest import run_python

MICRO_WEIGHTS = sha256(MICRO / "model.safetensors")[:12]


def test_conditions_warn_of_other_work() -> None:
    quiet = Sample(load=0.1, busy_cores=0.0)
    found = conditions(2, {"micro": MICRO}, quiet, quiet)
    assert found.warning is None
    assert found.models == {"micro": MICRO_WEIGHTS}
    assert found.memory_gb is not None
    assert found.memory_gb > 0
    assert any("load average 0.10 at the start" in line for line in found.lines())
    busy = Conditions(
        **{**{name: getattr(found, name) for name in Conditions.__slots__}, "end": Sample(3.0, 1.5)}
    )
    assert busy.warning
    assert busy.lines()[-1].startswith("warning: other work kept 1.5 cores busy")


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ("sse2 avx avx2 fma", "AVX2"),
        ("avx2 avx_vnni", "AVX2 VNNI"),
        ("avx2 avx512f avx512bw", "AVX-512"),
        ("avx2 avx512f avx512_vnni avx_vnni", "AVX-512 VNNI"),
        ("avx2 avx512f avx512_vnni avx512_bf16", "AVX-512 VNNI BF16"),
        ("avx2 avx512f avx512_vnni avx512_bf16 amx_tile amx_int8 amx_bf16", "AVX-512 VNNI BF16 AMX"),
        ("fp asimd evtstrm aes", "NEON"),
        ("asimd asimddp", "NEON dotprod"),
        ("asimd asimddp sve bf16 i8mm", "NEON dotprod i8mm BF16 SVE"),
        ("asimd asimddp sve sve2 bf16 i8mm", "NEON dotprod i8mm BF16 SVE2"),
        ("sse2", ""),
    ],
)
def test_an_instruction_set_has_one_name(flags: str, name: str) -> None:
    assert instruction_set([unit for flag, unit in _VECTOR.items() if flag in flags.split()]) == name


def test_a_sample_sees_work() -> None:
    code = "while True: pass"
    with subprocess.Popen([sys.executable, "-c", code]) as worker:
        seen = sample(0.3).busy_cores
        worker.kill()
    assert seen is not None
    assert seen > 0.1


def test_a_system_that_tells_little_is_unknown_and_not_idle() -> None:
    """Neither /proc nor any call that only Linux or only POSIX has, from the first import on."""
    code = """
import json, os, pathlib, sys
read = pathlib.Path.read_text
def without_proc(path, *arguments, **options):
    if str(path).startswith("/proc"):
        raise FileNotFoundError(path)
    return read(path, *arguments, **options)
pathlib.Path.read_text = without_proc
import asyncio  # asks sysconf when it is imported
for name in ("getloadavg", "sched_getaffinity", "sysconf"):
    vars(os).pop(name, None)
sys.modules |= dict.fromkeys(("fcntl", "resource"))
from sagerank.bench import commands, ceiling, latency, memory, peak, serve, servers, serving, startup, throughput
from sagerank.bench.conditions import Conditions, sample, vector_units
from sagerank.bench.peers import PeerError, prepare, runner
from sagerank.bench.peers.once import once
start = sample(0.0)
assert (start.load, start.busy_cores) == (None, None), start
known = dict(cpu="c", vector=vector_units(), cores=2, threads=2, python="3", onnxruntime="1", models={})
print(json.dumps(Conditions(**known, memory_gb=None, system="s", start=start, end=start).lines()))
peak.STATUS = pathlib.Path("/nowhere")
for call in (
    lambda: memory.measure(pathlib.Path(), "m", 8, None),
    lambda: once(pathlib.Path("never"), print),
):
    try:
        call()
    except ValueError as error:
        print(json.dumps(str(error)))
servers._PROC = pathlib.Path("/nowhere")
served = servers.Served("s", servers.Server(host="127.0.0.1", port=1, pid=1, start_seconds=0.0))
print(json.dumps([served.processes(), served.cpu_seconds(), served.memory_mb()]))
"""
    done = run_python(code)
    assert done.stderr == ""
    lines, memory, once, served = map(json.loads, done.stdout.splitlines())
    assert lines == ["c, no vector unit known; 2 threads on 2 physical cores", "s, Python 3, ONNX Runtime 1"]
    assert "only Linux has: measure there" in memory
    assert "Peers run on Linux and macOS" in once
    assert served == [[], None, None]
