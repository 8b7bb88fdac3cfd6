"""Scores of (query, document) pairs, kept on disk: a killed run goes on, and nothing is scored twice."""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from . import EvaluationError
from .scorer import Cascade, Scorer


class ScoreStore:
    """JSON Lines of {"key", "score"}; the key is a hash of scorer name, query and document.

    A changed model, query or text has another key, so a store can serve any number of them. Lines are only ever
    appended; a last line that a killed writer left incomplete is dropped. Several threads may ask one store.
    """

    def __init__(self, path: Path | None) -> None:
        """Read the scores that `path` holds; with None, they live in memory only."""
        self._scores: dict[str, float] = {}
        self._lock = threading.Lock()
        self._file = None
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            content = path.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            for number, line in enumerate(whole.splitlines(), 1):
                try:
                    row = json.loads(line)
                    self._scores[row["key"]] = float(row["score"])
                except (ValueError, KeyError, TypeError):
                    raise EvaluationError(
                        f"{path}:{number} is not a score: remove the line, or the file."
                    ) from None
            if len(whole) < len(content):
                with path.open("r+b") as file:
                    file.truncate(len(whole))
        self._file = path.open("a", encoding="utf-8")

    def __len__(self) -> int:
        return len(self._scores)

    def score(self, scorer: Scorer, query: str, documents: Sequence[str]) -> list[float]:
        """Scores in the order of `documents`; the scorer is asked only for those the store lacks.

        Of a cascade each stage's scores are kept, so that they serve the stage alone and any other --top-k. Raises
        EvaluationError for a score that is no finite number, which would spoil an average, or a student, hours later.
        """
        if isinstance(scorer, Cascade):
            return scorer.combine(lambda stage, texts: self.score(stage, query, texts), documents)
        keys = [_key(scorer.name, query, document) for document in documents]
        missing = {
            key: document for key, document in zip(keys, documents, strict=True) if key not in self._scores
        }
        if missing:
            values = scorer.score(query, list(missing.values()))
            if not all(map(math.isfinite, values)):
                raise EvaluationError(
                    f"{scorer.name} gives a score that is no finite number: its weights, or the server, are damaged. The scores before it are kept."
                )
            kept = {key: float(f"{value:.9g}") for key, value in zip(missing, values, strict=True)}  # 32 bits
            with self._lock:
                self._scores |= kept
                if self._file is not None:
                    self._file.writelines(
                        json.dumps({"key": key, "score": score}) + "\n" for key, score in kept.items()
                    )
                    self._file.flush()
        return [self._scores[key] for key in keys]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _key(scorer: str, query: str, document: str) -> str:
    return hashlib.sha256(json.dumps([scorer, query, document], ensure_ascii=False).encode()).hexdigest()[:32]
