"""A sample of the promises that decisions make; `python -m sagerank_cost.check` has the rest."""

from __future__ import annotations

import math

import pytest

from sagerank_cost.bill import ERRORS
from sagerank_cost.check import WITHIN, check, main

from .conftest import CATALOGUE


def test_what_is_recommended_keeps_its_limit_and_its_price() -> None:
    found = list(check(6, 5, CATALOGUE))
    assert [str(one) for one in found if not one.in_limits or one.cost_error > WITHIN] == []
    assert len({one.bill.deployment.mode for one in found}) > 1


def test_a_promise_that_is_not_kept_is_seen() -> None:
    one = next(found for found in check(9, 3, CATALOGUE) if math.isfinite(found.question.p95_seconds))
    late, failing, dear = (
        type(one)(one.question, one.bill, *changed)
        for changed in ((1e6, 0.0, one.usd), (one.p95, 2 * ERRORS, one.usd), (one.p95, 0.0, 2 * one.usd + 1))
    )
    assert (late.in_limits, failing.in_limits, dear.in_limits) == (False, False, True)
    assert dear.cost_error > WITHIN


def test_the_command_says_both_shares(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--scenarios", "2", "--seed", "1"]) == 0
    assert "2 scenarios, seed 1: 100.0% keep their limit" in capsys.readouterr().out
    with pytest.raises(SystemExit) as left:
        main(["--scenarios", "0"])
    assert left.value.code == 2
