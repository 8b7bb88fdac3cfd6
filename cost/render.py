"""A report as terminal text, JSON, CSV, Markdown, or one HTML file that needs nothing else."""

from __future__ import annotations

import csv
import html
import io
import json
from decimal import Decimal

from . import unknown
from .report import Bars, Report, Table

FORMATS = ("text", "json", "csv", "markdown", "html")


def render(report: Report, form: str, *, explain: bool = False) -> str:
    writers = {"text": _text, "json": _json, "csv": _csv, "markdown": _markdown, "html": _html}
    if form not in writers:
        raise unknown("format", form, FORMATS)
    return writers[form](report, explain)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, Decimal):
        return f"{value:,}" if value >= 1 else f"{value:f}"
    if isinstance(value, float):
        return f"{value:,.3f}".rstrip("0").rstrip(".")
    return f"{value:,}" if isinstance(value, int) else str(value)


def _is_number(table: Table, column: int) -> bool:
    return all(row[column] is None or isinstance(row[column], (int, float, Decimal)) for row in table.rows)


def _text(report: Report, explain: bool) -> str:
    from rich.console import Console
    from rich.table import Table as Rich

    buffer = io.StringIO()
    console = Console(file=buffer, width=180, highlight=False, color_system=None)
    console.print(report.title, soft_wrap=True)
    for table in report.tables:
        rich = Rich(title=table.title, title_justify="left")
        for place, name in enumerate(table.columns):
            rich.add_column(name.strip(), justify="right" if _is_number(table, place) else "left")
        for row in table.rows:
            rich.add_row(*map(_cell, row))
        console.print()
        console.print(rich)
        for note in table.notes:
            console.print(note, soft_wrap=True)
    console.print()
    for line in (*report.conclusion, *report.notes, *(report.explained if explain else ())):
        console.print(line, soft_wrap=True, markup=False)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())


def _json(report: Report, explain: bool) -> str:
    tables = {
        table.key: {
            "title": table.title,
            "rows": [
                dict(zip((name.strip() for name in table.columns), row, strict=True)) for row in table.rows
            ],
            "notes": list(table.notes),
        }
        for table in report.tables
    }
    whole = {
        "title": report.title,
        "tables": tables,
        "conclusion": list(report.conclusion),
        "notes": list(report.notes),
    }
    if explain:
        whole["explained"] = list(report.explained)
    # Money stays exact: as text.
    return json.dumps(whole, indent=2, default=str)


def _csv(report: Report, explain: bool) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for table in report.tables:
        writer.writerow(["table", *(name.strip() for name in table.columns)])
        writer.writerows([table.key, *("" if cell is None else cell for cell in row)] for row in table.rows)
    return buffer.getvalue().rstrip("\n")


def _markdown(report: Report, explain: bool) -> str:
    lines = [f"## {report.title}", ""]
    lines += [*report.conclusion, ""] if report.conclusion else []
    for table in report.tables:
        lines += [f"### {table.title}", "", "| " + " | ".join(name.strip() for name in table.columns) + " |"]
        lines += [
            "| "
            + " | ".join("---:" if _is_number(table, place) else "---" for place in range(len(table.columns)))
            + " |"
        ]
        lines += [
            "| " + " | ".join(_cell(cell).replace("|", "\\|") for cell in row) + " |" for row in table.rows
        ]
        lines += ["", *table.notes, ""] if table.notes else [""]
    lines += [*report.notes]
    if explain:
        lines += ["", *(f"- {line.strip()}" for line in report.explained)]
    return "\n".join(lines)


_STYLE = """\
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:1100px;padding:1rem;color:#123;background:#fff}
h1{font-size:1.35rem}h2{font-size:1.1rem;margin-top:2rem}.best{background:#e8f5f4;border-left:4px solid #009191;padding:.6rem 1rem}
.scroll{overflow-x:auto}table{border-collapse:collapse;min-width:100%}th,td{padding:.35rem .6rem;border-bottom:1px solid #dde;white-space:nowrap;text-align:left}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}small,.note{color:#567}svg{width:100%;height:auto}
@media(prefers-color-scheme:dark){body{background:#111a1f;color:#dfe8ea}.best{background:#12302f}th,td{border-color:#2b3a41}small,.note{color:#9bb}svg text{fill:#dfe8ea}}
"""


def _html(report: Report, explain: bool) -> str:
    e = html.escape
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{e(report.title)}</title><style>{_STYLE}</style></head><body><h1>{e(report.title)}</h1>",
    ]
    if report.conclusion:
        parts.append(
            '<div class="best">' + "".join(f"<p>{e(line)}</p>" for line in report.conclusion) + "</div>"
        )
    parts += [f"<h2>{e(chart.title)}</h2>{_bars(chart)}" for chart in report.charts if chart.values]
    for table in report.tables:
        number = [' class="n"' if _is_number(table, place) else "" for place in range(len(table.columns))]
        head = "".join(
            f"<th{kind}>{e(name.strip())}</th>" for kind, name in zip(number, table.columns, strict=True)
        )
        body = "".join(
            "<tr>"
            + "".join(f"<td{kind}>{e(_cell(cell))}</td>" for kind, cell in zip(number, row, strict=True))
            + "</tr>"
            for row in table.rows
        )
        parts.append(
            f'<h2>{e(table.title)}</h2><div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        )
        parts += [f'<p class="note">{e(note)}</p>' for note in table.notes]
    parts += [f'<p class="note">{e(note)}</p>' for note in report.notes]
    if report.explained:
        parts.append(
            "<details><summary>Where each number comes from</summary><ul>"
            + "".join(f"<li>{e(line)}</li>" for line in report.explained)
            + "</ul></details>"
        )
    return "".join([*parts, "</body></html>"])


def _bars(chart: Bars) -> str:
    """Horizontal bars as inline SVG: labels stay text, and no plotting library is asked for nine rectangles."""
    longest = max(value for _, value in chart.values) or 1.0
    rows = []
    for place, (label, value) in enumerate(chart.values):
        y = 34 * place
        rows.append(
            f'<text x="0" y="{y + 12}" font-size="12">{html.escape(label)}</text>'
            f'<rect x="0" y="{y + 16}" width="{max(1.0, 560 * value / longest):.1f}" height="12" fill="#009191"/>'
            f'<text x="{max(1.0, 560 * value / longest) + 6:.1f}" y="{y + 26}" font-size="12">{value:,.2f} {html.escape(chart.unit)}</text>'
        )
    return f'<svg viewBox="0 0 700 {34 * len(chart.values)}" role="img" aria-label="{html.escape(chart.title)}" fill="currentColor" font-family="system-ui,sans-serif">{"".join(rows)}</svg>'
