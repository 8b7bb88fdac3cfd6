"""The announcement's picture, quality against throughput, from our own measurements: a file or the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import EvaluationError


@dataclass(frozen=True, slots=True)
class Point:
    name: str
    documents_per_50_ms: float
    ndcg: float  # points


def scatter(points: Sequence[Point], title: str, path: Path) -> None:
    """Write .svg, .png or .pdf. Raises EvaluationError for another ending or no points."""
    if path.suffix not in (".svg", ".png", ".pdf"):
        raise EvaluationError(f"{path}: a plot ends in .svg, .png or .pdf.")
    if not points:
        raise EvaluationError("There is nothing to plot: no model was run.")
    import matplotlib

    matplotlib.use("Agg")
    # Text stays text, and equal input gives equal bytes.
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "sagerank"}
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.2, 4.8), layout="constrained")
    axes.scatter(
        [point.documents_per_50_ms for point in points],
        [point.ndcg for point in points],
        s=60,
        color="#009191",
    )
    for point in points:
        axes.annotate(
            point.name,
            (point.documents_per_50_ms, point.ndcg),
            xytext=(6, 6),
            textcoords="offset points",
            fontsize=9,
        )
    axes.set(xscale="log", xlabel="documents per 50 ms", ylabel="NDCG@10, points", title=title)
    axes.margins(0.2)
    axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"Date": None} if path.suffix == ".svg" else {}
    figure.savefig(path, metadata=metadata, dpi=150)
    pyplot.close(figure)


def scatter_text(points: Sequence[Point], title: str) -> str:
    """The same for a terminal."""
    import plotext

    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plotsize(88, 20)
    plotext.title(title)
    plotext.xlabel("documents per 50 ms")
    plotext.ylabel("NDCG@10")
    # Room for the names, which stand to the right of their points.
    plotext.xlim(0, 1.5 * max((point.documents_per_50_ms for point in points), default=1))
    plotext.ylim(
        min((point.ndcg for point in points), default=0) - 2,
        max((point.ndcg for point in points), default=0) + 2,
    )
    for point in points:
        plotext.scatter([point.documents_per_50_ms], [point.ndcg], marker="o")
        plotext.text(f"  {point.name}", point.documents_per_50_ms, point.ndcg)
    return str(plotext.uncolorize(plotext.build()))
