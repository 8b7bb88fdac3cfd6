"""The report's charts: cost against traffic, with the points at which the answer changes, and quality against cost."""

from __future__ import annotations

from collections.abc import Mapping

from ..bill import Bill
from ..plots import number
from ..sheet import Chart, Series
from .groups import by_model_and_hardware
from .sweep import DAYS_PER_MONTH, Sweep


def cost_chart(sweep: Sweep, best: Bill | None = None) -> Chart:
    """A line for each model and hardware that wins at some traffic; the rates from which another one does; and `best`, where it is."""
    key = by_model_and_hardware(sweep.question.scenario.catalogue)
    changes = sweep.changes(key)
    winners = dict.fromkeys(key(bill.deployment) for _, bill in changes if bill is not None)
    lines = sweep.usd(key)
    series = [
        Series(
            " ".join(group),
            tuple(per_day for per_day, _ in lines[group]),
            tuple(float(bill.usd) for _, bill in lines[group]),
        )
        for group in winners
    ]
    marked = [(per_day, bill) for per_day, bill in changes[1:] if bill is not None]
    if marked:
        series.append(
            Series(
                "another one wins from here",
                tuple(per_day for per_day, _ in marked),
                tuple(float(bill.usd) for _, bill in marked),
                tuple(number(_rounded(per_day)) for per_day, _ in marked),
            )
        )
    if best is not None:
        per_day = best.scenario.traffic.requests / DAYS_PER_MONTH
        series.append(Series("this traffic", (per_day,), (float(best.usd),), ("",)))
    return Chart(
        title="Cost against traffic",
        kind="lines",
        x="requests a day",
        y="US dollars a month",
        series=tuple(series),
        log="xy",
        money="y",
    )


def quality_chart(hardware: Mapping[tuple[str, str], Bill], best: Bill | None) -> Chart:
    """The best of each model on each hardware, of models whose quality is known."""
    kinds: dict[str, list[Bill]] = {}
    for (_, kind), bill in hardware.items():
        if bill.deployment.choice.ndcg is not None:
            kinds.setdefault(kind, []).append(bill)
    # A model's points are of one height: the leftmost has its name.
    named = {
        model: min(
            (bill for (other, _), bill in hardware.items() if other == model), key=lambda bill: bill.usd
        )
        for model, _ in hardware
    }

    def label(bill: Bill) -> str:
        model = bill.deployment.choice.name
        run = " (run this)" if best is not None and bill.deployment == best.deployment else ""
        return f"{model if bill is named[model] else ''}{run}".strip()

    series = [
        Series(
            kind,
            tuple(float(bill.usd) for bill in bills),
            tuple(bill.deployment.choice.ndcg or 0.0 for bill in bills),
            tuple(map(label, bills)),
        )
        for kind, bills in kinds.items()
    ]
    return Chart(
        title="Quality against cost, the cheapest of each model by hardware",
        kind="points",
        x="US dollars a month",
        y="NDCG@10",
        series=tuple(series),
        log="x",
        money="x",
    )


def _rounded(value: float) -> float:
    """To two digits: a change of winners is not known better."""
    return float(f"{value:.2g}")
