"""The decision in two sentences: what to run and until where that holds, and what would win instead."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..bill import Bill
from ..decide import Question
from ..doubt import Answer, Switch
from ..lines import AtLeast
from ..sheet import Table
from .groups import by_model, grouped, why_not
from .tables import money, not_counted


def verdict(question: Question, answer: Answer) -> tuple[str, ...]:
    """The sentences. A command that settles what is open is `answer.switch.measure`."""
    best = answer.best
    first = _none(question) if best is None else _run(question, answer, best)
    if answer.switch is not None:
        return first, _instead(answer.switch, best)
    return (first, *_settled(question, answer))


def limits(question: Question) -> str:
    """What was asked, in words."""
    parts = [
        f"p95 at most {question.p95_seconds:g} s" if math.isfinite(question.p95_seconds) else "",
        f"NDCG@10 at least {question.min_ndcg:g}" if question.min_ndcg is not None else "",
    ]
    return " and ".join(filter(None, parts)) or "any latency"


def _run(question: Question, answer: Answer, best: Bill) -> str:
    meets = f"it meets the limits (p95 {seconds(best.p95)}{_ranks(best, ', ')}; asked: {limits(question)})"
    if math.isinf(answer.holds):
        held = f"at any likely speed {meets}"
    else:
        times = f"{answer.holds:,.{0 if answer.holds >= 10 else 1}f}"
        known = answer.estimated or best
        held = (
            f"with {question.scenario.confidence:.0%} confidence in its speed {meets}, as long as a request takes less than "
            f"{seconds(answer.holds * known.speed.seconds)}, {times} times {'what was measured' if _measured(known) else 'the estimate'}"
        )
    return f"Run {best.deployment.name}: {_cost(answer, best)} a month; {held}.{_doubts(best)}"


def _cost(answer: Answer, best: Bill) -> str:
    """The month, and what it would be at other speeds where that differs."""
    others = {"as estimated": answer.estimated, "at the fast bound": answer.fast}
    differing = [f"{money(bill.usd)} {how}" for how, bill in others.items() if bill and bill.usd != best.usd]
    return money(best.usd) + (f" ({', '.join(differing)})" if differing else "")


def _estimate(answer: Answer, best: Bill) -> float:
    return (answer.estimated or best).speed.seconds


def _measured(bill: Bill) -> bool:
    return bill.speed.basis == "measured"


def _ranks(bill: Bill, before: str) -> str:
    """Its quality, where that is known."""
    ndcg = bill.deployment.choice.ndcg
    return f"{before}NDCG@10 {ndcg:g}" if ndcg is not None else ""


def seconds(value: float) -> str:
    """Seconds in a sentence."""
    return f"{value:.3g} s" if value < 100 else f"{value:,.0f} s"


def _doubts(bill: Bill) -> str:
    """What the price does not say for sure."""
    suspect = [line for line in bill.lines if line.price.confidence == "suspect"]
    said = [
        f" Its price of {line.price.date}, {line.price.usd} USD per {line.unit}, is marked suspect: check it."
        for line in suspect
    ]
    if isinstance(bill.usd, AtLeast):
        said.append(f" Not counted, as no price is known: {not_counted(bill.statement)}.")
    return "".join(said)


def _none(question: Question) -> str:
    asked = f"{limits(question)} with {question.scenario.confidence:.0%} confidence in speeds"
    groups = grouped(question, by_model)
    reasons = "; ".join(
        f"{choice.name}: {why_not(question, groups.get(choice.name, []))}" for choice in question.choices
    )
    return f"Nothing meets the limits ({asked}): {reasons}."


def _instead(switch: Switch, best: Bill | None) -> str:
    bill = switch.bill
    would = (
        f"Instead, {bill.deployment.name} would win" if best else f"{bill.deployment.name} would meet them"
    )
    ranks = _ranks(bill, " and ")
    if best and ranks == _ranks(best, " and "):
        ranks = ""
    known = f"{'so far' if _measured(bill) else 'estimated'} {seconds(bill.speed.seconds)}"
    return (
        f"{would} at {money(bill.usd)}{ranks}, if a request measured there takes less than "
        f"{seconds(switch.measured)} ({known}); one measurement settles it:{_doubts(bill)}"
    )


def _settled(question: Question, answer: Answer) -> Iterator[str]:
    if answer.best is not None and question.scenario.confidence > 0.5:
        yield "If speeds are as estimated, nothing else wins."
    elif answer.best is None:
        yield "Nor would anything if speeds are as estimated."


def decision_table(answer: Answer) -> Table:
    """The decision as records: what to run, and what would win instead. For machines: people read the sentences."""
    columns = (
        "what",
        "deployment",
        "model",
        "precision",
        "mode",
        "instance",
        "region",
        "USD/month",
        "USD/month estimated",
        "USD/month fast",
        "not counted",
        "p95 s",
        "seconds estimated",
        "up to seconds",
        "measured below",
        "measure",
        "hit rate",
    )
    rows: list[tuple[object, ...]] = []
    best, switch = answer.best, answer.switch
    if best is not None:
        estimate = _estimate(answer, best)
        until = None if math.isinf(answer.holds) else round(answer.holds * estimate, 4)
        usd = (best.usd, *(bill and bill.usd for bill in (answer.estimated, answer.fast)))
        rows.append(
            (
                "run",
                *_named(best),
                *usd,
                not_counted(best.statement),
                *_rounded(best.p95, estimate),
                until,
                None,
                None,
                best.hit_rate,
            )
        )
    if switch is not None:
        bill = switch.bill
        usd = (None, bill.usd, None)
        times = _rounded(bill.p95, bill.speed.seconds)
        rows.append(
            (
                "instead",
                *_named(bill),
                *usd,
                not_counted(bill.statement),
                *times,
                *_rounded(switch.below, switch.measured),
                switch.measure,
                bill.hit_rate,
            )
        )
    return Table(
        key="decision",
        title="The decision",
        columns=columns,
        rows=tuple(rows),
        shown_as=Table(key="decision", title="", columns=(), rows=()),
    )


def _named(bill: Bill) -> tuple[str, ...]:
    run = bill.deployment
    return run.name, run.choice.name, run.precision, run.mode, run.instance, run.region


def _rounded(*values: float) -> tuple[float, ...]:
    return tuple(round(value, 4) for value in values)
