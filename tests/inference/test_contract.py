"""Statuses of the errors, and the order of an answer."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagerank_inference import contract
from sagerank_inference.batcher import WorkerDied
from sagerank_inference.contract import Overloaded, RerankError, best_first, sigmoid, status


def _subclasses(error: type[RerankError]) -> Iterator[type[RerankError]]:
    yield error
    for subclass in error.__subclasses__():
        yield from _subclasses(subclass)


def test_every_error_is_in_the_tree_and_has_a_status() -> None:
    ours = [error for error in _subclasses(RerankError) if error.__module__ == contract.__name__]
    assert all(f" {error.__name__} " in f" {contract.__doc__} ".replace("\n", " ") for error in ours)
    assert set(ours) == contract._STATUS.keys()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (contract.TokenLimitExceeded("x"), 400),
        (contract.UnsupportedMediaType("x"), 415),
        (contract.PayloadTooLarge("x"), 413),
        (Overloaded("x", retry_after=1), 429),
        (contract.DeadlineExceeded("x"), 504),
        (WorkerDied("x"), 503),
        (contract.InternalError("x"), 500),
    ],
)
def test_an_error_of_a_kind_has_the_status_of_that_kind(error: RerankError, code: int) -> None:
    assert status(error) == code


@given(st.lists(st.sampled_from([0.5, -1.0, 3.0, 2.0])), st.none() | st.integers(1, 9))
def test_equal_scores_keep_the_order_of_the_request(values: list[float], top_n: int | None) -> None:
    order = best_first(values, top_n)
    assert order == sorted(range(len(values)), key=lambda index: (-values[index], index))[:top_n]


@given(st.floats(-1e6, 1e6))
def test_a_probability_is_a_short_number(logit: float) -> None:
    """One that json-smart, which JsonPath reads with, makes a Double of."""
    probability = sigmoid(logit)
    assert len(repr(probability)) <= 18
    assert probability == pytest.approx(1 / (1 + math.exp(-max(logit, -700))), abs=1e-16)
    assert 0 <= sigmoid(logit - 1e-3) <= probability <= 1
