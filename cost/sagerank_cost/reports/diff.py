"""The monthly change between two states of a deployment, for a pull request."""

from __future__ import annotations

from decimal import Decimal

from ..lines import Statement
from ..sheet import Report, Table, data_notes
from .tables import explain_line


def diff_report(old: Statement, new: Statement, limit: Decimal | None = None) -> Report:
    """Every resource that costs something in either, the change, both totals, and whether the new one is within `limit` USD."""
    rows: list[tuple[object, ...]] = []
    for name in sorted({*old.lines, *new.lines}):
        before = old.lines[name].usd if name in old.lines else None
        after = new.lines[name].usd if name in new.lines else None
        change = (after or Decimal("0.00")) - (before or Decimal("0.00"))
        rows.append((name, before, after, change if change else Decimal("0.00")))
    rows.sort(key=lambda row: (-abs(Decimal(str(row[3]))), str(row[0])))
    change = new.usd - old.usd
    rows.append(("total", old.usd, new.usd, change))
    share = f" ({change / old.usd:+.0%})" if old.usd else ""
    conclusion = [
        f"Monthly cost {'rises' if change > 0 else 'falls' if change < 0 else 'stays'}: {old.usd:,} -> {new.usd:,} USD, {change:+,}{share}."
    ]
    if limit is not None:
        over = new.usd > limit
        conclusion.append(f"That is {'OVER' if over else 'within'} the budget of {limit:,} USD a month.")
    return Report(
        title="Monthly cost",
        tables=(
            Table(
                key="diff",
                title="By resource",
                columns=("resource", "old USD", "new USD", "change USD"),
                rows=tuple(rows),
            ),
        ),
        conclusion=tuple(conclusion),
        notes=(*new.notes, *data_notes(new.catalogue)),
        explained=tuple(
            explain_line(line, new.catalogue).replace(f"  {line.name}", name, 1)
            for name, line in new.lines.items()
        ),
        monthly=new.usd,
    )
