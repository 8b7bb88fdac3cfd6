from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagerank_inference.plan import LONG, apart, cost, plan

lengths = st.lists(st.integers(1, 9000), max_size=200)
budgets = st.integers(1, 4096)


@given(lengths, budgets)
def test_every_index_is_in_exactly_one_batch(lengths: list[int], budget: int) -> None:
    planned = [index for batch in plan(lengths, max_tokens=budget) for index in batch]
    assert sorted(planned) == list(range(len(lengths)))


@given(lengths, budgets)
def test_only_a_lone_pair_exceeds_the_budget(lengths: list[int], budget: int) -> None:
    for batch in plan(lengths, max_tokens=budget):
        assert batch
        assert len(batch) == 1 or cost(max(lengths[index] for index in batch), len(batch)) <= budget


@given(lengths, budgets, st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_change_the_batches(
    lengths: list[int], budget: int, random: Random
) -> None:
    shuffled = list(lengths)
    random.shuffle(shuffled)
    shapes = [[lengths[index] for index in batch] for batch in plan(lengths, max_tokens=budget)]
    assert [[shuffled[index] for index in batch] for batch in plan(shuffled, max_tokens=budget)] == shapes


@given(lengths, budgets)
def test_lengths_never_rise(lengths: list[int], budget: int) -> None:
    order = [lengths[index] for batch in plan(lengths, max_tokens=budget) for index in batch]
    assert order == sorted(order, reverse=True)


def test_a_budget_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        plan([1], max_tokens=0)


@given(lengths)
def test_long_pairs_are_computed_by_themselves(lengths: list[int]) -> None:
    parts = apart(lengths)
    assert sorted(index for part in parts for index in part) == list(range(len(lengths)))
    assert all(len(part) == 1 or max(lengths[index] for index in part) < LONG for part in parts)
    assert sum(any(lengths[index] < LONG for index in part) for part in parts) <= 1, (
        "the short ones are together"
    )
