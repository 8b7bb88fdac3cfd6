"""How every plot of ours looks: colours that also people who do not tell red from green tell apart, and ticks as numbers are written."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axis import Axis

# Okabe and Ito, 2008: on white, and on a dark page, where blue is too dark and yellow is not too light.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")
DARK = ("#56b4e9", "#f07830", "#1fbf92", "#dd92bb", "#e69f00", "#f0e442", "#b5b5b5")
INK = "#14222b"  # of text, axes and grid


def style() -> Any:
    """Settings for matplotlib. Text stays text and a dollar sign a dollar sign; equal input gives equal bytes."""
    from cycler import cycler

    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color")
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": "sagerank",
        "text.parse_math": False,
        "axes.prop_cycle": cycler(color=COLOURS),
        "grid.alpha": 0.2,
        **dict.fromkeys(inked, INK),
    }


def ticks(axis: Axis, *, money: bool = False) -> None:
    """Write an axis's ticks as dollars or plain numbers, never as powers of ten. Its scale and limits are set before."""
    from matplotlib.axis import XAxis
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if axis.get_scale() == "log":
        low, high = axis.get_view_interval()
        # Within two powers of ten there would be a tick or two; over many they would stand in one another's way.
        room = 5 if isinstance(axis, XAxis) else 9
        axis.set_major_locator(
            LogLocator(subs=(1.0, 2.0, 5.0)) if high < 100 * low else LogLocator(numticks=room)
        )
        axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: dollars(value) if money else number(value)))


def dollars(usd: float) -> str:
    """US dollars as a tick: $0.50, $1,000, $20M."""
    if 0 < abs(usd) < 1:
        return f"${usd:,.2f}" if abs(usd) >= 0.01 else f"${usd:g}"
    return f"${number(usd)}"


def number(value: float) -> str:
    """A number as a tick: 0.05, 1,000, 20M."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:,g}M"
    return f"{value:,.0f}" if abs(value) >= 100 or math.isclose(value, round(value)) else f"{value:g}"
