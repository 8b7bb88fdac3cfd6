"""A report as one HTML page that needs nothing else, light or dark as its reader's system is."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from .plots import COLOURS, DARK
from .sheet import Report, Table, shown

_STYLE = """\
:root{--ink:#14222b;--page:#fff;--faint:#4d6270;--line:#dde4e8;--best:#e8f5f4;--edge:#009191;LIGHT}
@media(prefers-color-scheme:dark){:root{color-scheme:dark;--ink:#e4eaee;--page:#12181d;--faint:#9fb1bd;--line:#2c3842;--best:#10302f;--edge:#3cc0b8;DARK}}
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:1100px;padding:1rem;color:var(--ink);background:var(--page);overflow-wrap:break-word}
h1{font-size:1.35rem;line-height:1.3;text-wrap:balance}h2{font-size:1.1rem;margin:2rem 0 .4rem}
.best{background:var(--best);border-left:4px solid var(--edge);padding:.2rem 1rem}.best p{margin:.5rem 0}.best p:first-child{font-weight:600}
.best pre{white-space:pre-wrap;font-size:.92rem;margin:.5rem 0}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:0 2rem}
.charts svg{width:100%;max-width:520px;height:auto;display:block}
.scroll{overflow-x:auto}table{border-collapse:collapse;min-width:100%;font-size:.92rem}
th,td{padding:.35rem .8rem .35rem 0;border-bottom:1px solid var(--line);white-space:nowrap;text-align:left;vertical-align:top}
td.wide{white-space:normal;min-width:16rem}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
tr.total td{font-weight:600}.note{color:var(--faint);font-size:.9rem}li{margin:.2rem 0}
@media(max-width:640px){
.turned{font-size:.77rem;table-layout:fixed}.turned th,.turned td{padding-right:.5rem;white-space:normal;overflow-wrap:anywhere}.turned th:first-child{width:6.5rem}
.cards thead{display:none}.cards,.cards tbody,.cards tr,.cards td{display:block}.cards tr{padding:.5rem 0;border-bottom:1px solid var(--line)}
.cards td,.cards td.n,.cards td.wide{display:flex;justify-content:space-between;gap:1.5rem;border:0;padding:.05rem 0;white-space:normal;min-width:0;text-align:right}
.cards td::before{content:attr(data-name);color:var(--faint);text-align:left;flex:none}.cards td:first-child{font-weight:600}.cards td.empty{display:none}
}
"""


def _style() -> str:
    """The page's style, with the charts' colours for a light and for a dark page."""

    def series(colours: Sequence[str]) -> str:
        return ";".join(f"--series-{number}:{colour}" for number, colour in enumerate(colours))

    return _STYLE.replace("LIGHT", series(COLOURS)).replace("DARK", series(DARK))


def html(report: Report, explain: bool) -> str:
    """The page. What explains the numbers is always there, folded unless asked for."""
    from .draw import svg

    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">',
        f'<link rel="icon" href="data:,"><title>{escape(report.title)}</title><style>{_style()}</style></head><body>',
    ]
    if report.conclusion:
        parts.append(
            '<div class="best">'
            + "".join(f"<p>{escape(line)}</p>" for line in report.conclusion)
            + (f"<pre>{escape(report.command)}</pre>" if report.command else "")
            + "</div>"
        )
    parts.append(f"<h1>{escape(report.title)}</h1>")
    charts = [f"<section><h2>{escape(chart.title)}</h2>{svg(chart)}</section>" for chart in report.charts]
    parts.append(f'<div class="charts">{"".join(charts)}</div>' if charts else "")
    parts += [_html_table(table) for table in (table.for_people() for table in report.tables) if table.rows]
    parts += [f'<p class="note">{escape(note)}</p>' for note in report.notes]
    if report.explained:
        items = "".join(f"<li>{escape(line.strip())}</li>" for line in report.explained)
        parts.append(
            f"<details{' open' if explain else ''}><summary>Where each number comes from</summary><ul class=note>{items}</ul></details>"
        )
    return "".join([*parts, "</body></html>"])


def _html_table(table: Table) -> str:
    numbers = [table.is_number(index) for index in range(len(table.columns))]
    head = "".join(
        f"<th{' class=n' if number else ''}>{escape(name.strip())}</th>"
        for number, name in zip(numbers, table.columns, strict=True)
    )
    body = ""
    for row in table.rows:
        cells = ""
        for number, name, cell in zip(numbers, table.columns, row, strict=True):
            text = shown(cell)
            # A type's name breaks where a reader would break it.
            written = escape(text).replace("ml.", "ml.<wbr>") if table.turned else escape(text)
            style = "n" if number else "wide" if len(text) > 60 else ""
            cells += f'<td class="{style} {"empty" if cell in (None, "") else ""}" data-name="{escape(name.strip())}">{written}</td>'
        body += f"<tr{' class=total' if row[0] == 'total' else ''}>{cells}</tr>"
    # So wide that a phone shows three models at once, and scrolls to more.
    kind = (
        f'class="turned" style="min-width:max(100%,{5 * len(table.columns)}rem)"'
        if table.turned
        else 'class="cards"'
    )
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in table.notes)
    return f'<h2>{escape(table.title)}</h2><div class="scroll"><table {kind}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{notes}'
