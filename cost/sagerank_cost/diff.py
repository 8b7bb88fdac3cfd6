"""The monthly change between two states of a deployment, for a pull request."""

from __future__ import annotations

from decimal import Decimal

from .catalogue import Catalogue
from .report import explain_line
from .sheet import Report, Table, data_notes
from .template import Standing


def diff_report(old: Standing, new: Standing, catalogue: Catalogue, limit: Decimal | None = None) -> Report:
    """Every resource that costs something in either, the change, and both totals."""
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
        "Monthly cost",
        (Table("diff", "By resource", ("resource", "old USD", "new USD", "change USD"), tuple(rows)),),
        tuple(conclusion),
        (*new.notes, *data_notes(catalogue)),
        explained=tuple(
            explain_line(line, catalogue).replace(f"  {line.name}", name, 1)
            for name, line in new.lines.items()
        ),
        monthly=new.usd,
    )
