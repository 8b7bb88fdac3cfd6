"""The monthly change between two states of a deployment, for a pull request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from ..lines import AtLeast, Statement
from ..sheet import Report, Table, data_notes, markdown, shown
from .tables import explain_line

ZERO = Decimal("0.00")


@dataclass(slots=True)
class _Side:
    """What a resource costs on one side: its lines by what they are of, None where the price is not known."""

    usd: dict[str, Decimal | None] = field(default_factory=dict)

    @property
    def unknown(self) -> list[str]:
        return [what for what, usd in self.usd.items() if usd is None]

    @property
    def total(self) -> Decimal | None:
        """None where it is not on this side."""
        known = sum((usd for usd in self.usd.values() if usd is not None), ZERO)
        return None if not self.usd else AtLeast(known, self.unknown) if self.unknown else known


def diff_report(old: Statement, new: Statement, limit: Decimal | None = None) -> Report:
    """Every resource whose cost changes, the sum of the others, both totals, and whether the new one is within `limit` USD."""
    before, after = _by_resource(old), _by_resource(new)
    rows: list[tuple[object, ...]] = []
    same: list[Decimal] = []
    for resource in sorted({*before, *after}):
        one, other = before.get(resource, _Side()), after.get(resource, _Side())
        if one.usd == other.usd:
            same.append(one.total or ZERO)
        else:
            rows.append((resource, _what(one, other), one.total, other.total, _change(one, other)))
    rows.sort(key=lambda row: (-abs(row[4]) if isinstance(row[4], Decimal) else Decimal("-inf"), str(row[0])))
    if same:
        usd = _sum(same)
        rows.append((f"{len(same)} without a change", "", usd, usd, ZERO))
    change = _change(_whole(old), _whole(new))
    rows.append(("total", "", old.usd, new.usd, change))
    lines = sorted({*old.lines, *new.lines, *old.unknown, *new.unknown})
    return Report(
        title="Monthly cost",
        tables=(
            Table(
                key="diff",
                title="By resource",
                columns=("resource", "what", "old USD", "new USD", "change USD"),
                rows=tuple(rows),
            ),
            Table(
                key="lines",
                title="Every line",
                columns=("line", "old USD", "new USD", "not counted"),
                rows=tuple((name, _usd(old, name), _usd(new, name), _why(old, new, name)) for name in lines),
                detail=True,
            ),
        ),
        conclusion=(f"{_sentence(old.usd, new.usd, change)}{_budget(new, limit)}.",),
        notes=(*_notes(old, new), *data_notes(new.catalogue)),
        explained=tuple(
            explain_line(line, new.catalogue).replace(f"  {line.name}", name, 1)
            for name, line in new.lines.items()
        ),
        monthly=new.usd,
    )


def comment(report: Report, *, explain: bool = False) -> str:
    """The report for a pull request: a sentence, one Markdown table, and the notes folded below it."""
    table = report.tables[0]
    rules = ["---:" if name.endswith("USD") else "---" for name in table.columns]
    below = [*report.notes, *(report.explained if explain else ())]
    return "\n".join(
        [
            *report.conclusion,
            "",
            *(_markdown(row) for row in (table.columns, rules, *table.rows)),
            "",
            "<details><summary>What is counted, and what is not</summary>",
            "",
            *(f"- {markdown(note)}" for note in below),
            "",
            "</details>",
        ]
    )


def _markdown(row: Iterable[object]) -> str:
    return f"| {' | '.join(markdown(shown(cell)) for cell in row)} |"


def _by_resource(statement: Statement) -> dict[str, _Side]:
    """Lines are named RESOURCE: WHAT; those of a configuration are resources of their own."""
    sides: dict[str, _Side] = {}
    priced: Mapping[str, Decimal | None] = {name: line.usd for name, line in statement.lines.items()}
    for name, usd in {**priced, **dict.fromkeys(statement.unknown)}.items():
        resource, _, what = name.partition(": ")
        sides.setdefault(resource, _Side()).usd[what] = usd
    return sides


def _whole(statement: Statement) -> _Side:
    return _Side(
        {"": sum((line.usd for line in statement.lines.values()), ZERO), **dict.fromkeys(statement.unknown)}
    )


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    amounts = list(amounts)
    known = sum(map(Decimal, amounts), ZERO)
    return AtLeast(known) if any(isinstance(usd, AtLeast) for usd in amounts) else known


def _change(one: _Side, other: _Side) -> Decimal | None:
    """A lower bound where only the new side lacks a line; None, not known, where the old one lacks a line that the new one has not."""
    change = Decimal(other.total or ZERO) - Decimal(one.total or ZERO)
    if set(one.unknown) == set(other.unknown):
        return change or ZERO
    return None if one.unknown else AtLeast(change, other.unknown)


def _what(one: _Side, other: _Side) -> str:
    """The lines that differ: those that were, and those that are."""
    sides = (
        ", ".join(
            what for what, usd in side.usd.items() if what and (what not in rest.usd or rest.usd[what] != usd)
        )
        for side, rest in ((one, other), (other, one))
    )
    return " → ".join(dict.fromkeys(filter(None, sides)))


def _usd(statement: Statement, name: str) -> Decimal | None:
    return statement.lines[name].usd if name in statement.lines else None


def _why(old: Statement, new: Statement, name: str) -> str:
    return new.unknown.get(name) or old.unknown.get(name, "")


def _sentence(old: Decimal, new: Decimal, change: Decimal | None) -> str:
    totals = f"from {shown(old)} to {shown(new)} USD"
    if change is None:
        return f"Monthly cost goes {totals}, a change that is not known"
    if isinstance(change, AtLeast):
        return f"Monthly cost {'rises' if change > 0 else 'goes'} {totals} ({shown(change)})"
    if not change:
        return f"Monthly cost stays at {shown(new)} USD"
    share = f", {change / old:+.0%}" if old else ""
    return f"Monthly cost {'rises' if change > 0 else 'falls'} {totals} ({change:+,}{share})"


def _budget(new: Statement, limit: Decimal | None) -> str:
    used = ", without what depends on use" if new.by_use else ""
    if limit is None:
        return used
    if new.usd > limit:
        return f": OVER the budget of {limit:,} USD"
    if new.unknown:
        return f": whether it is within the budget of {limit:,} USD cannot be said, as no price is known of {listed(new.unknown)}"
    return f": within the budget of {limit:,} USD{used}"


def listed(names: Iterable[str]) -> str:
    """The first few names, and how many more there are."""
    first, rest = list(names)[:3], len(list(names)) - 3
    return f"{', '.join(first)} and {rest} more" if rest > 0 else ", ".join(first)


def _notes(old: Statement, new: Statement) -> list[str]:
    """What is not counted, by reason, and what both statements say beside."""
    notes = []
    for said, whys in (
        ("not counted", old.unknown | new.unknown),
        ("depends on use, not counted", old.by_use | new.by_use),
    ):
        for why in dict.fromkeys(whys.values()):
            names = ", ".join(name for name in whys if whys[name] == why)
            notes.append(f"{said}: {names} ({why.removesuffix('.')})")
    if any(name.endswith(": requests") for name in new.by_use):
        notes.append("--usage FILE says how much endpoints are used, and counts it")
    return list(dict.fromkeys([*notes, *old.said, *new.said]))
