"""Speeds: estimated from arithmetic, and measured."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from sagerank_cost.catalogue import Instance
from sagerank_cost.models import choice
from sagerank_cost.throughput import executes, measurements, speed

from .conftest import CATALOGUE, TINY


def test_what_the_engine_cannot_do_is_hypothetical() -> None:
    assert executes("fp32", gpu=False)
    assert executes("int8", gpu=False)
    assert not executes("int8", gpu=True)
    assert executes("bf16", gpu=True)
    assert not executes("bf16", gpu=False)
    machine = CATALOGUE.instance("ml.c7i.xlarge")
    fp32, int8, bf16 = (
        speed(TINY, kind, machine, documents=100, tokens=150) for kind in ("fp32", "int8", "bf16")
    )
    assert (fp32.basis, int8.basis, bf16.basis) == ("estimated", "estimated", "hypothetical")
    assert int8.seconds < fp32.seconds
    assert fp32.low < fp32.seconds < fp32.high
    assert "cores" in fp32.why


def test_a_measured_row_takes_the_place_of_the_estimate(folder: Path) -> None:
    with (folder / "throughput.csv").open("a", encoding="utf-8", newline="") as file:
        csv.writer(file).writerow(
            ["tiny", "fp32", "ml.c7i.xlarge", 100, 150, 0.5, "measured", "a test", "2026-11-25"]
        )
    machine = CATALOGUE.instance("ml.c7i.xlarge")
    found = speed(TINY, "fp32", machine, documents=200, tokens=150, folder=folder)
    assert found.basis == "measured"
    assert found.seconds == pytest.approx(1.0)


def test_measurements_are_labelled() -> None:
    found = measurements()
    assert {row.model for row in found} >= {"tiny", "turbo", "base"}
    assert all(row.kind == "measured" and row.source and row.date for row in found)


def test_the_estimate_holds_where_we_have_measured() -> None:
    """The machine of throughput.csv, one core of it."""
    core = Instance(
        name="local",
        vcpu=2,
        memory_gib=8.0,
        arch="amd64",
        cpu="AMD EPYC",
        isa=frozenset({"avx2"}),
        clock_mhz=2450,
        gpu="",
        gpus=0,
        gpu_memory_gib=0.0,
        accelerator="",
        local_disk=False,
    )
    for row in measurements():
        estimate = speed(choice(row.model), "fp32", core, documents=row.documents, tokens=round(row.tokens))
        assert estimate.low < row.seconds < estimate.high, row


def test_a_cascade_costs_both_stages() -> None:
    machine = CATALOGUE.instance("ml.c7i.4xlarge")
    tiny, both, base = (
        speed(choice(name), "fp32", machine, documents=100, tokens=150).seconds
        for name in ("tiny", "tiny>base@20", "base")
    )
    assert tiny < both < base
