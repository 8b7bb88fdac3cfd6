"""The memory formula against measured peaks, and what fits where."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sagerank_cost import CostError
from sagerank_cost.memory import (
    SERVERLESS_SIZES,
    SERVERLESS_VCPUS,
    WINDOWS_FROM,
    activations_mb,
    fit,
    measured,
    peak_mb,
    promised_mb,
    serverless_mb,
    weights_mb,
)
from sagerank_cost.models import MODELS, choice

from .conftest import CATALOGUE, TINY


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: weights_mb(MODELS["tiny"], "fp16"), "did you mean"),
        (lambda: peak_mb(MODELS["tiny"], "fp32", 0), "at least 1"),
        (lambda: peak_mb(MODELS["tiny"], "fp32", 1, "tensorflow"), "known are onnx"),
    ],
)
def test_what_is_wrong_gets_a_sentence(call: Callable[[], object], sentence: str) -> None:
    with pytest.raises(CostError, match=sentence):
        call()


def test_the_memory_formula_is_within_a_tenth_of_every_measured_point() -> None:
    points = measured()
    assert {point.model for point in points} >= {"tiny", "turbo", "base"}
    assert {point.backend for point in points} == {"onnx", "torch"}
    assert max(point.tokens for point in points) == 8192
    for point in points:
        assert abs(point.error) <= 0.1, point


def test_points_of_a_model_that_has_changed_do_not_count(tmp_path: Path) -> None:
    text = "model,parameters,precision,backend,tokens,peak_rss_mb\nmicro,1,fp32,onnx,8,1\n"
    (tmp_path / "memory.csv").write_text(text, encoding="utf-8")
    assert measured(tmp_path) == ()


def test_the_announcements_percentages_are_of_weights_and_short_texts() -> None:
    base, turbo, tiny = (MODELS[name] for name in ("base", "turbo", "tiny"))
    assert 1 - weights_mb(turbo, "fp32") / weights_mb(base, "fp32") == pytest.approx(0.725, abs=1e-3)
    assert 1 - weights_mb(tiny, "fp32") / weights_mb(turbo, "fp32") == pytest.approx(0.125, abs=1e-3)
    point = {
        (item.model, item.tokens): item.mb
        for item in measured()
        if (item.backend, item.precision) == ("onnx", "fp32")
    }
    assert 1 - point["turbo", 128] / point["base", 128] == pytest.approx(0.75, abs=0.03)
    assert 1 - point["tiny", 128] / point["turbo", 128] == pytest.approx(0.13, abs=0.04)
    assert 1 - point["turbo", 8192] / point["base", 8192] < 0.7


@given(st.sampled_from(sorted(MODELS)), st.integers(1, 8000), st.integers(1, 192))
def test_memory_grows_with_tokens(name: str, tokens: int, more: int) -> None:
    # But for the length at which windows begin, which hold less.
    assume(tokens + more < WINDOWS_FROM or tokens >= WINDOWS_FROM)
    assert activations_mb(MODELS[name], tokens + more) > activations_mb(MODELS[name], tokens)


def test_bf16_stores_what_float32_stores_and_takes_no_less_on_a_cpu() -> None:
    """The processor's bfloat16 is in the products: weights are read as they are stored, and transposed as they are loaded."""
    for name in MODELS:
        stages, model = choice(name), MODELS[name]
        assert weights_mb(model, "bf16") == weights_mb(model, "fp32")
        assert peak_mb(model, "bf16", 8192) == peak_mb(model, "fp32", 8192)
        assert promised_mb(stages, "bf16", 8, cores=1) > promised_mb(stages, "fp32", 8, cores=1)
    # On a GPU it is half of float32.
    gpu = CATALOGUE.instance("ml.g6.xlarge")
    half, whole = (fit(choice("base"), name, 8, gpu).needed_mb for name in ("bf16", "fp32"))
    assert whole - half == pytest.approx(weights_mb(MODELS["base"], "bf16"))


def test_every_size_of_serverless_has_its_vcpus() -> None:
    assert list(SERVERLESS_SIZES) == list(range(1024, 6145, 1024))
    more = [SERVERLESS_VCPUS[size] for size in SERVERLESS_SIZES]
    assert more == sorted(more)


def test_fits() -> None:
    assert serverless_mb(TINY, "fp32", 8192) == 1024
    assert [serverless_mb(choice("base"), "fp32", tokens) for tokens in (512, 2048, 8192)] == [
        1024,
        2048,
        2048,
    ]
    assert not fit(choice("base"), "fp32", 8192, CATALOGUE.instance("ml.c8g.medium")).copies, "2 GiB"
    assert fit(TINY, "fp32", 8192, CATALOGUE.instance("ml.c7i.large")).copies >= 5
    assert (
        fit(choice("base"), "fp32", 8192, CATALOGUE.instance("ml.c7i.large")).copies
        < fit(TINY, "fp32", 8192, CATALOGUE.instance("ml.c7i.large")).copies
    )
    both = fit(choice("tiny>base"), "fp32", 8192, CATALOGUE.instance("ml.c7i.large"))
    assert both.needed_mb > fit(choice("base"), "fp32", 8192, CATALOGUE.instance("ml.c7i.large")).needed_mb
