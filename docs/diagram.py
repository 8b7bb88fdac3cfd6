"""A flowchart as SVG, from the few lines of Mermaid that the pages use: `a["text"] --> b & c`."""

from __future__ import annotations

import html
import re

WIDTH, HEIGHT, GAP, ROW = 150, 34, 26, 84
SHIFT = 90  # of every second row, so that an arrow past a row has room beside its boxes


def svg(source: str) -> str:
    """Draw boxes in rows, each below all that point to it, in colours of the page."""
    names: dict[str, str] = {}
    arrows: list[tuple[str, str]] = []
    for left, right in re.findall(r"^\s*(.+?) --> (.+)$", source, re.M):
        ends = [[_node(text, names) for text in side.split(" & ")] for side in (left, right)]
        arrows += [(above, below) for above in ends[0] for below in ends[1]]
    rows = _rows(list(names), arrows)
    wide = max(map(len, rows)) * (WIDTH + GAP)
    full = wide + SHIFT
    centre = {
        name: (round((place + 0.5) * wide / len(row)) + SHIFT * (depth % 2), depth * ROW + HEIGHT // 2 + 2)
        for depth, row in enumerate(rows)
        for place, name in enumerate(row)
    }
    parts = [
        f'<svg viewBox="0 0 {full} {(len(rows) - 1) * ROW + HEIGHT + 4}" role="img" style="max-width:{full}px;width:100%;font-size:14px">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="currentColor"/></marker></defs>',
    ]
    for above, below in arrows:
        (x, y), (u, v) = centre[above], centre[below]
        y, v = y + HEIGHT // 2, v - HEIGHT // 2
        parts.append(
            f'<path d="M{x} {y}C{x} {y + 36} {u} {v - 36} {u} {v}" fill="none" stroke="currentColor" opacity=".55" marker-end="url(#tip)"/>'
        )
    for name, (x, y) in centre.items():
        parts.append(
            f'<rect x="{x - WIDTH // 2}" y="{y - HEIGHT // 2}" width="{WIDTH}" height="{HEIGHT}" rx="6" '
            'fill="var(--md-code-bg-color, #fff)" stroke="currentColor"/>'
            f'<text x="{x}" y="{y + 5}" text-anchor="middle" fill="currentColor">{html.escape(names[name])}</text>'
        )
    return "".join([*parts, "</svg>"])


def _node(text: str, names: dict[str, str]) -> str:
    name, _, label = text.strip().partition("[")
    names[name] = label.rstrip("]").strip('"') or names.get(name, name)
    return name


def _rows(names: list[str], arrows: list[tuple[str, str]]) -> list[list[str]]:
    depth = dict.fromkeys(names, 0)
    for _ in names:
        for above, below in arrows:
            depth[below] = max(depth[below], depth[above] + 1)
    return [[name for name in names if depth[name] == row] for row in range(max(depth.values()) + 1)]
