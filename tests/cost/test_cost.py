"""The cost model's facts and formulas: catalogue, shapes, memory, speed, traffic, bills, decisions."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sagerank_cost import CostError
from sagerank_cost.catalogue import Catalogue, Instance
from sagerank_cost.decide import Question, break_even, curve, decide, service_usd
from sagerank_cost.deploy import Deployment, bill
from sagerank_cost.formulas import erlang_c, wait
from sagerank_cost.memory import (
    WINDOWS_FROM,
    activations_mb,
    fit,
    measured,
    peak_mb,
    serverless_mb,
    weights_mb,
)
from sagerank_cost.models import MODELS, choice
from sagerank_cost.store import DATA, write_text
from sagerank_cost.throughput import executes, measurements, speed
from sagerank_cost.traffic import constant, daily, from_log, spread
from sagerank_inference.checkpoint import JinaBertConfig

from sagerank.models.build import MICRO, SHAPES

CATALOGUE = Catalogue()
TINY = choice("tiny")


def deployment(mode: str = "realtime", instance: str = "ml.c7i.4xlarge", **changes: object) -> Deployment:
    made = Deployment(TINY, "fp32", mode, "us-east-1", instance, 0 if mode == "async" else 1, 500)
    return replace(made, **changes)  # type: ignore[arg-type]


# Catalogue


@pytest.mark.parametrize(
    ("region", "instance", "usd"),
    [
        ("us-east-1", "ml.m5.xlarge", "0.23"),
        ("us-east-1", "ml.c6g.large", "0.0816"),
        ("eu-central-1", "ml.m5.large", "0.138"),
        ("ap-northeast-1", "ml.g6.xlarge", "1.6341"),
        ("us-east-1", "ml.p4d.24xlarge", "25.251288"),
    ],
)
def test_hosting_prices_that_several_sources_agree_on(region: str, instance: str, usd: str) -> None:
    assert CATALOGUE.hosting(region, instance).usd == Decimal(usd)


def test_every_price_has_a_date_and_a_source_that_is_explained() -> None:
    prices = [
        *CATALOGUE.hosting_prices.values(),
        *CATALOGUE.rates.values(),
        *(service.price for service in CATALOGUE.services.values()),
    ]
    assert len(prices) > 1_600
    for price in prices:
        assert price.source in CATALOGUE.sources
        assert price.date[:2] == "20"
        assert price.confidence
        assert price.usd > 0


def test_every_priced_type_is_specified() -> None:
    assert {instance for _, instance in CATALOGUE.hosting_prices} <= set(CATALOGUE.instances)


def test_serverless_processing_costs_by_memory() -> None:
    rates = [CATALOGUE.rate("us-east-1", "serverless", 1024 * size).usd for size in range(1, 7)]
    assert rates == [Decimal("0.00002") * size for size in range(1, 7)]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: CATALOGUE.hosting("us-est-1", "ml.m5.large"), "did you mean .*us-east-1"),
        (lambda: CATALOGUE.hosting("us-east-1", "ml.c7i.xlage"), "did you mean ml.c7i.xlarge"),
        (lambda: CATALOGUE.hosting("ap-southeast-1", "ml.g6.xlarge"), "it is known in"),
        (lambda: CATALOGUE.rate("eu-central-1", "data_in"), "it is known in eu-west-1, us-east-1"),
        (lambda: CATALOGUE.rate("us-east-1", "volumes"), "did you mean volume"),
        (lambda: CATALOGUE.service("cohere"), "did you mean cohere-rerank"),
        (lambda: choice("tinny"), "did you mean tiny"),
        (lambda: choice("tiny>tiny"), "a model twice"),
        (lambda: choice("tiny>base@x"), "@ goes with"),
        (lambda: weights_mb(MODELS["tiny"], "fp16"), "did you mean"),
        (lambda: deployment("realtme"), "did you mean realtime"),
        (lambda: deployment("serverless", "1000"), "one of 1024"),
        (lambda: deployment(min_instances=0), "at least 1"),
        (lambda: deployment(target=1.0), "less than 1"),
        (lambda: constant(-1.0), "more than 0"),
        (lambda: constant(float("nan")), "more than 0"),
        (lambda: constant(1.0, documents=0), "at least 1 document"),
        (lambda: daily(1.0, swing=2.0), "0 \\(constant\\) to 1"),
        (lambda: spread(-0.5), "0 \\(all equal\\) to 2"),
        (lambda: Catalogue(overrides={"ml.c7i.larg": Decimal(1)}), "did you mean ml.c7i.large"),
        (lambda: Catalogue(overrides={"ml.c7i.large": Decimal(-1)}), "more than 0"),
        (lambda: peak_mb(MODELS["tiny"], "fp32", 0), "at least 1"),
        (lambda: peak_mb(MODELS["tiny"], "fp32", 1, "tensorflow"), "did you mean"),
        (lambda: bill(deployment(instance="ml.inf2.xlarge"), constant(1.0), CATALOGUE), "no graph"),
        (lambda: bill(deployment(max_instances=1), constant(50.0), CATALOGUE), "more than 1: take"),
        (
            lambda: bill(deployment("serverless", "1024"), constant(1.0, documents=1000), CATALOGUE),
            "stops at 60",
        ),
        (
            lambda: bill(deployment(precision="bf16", instance="ml.g4dn.xlarge"), constant(1.0), CATALOGUE),
            "take fp32",
        ),
    ],
)
def test_what_is_wrong_gets_a_sentence(call: object, sentence: str) -> None:
    assert callable(call)
    with pytest.raises(CostError, match=sentence):
        call()


@pytest.mark.parametrize(
    ("file", "old", "new", "sentence"),
    [
        (
            "hosting.csv",
            "ml.c4.large,0.12",
            "ml.c4.large,zero",
            "hosting.csv:2: usd_per_hour is 'zero', not a number",
        ),
        ("hosting.csv", "ml.c4.large,0.12", "ml.c4.large,-0.12", "hosting.csv:2: .* a price is above 0"),
        ("hosting.csv", "ml.c4.large,0.12", "ml.c4.large,0", "what is unknown has no row"),
        (
            "hosting.csv",
            "ml.c4.large,0.12,",
            "ml.c4.large,",
            "hosting.csv:2: the row has another number of cells",
        ),
        ("hosting.csv", "usd_per_hour", "usd", "lacks the column usd_per_hour"),
        ("instances.csv", "ml.c4.large,2", "ml.c4.large,two", "instances.csv:2"),
    ],
)
def test_a_wrong_row_is_named(file: str, old: str, new: str, sentence: str, tmp_path: Path) -> None:
    shutil.copytree(DATA, tmp_path / "data")
    path = tmp_path / "data" / file
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(CostError, match=sentence):
        Catalogue(tmp_path / "data").hosting("us-east-1", "ml.c4.large")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CostError, match="cannot be read"):
        Catalogue(tmp_path / "none").hosting("us-east-1", "ml.c4.large")


def test_your_own_price_replaces_the_listed_one() -> None:
    own = Catalogue(overrides={"ml.c7i.large": Decimal("0.05"), "cohere-rerank": Decimal("0.001")})
    assert own.hosting("eu-west-1", "ml.c7i.large").usd == Decimal("0.05")
    assert own.service("cohere-rerank").price.source == "given by you"
    assert own.hosting("us-east-1", "ml.c7i.xlarge") == CATALOGUE.hosting("us-east-1", "ml.c7i.xlarge")


def test_writing_replaces_the_whole_file_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write_text(path, "old")
    write_text(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(CostError, match="cannot be written"):
        write_text(tmp_path / "none" / "a.csv", "x")


# Models and memory


def test_shapes_and_parameters_are_the_builds() -> None:
    shapes = dict(SHAPES)
    own = json.loads((MICRO / "config.json").read_text())
    fields = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    shapes["micro"] = JinaBertConfig(**{field: own[field] for field in fields})
    assert set(MODELS) == set(shapes)
    for name, config in shapes.items():
        model = MODELS[name]
        assert model.parameters == config.parameters, name
        assert (model.vocabulary, model.hidden, model.layers, model.heads, model.intermediate) == (
            config.vocab_size,
            config.hidden_size,
            config.num_hidden_layers,
            config.num_attention_heads,
            config.intermediate_size,
        )


def test_quality_is_the_announcements() -> None:
    from sagerank.evaluation.published import PUBLISHED

    published = {row.scorer: row.ndcg for row in PUBLISHED}
    assert {name: model.ndcg for name, model in MODELS.items() if model.ndcg} == {
        name: published[name] for name in ("base", "turbo", "tiny")
    }
    assert choice("tiny>base@20").ndcg is None


def test_the_memory_formula_is_within_a_tenth_of_every_measured_point() -> None:
    points = measured()
    assert {point.model for point in points} >= {"tiny", "turbo", "base"}
    assert {point.backend for point in points} == {"onnx", "torch"}
    assert max(point.tokens for point in points) == 8192
    for point in points:
        assert abs(point.error) <= 0.1, point


def test_points_of_a_model_that_has_changed_do_not_count(tmp_path: Path) -> None:
    text = "model,parameters,precision,backend,tokens,peak_rss_mb\nmicro,1,fp32,onnx,8,1\n"
    (tmp_path / "memory.csv").write_text(text)
    assert measured(tmp_path) == ()


def test_the_announcements_percentages_are_of_weights_and_short_texts() -> None:
    base, turbo, tiny = (MODELS[name] for name in ("base", "turbo", "tiny"))
    assert 1 - weights_mb(turbo, "fp32") / weights_mb(base, "fp32") == pytest.approx(0.725, abs=1e-3)
    assert 1 - weights_mb(tiny, "fp32") / weights_mb(turbo, "fp32") == pytest.approx(0.125, abs=1e-3)
    point = {(item.model, item.tokens): item.mb for item in measured() if item.backend == "onnx"}
    assert 1 - point["turbo", 128] / point["base", 128] == pytest.approx(0.75, abs=0.03)
    assert 1 - point["tiny", 128] / point["turbo", 128] == pytest.approx(0.13, abs=0.04)
    assert 1 - point["turbo", 8192] / point["base", 8192] < 0.7


@given(st.sampled_from(sorted(MODELS)), st.integers(1, 8000), st.integers(1, 192))
def test_memory_grows_with_tokens(name: str, tokens: int, more: int) -> None:
    # But for the length at which windows begin, which hold less.
    assume(tokens + more < WINDOWS_FROM or tokens >= WINDOWS_FROM)
    assert activations_mb(MODELS[name], tokens + more) > activations_mb(MODELS[name], tokens)


def test_fits() -> None:
    assert serverless_mb(TINY, "fp32", 8192) == 1024
    assert serverless_mb(choice("base"), "fp32", 8192) in (1024, 2048)
    assert fit(TINY, "fp32", 8192, CATALOGUE.instance("ml.c7i.large")).copies >= 5
    assert (
        fit(choice("base"), "fp32", 8192, CATALOGUE.instance("ml.c7i.large")).copies
        < fit(TINY, "fp32", 8192, CATALOGUE.instance("ml.c7i.large")).copies
    )
    both = fit(choice("tiny>base"), "fp32", 8192, CATALOGUE.instance("ml.c7i.large"))
    assert both.needed_mb > fit(choice("base"), "fp32", 8192, CATALOGUE.instance("ml.c7i.large")).needed_mb


# Speed


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
    assert (fp32.kind, int8.kind, bf16.kind) == ("estimated", "estimated", "hypothetical")
    assert int8.seconds < fp32.seconds
    assert fp32.low < fp32.seconds < fp32.high
    assert "cores" in fp32.why


def test_a_measured_row_takes_the_place_of_the_estimate(tmp_path: Path) -> None:
    shutil.copytree(DATA, tmp_path / "data")
    with (tmp_path / "data/throughput.csv").open("a", newline="") as file:
        csv.writer(file).writerow(
            ["tiny", "fp32", "ml.c7i.xlarge", 100, 150, 0.5, "measured", "a test", "2026-11-25"]
        )
    machine = CATALOGUE.instance("ml.c7i.xlarge")
    found = speed(TINY, "fp32", machine, documents=200, tokens=150, folder=tmp_path / "data")
    assert found.kind == "measured"
    assert found.seconds == pytest.approx(1.0)


def test_measurements_are_labelled() -> None:
    found = measurements()
    assert {row.model for row in found} >= {"tiny", "turbo", "base"}
    assert all(row.kind == "measured" and row.source and row.date for row in found)


def test_the_estimate_holds_where_we_have_measured() -> None:
    """The machine of throughput.csv, one core of it."""
    core = Instance("local", 2, 8.0, "amd64", "AMD EPYC", frozenset({"avx2"}), 2450, "", 0, 0.0, "", False)
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


# Traffic


def test_a_daily_curve_keeps_its_mean() -> None:
    traffic = daily(3.0, swing=0.8)
    assert traffic.mean == pytest.approx(3.0)
    assert traffic.peak == pytest.approx(5.4, rel=1e-3)
    assert traffic.requests == pytest.approx(3.0 * 730 * 3600)
    assert float(traffic.sizes.mean()) == pytest.approx(1.0, abs=1e-5)
    assert traffic.variation == pytest.approx(0.3, abs=0.02)


def test_a_log_is_counted_by_the_minute(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("time,documents,tokens\n100,10,100\n130,30,100\n170,20,50\n")
    traffic = from_log(path)
    assert list(traffic.rates[:4]) == [2 / 60, 1 / 60, 2 / 60, 1 / 60]
    assert (traffic.documents, traffic.tokens) == (20, 83)
    assert sorted(traffic.sizes.tolist()) == pytest.approx([0.6, 0.6, 1.8])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("time,documents\n1,2\n", "lacks the column tokens"),
        ("time,documents,tokens\n1,2,three\n", "log.csv:2: time, documents and tokens must be numbers"),
        ("time,documents,tokens\n1,-2,3\n", "log.csv:2: .*above 0"),
        ("time,documents,tokens\n5,2,3\n1,2,3\n", "log.csv:3: .*sort the file"),
        ("time,documents,tokens\n", "holds no request"),
        ("time,documents,tokens\n0,1,1\n9e9,1,1\n", "days: time is in seconds"),
    ],
)
def test_a_wrong_log_is_named(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(CostError, match=sentence):
        from_log(tmp_path / "log.csv")


# Bills


@pytest.mark.parametrize(
    ("mode", "place"), [("realtime", "ml.c7i.4xlarge"), ("serverless", "4096"), ("async", "ml.c7i.xlarge")]
)
def test_lines_add_up_to_the_cent(mode: str, place: str) -> None:
    item = bill(deployment(mode, place), daily(0.7), CATALOGUE)
    assert item.usd == sum(line.usd for line in item.lines)
    assert all(line.usd == line.usd.quantize(Decimal("0.01")) for line in item.lines)
    assert item.lines[0].quantity * item.lines[0].price.usd == pytest.approx(
        item.lines[0].usd, abs=Decimal("0.005")
    )


def test_one_instance_of_an_idle_month_is_730_hours() -> None:
    item = bill(deployment(instance="ml.m5.xlarge"), constant(0.001), CATALOGUE)
    lines = {line.name: line.usd for line in item.lines}
    assert lines["ml.m5.xlarge hours"] == Decimal("167.90")
    assert lines["volumes, 30 GB each"] == Decimal("4.20")


def test_an_unknown_rate_is_said_and_never_zero() -> None:
    item = bill(deployment(region="eu-central-1", instance="ml.m5.xlarge"), constant(0.1), CATALOGUE)
    assert [line.name for line in item.lines] == ["ml.m5.xlarge hours"]
    assert sum(note.startswith("not counted: ") for note in item.notes) == 3


_RATES = st.floats(0.0001, 20)
_DEPLOYMENTS = st.sampled_from(
    [
        deployment(),
        deployment(instance="ml.g6.xlarge", precision="bf16"),
        deployment("serverless", "6144"),
        deployment("async"),
    ]
)


@settings(max_examples=25)
@given(_DEPLOYMENTS, _RATES, st.floats(1, 3), st.floats(0, 1))
def test_more_traffic_never_costs_less(which: Deployment, rate: float, factor: float, swing: float) -> None:
    few = daily(rate, swing=swing, documents=20)
    try:
        dearer = bill(which, few.scaled(factor), CATALOGUE).usd
    except CostError:
        return
    assert bill(which, few, CATALOGUE).usd <= dearer


@settings(max_examples=25)
@given(_DEPLOYMENTS, _RATES, st.decimals("0.001", "1", places=3))
def test_a_cheaper_price_never_raises_the_total(which: Deployment, rate: float, factor: Decimal) -> None:
    instance = "ml.c7i.4xlarge" if which.mode == "serverless" else which.instance
    cheaper = Catalogue(overrides={instance: CATALOGUE.hosting("us-east-1", instance).usd * factor})
    traffic = constant(rate, documents=20)
    try:
        before = bill(which, traffic, CATALOGUE).usd
    except CostError:
        return
    assert bill(which, traffic, cheaper).usd <= before


def test_erlang_c_against_its_sum() -> None:
    offered, servers = 3.2, 4
    from math import factorial

    terms = [offered**count / factorial(count) for count in range(servers)]
    last = offered**servers / factorial(servers) / (1 - offered / servers)
    assert erlang_c(servers, offered / servers) == pytest.approx(last / (sum(terms) + last))
    share, mean = wait(1, 0.7, 0.1, 0.0)  # M/D/1
    assert share * mean == pytest.approx(0.7 * 0.1 / (2 * 0.3))


# Decisions


def question(**changes: object) -> Question:
    asked = Question(
        daily(0.2),
        tuple(map(choice, ("turbo", "tiny", "base"))),
        ("fp32", "bf16"),
        ("realtime", "serverless"),
        ("us-east-1",),
        p95_seconds=2.0,
        instances=("ml.c7i.xlarge", "ml.c7i.4xlarge", "ml.g4dn.xlarge", "ml.g6.xlarge", "ml.m5.xlarge"),
    )
    return replace(asked, **changes)  # type: ignore[arg-type]


def test_the_best_is_the_cheapest_that_meets_the_limits() -> None:
    decision = decide(question(min_ndcg=49.0), CATALOGUE)
    assert decision.best is not None
    assert decision.best.p95 <= 2.0
    assert decision.best.deployment.choice.name != "tiny"
    assert [item.usd for item in decision.bills] == sorted(item.usd for item in decision.bills)
    assert set(decision.refused) == set(decision.examples)
    assert decision.refused["rank too badly"] > 0


def test_the_pareto_front_holds_what_nothing_beats() -> None:
    decision = decide(question(p95_seconds=None), CATALOGUE)
    front = decision.pareto()
    assert front[0].usd == decision.bills[0].usd
    for item in decision.bills:
        quality = item.deployment.choice.ndcg or 0
        beaten = [
            other
            for other in front
            if other.usd <= item.usd
            and other.p95 <= item.p95
            and (other.deployment.choice.ndcg or 0) >= quality
        ]
        assert item in front or beaten


def test_arithmetic_that_does_not_exist_is_only_priced_when_asked_for() -> None:
    asked = question(
        precisions=("bf16",),
        modes=("realtime",),
        p95_seconds=None,
        instances=("ml.c7i.xlarge", "ml.c7i.2xlarge"),
    )
    assert decide(asked, CATALOGUE).bills == ()
    shown = decide(replace(asked, hypothetical=True), CATALOGUE).bills
    assert {item.speed.kind for item in shown} == {"hypothetical"}


def test_more_regions_and_types_never_make_the_decision_dearer() -> None:
    one = decide(question(), CATALOGUE).best
    more = decide(question(regions=("us-east-1", "us-east-2", "eu-west-1")), CATALOGUE).best
    everything = decide(question(instances=()), CATALOGUE).best
    assert one is not None
    assert more is not None
    assert everything is not None
    assert more.usd <= one.usd
    assert everything.usd <= one.usd


@pytest.mark.parametrize("name", ["cohere-rerank", "jina-reranker"])
def test_break_even_is_where_the_costs_meet(name: str) -> None:
    ours, service = deployment(instance="ml.m5.xlarge"), CATALOGUE.service(name)
    traffic = daily(1.0, documents=20)
    even = break_even(ours, service, traffic, CATALOGUE)
    assert even
    for share, cheaper in ((1.05, True), (0.9, False)):
        scaled = traffic.scaled(even * share / traffic.requests)
        assert (bill(ours, scaled, CATALOGUE).usd <= service_usd(service, scaled)) is cheaper
    assert curve(service, traffic, CATALOGUE).usd[0] == service_usd(
        service, traffic.scaled(1000 / traffic.requests)
    )


def test_a_service_bills_by_started_hundred_documents() -> None:
    cohere = CATALOGUE.service("cohere-rerank")
    once, twice = (service_usd(cohere, constant(1.0, documents=count)) for count in (100, 101))
    assert twice == 2 * once == Decimal("10512.00")
    assert service_usd(
        CATALOGUE.service("jina-reranker"), constant(1.0, documents=100, tokens=150)
    ) == Decimal("788.40")
