"""`sagerank verify`: does the endpoint run what its stack wants, and score the golden pairs as the PyTorch reference did?"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sagerank.client import START_SECONDS
from sagerank_inference.archive import manifest_of
from sagerank_inference.artefact import MANIFEST, MOST_BYTES, ArtefactError, GoldenPair, Manifest
from sagerank_inference.contract import RerankError, TokenLimitExceeded

from . import OperateError, stacks
from .account import Account, look_up
from .endpoint import Endpoint, Variant, describe
from .terminal import QUEUED, STARTING

# Of a logit, against the float32 reference: the server's own limit on CPU.
TOLERANCE = 1e-3
_MOST_BEFORE = 64 << 20  # bytes in an archive before its manifest
_PAUSES = (1.0, 2.0, 4.0)
_START_PAUSE = 5.0
Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long all golden pairs together may wait for an endpoint that starts from zero instances; progress hears of it."""

    seconds: float
    progress: Progress
    began: float = field(default_factory=time.monotonic)

    def wait(self, why: str) -> bool:
        """Say why, and return whether to try again."""
        passed = time.monotonic() - self.began
        self.progress(why, passed)
        return passed < self.seconds


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
    judged: tuple[TargetCheck, ...]
    not_judged: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.rolled_back and all(judged.ok for judged in self.judged)


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
    judged, not_judged = [], []
    patience = Patience(START_SECONDS, progress)
    for target, variant, arguments in _targets(endpoint):
        if variant.shadow:
            not_judged.append(f"{target}: a shadow's answers are dropped")
            continue
        container = _container(account, variant)
        found = manifest or _deployed_manifest(account, container)
        limit = tolerance if tolerance is not None else max(_tolerance(container, found), found.tolerance)
        invoke = partial(_invoke, account, name, arguments, patience)
        if endpoint.asynchronous:  # its API chooses neither a variant nor a component
            invoke = partial(_invoke_async, account, name, patience)
        scores = tuple(_score(pair, invoke) for pair in found.golden)
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
        judged=tuple(judged),
        not_judged=tuple(not_judged),
    )


def _wanted(account: Account, stack: stacks.Stack) -> str:
    made = stacks.names(stacks.resources_of(account, stack), "AWS::SageMaker::EndpointConfig")
    return made[0] if made else ""


def _targets(endpoint: Endpoint) -> list[tuple[str, Variant, dict[str, str]]]:
    """What can be asked by name, and how an invocation says so."""
    if endpoint.components:
        of = {variant.name: variant for variant in endpoint.variants}
        return [
            (part.name, of[part.variant], {"InferenceComponentName": part.name})
            for part in endpoint.components
        ]
    serving = [variant for variant in endpoint.variants if not variant.shadow]
    return [
        (variant.name, variant, {"TargetVariant": variant.name} if len(serving) > 1 else {})
        for variant in endpoint.variants
    ]


def _container(account: Account, variant: Variant) -> Mapping[str, Any]:
    if not variant.models:
        raise OperateError(
            f"The variant {variant.name} has no model: its inference components are gone, or its configuration was deleted."
        )
    found: Mapping[str, Any] = (
        account.client("sagemaker").describe_model(ModelName=variant.models[0]).get("PrimaryContainer", {})
    )
    return found


def _tolerance(container: Mapping[str, Any], manifest: Manifest) -> float:
    device = container.get("Environment", {}).get("SAGERANK_DEVICE", "")
    return manifest.bfloat16_tolerance if device.startswith("cuda") else TOLERANCE


def _deployed_manifest(account: Account, container: Mapping[str, Any]) -> Manifest:
    """The manifest of the artefact in S3. Only its first bytes are read: the manifest stands before the weights."""
    source = container.get("ModelDataSource", {}).get("S3DataSource", {})
    address = container.get("ModelDataUrl") or (
        source.get("S3Uri", "").rstrip("/") + f"/{MANIFEST}" if source else ""
    )
    if not address:
        raise OperateError(
            "The model's container names no artefact (a Marketplace package has none to see): give --model, whose golden pairs are asked."
        )
    body = _open(account, address)
    if body is None:
        raise OperateError(f"{address} does not exist any more: give --model, whose golden pairs are asked.")
    try:
        whole = address.endswith(MANIFEST)
        text = body.read(MOST_BYTES + 1) if whole else manifest_of(body, address, most=_MOST_BEFORE)
        return Manifest.parse(text, address)
    except (ArtefactError, OSError) as error:
        raise OperateError(f"{error} Or give --model, whose golden pairs are asked.") from None


def bucket_and_key(address: str) -> tuple[str, str]:
    """Bucket and key of s3://BUCKET/KEY or https://s3.REGION.amazonaws.com/BUCKET/KEY."""
    rest = address.partition("://")[2]
    if address.startswith("https://"):
        rest = rest.partition("/")[2]
    bucket, _, key = rest.partition("/")
    return bucket, key


def _score(pair: GoldenPair, invoke: Callable[[bytes], bytes]) -> Score:
    # TEI's form is the one that can ask for the logit itself; that of a cut text has no reference.
    own = {"query": pair.query, "texts": [pair.document], "raw_scores": True, "truncate": False}
    body = json.dumps(own).encode()
    try:
        answer = json.loads(invoke(body))
        return Score(pair.query, pair.logit, float(answer[0]["score"]))
    except (RerankError, OperateError) as error:
        return Score(pair.query, pair.logit, None, str(error))
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError):
        return Score(
            pair.query, pair.logit, None, "The answer is not that of a reranker with TEI's interface."
        )


def _invoke(account: Account, name: str, arguments: dict[str, str], patience: Patience, body: bytes) -> bytes:
    from sagerank.errors import NoCapacity
    from sagerank.transport import RETRYABLE, SageMakerTransport

    async def ask() -> bytes:
        transport = SageMakerTransport(
            name,
            region=account.region,
            profile=account.profile,
            inference_component=arguments.get("InferenceComponentName"),
            target_variant=arguments.get("TargetVariant"),
            endpoint_url=account.endpoint_url,
        )
        pauses = iter(_PAUSES)
        try:
            while True:
                try:
                    return await transport(body)
                except NoCapacity:
                    if not patience.wait(STARTING):
                        raise
                    await asyncio.sleep(_START_PAUSE)
                except RETRYABLE:  # a serverless container that starts, or a burst of other calls
                    if (pause := next(pauses, None)) is None:
                        raise
                    await asyncio.sleep(pause)
        finally:
            await transport.close()

    return asyncio.run(ask())


def _invoke_async(account: Account, name: str, patience: Patience, body: bytes) -> bytes:
    """Send the request inline, and wait for its answer in S3."""
    sent = account.client("sagemaker-runtime").invoke_endpoint_async(
        EndpointName=name, ContentType="application/json", Body=body
    )
    outcomes = {sent["OutputLocation"]: True, sent.get("FailureLocation", ""): False}
    while True:
        for address, good in outcomes.items():
            stored = _open(account, address) if address else None
            if stored is None:
                continue
            answer: bytes = stored.read()
            if good:
                return answer
            raise OperateError(f"The request failed: {answer.decode(errors='replace')[:500]}")
        if not patience.wait(QUEUED):
            raise OperateError(
                f"No answer came to {sent['OutputLocation']} within {patience.seconds:.0f} s: the endpoint may be starting from zero instances; try again."
            )
        time.sleep(1.0)


def _open(account: Account, address: str) -> Any:
    """The object at an S3 address as a stream, or None where there is none."""
    bucket, key = bucket_and_key(address)
    answer = look_up(account.client("s3").get_object, Bucket=bucket, Key=key)
    return answer and answer["Body"]
