"""sagerank's engine as a subject: in a process of its own, like every peer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sagerank_inference.artefact import Manifest

from .process import Remote

if TYPE_CHECKING:
    from sagerank_inference.contract import Scores


class EngineSubject(Remote):
    """A loaded artefact that keeps its process until it is closed. Raises ArtefactError where it does not load."""

    name = "sagerank"

    def __init__(self, folder: Path, *, threads: int, device: str = "") -> None:
        """device: cpu or cuda with the PyTorch backend; empty: ONNX Runtime."""
        super().__init__(_Engine, folder, threads, device)
        self.scale = Manifest.read(folder).scale

    def score(self, query: str, documents: Sequence[str]) -> tuple[list[float], float]:
        """Logits in the order of `documents`, and the seconds of the whole call, tokenisation included."""
        scores, seconds = self.time(query, documents)
        return list(scores.values), seconds

    def time(self, query: str, documents: Sequence[str]) -> tuple[Scores, float]:
        """Scores with the engine's own timings of its parts, and the seconds of the whole call."""
        result: tuple[Scores, float] = self.call("time", query, list(documents))
        return result

    @property
    def precision(self) -> str:
        """Of the arithmetic: what the device chose, or what the artefact was built for."""
        result: str = self.call("precision")
        return result

    def lengths(self, query: str, documents: Sequence[str]) -> list[int]:
        """The tokens of every pair (of every window of a longer one), special tokens included."""
        result: list[int] = self.call("lengths", query, list(documents))
        return result


class _Engine:
    """The engine as the child holds it."""

    def __init__(self, folder: Path, threads: int, device: str) -> None:
        from sagerank_inference.engine import Engine
        from sagerank_inference.settings import Settings

        backend = "torch" if device else "onnx"
        settings = Settings(model_dir=folder, threads=threads, backend=backend, device=device or "cpu")
        self._engine = Engine.load(folder, settings)

    def time(self, query: str, documents: list[str]) -> tuple[Scores, float]:
        start = time.perf_counter()
        scores = self._engine.score(query, documents)
        return scores, time.perf_counter() - start

    def precision(self) -> str:
        return getattr(self._engine.forward, "precision", self._engine.manifest.precision)

    def lengths(self, query: str, documents: list[str]) -> list[int]:
        return [len(ids) for ids in self._engine.tokeniser(query, documents).ids]
