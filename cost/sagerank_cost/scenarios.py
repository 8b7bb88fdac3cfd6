"""Several questions in one file: a row each, answered by a row each."""

from __future__ import annotations

import argparse
import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from . import CostError, unknown
from .arguments import read
from .bill import Bill, bill
from .catalogue import Catalogue
from .decide import Decision, Question, decide
from .doubt import ESTIMATE
from .lines import AtLeast
from .options import COLUMNS, OPTIONS
from .questions import question
from .reports.tables import explain, on
from .sheet import Report, Table, data_notes
from .store import rows
from .templates.intrinsics import plain

# Half a second each.
MOST = 1000
ANSWER = (
    "scenario",
    "feasible",
    "decision",
    "USD/month",
    "USD/month estimate",
    "p95 s",
    "NDCG@10",
    "model",
    "mode",
    "instance",
    "region",
    "precision",
    "not counted",
    "why not",
)
_SPEEDS = "USD/month and p95 s are at the confidence asked for, USD/month estimate at 50 %: the same deployment at the speed that is estimated."


def scenarios_report(options: argparse.Namespace, prices: Catalogue) -> Report:
    """The cheapest deployment for every row of the file `options.scenarios`, whose columns are `name` and options.

    A cell that is empty is what the command line says, or the default. `monthly` is the dearest answer's, and None where a row
    has none. Raises CostError, with its line, for a row that cannot be asked, and for a column that is no option.
    """
    decisions = [(name, decide(asked)) for name, asked in list(_questions(options, prices))]
    answers = [_row(name, decision) for name, decision in decisions]
    bests = [decision.best for _, decision in decisions]
    found = [best for best in bests if best is not None]
    return Report(
        title=f"Scenarios of {options.scenarios.name}",
        tables=(
            Table(
                key="scenarios",
                title="The cheapest deployment for each",
                columns=ANSWER,
                rows=tuple(answers),
                notes=(_SPEEDS,),
                shown_as=_for_people(decisions),
            ),
        ),
        conclusion=(f"{len(found)} of {len(decisions)} scenarios can be met.",),
        notes=data_notes(prices),
        explained=tuple(line for best in found for line in explain(best)),
        monthly=_dearest(found) if len(found) == len(bests) else None,
    )


def flat(report: Report) -> str:
    """The report's table as CSV: one header line, and a line for each row."""
    buffer = io.StringIO()
    table = report.tables[0]
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerows(
        [table.columns, *([("" if cell is None else cell) for cell in row] for row in table.rows)]
    )
    return buffer.getvalue().rstrip("\n")


def _questions(options: argparse.Namespace, prices: Catalogue) -> Iterator[tuple[str, Question]]:
    path: Path = options.scenarios
    numbered = rows(path)
    if not 0 < len(numbered) <= MOST:
        raise CostError(f"{path} has {len(numbered):,} rows under its header: give 1 to {MOST:,}.")
    for column in numbered[0][1]:
        if column not in (*COLUMNS, "name"):
            raise unknown(f"column of scenarios in {path}", column, (*COLUMNS, "name"))
        if column in options.given:
            raise CostError(f"--{column} is a column of {path} too: give it in one of the two.")
    shared = [(name, text) for name, text in options.texts if name in COLUMNS]
    for line, row in numbered:
        try:
            asked = question(read("report", [*shared, *_cells(row, path.parent)]), prices)
        except CostError as error:
            raise CostError(f"{path}:{line}: {error}") from None
        yield plain(" ".join(row.get("name", "").split())) or f"line {line}", asked


def _cells(row: Mapping[str, str], folder: Path) -> Iterator[tuple[str, str]]:
    """A row's options; the file of a log lies beside the file of scenarios."""
    for name, cell in row.items():
        if name == "name" or not cell.strip():
            continue
        parts = re.split(r"[;|]", cell) if OPTIONS[name].many else [cell]
        for part in parts:
            yield name, str(folder / part) if name == "log" else part.strip()


def _row(name: str, decision: Decision) -> tuple[object, ...]:
    best = decision.best
    if best is None:
        reason = max(decision.refused, key=lambda each: decision.refused[each], default="")
        why = decision.examples.get(reason, "There is nothing to choose among.")
        return (name, "no", *[None] * (len(ANSWER) - 3), why)
    deployment = best.deployment
    return (
        name,
        "yes",
        deployment.name,
        best.usd,
        _estimate(best),
        round(best.p95, 3),
        deployment.choice.ndcg,
        deployment.choice.name,
        deployment.mode,
        deployment.hardware,
        deployment.region,
        deployment.precision,
        "; ".join(best.statement.unknown) or None,
        None,
    )


def _for_people(decisions: list[tuple[str, Decision]]) -> Table:
    """A line for each scenario; below the table why nothing is to be run, and what has no known price."""
    rows: list[tuple[object, ...]] = []
    notes = [_SPEEDS]
    for name, decision in decisions:
        answer = dict(zip(ANSWER, _row(name, decision), strict=True))
        notes += [f"{name}: {answer['why not']}"] if answer["why not"] else []
        notes += (
            [f"{name}: not counted, as no price is known: {answer['not counted']}"]
            if answer["not counted"]
            else []
        )
        best = decision.best
        where = (
            (best.deployment.choice.name, on(best), best.deployment.region) if best else ("nothing", "", "")
        )
        rows.append((name, *where, *(answer[column] for column in ANSWER[3:7])))
    return Table(
        key="scenarios",
        title="The cheapest deployment for each",
        columns=("scenario", "run", "on", "region", *ANSWER[3:7]),
        rows=tuple(rows),
        notes=tuple(notes),
        minor=("USD/month estimate", "NDCG@10"),
    )


def _estimate(best: Bill) -> Decimal | None:
    """None where it cannot be priced at the estimated speed, which is slower than a confidence below 50 % has it."""
    try:
        return bill(best.deployment, replace(best.scenario, confidence=ESTIMATE)).usd
    except CostError:
        return None


def _dearest(bills: list[Bill]) -> Decimal:
    """A lower bound where any of them is one."""
    dearest = max(each.usd for each in bills)
    return AtLeast(dearest) if any(isinstance(each.usd, AtLeast) for each in bills) else dearest
