"""What becomes of a decision if speeds are not as estimated: what it costs then, what would win instead, and which measurement settles it."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import NormalDist

from . import CostError
from .bill import Bill, Deployment, bill, request_alone
from .decide import TIE, Decision, Question, Refused, admit, compared, decide
from .throughput import to_measure

FAST, ESTIMATE, SLOW = 0.05, 0.5, 0.95
_NORMAL = NormalDist()
# As far as slower speeds are looked at: the slow bound's factor on the estimate, to the third power.
_FARTHEST = 1 - 1e-7
_HALVINGS = 12


@dataclass(frozen=True, slots=True)
class Switch:
    """A deployment that would be run instead of the recommended one, if a request there took less than `below` seconds.

    `bill` is its month at the estimated speed. `measure` is the command that finds its speed out, and `measured` the seconds below
    which its answer makes this deployment the one to run: less than `below`, since what is measured has bounds, too.
    """

    bill: Bill
    below: float
    measured: float

    @property
    def measure(self) -> str:
        """The command that measures the deployment, once it runs, with requests as they were asked about."""
        run, traffic = self.bill.deployment, self.bill.scenario.traffic
        what = f"--instance {run.instance} --model {shlex.quote(run.choice.name)} --precision {run.precision}"
        shape = f"--documents {traffic.documents} --tokens {traffic.tokens}"
        return f"sagerank cost measure --endpoint NAME --region {run.region} {what} {shape}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A decision at the confidence that was asked for, and what it rests on.

    `expected` is the decision if speeds are as estimated. `fast`, `estimated` and `slow` are the recommended deployment's bills at its
    bounds; None where it cannot be priced there. `holds` is how many times as long as estimated its requests may take until it no
    longer meets the question; infinite where that was not found. `switch` is None where nothing else would win. `int8` has, by
    model, the cheapest deployment in int8, which needs weights that pass the gate.
    """

    decision: Decision
    expected: Decision
    fast: Bill | None = None
    estimated: Bill | None = None
    slow: Bill | None = None
    holds: float = float("inf")
    switch: Switch | None = None
    int8: dict[str, Bill]

    @property
    def best(self) -> Bill | None:
        """What to run: it meets the question even where speeds are as slow as the confidence says."""
        return self.decision.best


def answer(question: Question) -> Answer:
    """Decide, and say how the decision depends on speeds. Raises CostError where the question makes no sense."""
    decision, expected = decide(question), decide(question.at(ESTIMATE))
    int8: dict[str, Bill] = {}
    if "int8" not in question.precisions:
        for found in decide(replace(question, precisions=("int8",))).bills:  # cheapest first
            int8.setdefault(found.deployment.choice.name, found)
    best, switch = decision.best, _switch(question, decision, expected)
    if best is None:
        return Answer(decision=decision, expected=expected, switch=switch, int8=int8)
    fast, estimated, slow = (_bill(best.deployment, question.at(at)) for at in (FAST, ESTIMATE, SLOW))
    return Answer(
        decision=decision,
        expected=expected,
        fast=fast,
        estimated=estimated,
        slow=slow,
        holds=_holds(question, best.deployment),
        switch=switch,
        int8=int8,
    )


def _switch(question: Question, decision: Decision, expected: Decision) -> Switch | None:
    """What wins at the estimate, if it is not what wins at the question's higher confidence, and until where."""
    best, other = decision.best, expected.best
    if (
        other is None
        or question.scenario.confidence < ESTIMATE
        or (best is not None and other.deployment == best.deployment)
    ):
        return None

    def wins(confidence: float) -> bool:
        found = _admitted(other.deployment, question.at(confidence))
        if found is None or best is None:
            return found is not None
        unknown = decision.unknown | expected.unknown
        limit = compared(best, unknown) * (1 + TIE if _ranks_better(found, best) else 1 - TIE)
        return compared(found, unknown) <= limit

    confidence = _last(wins, ESTIMATE, question.scenario.confidence)
    below = _seconds(other.deployment, question, confidence)
    return Switch(other, below, to_measure(below, question.scenario.confidence))


def _ranks_better(one: Bill, other: Bill) -> bool:
    return (one.deployment.choice.ndcg or 0) > (other.deployment.choice.ndcg or 0)


def _holds(question: Question, deployment: Deployment) -> float:
    """How many times as long as estimated requests may take."""

    def meets(confidence: float) -> bool:
        return _admitted(deployment, question.at(confidence)) is not None

    if meets(_FARTHEST):
        return float("inf")
    last = _last(meets, question.scenario.confidence, _FARTHEST)
    return _seconds(deployment, question, last) / _seconds(deployment, question, ESTIMATE)


def _last(true: Callable[[float], bool], low: float, high: float) -> float:
    """The confidence up to which a condition is true that is true at `low` and not at `high`; `high` where it is true there, too."""
    if true(high):
        return high
    # In steps of the standard normal variable, in which the logarithm of seconds is even.
    below, above = _NORMAL.inv_cdf(low), _NORMAL.inv_cdf(high)
    for _ in range(_HALVINGS):
        middle = (below + above) / 2
        below, above = (middle, above) if true(_NORMAL.cdf(middle)) else (below, middle)
    return _NORMAL.cdf(below)


def _seconds(deployment: Deployment, question: Question, confidence: float) -> float:
    return request_alone(deployment, question.at(confidence).scenario).seconds


def _admitted(deployment: Deployment, question: Question) -> Bill | None:
    try:
        return admit(question, deployment)
    except Refused:
        return None


def _bill(deployment: Deployment, question: Question) -> Bill | None:
    try:
        return bill(deployment, question.scenario)
    except CostError:
        return None
