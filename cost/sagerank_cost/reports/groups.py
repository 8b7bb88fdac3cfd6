"""Deployments by model and by what they run on: the best of each group, or why there is none in the few words a table has room for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from .. import CostError
from ..bill import (
    ERRORS,
    IN_TIME,
    MAX_BYTES,
    REQUEST_SECONDS,
    Bill,
    Deployment,
    bill,
    largest_bytes,
)
from ..catalogue import Catalogue
from ..decide import Decision, Question, alone, candidates, unnamed_baseline
from ..memory import SERVER_MB, copy_mb, serverless_mb, usual_fit

Group = TypeVar("Group")
# What costs so many times as much as what is recommended, nobody would buy.
DEAR = 10


def hardware(deployment: Deployment, catalogue: Catalogue) -> str:
    """What a deployment runs on: CPU, GPU or serverless; or its mode, where that says more."""
    if deployment.mode != "realtime":
        return deployment.mode
    return "GPU" if catalogue.instance(deployment.instance).gpu else "CPU"


def best_of(decision: Decision, key: Callable[[Deployment], Group]) -> dict[Group, Bill]:
    """The deployment that the decision would take of each group; groups of which none is feasible are left out."""
    groups: dict[Group, list[Bill]] = {}
    for each in decision.bills:
        groups.setdefault(key(each.deployment), []).append(each)
    found = {group: replace(decision, bills=tuple(bills)).best for group, bills in groups.items()}
    return {group: best for group, best in found.items() if best is not None}


def too_dear(bill: Bill, decision: Decision) -> bool:
    """Whether nobody would buy it: it costs more than DEAR times what is recommended, and its model can be had for less."""
    if decision.best is None or bill.usd <= decision.best.usd * DEAR:
        return False
    model = bill.deployment.choice
    return any(other.deployment.choice == model and other.usd < bill.usd for other in decision.bills)


def by_model(deployment: Deployment) -> str:
    """The key of the groups by model."""
    return deployment.choice.name


def by_model_and_hardware(catalogue: Catalogue) -> Callable[[Deployment], tuple[str, str]]:
    """The key of the groups by model and what it runs on."""
    return lambda deployment: (deployment.choice.name, hardware(deployment, catalogue))


def grouped(question: Question, key: Callable[[Deployment], Group]) -> dict[Group, list[Deployment]]:
    """All that the question allows, by group; burstable types only where they are named, as nothing else admits them."""
    groups: dict[Group, list[Deployment]] = {}
    for deployment in candidates(question):
        if unnamed_baseline(question, deployment) is None:
            groups.setdefault(key(deployment), []).append(deployment)
    return groups


def why_not(question: Question, deployments: Sequence[Deployment]) -> str:
    """The reason of the one that comes nearest: the fastest. All are of one model, and none meets the question."""
    if not deployments:
        return "not sold there"
    quality = deployments[0].choice.ndcg
    if question.min_ndcg is not None and (quality is None or quality < question.min_ndcg):
        return "rank not known" if quality is None else f"ranks {quality:g}"
    known = [(p95, one) for one in deployments if (p95 := _alone(one, question)) is not None]
    if not known:
        return _too_small(question, deployments)
    p95, fastest = min(known, key=lambda pair: pair[0])
    limit = question.p95_seconds
    return _slow(p95) if p95 > limit else _in_traffic(question, fastest, p95)


def _in_traffic(question: Question, deployment: Deployment, p95: float) -> str:
    """What a deployment that answers soon enough alone lacks in traffic. `p95` is its own without waiting."""
    found = _with_any_fleet(deployment, question)
    if found is None:
        late = deployment.mode in IN_TIME and p95 > REQUEST_SECONDS
        return _slow(p95) if late else "cannot carry it"
    if found.running.peak > deployment.max_instances and deployment.mode != "serverless":
        return f"over {deployment.max_instances} instances"
    return f"{found.running.failing:.0%} fail" if found.running.failing > ERRORS else _slow(found.p95)


def _slow(p95: float) -> str:
    return f"too slow, {p95:.3g} s" if p95 < 1000 else f"too slow, {p95:,.0f} s"


def _alone(deployment: Deployment, question: Question) -> float | None:
    try:
        return alone(question, deployment)
    except CostError:
        return None


def _with_any_fleet(deployment: Deployment, question: Question) -> Bill | None:
    try:
        return bill(replace(deployment, max_instances=max(1000, deployment.max_instances)), question.scenario)
    except CostError:
        return None


def _too_small(question: Question, deployments: Sequence[Deployment]) -> str:
    """None takes a request at all: the request is too large, its memory too small, or it lacks the arithmetic."""
    tokens = question.scenario.tokens_at_once
    largest = largest_bytes(question.scenario.traffic)
    if all(largest > MAX_BYTES[one.mode] for one in deployments):
        return f"{largest / 1e6:,.0f} MB too large"
    needs = set()
    for one in deployments:
        if one.mode == "serverless":
            smallest = serverless_mb(one.choice, one.precision, tokens)
            if smallest is None:
                needs.add(math.ceil(copy_mb(one.choice, one.precision, tokens) + SERVER_MB))
            elif int(one.instance) < smallest:
                needs.add(smallest)
        else:
            instance = question.scenario.catalogue.instance(one.instance)
            room = usual_fit(one.choice, one.precision, tokens, instance, mode=one.mode)
            if not room.copies:
                needs.add(math.ceil(room.needed_mb))
    return f"needs {min(needs):,} MB" if needs else "cannot take it"
