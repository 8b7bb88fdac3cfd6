"""Constant, daily and logged traffic."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from sagerank_cost import CostError
from sagerank_cost.traffic import constant, daily, from_log, spread


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: constant(-1.0), "give 1e-9 to 1e9"),
        (lambda: constant(float("nan")), "give 1e-9 to 1e9"),
        (lambda: constant(1.0, documents=0), "at least 1 document"),
        (lambda: daily(1.0, swing=2.0), "0 \\(constant\\) to 1"),
        (lambda: spread(-0.5), "0 \\(all equal\\) to 2"),
    ],
)
def test_what_is_wrong_gets_a_sentence(call: Callable[[], object], sentence: str) -> None:
    with pytest.raises(CostError, match=sentence):
        call()


def test_a_daily_curve_keeps_its_mean() -> None:
    traffic = daily(3.0, swing=0.8)
    assert traffic.mean == pytest.approx(3.0)
    assert traffic.peak == pytest.approx(5.4, rel=1e-3)
    assert traffic.requests == pytest.approx(3.0 * 730 * 3600)
    assert float(traffic.sizes.mean()) == pytest.approx(1.0, abs=1e-5)
    assert traffic.variation == pytest.approx(0.3, abs=0.02)


def test_a_log_is_counted_by_the_minute(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("time,documents,tokens\n100,10,100\n130,30,100\n170,20,50\n", encoding="utf-8")
    traffic = from_log(path)
    assert list(traffic.rates) == [2 / 60, 1 / 60]
    assert traffic.minutes(43_800) == 43_800
    assert traffic.minutes(43_799) == 43_800
    assert traffic.requests == pytest.approx(1.5 * 43_800)
    assert (traffic.documents, traffic.tokens) == (20, 83)
    assert sorted(traffic.sizes.tolist()) == pytest.approx([0.6, 0.6, 1.8])


@pytest.mark.parametrize("rate", [0.0004, 0.01, 0.7, 3.2, 3.4, 40.0])
def test_requests_are_drawn_as_poisson_says_and_rise_with_the_rate(rate: float) -> None:
    few, many = (constant(each).counts.each for each in (rate, 1.1 * rate))
    mean = 60 * rate
    assert float(few.mean()) == pytest.approx(mean, abs=4 * math.sqrt(mean / len(few)))
    assert float(few.var()) == pytest.approx(mean, rel=0.4 if mean < 0.1 else 0.1)
    assert (many >= few).all()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("time,documents\n1,2\n", "lacks the column tokens"),
        ("time,documents,tokens\n1,2,three\n", "log.csv:2: time, documents and tokens must be numbers"),
        ("time,documents,tokens\n1,-2,3\n", "log.csv:2: .*above 0"),
        (f"time,documents,tokens\n1,{'9' * 400},3\n", "log.csv:2: .*up to 1,000,000"),
        ("time,documents,tokens\n1,2,1e300\n", "log.csv:2: .*up to 1,000,000"),
        ("time,documents,tokens\n5,2,3\n1,2,3\n", "log.csv:3: .*sort the file"),
        ("time,documents,tokens\n", "holds no request"),
        ("time,documents,tokens\n0,1,1\n9e9,1,1\n", "days: time is in seconds"),
    ],
)
def test_a_wrong_log_is_named(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(text, encoding="utf-8")
    with pytest.raises(CostError, match=sentence):
        from_log(tmp_path / "log.csv")
