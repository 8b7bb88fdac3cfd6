"""The announcement's tables: its numbers beside ours, the gap in points, and what cannot be run here marked so."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .published import PUBLISHED, Published


def compared(models: Sequence[str] | None) -> list[tuple[str, Published | None]]:
    """The `models` asked for, or the announcement's and micro, each with its published row."""
    known = {row.scorer: row for row in PUBLISHED}
    if not models:
        _try_the_hub_once()
    return [(spec, known.get(spec)) for spec in models or [*known, "micro"]]


def _try_the_hub_once() -> None:
    """Without a network each of the hub's models would be asked for with retries, half a minute long."""
    if "HF_HUB_OFFLINE" in os.environ:
        return
    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        urllib.request.urlopen(urllib.request.Request(hub, method="HEAD"), timeout=10).close()
    except urllib.error.HTTPError:
        return  # it is there, whatever it thinks of the request
    except OSError:
        os.environ["HF_HUB_OFFLINE"] = "1"


@contextmanager
def not_run(row: dict[str, Any]) -> Iterator[None]:
    """What cannot be run here is a row that says so, with the reason; the others go on."""
    from sagerank_inference.artefact import ArtefactError
    from sagerank_inference.checkpoint import CheckpointError
    from sagerank_inference.contract import RerankError

    from .scorer import ScorerError

    try:
        yield
    except (ArtefactError, CheckpointError, RerankError, ScorerError, ModuleNotFoundError, OSError) as error:
        row["not_run"] = str(error).splitlines()[0]


def reasons(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Why each row that has no figures has none."""
    return [f"not run: {row['name']}: {row['not_run']}" for row in rows if "not_run" in row]


def table_cells(rows: Sequence[dict[str, Any]], first: dict[str, float]) -> list[tuple[str, ...]]:
    """The table of models, head first."""
    mean = f"{sum(first.values()) / len(first):.2f}"
    return [
        ("model", "layers", "M parameters", "published", "ours", "gap", "docs / 50 ms"),
        ("first stage", "", "", "", mean, "", ""),
        *(
            (
                row["name"],
                _number(row["layers"], "d"),
                _number(row["millions"], "g"),
                _number(row["published_ndcg"], ".2f"),
                _number(row["ndcg"], ".2f", "not run"),
                _number(row.get("gap"), "+.2f"),
                _number(row.get("documents_per_50_ms"), ".1f"),
            )
            for row in rows
        ),
    ]


def _number(value: float | None, form: str, otherwise: str = "") -> str:
    return otherwise if value is None else format(value, form)


def rag_cells(means: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The table of the RAG benchmark's means, head first."""
    return [
        ("reranker", "hit rate", "published", "gap", "MRR", "published", "gap"),
        *(
            (
                row["name"],
                *(
                    cell
                    for name in ("hit_rate", "mrr")
                    for cell in (
                        _number(row[name], ".4f", "not run"),
                        _number(row.get(f"published_{name}"), ".4f"),
                        _number(row.get(f"{name}_gap"), "+.2f"),
                    )
                ),
            )
            for row in means
        ),
    ]
