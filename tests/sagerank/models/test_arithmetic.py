"""The operations that are counted are those that PyTorch and the cost module count."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sagerank.models.arithmetic import flops, shape
from sagerank.models.build import MICRO, SHAPES
from sagerank_cost.models import MODELS

from ...conftest import SMALL, random_model


def test_the_work_is_what_pytorch_counts() -> None:
    """One pair without padding: the reference prunes the last layer as the engine does."""
    lengths = torch.tensor([37])
    model = random_model()
    # Attention as plain products: the counter does not know every fused kernel.
    with (
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
        torch.no_grad(),
    ):
        model(torch.full((1, 37), 7), lengths)
    assert shape(SMALL).flops(37) == counter.get_total_flops()


def test_a_shape_costs_what_the_cost_module_says_of_it() -> None:
    for name, config in SHAPES.items():
        for tokens in (150, 8192):
            assert shape(config).flops(tokens) == MODELS[name].flops(tokens)
    assert flops(MICRO, [150, 37]) == MODELS["micro"].flops(150) + MODELS["micro"].flops(37)


def test_pruning_saves_a_fifth_of_tiny() -> None:
    tiny, tokens = SHAPES["tiny"], 150
    h, f, layers = tiny.hidden_size, tiny.intermediate_size, tiny.num_hidden_layers
    unpruned = layers * tokens * (2 * (4 * h * h + 3 * h * f) + 4 * h * tokens)
    assert 1 - shape(tiny).flops(tokens) / unpruned == pytest.approx(0.22, abs=0.01)


def test_an_artefact_without_one_configuration_has_no_count(tmp_path: Path) -> None:
    assert flops(tmp_path, [8]) is None
