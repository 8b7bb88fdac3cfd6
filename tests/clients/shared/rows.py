"""The rows of a group's script: each a function that calls one client and returns the scores in the order of the request.

Which method of which distribution it calls stands before it; what it raises is its own row's error and no other's.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

URL = sys.argv[1]
QUERY: str
DOCUMENTS: list[str]
QUERY, DOCUMENTS = (json.loads(Path(sys.argv[2]).read_bytes())[name] for name in ("query", "documents"))
MODEL, KEY = "micro", "key"  # what a client may insist on being told

# Rows alone go where they are read; what a client prints goes to standard error.
_ROWS = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)


def row(client: str, asked: str, *, raw: bool = False, top: int | None = None) -> Callable[[Any], None]:
    """Run the function below at once and print its row.

    client: the distribution. asked: what is called in it. raw: scores are logits. top: as many are asked for.
    """

    def run(call: Callable[[], Any]) -> None:
        answer: dict[str, Any] = {"client": client, "asked": asked, "began": time.time()}
        try:
            answer["version"] = version(client)
            scores = call()
            answer["scores"] = asyncio.run(scores) if inspect.iscoroutine(scores) else scores
            if raw:
                answer["raw"] = True
            if top:
                answer["top"] = top
        except BaseException as error:  # whatever a client raises, SystemExit too, is this row's alone
            answer["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        answer["ended"] = time.time()
        _ROWS.write(json.dumps(answer) + "\n")
        _ROWS.flush()

    return run


def ordered(
    results: Iterable[Any], *, index: str = "index", score: str = "relevance_score"
) -> list[float | None]:
    """Scores in the order of the request, of results that are mappings or objects; None for what did not come back."""
    scores: list[float | None] = [None] * len(DOCUMENTS)
    for result in results:
        at = _field(result, index)
        assert scores[at] is None, f"document {at} came back twice"
        scores[at] = _field(result, score)
    return scores


def texts(results: Iterable[Any], text: Callable[[Any], Any], *, index: str = "index") -> None:
    """Refuse results whose document, as the client gives it, is not the one that was sent."""
    for result in results:
        at = _field(result, index)
        assert text(result) == DOCUMENTS[at], f"document {at} came back as another text"


def _field(result: Any, name: str) -> Any:
    return result[name] if isinstance(result, dict) else getattr(result, name)
