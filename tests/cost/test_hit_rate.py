"""Requests whose scores are known: what they save, where, and what they do not."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from dataclasses import replace

import numpy as np
import pytest

from sagerank.cli import main
from sagerank_cost import CostError
from sagerank_cost.bill import Scenario, as_served, bill, request_alone
from sagerank_cost.decide import Question, decide
from sagerank_cost.memory import CACHE_MB, CACHED, cache_mb, fit
from sagerank_cost.models import choice
from sagerank_cost.simulate import simulate
from sagerank_cost.throughput import speed
from sagerank_cost.traffic import constant, daily

from ..conftest import ROOT
from .conftest import CATALOGUE, TINY, deployment

HALF = Scenario(constant(2.0), CATALOGUE, hit_rate=0.5)


def test_work_shrinks_by_the_share_and_tokenisation_stays() -> None:
    where = deployment()
    alone = request_alone(where, HALF)
    assert 0 < alone.beside < 0.2
    traffic, seconds = as_served(where, HALF, alone)
    assert seconds == pytest.approx(0.5 * alone.seconds + 0.5 * alone.beside * alone.seconds)
    assert traffic.sizes.mean() == pytest.approx(1, abs=1e-5)
    # In seconds: a half takes next to nothing, and the other as long as ever.
    took = np.sort(traffic.sizes) * seconds
    assert took[: len(took) // 2].mean() == pytest.approx(alone.beside * alone.seconds, rel=0.02)
    assert took[len(took) // 2 :].mean() == pytest.approx(alone.seconds, rel=0.02)
    plain = replace(HALF, hit_rate=0.0)
    known, unknown = bill(where, HALF), bill(where, plain)
    assert known.running.mean * known.running.utilisation == pytest.approx(
        unknown.running.mean * unknown.running.utilisation * seconds / alone.seconds, rel=0.01
    )
    assert known.usd <= unknown.usd
    assert known.p50 < unknown.p50
    # Nine in ten of what is computed may be no faster than before, so a limit is not met by those that are known.
    assert known.p95 > 0.8 * unknown.p95


def test_a_measured_speed_has_its_share_beside_too() -> None:
    row = speed(TINY, "fp32", CATALOGUE.instance("ml.c7i.4xlarge"), documents=100, tokens=150)
    half = speed(TINY, "fp32", CATALOGUE.instance("ml.c7i.4xlarge"), documents=1, tokens=8)
    assert 0 < row.beside < half.beside < 1


@pytest.mark.parametrize(
    ("mode", "instance", "kept"),
    [
        ("realtime", "ml.c7i.4xlarge", True),
        ("scale-to-zero", "ml.c8g.4xlarge", True),
        ("realtime", "ml.g5.xlarge", False),
        ("serverless", "6144", False),
        ("async", "ml.c7i.4xlarge", False),
        ("batch", "ml.c7i.4xlarge", False),
    ],
)
def test_it_is_known_where_the_server_keeps_scores_alone(mode: str, instance: str, kept: bool) -> None:
    where = deployment(mode, instance)
    scenario = Scenario(constant(0.2), CATALOGUE, hit_rate=0.4)
    known, unknown = bill(where, scenario), bill(where, replace(scenario, hit_rate=0.0))
    assert (known.hit_rate > 0, known.seconds < unknown.seconds) == (kept, kept)
    if not kept:
        assert (known.usd, known.p95, known.running.mean) == (unknown.usd, unknown.p95, unknown.running.mean)


def test_more_known_never_costs_more() -> None:
    where = deployment(instance="ml.c7i.xlarge", max_instances=200)
    traffic = daily(3.0)
    usd = [bill(where, Scenario(traffic, CATALOGUE, hit_rate=rate)).usd for rate in (0.0, 0.1, 0.3, 0.6, 0.9)]
    assert usd == sorted(usd, reverse=True)
    assert usd[-1] < usd[0]


def test_the_simulation_agrees() -> None:
    where = deployment(min_instances=3, max_instances=3, target=0.9)
    asked = Scenario(constant(3.0), CATALOGUE, hit_rate=0.3)
    item, found = bill(where, asked), simulate(where, asked, minutes=20_000).outcome
    assert found.utilisation == pytest.approx(item.running.utilisation, rel=0.03)
    for share, expected in ((0.5, item.p50), (0.95, item.p95)):
        assert found.latencies.quantile(share) == pytest.approx(expected, rel=0.12)
    assert found.latencies.quantile(0.2) < 0.3 * item.speed.seconds, "those that are known"


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(CostError, match="The hit rate is .*: give 0 to less than 1, such as 0.3"):
        Scenario(constant(1.0), CATALOGUE, hit_rate=rate)


def test_a_question_is_answered_with_it() -> None:
    question = Question(
        scenario=Scenario(daily(3.0), CATALOGUE, hit_rate=0.6),
        choices=(TINY,),
        modes=("realtime",),
        regions=("us-east-1",),
        instances=("ml.c7i.xlarge", "ml.c7i.4xlarge"),
        p95_seconds=10.0,
        max_instances=100,
    )
    with_it = decide(question).best
    without = decide(replace(question, scenario=replace(question.scenario, hit_rate=0.0))).best
    assert with_it is not None
    assert without is not None
    assert with_it.usd < without.usd


SHAPE = "--model tiny --instance ml.c7i.4xlarge --mode realtime --rate 2 --p95 10 --hit-rate 0.3"


@pytest.mark.parametrize("command", ["report", "compare", "simulate", "breakeven"])
def test_every_report_says_what_was_taken_to_be_known(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = [*SHAPE.split(), *(["--minutes", "1440"] if command == "simulate" else [])]
    assert main(["cost", command, *shape, "--format", "json", "--explain"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert any("30% of the requests are taken to be known" in note for note in shown["notes"])
    assert any("for HTTP, JSON and tokenisation alone: in the mean" in line for line in shown["explained"])
    if command == "report":
        assert shown["tables"]["decision"]["rows"][0]["hit rate"] == 0.3
        assert main(["cost", command, *shape, "--format", "csv"]) == 0
        lines = list(csv.reader(io.StringIO(capsys.readouterr().out)))
        heads = [line for line in lines if line[0] == "table"]
        values = next(line for line in lines if line[0] == "decision")
        assert values[heads[0].index("hit rate")] == "0.3"
    assert main(["cost", command, *[word for word in shape if word not in ("--hit-rate", "0.3")]]) == 0
    assert "taken to be known" not in capsys.readouterr().out


@pytest.mark.parametrize("text", ["1", "-0.1", "30%", "nan", ""])
def test_what_is_no_share_is_a_sentence(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "--hit-rate", text]) == 2
    assert "--hit-rate" in capsys.readouterr().err


def test_no_type_that_is_sold_is_too_small_for_the_scores_alone() -> None:
    """What fits without them fits with them, of every model on every CPU type, the smallest among them."""
    names = {name for region in CATALOGUE.regions for name in CATALOGUE.offered(region)}
    lost = []
    for instance in map(CATALOGUE.instance, sorted(names)):
        if instance.gpu or instance.accelerator:
            assert all(cache_mb(mode, instance) == 0 or not instance.gpu for mode in CACHED)
            continue
        assert cache_mb("realtime", instance) == CACHE_MB
        for name in ("micro", "tiny", "turbo", "base", "tiny>base@20"):
            without = fit(choice(name), "fp32", 8192, instance)
            kept = fit(choice(name), "fp32", 8192, instance, cache_mb=CACHE_MB)
            assert kept.available_mb == without.available_mb - CACHE_MB
            if bool(kept.copies) != bool(without.copies):
                lost.append((instance.name, name))
    assert lost == []


@pytest.mark.usefixtures("same_day")
def test_the_page_says_what_its_two_commands_do(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs/cost.md").read_text(encoding="utf-8")
    commands, said = re.findall(r"test_hit_rate.py -->\n```sh\n(.+?)```\n\n(.+?)\n", page, re.DOTALL)[0]
    money, instances = re.findall(r"[\d,]+\.\d\d", said)[:2], re.findall(r"\d\.\d\d\b", said)[-2:]
    for command, usd, running in zip(commands.strip().splitlines(), money, instances, strict=True):
        assert main([*shlex.split(command)[1:], "--explain"]) == 0
        (row,) = re.findall(r"^tiny .*estimated$", capsys.readouterr().out, re.MULTILINE)
        assert {usd, running} <= set(row.split())
