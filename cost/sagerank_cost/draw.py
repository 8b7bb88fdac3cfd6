"""Charts as SVG that stands inside a page: drawn as wide as a phone, so that text stays readable there."""

from __future__ import annotations

import io
import itertools
import logging
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .sheet import Chart, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Told apart also by people who do not tell red from green (Okabe and Ito, 2008).
_COLOURS = ("#009191", "#d55e00", "#0072b2", "#cc79a7", "#8a7000", "#555555", "#56b4e9")


def svg(chart: Chart) -> str:
    """The chart as an <svg> element without a size of its own."""
    # Where it may not write its caches to the home folder, it warns and takes a temporary one: nothing to report.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    import matplotlib

    matplotlib.use("Agg")
    # Text stays text, and equal input gives equal bytes.
    with matplotlib.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": chart.title, "font.size": 9, "axes.edgecolor": "#889"}
    ):
        from matplotlib.figure import Figure

        bars = chart.kind == "bars"
        figure = Figure(
            figsize=(4.3, 0.7 + 0.42 * len(chart.series) if bars else 2.9 + 0.2 * len(chart.series)),
            layout="constrained",
        )
        axes = figure.add_subplot()
        if bars:
            _bars(axes, chart.series)
        for series, colour in zip(chart.series, itertools.cycle(_COLOURS)):
            if chart.kind == "points":
                axes.scatter(
                    series.x, series.y, s=14, color=colour, label=series.name, alpha=0.8, linewidths=0
                )
            elif chart.kind == "lines":
                axes.plot(series.x, series.y, color=colour, label=series.name, linewidth=1.4)
        axes.set(xlabel=chart.x, ylabel=chart.y)
        if "x" in chart.log:
            axes.set_xscale("log")
        if "y" in chart.log:
            axes.set_yscale("log")
        elif not bars:
            axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
        if not bars:
            axes.grid(alpha=0.25)
            if len(chart.series) > 1:
                figure.legend(loc="outside lower left", frameon=False, fontsize=8.5)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    picture = buffer.getvalue()
    picture = picture[picture.index("<svg") :]
    # The page's style sets the size; the picture says what it is to those who do not see it.
    label = chart.title.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    picture = re.sub(r'<svg (.*?)width="[^"]*"', r"<svg \1", picture, count=1, flags=re.S)
    picture = re.sub(r'height="[^"]*"', f'role="img" aria-label="{label}"', picture, count=1)
    return re.sub(r"<metadata>.*?</metadata>", "", picture, flags=re.S).strip()


def _bars(axes: Axes, series: Sequence[Series]) -> None:
    """Labels stand above their bars: beside them, they would leave a phone no room."""
    for row, bar in enumerate(series):
        axes.barh(row, bar.y[0], height=0.36, color=_COLOURS[0])
        label = f"{bar.name}: {bar.y[0]:,.2f}"
        axes.annotate(label, (0, row - 0.22), xytext=(2, 1), textcoords="offset points", fontsize=8.5)
    axes.set_yticks([])
    axes.set_ylim(len(series) - 0.6, -0.75)
    axes.set_xlim(left=0)
