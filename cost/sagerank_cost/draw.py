"""Charts as SVG that stands inside a page: as wide as a phone, so that text stays readable there, and in the page's colours."""

from __future__ import annotations

import io
import itertools
import logging
import re
from typing import TYPE_CHECKING

from .plots import COLOURS, INK, number, style, ticks
from .sheet import Chart, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Beside their colours, so that a copy in grey still tells them apart.
_MARKERS = "os^DvPX"
_DASHES = ("-", "--", "-.", ":")


def svg(chart: Chart) -> str:
    """The chart as an <svg> element without a size of its own; its colours are the page's `--series-N` and text colour."""
    # Where it may not write its caches to the home folder, it warns and takes a temporary one: nothing to report.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    import matplotlib

    matplotlib.use("Agg")
    with matplotlib.rc_context({**style(), "svg.hashsalt": chart.title, "font.size": 9}):
        from matplotlib.figure import Figure

        bars = chart.kind == "bars"
        figure = Figure(
            figsize=(4.3, 0.7 + 0.42 * len(chart.series) if bars else 2.9 + 0.2 * len(chart.series)),
            layout="constrained",
        )
        axes = figure.add_subplot()
        draw = {"bars": _bars, "points": _points, "lines": _lines}[chart.kind]
        draw(axes, chart)
        axes.set(xlabel=chart.x, ylabel=chart.y)
        axes.spines[["top", "right"]].set_visible(False)
        if not bars:
            axes.grid()
            if len(chart.series) > 1:
                figure.legend(loc="outside lower left", frameon=False, fontsize=8.5)
        for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
            if name in chart.log:
                axes.set(**{f"{name}scale": "log"})
            elif name == "y" and chart.kind == "lines":
                axes.set_ylim(bottom=0)
            if name == "x" or not bars:
                ticks(axis, money=name in chart.money)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    return _for_a_page(buffer.getvalue(), chart.title)


def _for_a_page(picture: str, title: str) -> str:
    """Without a size, which the page's style sets; in the page's colours; and saying what it is to those who do not see it."""
    picture = picture[picture.index("<svg") :]
    label = title.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    picture = re.sub(r'<svg (.*?)width="[^"]*"', r"<svg \1", picture, count=1, flags=re.S)
    picture = re.sub(r'height="[^"]*"', f'role="img" aria-label="{label}"', picture, count=1)
    picture = re.sub(r"<metadata>.*?</metadata>", "", picture, flags=re.S).strip()
    for index, colour in enumerate(COLOURS):
        picture = picture.replace(colour, f"var(--series-{index})")
    return picture.replace(INK, "currentColor")


def _bars(axes: Axes, chart: Chart) -> None:
    """Labels stand above their bars: beside them, they would leave a phone no room."""
    for row, bar in enumerate(chart.series):
        axes.barh(row, bar.y[0], height=0.36, color=COLOURS[0])
        value = f"${bar.y[0]:,.2f}" if chart.money else number(bar.y[0])
        axes.annotate(
            f"{bar.name}: {value}", (0, row - 0.22), xytext=(2, 1), textcoords="offset points", fontsize=8.5
        )
    axes.set_yticks([])
    axes.set_ylim(len(chart.series) - 0.6, -0.75)
    axes.set_xlim(left=0)


def _points(axes: Axes, chart: Chart) -> None:
    for series, marker in zip(chart.series, itertools.cycle(_MARKERS)):
        axes.scatter(series.x, series.y, s=22, marker=marker, label=series.name, alpha=0.85, linewidths=0)
        _label(axes, series)
    axes.margins(x=0.18, y=0.12)  # room for labels


def _lines(axes: Axes, chart: Chart) -> None:
    lines = [series for series in chart.series if not series.labels]
    marks = [series for series in chart.series if series.labels]
    for series, dashes in zip(lines, itertools.cycle(_DASHES)):
        axes.plot(series.x, series.y, dashes, label=series.name, linewidth=1.6)
    for series, marker in zip(marks, _MARKERS[::-1], strict=False):
        axes.scatter(series.x, series.y, s=30, marker=marker, label=series.name, color=INK, zorder=3)
        _label(axes, series)


def _label(axes: Axes, series: Series) -> None:
    """What each point is, above it and below it in turn, as neighbours may be near."""
    for x, y, label, away in zip(series.x, series.y, series.labels, itertools.cycle((5, -12))):
        axes.annotate(label, (x, y), xytext=(0, away), textcoords="offset points", ha="center", fontsize=8)
