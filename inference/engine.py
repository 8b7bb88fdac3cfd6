"""Scores in one process: tokenise, plan, forward, scatter."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from .artefact import Manifest
from .contract import RerankError, Scores, Timings, Truncation
from .dialects import Call, render
from .plan import plan
from .tokenise import Tokeniser

if TYPE_CHECKING:
    from .settings import Settings


class Forward(Protocol):
    """The model proper: token ids of each pair of one batch -> logits."""

    tolerance: float  # how far a golden logit may be from the float32 reference

    def __call__(self, batch: Sequence[Sequence[int]]) -> list[float]: ...


class Engine:
    def __init__(
        self, manifest: Manifest, tokeniser: Tokeniser, forward: Forward, *, batch_tokens: int
    ) -> None:
        self.manifest, self.tokeniser, self.forward, self.batch_tokens = (
            manifest,
            tokeniser,
            forward,
            batch_tokens,
        )

    @classmethod
    def load(cls, model_dir: Path, settings: Settings) -> Self:
        """Verify the artefact's hashes, load it, warm it up and check its golden pairs.

        Raises ArtefactError where any of that fails: an engine that exists scores as the reference does.
        """
        manifest = Manifest.read(model_dir)
        manifest.verify(model_dir)
        tokeniser = load_tokeniser(model_dir, manifest, settings)
        engine = cls(
            manifest, tokeniser, load_forward(model_dir, settings), batch_tokens=settings.batch_tokens
        )
        engine.check_golden()
        # One batch of full size claims the memory that serving needs, before anybody waits for it.
        pair = tokeniser("", [""]).ids[0]
        engine.forward([pair] * max(1, settings.batch_tokens // len(pair)))
        return engine

    def score(
        self,
        query: str,
        documents: Sequence[str],
        truncation: Truncation = Truncation(),  # noqa: B008 - frozen
    ) -> Scores:
        """Logits in the order of `documents`. Raises TokenLimitExceeded where truncation is not allowed and a
        text does not fit.
        """
        start = time.perf_counter()
        windows = self.tokeniser(query, documents, truncation)
        tokenised = time.perf_counter()
        logits = [0.0] * len(windows.ids)
        for batch in plan([len(ids) for ids in windows.ids], max_tokens=self.batch_tokens):
            for index, logit in zip(
                batch, self.forward([windows.ids[index] for index in batch]), strict=True
            ):
                logits[index] = logit
        timings = Timings(tokenise=tokenised - start, queue=0.0, forward=time.perf_counter() - tokenised)
        return Scores(
            values=tuple(windows.scatter(logits)),
            query_tokens=windows.query_tokens,
            document_tokens=tuple(windows.document_tokens),
            timings=timings,
        )

    def answer(self, call: Call, *, request_id: str) -> tuple[bytes, str]:
        """Score what was parsed and render it: body and content type. Raises a RerankError with its dialect."""
        scores = []
        for request in call.requests:
            try:
                scores.append(
                    [self.score(group.query, group.documents, request.truncation) for group in request.groups]
                )
            except RerankError as error:
                error.dialect = request.dialect
                raise
        return render(call, scores, model=self.manifest.model, request_id=request_id)

    def check_golden(self) -> None:
        """Raise ArtefactError unless the golden pairs score as the reference scored them."""
        pairs = self.manifest.golden
        logits = [self.score(pair.query, [pair.document]).values[0] for pair in pairs]
        self.manifest.check_golden(logits, self.forward.tolerance)


def load_tokeniser(model_dir: Path, manifest: Manifest, settings: Settings) -> Tokeniser:
    return Tokeniser.load(
        model_dir,
        query_tokens=settings.query_tokens,
        max_tokens=min(settings.max_tokens, manifest.max_tokens),
        overlap_tokens=settings.overlap_tokens,
    )


def load_forward(model_dir: Path, settings: Settings) -> Forward:
    """The backend that the settings name; its runtime is imported here and nowhere else."""
    if settings.backend == "onnx":
        from .onnx_model import OnnxModel

        return OnnxModel(model_dir, threads=settings.threads)
    from .torch_model import TorchModel

    return TorchModel(model_dir, device=settings.device, threads=settings.threads)
