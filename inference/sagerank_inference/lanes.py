"""How many batches a machine with several cores computes at once: as memory carries, and as was measured when the model was loaded.

A lane is a batch under way. With as many lanes as threads each core has a batch of its own; with fewer, the cores that are left help
with the operations of those. On two cores the former was faster wherever it was measured; on many it depends on what they share, caches
and memory, so there both are tried, for half a second at most. With fewer than four cores nothing is tried, and no time is spent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .checkpoint import JinaBertConfig
from .settings import physical_cores

if TYPE_CHECKING:
    from .settings import Settings

LEAST_CORES = 4
SECONDS = 0.5  # of the whole measurement
_TRIED = 3  # numbers of lanes: one for each thread, half and a quarter as many
_MARGIN = 1.1  # times as fast as the default has another number to be: the rest is noise
_LEAST_TOKENS = 256  # smaller batches say how fast weights are read, which full ones hardly wait for
_PAIR = 128  # tokens of each pair measured
# Of the cost module's formula (sagerank_cost/memory.py), to which a test holds these: the longest pair of a batch, and what batches of
# other shapes leave in the runtime's arena for each lane; the server's own process.
_LONGEST, _LEFT, _SERVER = 512, 13e6, 400e6


@dataclass(frozen=True, slots=True)
class Lanes:
    """A number of lanes, why it is that, and tokens a second by numbers of lanes, where these were measured."""

    number: int
    reason: str
    tokens_per_second: dict[int, int] = field(default_factory=dict)


def carried(settings: Settings, folders: Sequence[Path], most: int) -> Lanes:
    """Return as many lanes as the settings say, or the backend has; of four cores and more, as many as there is memory for.

    folders: of the models, which are loaded: what this process has by then is taken.
    """
    if settings.lanes:
        return Lanes(settings.lanes, "SAGERANK_LANES")
    if settings.backend == "torch":
        return Lanes(most, "backend")
    if not _many(most):
        return Lanes(most, "threads")
    room = memory_limit() - _resident() - _SERVER - 1e6 * settings.cache_mb
    configs = map(JinaBertConfig.read, folders)
    fitting = int(room // max(lane_bytes(config, settings.batch_tokens) for config in configs))
    return Lanes(max(1, fitting), "memory") if fitting < most else Lanes(most, "threads")


def chosen(
    most: Lanes,
    settings: Settings,
    forward: Callable[[Sequence[Sequence[int]]], object],
    text: Sequence[int],
    *,
    full_seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Lanes:
    """Return the fastest number of lanes up to `most`, measured where nobody has said a number and four cores are there.

    text: token ids, of which pairs are made. full_seconds: what a full batch on each lane took, at most.
    """
    if settings.lanes or settings.backend == "torch" or most.number < 2 or not _many(settings.threads):
        return most
    tokens = min(settings.batch_tokens, int(settings.batch_tokens * SECONDS / (_TRIED * full_seconds)))
    if tokens < _LEAST_TOKENS:
        return Lanes(most.number, f"{most.reason}, as measuring would take longer than {SECONDS:g} s")
    pair = (list(text) * (_PAIR // len(text) + 1))[:_PAIR]
    batch = [pair] * (tokens // _PAIR)
    end = clock() + SECONDS
    rates: dict[int, int] = {}
    for lanes in _candidates(most.number):
        began = clock()
        with ThreadPoolExecutor(lanes) as pool:
            list(pool.map(forward, [batch] * most.number))
        took = clock() - began
        rates[lanes] = round(most.number * len(batch) * _PAIR / took)
        if clock() + took > end:
            break
    best = max(rates, key=rates.__getitem__)
    if rates[best] < _MARGIN * rates[most.number]:
        best = most.number
    return Lanes(best, "measured" if len(rates) > 1 else most.reason, rates)


def lane_bytes(config: JinaBertConfig, batch_tokens: int) -> float:
    """Return what a lane takes while it computes a batch: scores and ALiBi of all heads beside what attention holds, or the MLP."""
    mlp = 2 * config.hidden_size + 3 * config.intermediate_size
    attention = 2 * config.num_attention_heads * min(_LONGEST, batch_tokens) + 6 * config.hidden_size
    return 4 * batch_tokens * max(mlp, attention) + _LEFT


def memory_limit(root: Path = Path("/")) -> float:
    """Return the bytes that this container, or else the machine, has; infinity where the system does not say. root: of /sys and /proc."""
    limits = [float("inf")]
    for name in ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"):
        limits += [float(word) for word in _words(root / name) if word.isdecimal()]
    for name, number, *_ in (line.split() for line in _lines(root / "proc/meminfo")):
        if name == "MemTotal:":
            limits.append(1024.0 * int(number))
    return min(limits)


def _many(threads: int) -> bool:
    return threads >= LEAST_CORES and physical_cores() >= LEAST_CORES


def _candidates(most: int) -> Iterator[int]:
    for number in range(_TRIED):
        if most >> number:
            yield most >> number


def _resident() -> float:
    """Return the bytes of this process that are in memory; 0 where the system does not say."""
    found = [line.split() for line in _lines(Path("/proc/self/status")) if line.startswith("VmRSS:")]
    return 1024.0 * int(found[0][1]) if found else 0.0


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
