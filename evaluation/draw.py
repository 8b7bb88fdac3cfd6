"""The announcement's pictures from our own measurements: quality against throughput, and the table of models."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import EvaluationError


@dataclass(frozen=True, slots=True)
class Point:
    name: str
    documents_per_50_ms: float
    ndcg: float  # points


def check_ending(path: Path) -> None:
    if path.suffix not in (".svg", ".png", ".pdf"):
        raise EvaluationError(f"{path}: a plot ends in .svg, .png or .pdf.")


def canvas() -> Any:
    """pyplot without a display; text stays text, and equal input gives equal bytes."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "sagerank"}
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
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    heights = [4.4, 0.26 * len(table)]
    figure, (axes, below) = pyplot.subplots(
        2, 1, figsize=(8.2, sum(heights) + 0.4), height_ratios=heights, layout="constrained"
    )
    for place, point in enumerate(points):
        where = (point.documents_per_50_ms, point.ndcg)
        axes.scatter(*where, s=70, color=f"C{place % 10}", label=f"{_letter(place)}  {point.name}")
        axes.annotate(_letter(place), where, (6, 5), textcoords="offset points", fontsize=10)
    # Names in the margin: beside their points they would hide one another.
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
    axes.set(xscale="log", xlabel="documents per 50 ms", ylabel="NDCG@10, points", title=title)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(0.15)
    axes.grid(alpha=0.3)
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


def scatter_text(points: Sequence[Point], title: str) -> str:
    """The scatter for a terminal, letters for points and their names below."""
    import plotext

    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plotsize(88, 20)
    plotext.title(title)
    plotext.xlabel("documents per 50 ms")
    plotext.ylabel("NDCG@10")
    plotext.xlim(0, 1.2 * max(point.documents_per_50_ms for point in points))
    plotext.ylim(min(point.ndcg for point in points) - 2, max(point.ndcg for point in points) + 2)
    for place, point in enumerate(points):
        plotext.scatter([point.documents_per_50_ms], [point.ndcg], marker=_letter(place))
    names = [
        f"{_letter(place)}  {point.name}: {point.ndcg:.2f} points, {point.documents_per_50_ms:.1f} documents per 50 ms"
        for place, point in enumerate(points)
    ]
    return "\n".join([str(plotext.uncolorize(plotext.build())).rstrip(), "", *names])


def _letter(place: int) -> str:
    return string.ascii_letters[place % 52]
