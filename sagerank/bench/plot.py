"""Pictures of measurements: the announcement's bar chart, and curves over a size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sagerank_cost.plots import ticks

from ..evaluation.draw import canvas, check_ending, save


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A bar with its whisker."""

    label: str
    value: float
    low: float | None = None  # ends of the whisker
    high: float | None = None
    ours: bool = True


def bars(entries: Sequence[Bar], title: str, unit: str, path: Path) -> None:
    """Write .svg, .png or .pdf: a bar for each entry, the first on top, its value beside it.

    Raises EvaluationError for another ending.
    """
    check_ending(path)
    pyplot = canvas()
    figure, axes = pyplot.subplots(figsize=(8.2, 1.2 + 0.42 * len(entries)), layout="constrained")
    places = range(len(entries))
    values = [entry.value for entry in entries]
    colours = ["C0" if entry.ours else "C6" for entry in entries]
    spans = [
        (entry.value - (entry.value if entry.low is None else entry.low) for entry in entries),
        ((entry.value if entry.high is None else entry.high) - entry.value for entry in entries),
    ]
    whiskers = [[max(0.0, span) for span in side] for side in spans]
    drawn = axes.barh(places, values, color=colours, xerr=whiskers, error_kw={"capsize": 3, "alpha": 0.6})
    axes.bar_label(drawn, labels=[f"{value:,.3g}" for value in values], padding=4, fontsize=9)
    axes.set_yticks(places, [entry.label for entry in entries])
    axes.invert_yaxis()
    axes.set(xlabel=unit, title=title)
    axes.margins(x=0.12)
    ticks(axes.xaxis)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def curves(
    lines: Mapping[str, Sequence[tuple[float, float]]], title: str, x: str, y: str, path: Path
) -> None:
    """Write .svg, .png or .pdf: a line for each name over its points, both axes from 0."""
    check_ending(path)
    pyplot = canvas()
    figure, axes = pyplot.subplots(figsize=(8.2, 4.4), layout="constrained")
    for name, points in lines.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    axes.set(xlabel=x, ylabel=y, title=title, xlim=(0, None), ylim=(0, None))
    for axis in (axes.xaxis, axes.yaxis):
        ticks(axis)
    axes.legend(frameon=False, fontsize=9)
    axes.grid()
    save(figure, path)
