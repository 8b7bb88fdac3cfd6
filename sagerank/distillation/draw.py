"""The picture of a distillation: what training lost, and what the student ranks like beside those it is judged against."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sagerank.evaluation.draw import canvas, check_ending, save
from sagerank_cost.plots import COLOURS

from .gate import StudentQuality
from .train import read_log

_BLUE, _ORANGE, _GREY = COLOURS[0], COLOURS[1], "#999999"


def picture(work: Path, judged: Sequence[StudentQuality], path: Path) -> None:
    """Write .svg, .png or .pdf: the loss by step, and NDCG@10 on each collection of the gate.

    work: the folder that `distil` worked in. Raises EvaluationError for another ending.
    """
    check_ending(path)
    pyplot = canvas()
    figure, (curve, *bars) = pyplot.subplots(
        1, 1 + len(judged), figsize=(4.2 + 3.9 * len(judged), 3.6), layout="constrained"
    )
    losses = {row["step"]: row["loss"] for row in read_log(work) if "loss" in row}
    curve.plot(list(losses), list(losses.values()), marker="o", markersize=4, color=_BLUE)
    curve.set(xlabel="step", ylabel="loss", title="Training", ylim=(0, None))
    curve.grid()
    for axes, row in zip(bars, judged, strict=True):
        drawn = axes.bar(list(row.means), list(row.means.values()), color=[_GREY, _GREY, _BLUE, _ORANGE])
        axes.bar_label(drawn, fmt="%.3f", fontsize=9)
        axes.tick_params(axis="x", labelsize=8)
        axes.set(ylabel="NDCG@10", title=f"{row.data}, {row.queries} queries", ylim=(0, 1.05))
    save(figure, path)
