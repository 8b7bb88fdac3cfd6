"""A report as terminal text, JSON, CSV, Markdown, or one HTML file that needs nothing else."""

from __future__ import annotations

import csv
import html
import io
import json
import os
from decimal import Decimal

from . import unknown
from .sheet import Report, Table

FORMATS = ("text", "json", "csv", "markdown", "html")


def render(report: Report, form: str, *, explain: bool = False) -> str:
    """The report in one of FORMATS; with `explain`, where its numbers come from. Raises CostError for another format."""
    writers = {"text": _text, "json": _json, "csv": _csv, "markdown": _markdown, "html": _html}
    if form not in writers:
        raise unknown("format", form, FORMATS)
    return writers[form](report, explain)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, Decimal):
        return f"{value:,f}" if abs(value) >= 1 else f"{value:f}"
    if isinstance(value, float):
        return f"{value:,.3f}".rstrip("0").rstrip(".")
    return f"{value:,}" if isinstance(value, int) else str(value)


def _is_number(table: Table, column: int) -> bool:
    """Whether a column is of numbers and percentages, which are aligned to the right."""
    cells = [row[column] for row in table.rows]
    return all(
        cell is None or isinstance(cell, int | float | Decimal) or str(cell).endswith("%") for cell in cells
    )


def _text(report: Report, explain: bool) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table as Rich

    buffer = io.StringIO()
    # A pipe or a file has no width of its own: lines are then as long as they need to be.
    try:
        width = max(80, os.get_terminal_size().columns)
    except OSError:
        width = 200
    console = Console(file=buffer, width=width, highlight=False, markup=False, emoji=False, color_system=None)
    console.print(report.title, soft_wrap=True)
    for table in report.tables:
        if not table.rows:
            continue
        rich = Rich(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for index, name in enumerate(table.columns):
            rich.add_column(
                name.strip(), justify="right" if _is_number(table, index) else "left", overflow="fold"
            )
        for row in table.rows:
            rich.add_row(*map(_cell, row))
        console.print()
        console.print(table.title, soft_wrap=True)
        console.print(rich)
        for note in table.notes:
            console.print(note, soft_wrap=True)
    console.print()
    for line in (*report.conclusion, *report.notes, *(report.explained if explain else ())):
        console.print(line, soft_wrap=True)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())


def _json(report: Report, explain: bool) -> str:
    """Money is written as text, so that it stays exact."""
    tables = {
        table.key: {
            "title": table.title,
            "rows": [dict(zip(table.columns, row, strict=True)) for row in table.rows],
            "notes": list(table.notes),
        }
        for table in report.tables
    }
    whole = {
        "title": report.title,
        "conclusion": list(report.conclusion),
        "monthly_usd": report.monthly,
        "tables": tables,
        "notes": list(report.notes),
    }
    if explain:
        whole["explained"] = list(report.explained)
    return json.dumps(whole, indent=2, default=str, ensure_ascii=False)


def _csv(report: Report, explain: bool) -> str:
    """Write every table under a header line of its own, which begins with `table`."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for table in report.tables:
        writer.writerow(["table", *(name.strip() for name in table.columns)])
        writer.writerows([table.key, *("" if cell is None else cell for cell in row)] for row in table.rows)
    if explain:
        writer.writerows([["explained", line.strip()] for line in report.explained])
    return buffer.getvalue().rstrip("\n")


def _markdown(report: Report, explain: bool) -> str:
    lines = [f"## {report.title}", ""]
    lines += [*report.conclusion, ""] if report.conclusion else []
    for table in report.tables:
        if not table.rows:
            continue
        numbers = [_is_number(table, index) for index in range(len(table.columns))]
        lines += [f"### {table.title}", "", "| " + " | ".join(name.strip() for name in table.columns) + " |"]
        lines += ["| " + " | ".join("---:" if number else "---" for number in numbers) + " |"]
        lines += [
            "| " + " | ".join(_cell(cell).replace("|", "\\|") for cell in row) + " |" for row in table.rows
        ]
        lines += ["", *table.notes, ""] if table.notes else [""]
    lines += [*report.notes]
    if explain:
        lines += ["", *(f"- {line.strip()}" for line in report.explained)]
    return "\n".join(lines).rstrip()


_STYLE = """\
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:1100px;padding:1rem;color:#14222b;background:#fff;overflow-wrap:break-word}
h1{font-size:1.35rem;line-height:1.3}h2{font-size:1.1rem;margin:2rem 0 .4rem}
.best{background:#e8f5f4;border-left:4px solid #009191;padding:.2rem 1rem}.best p{margin:.5rem 0}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:0 2rem}
.charts svg{width:100%;max-width:520px;height:auto;display:block}
.scroll{overflow-x:auto}table{border-collapse:collapse;min-width:100%;font-size:.92rem}
th,td{padding:.35rem .8rem .35rem 0;border-bottom:1px solid #dde4e8;white-space:nowrap;text-align:left;vertical-align:top}
td.wide{white-space:normal;min-width:16rem}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
tr.total td{font-weight:600}.note{color:#4d6270;font-size:.9rem}li{margin:.2rem 0}
@media(max-width:640px){
thead{display:none}table,tbody,tr,td{display:block}tr{padding:.5rem 0;border-bottom:1px solid #b9c6cd}
td,td.n,td.wide{display:flex;justify-content:space-between;gap:1.5rem;border:0;padding:.05rem 0;white-space:normal;min-width:0;text-align:right}
td::before{content:attr(data-name);color:#4d6270;text-align:left;flex:none}td:first-child{font-weight:600}td.empty{display:none}
}
"""


def _html(report: Report, explain: bool) -> str:
    """The page. What explains the numbers is always there, folded unless asked for."""
    from .draw import svg

    e = html.escape
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">',
        f'<link rel="icon" href="data:,"><title>{e(report.title)}</title><style>{_STYLE}</style></head><body><h1>{e(report.title)}</h1>',
    ]
    if report.conclusion:
        parts.append(
            '<div class="best">' + "".join(f"<p>{e(line)}</p>" for line in report.conclusion) + "</div>"
        )
    charts = [f"<section><h2>{e(chart.title)}</h2>{svg(chart)}</section>" for chart in report.charts]
    parts.append(f'<div class="charts">{"".join(charts)}</div>' if charts else "")
    parts += [_html_table(table) for table in report.tables if table.rows]
    parts += [f'<p class="note">{e(note)}</p>' for note in report.notes]
    if report.explained:
        items = "".join(f"<li>{e(line.strip())}</li>" for line in report.explained)
        parts.append(
            f"<details{' open' if explain else ''}><summary>Where each number comes from</summary><ul class=note>{items}</ul></details>"
        )
    return "".join([*parts, "</body></html>"])


def _html_table(table: Table) -> str:
    e = html.escape
    numbers = [_is_number(table, index) for index in range(len(table.columns))]
    head = "".join(
        f"<th{' class=n' if number else ''}>{e(name.strip())}</th>"
        for number, name in zip(numbers, table.columns, strict=True)
    )
    body = ""
    for row in table.rows:
        cells = ""
        for number, name, cell in zip(numbers, table.columns, row, strict=True):
            text = _cell(cell)
            style = "n" if number else "wide" if len(text) > 60 else ""
            cells += f'<td class="{style} {"empty" if cell in (None, "") else ""}" data-name="{e(name.strip())}">{e(text)}</td>'
        body += f"<tr{' class=total' if row[0] == 'total' else ''}>{cells}</tr>"
    notes = "".join(f'<p class="note">{e(note)}</p>' for note in table.notes)
    return f'<h2>{e(table.title)}</h2><div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{notes}'
