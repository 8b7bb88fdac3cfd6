"""Queueing formulas against their textbook forms."""

from __future__ import annotations

from math import factorial

import pytest

from sagerank_cost.formulas import erlang_c, wait


def test_erlang_c_against_its_sum() -> None:
    offered, servers = 3.2, 4
    terms = [offered**count / factorial(count) for count in range(servers)]
    last = offered**servers / factorial(servers) / (1 - offered / servers)
    assert erlang_c(servers, offered / servers) == pytest.approx(last / (sum(terms) + last))
    share, mean = wait(1, 0.7, 0.1, 0.0)  # M/D/1
    assert share * mean == pytest.approx(0.7 * 0.1 / (2 * 0.3))
