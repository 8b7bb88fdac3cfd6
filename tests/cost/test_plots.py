"""Plots: dollars and plain numbers on every axis, colours that a dark page may change, and series by their names."""

from __future__ import annotations

import re

import pytest

from sagerank_cost.draw import svg
from sagerank_cost.page import html
from sagerank_cost.plots import COLOURS, DARK, INK, dollars, number
from sagerank_cost.sheet import Chart, Report, Series


@pytest.mark.parametrize(
    ("value", "tick", "price"),
    [
        (0, "0", "$0"),
        (0.05, "0.05", "$0.05"),
        (0.5, "0.5", "$0.50"),
        (1, "1", "$1"),
        (2.5, "2.5", "$2.5"),
        (1000, "1,000", "$1,000"),
        (250_000, "250,000", "$250,000"),
        (20_000_000, "20M", "$20M"),
    ],
)
def test_ticks_are_written_as_numbers_are(value: float, tick: str, price: str) -> None:
    assert (number(value), dollars(value)) == (tick, price)


@pytest.mark.parametrize(
    ("x", "y", "ticks"),
    [
        ((0.01, 0.1, 1.0), (300.0, 4000.0, 90_000.0), ["$1,000", "$10,000", "0.1"]),
        ((0.2, 0.4, 0.8), (500.0, 600.0, 900.0), ["$500", "0.2", "0.5"]),
    ],
)
def test_a_logarithmic_chart_is_in_dollars_and_in_the_pages_colours(
    x: tuple[float, ...], y: tuple[float, ...], ticks: list[str]
) -> None:
    series = (Series("turbo", x, y), Series("tiny", x, y))
    chart = Chart(title="Latency & cost", kind="points", series=series, x="s", y="USD", log="xy", money="y")
    drawn = svg(chart)
    words = re.findall(r">([^<>]+)</text>", drawn)
    assert {*ticks, "turbo", "tiny"} <= set(words)
    assert not re.search(r"\^|mathdefault|10³", drawn)
    for colour in (*COLOURS, INK):
        assert colour not in drawn
    assert all(name in drawn for name in ("var(--series-0)", "var(--series-1)", "currentColor"))
    assert "Latency &amp; cost" in drawn
    page = html(Report(title="Cost", tables=(), charts=(chart,)), explain=False)
    light, dark = page.split("prefers-color-scheme:dark")
    assert f"--series-0:{COLOURS[0]}" in light
    assert f"--series-0:{DARK[0]}" in dark


def test_colours_stand_out_on_their_page() -> None:
    def luminance(colour: str) -> float:
        channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [(c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4) for c in channels]
        return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    assert len(COLOURS) == len(DARK) == len(set(COLOURS)) == len(set(DARK))
    for colour in DARK:
        assert (luminance(colour) + 0.05) / (luminance("#12181d") + 0.05) > 4.5
    for colour in COLOURS[:3]:  # one for each of the models compared by default
        assert 1.05 / (luminance(colour) + 0.05) > 3
