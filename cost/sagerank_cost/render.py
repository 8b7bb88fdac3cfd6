"""A report as text for a terminal or a pipe, JSON, CSV, Markdown, or HTML."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal

from . import text, unknown
from .page import html
from .sheet import Report, Table, markdown, shown

FORMATS = ("text", "json", "csv", "markdown", "html")


def render(report: Report, form: str, *, explain: bool = False, width: int | None = None) -> str:
    """The report in one of FORMATS; with `explain`, where its numbers come from. Raises CostError for another format.

    width: columns that text has; None where lines may be of any length.
    """
    writers = {"json": _json, "csv": _csv, "markdown": _markdown, "html": html}
    if form == "text":
        return _text(report, explain, width)
    if form not in writers:
        raise unknown("format", form, FORMATS)
    return writers[form](report, explain)


def _text(report: Report, explain: bool, width: int | None) -> str:
    """The answer, the tables it rests on, and what is to be known of them; the rest is left to --explain."""
    first = [text.prose(line, width) for line in report.conclusion]
    first += [text.command(report.command, width)] if report.command else []
    tables = [table for table in report.tables if table.for_people().rows]
    parts = ["\n".join(first), text.prose(report.title, width)]
    parts += [_text_table(table, explain, width) for table in tables if explain or not table.detail]
    below = [*report.notes, *(report.explained if explain else ())]
    if not explain and report.explained:
        more = [table.title.partition(":")[0] for table in tables if table.detail]
        below.append(f"With --explain: {', '.join([*more, 'where each number comes from'])}.")
    parts.append("\n".join(text.prose(line, width) for line in below))
    return "\n\n".join(filter(None, parts))


def _text_table(records: Table, explain: bool, width: int | None) -> str:
    table = records.for_people()
    cells, notes = _cells(table), [*table.notes]
    kept = [index for index, name in enumerate(table.columns) if name not in table.minor]
    main = [[row[index] for index in kept] for row in cells]
    if not explain and text.fits(main, width) and not text.fits(cells, width):
        cells = main
        notes.append(f"--explain adds columns: {', '.join(table.minor)}.")
    parts = _folded(cells, width) if table.turned else [cells]
    lines = [text.prose(note, width) for note in notes]
    tables = "\n\n".join(text.table(part, width) for part in parts)
    return "\n".join([text.prose(table.title, width), tables, *lines])


def _folded(cells: list[list[str]], width: int | None) -> list[list[list[str]]]:
    """The table, or several below one another that fit: each has the first column, and some of the others."""
    several = len(cells[0]) > 2 and not text.fits(cells, width)
    if not several:
        return [cells]
    most = next(
        (
            count
            for count in range(len(cells[0]) - 1, 2, -1)
            if text.fits([row[:count] for row in cells], width)
        ),
        2,
    )
    rest = [[row[0], *row[most:]] for row in cells]
    return [[row[:most] for row in cells], *_folded(rest, width)]


def _cells(table: Table) -> list[list[str]]:
    return [[name.strip() for name in table.columns], *([*map(shown, row)] for row in table.rows)]


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
        "conclusion": list(report.conclusion),
        "command": report.command or None,
        "title": report.title,
        "monthly_usd": report.monthly,
        "tables": tables,
        "notes": list(report.notes),
    }
    if explain:
        whole["explained"] = list(report.explained)
    return json.dumps(whole, indent=2, default=_exact, ensure_ascii=False)


def _exact(cell: object) -> object:
    """A cell for machines: what is not known is empty, and money has its digits, never an exponent."""
    if isinstance(cell, Decimal):
        return f"{cell:f}"
    return "" if cell is None else cell


def _csv(report: Report, explain: bool) -> str:
    """Write the conclusion, and every table under a header line of its own, which begins with `table`."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerows(["conclusion", line] for line in report.conclusion)
    writer.writerows(["command", line] for line in filter(None, [report.command]))
    for table in report.tables:
        writer.writerow(["table", *(name.strip() for name in table.columns)])
        writer.writerows([table.key, *map(_exact, row)] for row in table.rows)
        writer.writerows(["note", note] for note in table.notes)
    writer.writerows(["note", note] for note in report.notes)
    if explain:
        writer.writerows([["explained", line.strip()] for line in report.explained])
    return buffer.getvalue().rstrip("\n")


def _markdown(report: Report, explain: bool) -> str:
    lines = [*report.conclusion, ""] if report.conclusion else []
    lines += ["```sh", report.command, "```", ""] if report.command else []
    lines += [f"## {report.title.replace('<', '&lt;')}", ""]
    for table in (table.for_people() for table in report.tables):
        if not table.rows:
            continue
        numbers = [table.is_number(index) for index in range(len(table.columns))]
        lines += [f"### {table.title}", "", "| " + " | ".join(name.strip() for name in table.columns) + " |"]
        lines += ["| " + " | ".join("---:" if number else "---" for number in numbers) + " |"]
        lines += ["| " + " | ".join(markdown(shown(cell)) for cell in row) + " |" for row in table.rows]
        lines += ["", *table.notes, ""] if table.notes else [""]
    lines += [*report.notes]
    if explain:
        lines += ["", *(f"- {line.strip()}" for line in report.explained)]
    return "\n".join(lines).rstrip()
