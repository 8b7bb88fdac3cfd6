"""Pictures of measurements: quality against throughput with the table, a cascade's quality against cost, reliability."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sagerank_cost.plots import style, ticks

from . import EvaluationError

if TYPE_CHECKING:
    from .calibration import Fitted, Reliability
    from .cascade import Curve


@dataclass(frozen=True, slots=True)
class Point:
    name: str
    documents_per_50_ms: float
    ndcg: float  # points


def check_ending(path: Path) -> None:
    if path.suffix not in (".svg", ".png", ".pdf"):
        raise EvaluationError(f"{path}: a plot ends in .svg, .png or .pdf.")


def canvas() -> Any:
    """Import pyplot without a display, in the style of all our plots."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update(style())
    from matplotlib import pyplot

    return pyplot


def save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot

    metadata = {"Date": None} if path.suffix == ".svg" else {}
    figure.savefig(path, metadata=metadata, dpi=150)
    pyplot.close(figure)


def picture(points: Sequence[Point], title: str, table: Sequence[Sequence[str]], path: Path) -> None:
    """Write .svg, .png or .pdf: the scatter, and `table` (head first) below it.

    Raises EvaluationError for another ending.
    """
    check_ending(path)
    pyplot = canvas()
    heights = [4.4, 0.26 * len(table)]
    figure, (axes, below) = pyplot.subplots(
        2, 1, figsize=(8.2, sum(heights) + 0.4), height_ratios=heights, layout="constrained"
    )
    for number, point in enumerate(points):
        where = (point.documents_per_50_ms, point.ndcg)
        axes.scatter(*where, s=70, color=f"C{number}", label=f"{_letter(number)}  {point.name}")
        axes.annotate(_letter(number), where, (6, 5), textcoords="offset points", fontsize=10)
    # Names in the margin: beside their points they would hide one another.
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
    axes.set(xscale="log", xlabel="documents per 50 ms", ylabel="NDCG@10, points", title=title)
    axes.margins(0.15)
    ticks(axes.xaxis)
    axes.grid()
    below.axis("off")
    drawn = below.table(
        [list(row) for row in table[1:]], colLabels=list(table[0]), loc="center", edges="horizontal"
    )
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(8)
    drawn.auto_set_column_width(list(range(len(table[0]))))
    for row in range(len(table)):
        drawn[row, 0].set_text_props(horizontalalignment="left")
    save(figure, path)


def _characters(title: str, columns: int | None) -> Any:
    """An empty plot of characters, no wider than the terminal."""
    import plotext

    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plotsize(min(88, columns or 88), 20)
    plotext.title(title)
    return plotext


def scatter_text(points: Sequence[Point], title: str, columns: int | None = None) -> str:
    """The scatter for a terminal of so many columns, letters for points and their names below."""
    plotext = _characters(title, columns)
    plotext.xlabel("documents per 50 ms")
    plotext.ylabel("NDCG@10")
    plotext.xlim(0, 1.2 * max(point.documents_per_50_ms for point in points))
    plotext.ylim(min(point.ndcg for point in points) - 2, max(point.ndcg for point in points) + 2)
    for number, point in enumerate(points):
        plotext.scatter([point.documents_per_50_ms], [point.ndcg], marker=_letter(number))
    names = [
        f"{_letter(number)}  {point.name}: {point.ndcg:.2f} points, {point.documents_per_50_ms:.1f} documents per 50 ms"
        for number, point in enumerate(points)
    ]
    return "\n".join([str(plotext.uncolorize(plotext.build())).rstrip(), "", *names])


def _letter(number: int) -> str:
    return string.ascii_letters[number % 52]


def curve_picture(curve: Curve, title: str, path: Path) -> None:
    """Write .svg, .png or .pdf: NDCG@10 over cost for every K, and what had to be retained.

    Raises EvaluationError for another ending.
    """
    pyplot = canvas()
    figure, axes = pyplot.subplots(figsize=(8.2, 4.8), layout="constrained")
    costs = [step.cost for step in curve.steps]
    axes.plot(costs, [step.ndcg for step in curve.steps], marker=".", markersize=4, label="cascade, by K")
    goal = curve.retain * curve.last_ndcg
    axes.plot(
        costs,
        [goal + step.low for step in curve.steps],
        linewidth=0.8,
        color="C0",
        alpha=0.5,
        label="one-sided 95 % bound of it",
    )
    axes.axhline(
        goal, linestyle="--", color="grey", linewidth=1, label=f"{curve.retain:.1%} of the last model"
    )
    axes.scatter(curve.last_cost, curve.last_ndcg, s=70, color="C1", label="last model alone", zorder=3)
    axes.scatter(costs[0], curve.steps[0].ndcg, s=70, color="C2", label="without the last model", zorder=3)
    if curve.chosen:
        step = curve.steps[curve.chosen]
        axes.scatter(step.cost, step.ndcg, s=90, color="C3", marker="D", label=f"K = {step.keep}", zorder=3)
    axes.set(xlabel=f"{curve.unit} a query", ylabel="NDCG@10", title=title, xlim=(0, None))
    ticks(axes.xaxis)
    axes.legend(fontsize=8, frameon=False, loc="best")
    axes.grid()
    save(figure, path)


def curve_text(curve: Curve, title: str, columns: int | None = None) -> str:
    """Draw the curve of `curve_picture` in characters, for a terminal of so many columns."""
    plotext = _characters(title, columns)
    plotext.xlabel(f"{curve.unit} a query")
    plotext.ylabel("NDCG@10")
    costs, values = [step.cost for step in curve.steps], [step.ndcg for step in curve.steps]
    plotext.xlim(0, 1.05 * max(*costs, curve.last_cost))
    plotext.plot(costs, values, marker=".")
    goal = curve.retain * curve.last_ndcg
    plotext.plot([0, max(costs)], [goal, goal], marker="-")
    plotext.scatter([curve.last_cost], [curve.last_ndcg], marker="L")
    names = [f"-  {curve.retain:.1%} of the last model", "L  the last model alone"]
    if curve.chosen:
        step = curve.steps[curve.chosen]
        plotext.scatter([step.cost], [step.ndcg], marker="K")
        names.append(f"K  {step.keep} documents for the last model")
    return "\n".join([str(plotext.uncolorize(plotext.build())).rstrip(), "", *names])


def reliability_picture(fitted: Fitted, title: str, target: str, path: Path) -> None:
    """Write .svg, .png or .pdf: what is known of the pairs over their score, before and after, and how many pairs there are.

    Raises EvaluationError for another ending.
    """
    check_ending(path)
    pyplot = canvas()
    figure, (axes, below) = pyplot.subplots(
        2, 1, figsize=(6.4, 6.4), height_ratios=(3, 1), sharex=True, layout="constrained"
    )
    axes.plot([0, 1], [0, 1], linestyle="--", color="grey", linewidth=1, label="as it should be")
    for number, (name, table) in enumerate(_named(fitted)):
        axes.plot(*table.curve(), marker="o", label=f"{name}: error {table.error:.3f}")
        middles = [(row.low + row.high) / 2 + (number - 0.5) * 0.03 for row in table.bins]
        below.bar(middles, [row.pairs for row in table.bins], width=0.03, color=f"C{number}")
    axes.set(ylabel=f"of {target}", title=title, xlim=(0, 1), ylim=(0, 1))
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    axes.grid()
    below.set(xlabel="score", ylabel="pairs", yscale="log")
    save(figure, path)


def reliability_text(fitted: Fitted, title: str, columns: int | None = None) -> str:
    """Draw the upper half of `reliability_picture` in characters, for a terminal of so many columns."""
    plotext = _characters(title, columns)
    plotext.xlabel("score")
    plotext.xlim(0, 1)
    plotext.ylim(0, 1)
    plotext.plot([0, 1], [0, 1], marker="-")
    names = ["-  as it should be"]
    for letter, (name, table) in zip("BA", _named(fitted), strict=True):
        plotext.scatter(*table.curve(), marker=letter)
        names.append(f"{letter}  {name}")
    return "\n".join([str(plotext.uncolorize(plotext.build())).rstrip(), "", *names])


def _named(fitted: Fitted) -> tuple[tuple[str, Reliability], ...]:
    return ("before", fitted.before), ("after, on queries left out", fitted.after)
