"""Every table of every command at 80 columns and in a pipe, against golden files. Those of `cost` have their own."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from sagerank.bench import latency, memory, repeated, serving, startup, tables, throughput
from sagerank.distillation.gate import StudentQuality
from sagerank.distillation.precision import Comparison
from sagerank.distillation.screen import comparison_cells, student_cells
from sagerank.evaluation.announcement import rag_cells, table_cells
from sagerank.evaluation.cascade import Curve, Pace, Step
from sagerank.evaluation.commands.cascade import curve_cells, verdict
from sagerank.evaluation.metrics import Difference
from sagerank.operate import screen
from sagerank.operate.endpoint import Endpoint, Variant
from sagerank.operate.idle import Quiet
from sagerank.operate.status import Scaling, Status
from sagerank_cost.text import fit

from .. import golden

GOLDEN = Path(__file__).parent / "golden"
LONG = "onnx:/data/models/cross-encoder-ms-marco-MiniLM-L-12-v2-int8"
DIFFERENCE = Difference(mean=-0.0012, low=-0.0034, high=0.0011, p=0.31)
DAY = datetime.datetime(2026, 11, 2, 8, 30, tzinfo=datetime.UTC)


def bench() -> Iterator[str]:
    ours = throughput.Row(
        name="sagerank",
        model="random:tiny",
        docs_per_second=62.1,
        docs_per_50_ms=3.1,
        ratio_to_sagerank=1.0,
        spread=(1.0, 1.0),
        max_abs_diff=0.0,
        gflops=61.2,
        ceiling_gflops=75.0,
        share_of_ceiling=0.81,
    )
    peer = throughput.Row(
        name="sentence-transformers-int8",
        model="random:tiny",
        docs_per_second=15.4,
        docs_per_50_ms=0.77,
        ratio_to_sagerank=0.248,
        spread=(0.241, 0.26),
    )
    failed = throughput.Row(name="infinity", model="random:tiny", error="its environment cannot be made.")
    yield fit(*throughput.sentences([ours, peer, failed]), tables.throughput_cells([ours, peer]))
    times = latency.Percentiles(10.0, 12.5, 1430.25)
    row = latency.Row(
        model=LONG,
        documents=100,
        calls=100,
        total=times,
        tokenise=times,
        forward=times,
        gflops=None,
        ceiling_gflops=75.0,
        share_of_ceiling=None,
    )
    yield fit(tables.latency_cells([row]))
    point = memory.MemoryPoint(
        model="random:base",
        precision="fp32",
        backend="onnx",
        tokens=8192,
        pairs=4,
        threads=2,
        loaded_rss_mb=412.0,
        peak_rss_mb=1073.4,
        formula_mb=1101.0,
        seconds=31.4,
    )
    yield fit(tables.memory_cells([point]))
    start = startup.Start(0.21, 0.64, 0.66, 1.32)
    yield fit(tables.startup_cells([startup.Row("micro", 5, start, start)]))
    served = serving.Row(
        name="sagerank",
        load="closed",
        clients=16,
        requests=812,
        documents_per_second=401.2,
        share_of_offline=0.981,
        spread=(0.97, 0.99),
        p50_ms=1430.2,
        p90_ms=1500.0,
        p99_ms=1612.9,
        cpu_ms_per_document=4.81,
        rss_mb=312.0,
    )
    broken = serving.Row(name="toolkit", load="open", error="it did not start.")
    yield fit(tables.serve_cells([served, broken]))
    counts = {"requests": 1520, "different": 611, "lost": 0, "duplicated": 0, "wrong": 0, "errors": 0}
    durations: dict[str, Any] = {"p50_ms": 210.4, "p90_ms": 420.1, "p99_ms": 612.9, "rss_mb": 343.1}
    kept = [
        repeated.Row(
            name=name, zipf=1.0, documents_per_second=speed, ratio=ratio, spread=(0.9 * ratio, 1.25 * ratio),
            hit_rate=rate, **counts, **durations,
        )
        for name, speed, ratio, rate in (("sagerank", 401.2, 1.0, 0.0), ("sagerank, cache of 32 MB", 928.4, 2.31, 0.583))
    ]  # fmt: skip
    yield fit(*repeated.sentences(kept), tables.repeated_cells(kept))


def curve(chosen: int | None = 20) -> Curve:
    steps = [
        Step(keep=keep, ndcg=0.6 + keep / 1000, share=0.9 + keep / 1000, margin=keep / 1000, low=keep / 2000 - 0.01, cost=10 + 9.0 * keep, cost_share=(10 + 9.0 * keep) / 900)
        for keep in range(101)
    ]  # fmt: skip
    paces = tuple(Pace(name=name, cost=1.0, low=0.9, high=1.2, unit="ms") for name in ("micro", LONG))
    return Curve(
        retain=0.99,
        last_ndcg=0.7,
        last_cost=900.0,
        steps=tuple(steps),
        paces=paces,
        chosen=chosen,
        by_mean=12,
    )


def evaluation() -> Iterator[str]:
    rows: list[dict[str, Any]] = [
        {"name": "jina-reranker-v1-base-en", "layers": 12, "millions": 137, "published_ndcg": 52.45, "ndcg": None},
        {"name": LONG, "layers": None, "millions": 33.4, "published_ndcg": 50.1, "ndcg": 49.9, "gap": -0.2, "documents_per_50_ms": 12.3},
    ]  # fmt: skip
    yield fit(table_cells(rows, {"scifact": 66.2, "nfcorpus": 31.9}))
    short = [rows[0], {**rows[1], "name": "micro"}]
    yield fit(table_cells(short, {"scifact": 66.2, "nfcorpus": 31.9}))
    means: list[dict[str, Any]] = [
        {"name": "none", "hit_rate": 0.7512, "mrr": 0.6021},
        {"name": "jina-reranker-v1-turbo-en", "hit_rate": None, "mrr": None, "published_hit_rate": 0.8, "published_mrr": 0.61},
    ]  # fmt: skip
    yield fit(rag_cells(means))
    yield fit(verdict(curve()), curve_cells(curve()))


def gates() -> Iterator[str]:
    judged = Comparison(
        model="micro",
        data="sample",
        queries=250,
        pairs=5000,
        fp32=0.7123,
        precision="int8",
        fast=0.7111,
        difference=DIFFERENCE,
        agreement=0.981,
        mean_error=0.0312,
        max_error=0.211,
        spread=2.1,
    )
    yield fit(comparison_cells([judged]))
    student = StudentQuality(
        data="trec-dl-2019",
        queries=43,
        first_stage=0.506,
        start=0.311,
        student=0.61,
        teacher=0.717,
        over_first_stage=DIFFERENCE,
    )
    yield fit(student_cells([student]))


def operations() -> Iterator[str]:
    variant = Variant(
        name="AllTraffic",
        instance="ml.m5.large",
        current=2,
        desired=2,
        weight=1.0,
        memory_mb=0,
        provisioned=0,
        models=("m",),
    )
    endpoint = Endpoint(
        name="sagerank",
        arn="arn:aws:sagemaker:us-east-1:123456789012:endpoint/sagerank",
        status="InService",
        failure="",
        config="sagerank-endpoint-EndpointConfig-1A2B3C4D5E6F",
        created=DAY,
        modified=DAY,
        variants=(variant,),
        components=(),
        asynchronous=False,
    )
    yield screen.status(
        Status(
            endpoint=endpoint,
            wanted="sagerank-endpoint-EndpointConfig-6F5E4D3C2B1A",
            stacks={"network": "CREATE_COMPLETE", "endpoint": "UPDATE_ROLLBACK_COMPLETE"},
            scaling=(Scaling("endpoint/sagerank/variant/AllTraffic", 2, 8, ("SageMakerVariantInvocationsPerInstance at 27",)),),
            alarms={"sagerank-5xx": "ALARM", "sagerank-latency": "OK"},
            usd_per_hour=Decimal("0.23"),
            estimate="167.90 USD a month; and more",
            activation="aws ce activate",
        )
    )  # fmt: skip
    quiet = Quiet(
        endpoint="my-team-reranker-endpoint-of-last-year",
        mode="realtime",
        created=DAY,
        days=7,
        variants=("2 x ml.m5.large",),
        usd_per_hour=Decimal("0.23"),
        notes=(),
    )
    unknown = ("There is no price of ml.p2.xlarge in us-east-1.",)
    odd = replace(quiet, endpoint="odd", variants=("2 x ml.p2.xlarge",), usd_per_hour=None, notes=unknown)
    yield screen.idle([quiet, odd], 5, "us-east-1", 7)
    yield screen.idle([], 5, "us-east-1", 7)


@pytest.mark.parametrize("what", [bench, evaluation, gates, operations], ids=lambda what: what.__name__)
@pytest.mark.parametrize("columns", ["80", ""], ids=["80", "pipe"])
def test_tables_are_golden(
    what: Callable[[], Iterator[str]], columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    shown = "\n\n\n".join(what()) + "\n"
    name = getattr(what, "__name__", "")
    golden.check(shown, GOLDEN / f"{name}-{columns or 'pipe'}.txt")
    if columns:
        assert all(len(line) <= 80 or len(line.split()) == 1 for line in shown.splitlines())


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        (20, "The cascade is worth it: K = 20 keeps 99.0% of the last model's NDCG@10"),
        (95, "The cascade saves little: K = 95"),
        (99, "not worth it: with K = 99, the smallest that keeps"),
        (0, "The last model is not needed"),
        (None, "no K is sure to keep 99.0%"),
    ],
)
def test_a_cascade_is_said_to_be_worth_it_or_not(chosen: int | None, sentence: str) -> None:
    assert sentence in verdict(curve(chosen))
