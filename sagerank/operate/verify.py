"""`sagerank verify`: does the endpoint run what its stack wants, and score the golden pairs as the PyTorch reference did?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from sagerank.client import START_SECONDS
from sagerank_inference.artefact import ArtefactError, GoldenPair, Manifest
from sagerank_inference.contract import RerankError, TokenLimitExceeded

from . import OperateError, stacks, stored
from .account import Account
from .endpoint import Endpoint, describe
from .invoke import Patience, Progress, invoke, invoke_async

# Of a logit, against the float32 reference: the server's own limit on CPU.
TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Score:
    """A golden pair's score. logit is None where the invocation failed; then `error` says why."""

    query: str
    expected: float
    logit: float | None
    error: str = ""

    @property
    def drift(self) -> float:
        return float("inf") if self.logit is None else abs(self.logit - self.expected)


@dataclass(frozen=True, slots=True)
class TargetCheck:
    """The golden pairs' scores on a variant or an inference component."""

    target: str
    model: str  # as the manifest names it
    tolerance: float
    scores: tuple[Score, ...]

    @property
    def ok(self) -> bool:
        return all(score.drift <= self.tolerance for score in self.scores)  # so that a NaN is a mismatch too


@dataclass(frozen=True, slots=True)
class Pin:
    """Which artefact lies where a target's came from, by its manifest's SHA-256. pinned: the one that its server takes; empty: any."""

    target: str
    address: str
    manifest_sha256: str
    pinned: str

    @property
    def ok(self) -> bool:
        return self.pinned in ("", self.manifest_sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether an endpoint is right."""

    endpoint: str
    status: str
    config: str
    wanted: str  # the configuration that its stack made; empty where no stack is known
    stack: str
    rolled_back: bool  # the endpoint runs another
    reason: str
    pins: tuple[Pin, ...]
    judged: tuple[TargetCheck, ...]
    not_judged: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return (
            not self.rolled_back and all(pin.ok for pin in self.pins) and all(each.ok for each in self.judged)
        )


def verify(
    account: Account,
    name: str,
    *,
    manifest: Manifest | None = None,
    tolerance: float | None = None,
    wanted: str = "",
    progress: Progress = lambda *_: None,
) -> Verdict:
    """Judge an endpoint in service by `manifest`, or else by the one inside the artefact that SageMaker loads.

    wanted: name of the configuration it should run; by default the one its stack made last. progress: hears what is waited
    for, and seconds, where the endpoint has no instance yet.
    Raises OperateError where there is nothing to judge by.
    """
    endpoint = describe(account, name)
    stack = stacks.find(account, name).get("endpoint")
    wanted = wanted or (_wanted(account, stack) if stack else "")
    rolled_back = bool(wanted) and endpoint.config != wanted
    # CloudFormation's own rollback makes the stack want the old configuration again: its status tells.
    undone = stack is not None and "ROLLBACK" in stack.status
    reason = endpoint.failure or (stack.reason if stack and undone else "")
    pins, judged, not_judged = [], [], []
    patience = Patience(START_SECONDS, progress)
    for target, model, shadow, arguments in _targets(endpoint):
        if shadow:
            not_judged.append(f"{target}: a shadow's answers are dropped")
            continue
        container = _container(account, target, model)
        found = manifest
        if found is None:
            pin, found = _deployed_manifest(account, target, container)
            pins.append(pin)
        if found is None:
            not_judged.append(f"{target}: the artefact in S3 is not the one that it was deployed with")
            continue
        limit = tolerance if tolerance is not None else max(_tolerance(container, found), found.tolerance)
        ask = partial(invoke, account, name, arguments, patience)
        if endpoint.asynchronous:  # its API chooses neither a variant nor a component
            ask = partial(invoke_async, account, name, patience)
        scores = tuple(_score(pair, ask) for pair in found.golden)
        # Not those that the server's settings would cut.
        whole = tuple(score for score in scores if TokenLimitExceeded.REMEDY not in score.error)
        judged.append(TargetCheck(target, found.model, limit, whole or scores))
    return Verdict(
        endpoint=name,
        status=endpoint.status,
        config=endpoint.config,
        wanted=wanted,
        stack=stack.status if stack else "",
        rolled_back=rolled_back or undone,
        reason=reason,
        pins=tuple(pins),
        judged=tuple(judged),
        not_judged=tuple(not_judged),
    )


def _wanted(account: Account, stack: stacks.Stack) -> str:
    made = stacks.names(stacks.resources_of(account, stack), "AWS::SageMaker::EndpointConfig")
    return made[0] if made else ""


def _targets(endpoint: Endpoint) -> list[tuple[str, str, bool, dict[str, str]]]:
    """What can be asked by name, its model, whether it is a shadow, and how an invocation says which it means."""
    if endpoint.components:
        return [
            (part.name, part.model, False, {"InferenceComponentName": part.name})
            for part in endpoint.components
        ]
    serving = [variant for variant in endpoint.variants if not variant.shadow]
    return [
        (
            variant.name,
            "".join(variant.models[:1]),
            variant.shadow,
            {"TargetVariant": variant.name} if len(serving) > 1 else {},
        )
        for variant in endpoint.variants
    ]


def _container(account: Account, target: str, model: str) -> Mapping[str, Any]:
    if not model:
        raise OperateError(
            f"The variant {target} has no model: its inference components are gone, or its configuration was deleted."
        )
    found: Mapping[str, Any] = (
        account.client("sagemaker").describe_model(ModelName=model).get("PrimaryContainer", {})
    )
    return found


def _tolerance(container: Mapping[str, Any], manifest: Manifest) -> float:
    device = container.get("Environment", {}).get("SAGERANK_DEVICE", "")
    return manifest.bfloat16_tolerance if device.startswith("cuda") else TOLERANCE


def _deployed_manifest(
    account: Account, target: str, container: Mapping[str, Any]
) -> tuple[Pin, Manifest | None]:
    """Which artefact lies in S3, and its manifest; None, and nothing of it is believed, where the model is pinned to another."""
    source = container.get("ModelDataSource", {}).get("S3DataSource", {})
    address = str(container.get("ModelDataUrl") or source.get("S3Uri", ""))
    if not address:
        raise OperateError(
            "The model's container names no artefact (a Marketplace package has none to see): give --model, whose golden pairs are asked."
        )
    try:
        text = stored.manifest_text(account, address)
        if text is None:
            raise OperateError(
                f"{address} does not exist any more: give --model, whose golden pairs are asked."
            )
        pinned = container.get("Environment", {}).get("SAGERANK_MANIFEST_SHA256", "")
        pin = Pin(target, address, hashlib.sha256(text).hexdigest(), pinned)
        return pin, Manifest.parse(text, address) if pin.ok else None
    except (ArtefactError, OSError) as error:
        raise OperateError(f"{error} Or give --model, whose golden pairs are asked.") from None


def _score(pair: GoldenPair, ask: Callable[[bytes], bytes]) -> Score:
    # TEI's form is the one that can ask for the logit itself; that of a cut text has no reference.
    own = {"query": pair.query, "texts": [pair.document], "raw_scores": True, "truncate": False}
    body = json.dumps(own).encode()
    try:
        answer = json.loads(ask(body))
        return Score(pair.query, pair.logit, float(answer[0]["score"]))
    except (RerankError, OperateError) as error:
        return Score(pair.query, pair.logit, None, str(error))
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError):
        return Score(
            pair.query, pair.logit, None, "The answer is not that of a reranker with TEI's interface."
        )
