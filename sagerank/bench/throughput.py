"""`sagerank bench throughput`: documents a second of sagerank, of several of its models, or beside its peers."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from ..evaluation import EvaluationError
from ..evaluation.progress import Progress
from ..models.arithmetic import flops
from .ceiling import Ceiling
from .peers import PEERS, open_peer
from .subject import EngineSubject
from .timing import PAUSE_SECONDS, Timed, check_parity, interleave, ratios
from .workload import Workload

TOLERANCE = 1e-4
# int8 is another arithmetic: the row says how far its logits are off, and this only refuses what is no longer the model.
INT8_TOLERANCE = 0.5
# A peer in 16 bits rounds the bias of every distance as well.
HALF_TOLERANCE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What the rounds showed of one subject; what was not measured is None."""

    name: str
    model: str
    precision: str | None = None  # of the arithmetic
    documents: int | None = None
    tokens: float | None = None  # of a pair in the mean, by the model's own tokenizer
    threads: int | None = None
    docs_per_second: float | None = None
    docs_per_50_ms: float | None = None
    max_abs_diff: float | None = None  # of the logits against sagerank's; None for other weights
    # Of docs_per_second against sagerank's on the first model, median over the rounds: above 1 is faster than that.
    ratio_to_sagerank: float | None = None
    spread: tuple[float, float] | None = None  # lowest and highest of the ratio
    seconds: float | None = None  # of the whole workload, median
    gflops: float | None = None  # GFLOP/s of the work without padding, pruned, whatever was computed
    ceiling_gflops: float | None = None
    share_of_ceiling: float | None = None  # median over rounds of gflops against the ceiling of that round
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """The rows, the ceiling, and the size of what was scored."""

    rows: list[Row]
    ceiling: str  # library and shape
    tokens: list[int]  # of each pair, by the first model's tokenizer


def measure(
    models: dict[str, Path],
    workload: Workload,
    *,
    peers: Sequence[str] = (),
    threads: int,
    rounds: int,
    device: str = "",
    tolerance: float = TOLERANCE,
    cache: Path,
    tune_peers: bool = False,
    pause: float = PAUSE_SECONDS,
    progress: Progress = lambda *_: None,
) -> Measured:
    """Rows of sagerank for each of `models` (name -> artefact folder), then of each peer on the first one's weights.

    device: cpu or cuda: sagerank's PyTorch backend and the peers run there, those in what sagerank computes in; empty: ONNX Runtime.
    tune_peers: every peer has the fastest of several batch sizes in place of its library's own.
    Raises EvaluationError or ArtefactError where sagerank itself cannot be measured; a peer that cannot is a row with an error.
    """
    query, documents = workload.query, workload.documents
    first = next(iter(models))
    with ExitStack() as stack:
        timed: list[Timed] = []
        needed: dict[str, int | None] = {}
        precisions: dict[str, str] = {}
        tokens: dict[str, list[int]] = {}
        for name, folder in models.items():
            subject = stack.enter_context(EngineSubject(folder, threads=threads, device=device))
            tokens[name] = subject.lengths(query, documents)
            precisions[name] = subject.precision
            needed[name] = flops(folder, tokens[name])
            timed.append(Timed(name="sagerank", model=name, subject=subject))
        for number, name in enumerate(peers):
            progress("peers", number, len(peers))
            kind = precisions[first] if device else PEERS[name].precision
            allowed = max(tolerance, {"int8": INT8_TOLERANCE, "fp32": 0.0}.get(kind, HALF_TOLERANCE))
            peer = Timed(name=name, model=first, tolerance=allowed)
            timed.append(peer)
            try:
                opening = open_peer(
                    name,
                    models[first],
                    threads=threads,
                    cache=cache,
                    tune=tune_peers,
                    device=device,
                    precision=precisions[first],
                )
                peer.subject = stack.enter_context(opening)
            except EvaluationError as error:
                peer.error = str(error)
        progress("peers", len(peers), len(peers))
        check_parity(timed, query, documents)
        ceiling = stack.enter_context(Ceiling(threads, device, precisions[first]))
        before = ceiling.measure
        interleave(timed, query, documents, rounds=rounds, before=before, pause=pause, progress=progress)
    rows = []
    for one in timed:
        kind = PEERS[one.name].precision if one.name in PEERS and not device else precisions[one.model]
        row = _row(one, timed[0], len(documents), needed[one.model], ceiling.rates)
        mean = round(sum(tokens[one.model]) / len(documents), 1)
        rows.append(replace(row, precision=kind, documents=len(documents), tokens=mean, threads=threads))
    return Measured(rows, ceiling.what, tokens[first])


def peer_names(text: str | None, device: str = "") -> list[str]:
    """The peers that the command line names: `all` that run there, or names with commas between. Raises EvaluationError for another."""
    if not text:
        return []
    known = [name for name, spec in PEERS.items() if (spec.on_device if device else spec.by_default)]
    names = known if text == "all" else text.split(",")
    for name in names:
        if name not in PEERS or (device and name not in known):
            where = f" for --device {device}" if device else ""
            raise EvaluationError(
                f"There is no peer {name!r}{where}: give all, or some of {', '.join(known if device else PEERS)}."
            )
    return names


def _row(one: Timed, reference: Timed, documents: int, needed: int | None, ceilings: Sequence[float]) -> Row:
    if one.error:
        return Row(name=one.name, model=one.model, max_abs_diff=one.max_abs_diff, error=one.error)
    seconds = statistics.median(one.seconds)
    ratio = ratios(one, reference)
    gflops = share = None
    if needed is not None:
        gflops = 1e-9 * needed / seconds
        share = statistics.median(
            1e-9 * needed / spent / rate for spent, rate in zip(one.seconds, ceilings, strict=True)
        )
    return Row(
        name=one.name,
        model=one.model,
        docs_per_second=documents / seconds,
        docs_per_50_ms=0.05 * documents / seconds,
        max_abs_diff=one.max_abs_diff,
        ratio_to_sagerank=statistics.median(ratio),
        spread=(min(ratio), max(ratio)),
        seconds=seconds,
        gflops=gflops,
        ceiling_gflops=statistics.median(ceilings),
        share_of_ceiling=share,
    )


def label(row: Row, rows: Sequence[Row]) -> str:
    """The model of a row, and beside peers, which run one model, the program; sagerank's rows have both where it runs several."""
    ours = [other for other in rows if other.name == "sagerank"]
    if len(ours) == len(rows):
        return row.model
    return f"sagerank, {row.model}" if len(ours) > 1 and row.name == "sagerank" else row.name


def sentences(rows: Sequence[Row]) -> list[str]:
    """The fastest, how the others compare with the first, and why a row has no figures."""
    timed = [row for row in rows if row.error is None]
    lines = []
    if timed:
        best = max(timed, key=lambda row: row.docs_per_second or 0.0)
        which = " is the fastest" if len(timed) > 1 else ""
        lines.append(f"{label(best, timed)}{which}: {best.docs_per_50_ms:.1f} documents per 50 ms.")
    for row in timed[1:]:
        if row.ratio_to_sagerank and row.spread:
            lines.append(
                _compared(label(row, timed), label(timed[0], timed), row.ratio_to_sagerank, row.spread)
            )
    lines += [f"not timed: {row.name}: {row.error}" for row in rows if row.error]
    return lines


def _compared(name: str, first: str, ratio: float, spread: tuple[float, float]) -> str:
    """How many times as fast the faster of the two is, with the lowest and highest of the rounds."""
    if ratio > 1:
        return f"{name} is {ratio:.2f}x as fast as {first} ({spread[0]:.2f} to {spread[1]:.2f})."
    return f"{first} is {1 / ratio:.2f}x as fast as {name} ({1 / spread[1]:.2f} to {1 / spread[0]:.2f})."
