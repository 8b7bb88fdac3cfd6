"""How many batches are computed at once: what was set, what memory carries, what was measured; and the same scores with any number.

No machine with many cores is at hand. Threads that wait stand for one: a machine whose cores, or whose memory, are shared by the batches
under way as its model says.
"""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from sagerank.models.build import MICRO
from sagerank_cost.memory import PACKED, RUNTIME_MB, SERVER_MB, SERVING_MB, _linear_mb, promised_mb
from sagerank_cost.models import MODELS, Choice
from sagerank_inference import lanes
from sagerank_inference.checkpoint import JinaBertConfig
from sagerank_inference.engine import Engine
from sagerank_inference.lanes import Lanes, carried, chosen, lane_bytes, memory_limit
from sagerank_inference.settings import Settings, SettingsError

TEXT = list(range(100))
QUERY = "what causes rain"
DOCUMENTS = [f"rain {word} " * size for size in (3, 40, 90, 200, 900) for word in ("falls", "cools", "air")]


class Counting:
    """A model of no time: it notes how many tokens each batch has."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __call__(self, batch: Sequence[Sequence[int]]) -> list[float]:
        self.seen.append(sum(map(len, batch)))
        return [0.0] * len(batch)


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Settings]:
    def make(count: int, set_to: int = 0) -> Settings:
        monkeypatch.setattr(lanes, "physical_cores", lambda: count)
        return Settings(model_dir=MICRO, threads=count, lanes=set_to)

    return make


def choose(settings: Settings, forward: Counting, *, full_seconds: float = 0.1, **more: object) -> Lanes:
    most = Lanes(settings.threads, "threads")
    return chosen(most, settings, forward, TEXT, full_seconds=full_seconds, **more)  # type: ignore[arg-type]


class Virtual:
    """A machine on a clock of its own: batches begin as many at once as there are lanes, and take the time that so many take."""

    def __init__(self, slowed: Callable[[int], float], seconds: float) -> None:
        self.now, self._calls, self.seen = 0.0, itertools.count(), list[int]()

        def passing(number: int) -> threading.Barrier:
            def passed() -> None:
                self.now += seconds * slowed(number)

            return threading.Barrier(number, passed)

        self._together = [passing(number) for number in (16, 8, 4)]  # as they are tried, each with 16 batches

    def __call__(self, batch: Sequence[Sequence[int]]) -> list[float]:
        self.seen.append(sum(map(len, batch)))
        self._together[next(self._calls) // 16].wait(60)  # fails where fewer come at once
        return [0.0] * len(batch)

    def clock(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("slowed", "seconds", "expected"),
    [
        (lambda _: 1.0, 0.04, 16),  # a core to each
        # Beyond eight, or four, they push each other out of the caches.
        (lambda running: max(1.0, running / 8) ** 2, 0.03, 8),
        (lambda running: max(1.0, running / 4) ** 2, 0.01, 4),
    ],
)
def test_the_fastest_number_is_chosen(
    cores: Callable[[int], Settings], slowed: Callable[[int], float], seconds: float, expected: int
) -> None:
    machine = Virtual(slowed, seconds)
    most = Lanes(16, "threads")
    found = chosen(most, cores(16), machine, TEXT, full_seconds=0.1, clock=machine.clock)
    assert (found.number, found.reason) == (expected, "measured")
    assert list(found.tokens_per_second) == [16, 8, 4]
    assert set(machine.seen) == {1024}
    assert machine.now <= lanes.SECONDS


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [((0.1, 0.1, 0.1), 8), ((0.1, 0.092, 0.1), 8), ((0.1, 0.09, 0.1), 4), ((0.1, 0.09, 0.08), 2)],
)
def test_another_number_has_to_be_a_tenth_faster(
    cores: Callable[[int], Settings], seconds: tuple[float, ...], expected: int
) -> None:
    """By a clock on which the same work takes these seconds with 8, 4 and 2 lanes."""
    times = [0.0]
    for took in seconds:
        times += [times[-1], times[-1] + took, times[-1] + took]
    found = choose(cores(8), Counting(), clock=iter(times).__next__)
    assert (found.number, found.reason) == (expected, "measured")
    assert found.tokens_per_second[8] == 8 * 1024 * 10


def test_a_measurement_that_takes_longer_than_thought_ends(cores: Callable[[int], Settings]) -> None:
    """A clock on which each batch takes 0.3 s: after the first number the second would be beyond the half second."""
    ticks = iter(range(100))
    found = choose(cores(8), Counting(), clock=lambda: 0.3 * next(ticks))
    assert (found.number, found.reason) == (8, "threads")
    assert list(found.tokens_per_second) == [8]


def test_what_is_too_slow_to_be_measured_is_said(cores: Callable[[int], Settings]) -> None:
    forward = Counting()
    assert choose(cores(8), forward, full_seconds=0.7).tokens_per_second == {}
    assert (
        choose(cores(8), forward, full_seconds=2.5).reason
        == "threads, as measuring would take longer than 0.5 s"
    )
    assert forward.seen == []
    choose(cores(8), forward, full_seconds=0.4)
    assert set(forward.seen) == {384}, "smaller batches, of whole pairs"


@pytest.mark.parametrize(("count", "set_to"), [(1, 0), (2, 0), (3, 0), (8, 5)])
def test_nothing_is_tried_on_few_cores_or_where_a_number_is_set(
    cores: Callable[..., Settings], count: int, set_to: int
) -> None:
    settings, forward = cores(count, set_to), Counting()
    most = carried(settings, [Path("/nowhere")], count)
    assert most == (Lanes(5, "SAGERANK_LANES") if set_to else Lanes(count, "threads"))
    assert chosen(most, settings, forward, TEXT, full_seconds=0.1) is most
    assert forward.seen == []


def test_pytorch_says_itself_how_many(cores: Callable[[int], Settings]) -> None:
    settings = dataclasses.replace(cores(8), backend="torch", device="cuda")
    most, forward = carried(settings, [Path("/nowhere")], 2), Counting()
    assert most == Lanes(2, "backend")
    assert chosen(most, settings, forward, TEXT, full_seconds=0.1) is most
    assert forward.seen == []


def test_many_threads_on_few_cores_are_not_tried(cores: Callable[[int], Settings]) -> None:
    forward, settings = Counting(), dataclasses.replace(cores(lanes.LEAST_CORES - 1), threads=64)
    assert choose(settings, forward) == Lanes(64, "threads")
    assert forward.seen == []
    assert choose(dataclasses.replace(cores(lanes.LEAST_CORES), threads=64), forward).tokens_per_second


@pytest.mark.parametrize("name", ["micro", "tiny", "turbo", "base"])
def test_memory_carries_what_the_cost_formula_promises(
    cores: Callable[[int], Settings], monkeypatch: pytest.MonkeyPatch, name: str, tmp_path: Path
) -> None:
    """With `cost fit`'s memory for so many cores there are as many lanes, and a lane less without that of one."""
    model, settings = MODELS[name], cores(16)
    config = JinaBertConfig(
        vocab_size=100,
        hidden_size=model.hidden,
        num_hidden_layers=model.layers,
        num_attention_heads=model.heads,
        intermediate_size=model.intermediate,
    )
    monkeypatch.setattr(JinaBertConfig, "read", lambda _: config)
    loaded = RUNTIME_MB["onnx"] + PACKED * _linear_mb(model, "fp32") + SERVING_MB
    monkeypatch.setattr(lanes, "_resident", lambda: 1e6 * loaded)
    limit = 1e6 * (SERVER_MB + promised_mb(Choice((model,)), "fp32", 1024, cores=16))

    def found(limit: float) -> Lanes:
        monkeypatch.setattr(lanes, "memory_limit", lambda: limit)
        return carried(settings, [tmp_path], 16)

    assert found(limit + 1) == Lanes(16, "threads")
    assert found(limit - 0.5 * lane_bytes(config, 1024)) == Lanes(15, "memory")
    assert found(limit - 9.5 * lane_bytes(config, 1024)) == Lanes(6, "memory")
    settings = dataclasses.replace(settings, cache_mb=32)
    assert found(limit + 1).number < 16, "less the scores that are kept"
    assert found(limit + 32e6 + 1) == Lanes(16, "threads")
    assert found(0) == Lanes(1, "memory"), "what the model itself takes is for `cost fit` to say"


def test_the_memory_that_there_is(tmp_path: Path) -> None:
    assert memory_limit(tmp_path) == float("inf")
    for name, text in (
        ("proc/meminfo", "MemTotal:       1000 kB\nMemFree: 1 kB\n"),
        ("sys/fs/cgroup/memory.max", "max\n"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory_limit(tmp_path) == 1_024_000
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("5000\n")
    assert memory_limit(tmp_path) == 5000
    assert memory_limit() > 0


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_scores_are_the_same_with_any_number_of_lanes(number: int) -> None:
    """Four threads on however many cores there are."""
    alone = Engine.load(MICRO, Settings(model_dir=MICRO, threads=1)).score(QUERY, DOCUMENTS).values
    engine = Engine.load(MICRO, Settings(model_dir=MICRO, threads=4, lanes=number))
    assert (engine.lanes.number, engine.forward.lanes) == (number, number)
    for _ in range(3):
        assert engine.score(QUERY, DOCUMENTS).values == pytest.approx(alone, abs=1e-5)


def test_a_measured_engine_scores_as_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "physical_cores", lambda: 4)
    engine = Engine.load(MICRO, Settings(model_dir=MICRO, threads=4))
    assert engine.lanes.tokens_per_second.keys() <= {4, 2, 1}
    assert engine.lanes.tokens_per_second
    assert engine.forward.lanes == engine.lanes.number
    alone = Engine.load(MICRO, Settings(model_dir=MICRO, threads=1)).score(QUERY, DOCUMENTS).values
    assert engine.score(QUERY, DOCUMENTS).values == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"threads": 2, "lanes": 3},
            "SAGERANK_LANES is 3, and SAGERANK_THREADS is 2: give at most as many, or leave it out",
        ),
        ({"threads": 2, "lanes": -1}, "SAGERANK_LANES is -1: give 0 or a positive number"),
        (
            {"threads": 4, "lanes": 2, "backend": "torch"},
            "backend torch decides that itself: leave it out",
        ),
    ],
)
def test_lanes_that_cannot_be(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        Settings(**settings)  # type: ignore[arg-type]
