"""The tables of the measurements, head first: what a person reads of their rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import latency, memory, profile, repeated, serving, startup, throughput

Cells = list[tuple[str, ...]]


def throughput_cells(rows: Sequence[throughput.Row]) -> Cells:
    from .throughput import label

    cells: Cells = [("", "docs / 50 ms", "docs / s", "ratio", "spread", "max diff", "GFLOP/s", "of ceiling")]
    for row in rows:
        speeds = (f"{row.docs_per_50_ms:.2f}", f"{row.docs_per_second:.2f}", f"{row.ratio_to_sagerank:.3f}")
        spread = "{:.3f} to {:.3f}".format(*row.spread or ())
        shares = (
            _number(row.max_abs_diff, ".1e"),
            _number(row.gflops, ".1f"),
            _number(row.share_of_ceiling, ".0%"),
        )
        cells.append((label(row, rows), *speeds, spread, *shares))
    return cells


def latency_cells(rows: Sequence[latency.Row]) -> Cells:
    times = ("p50, ms", "p90", "p99", "tokenise p50", "forward p50")
    cells: Cells = [("", "documents", *times, "GFLOP/s", "of ceiling")]
    for row in rows:
        milliseconds = (row.total.p50, row.total.p90, row.total.p99, row.tokenise.p50, row.forward.p50)
        shares = (_number(row.gflops, ".1f"), _number(row.share_of_ceiling, ".0%"))
        cells.append((row.model, str(row.documents), *(f"{value:.2f}" for value in milliseconds), *shares))
    return cells


def memory_cells(points: Sequence[memory.MemoryPoint]) -> Cells:
    cells: Cells = [("", "precision", "pairs x tokens", "loaded, MB", "peak, MB", "formula, MB", "seconds")]
    for point in points:
        megabytes = (
            f"{point.loaded_rss_mb:.0f}",
            f"{point.peak_rss_mb:.0f}",
            _number(point.formula_mb, ".0f"),
        )
        size = f"{point.pairs} x {point.tokens}"
        cells.append((point.model, point.precision, size, *megabytes, f"{point.seconds:.2f}"))
    return cells


def startup_cells(rows: Sequence[startup.Row]) -> Cells:
    stages = [field.name for field in dataclasses.fields(rows[0].median)]
    cells: Cells = [("", *(f"{stage}, s" for stage in stages), "longest ready")]
    for row in rows:
        times = (*(getattr(row.median, stage) for stage in stages), row.longest.ready)
        cells.append((row.model, *(f"{value:.2f}" for value in times)))
    return cells


def profile_cells(rows: Sequence[profile.Row]) -> Cells:
    cells: Cells = [("", "precision", "", "ms / doc", "share", "without")]
    for row in rows:
        figures = (f"{row.milliseconds:.2f}", f"{row.share:.1%}", f"{row.without:.2f} x")
        cells.append((row.model, row.precision, row.kind, *figures))
    return cells


def serve_cells(rows: Sequence[serving.Row]) -> Cells:
    """Of the rows that were measured."""
    speed = ("requests", "docs / s", "of offline", "spread", "p50, ms", "p90", "p99", "above engine, ms")
    counts = ("lost", "twice", "wrong", "errors")
    cells: Cells = [("", "load", "clients", *speed, "CPU ms / doc", "RSS, MB", *counts)]
    for row in rows:
        if row.error:
            continue
        milliseconds = (row.p50_ms, row.p90_ms, row.p99_ms, row.overhead_ms)
        cells.append(
            (
                row.name,
                row.load,
                _number(row.clients, "d"),
                str(row.requests),
                _number(row.documents_per_second, ".1f"),
                _number(row.share_of_offline, ".3f"),
                "{:.3f} to {:.3f}".format(*row.spread) if row.spread else "",
                *(_number(value, ".1f") for value in milliseconds),
                _number(row.cpu_ms_per_document, ".2f"),
                _number(row.rss_mb, ".0f"),
                *(str(count) for count in (row.lost, row.duplicated, row.wrong, row.errors)),
            )
        )
    return cells


def repeated_cells(rows: Sequence[repeated.Row]) -> Cells:
    speed = ("requests", "different", "docs / s", "ratio", "spread", "known", "p50, ms", "p90", "p99")
    cells: Cells = [("", *speed, "RSS, MB", "lost", "twice", "wrong", "errors")]
    for row in rows:
        cells.append(
            (
                row.name,
                str(row.requests),
                str(row.different),
                _number(row.documents_per_second, ".1f"),
                _number(row.ratio, ".3f"),
                "{:.3f} to {:.3f}".format(*row.spread) if row.spread else "",
                f"{row.hit_rate:.1%}",
                *(_number(value, ".1f") for value in (row.p50_ms, row.p90_ms, row.p99_ms)),
                _number(row.rss_mb, ".0f"),
                *(str(count) for count in (row.lost, row.duplicated, row.wrong, row.errors)),
            )
        )
    return cells


def _number(value: float | None, form: str) -> str:
    """A cell, empty where there is no value."""
    return "" if value is None else format(value, form)
