"""A small collection in BEIR form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three documents, two judged queries and one unjudged."""
    target = tmp_path / "small"
    (target / "qrels").mkdir(parents=True)
    documents = {"d1": "red apple pie", "d2": "green apple", "d3": "blue car"}
    (target / "corpus.jsonl").write_text(
        "".join(json.dumps({"_id": key, "title": "", "text": text}) + "\n" for key, text in documents.items())
    )
    queries = {"q1": "red apple pie", "q2": "car", "q3": "nobody judged this"}
    (target / "queries.jsonl").write_text(
        "".join(json.dumps({"_id": key, "text": text}) + "\n" for key, text in queries.items())
    )
    (target / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t1\nq2\td3\t1\nq2\tgone\t0\n"
    )
    return target
