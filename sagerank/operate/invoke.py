"""One request to an endpoint, sent straight or through its queue, and waited for where the endpoint starts from zero instances."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from . import OperateError
from .account import Account
from .stored import opened

STARTING, QUEUED = "no instance; AWS is starting one", "queued; AWS starts an instance where there is none"
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


def invoke(account: Account, name: str, arguments: dict[str, str], patience: Patience, body: bytes) -> bytes:
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


def invoke_async(account: Account, name: str, patience: Patience, body: bytes) -> bytes:
    """Send the request inline, and wait for its answer in S3."""
    sent = account.client("sagemaker-runtime").invoke_endpoint_async(
        EndpointName=name, ContentType="application/json", Body=body
    )
    outcomes = {sent["OutputLocation"]: True, sent.get("FailureLocation", ""): False}
    while True:
        for address, good in outcomes.items():
            stored = opened(account, address) if address else None
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
