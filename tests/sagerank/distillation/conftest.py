"""Text to distil from, and the command that distils the sample."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from sagerank.evaluation import SAMPLE

TOPICS = [
    "glacier ice valley",
    "engine fuel piston",
    "bread flour yeast",
    "violin string bow",
    "planet orbit moon",
]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> tuple[Path, Path]:
    passages: list[dict[str, object]] = [
        {
            "id": f"p{i}",
            "text": f"{TOPICS[i % 5]} fact{i} is here today. " * 30,
            "source": "free",
            "licence": "CC-BY-4.0",
        }
        for i in range(40)
    ]
    passages += [{"id": "sa", "text": "glacier secret", "source": "shared", "licence": "CC-BY-SA-4.0"}]
    queries: list[dict[str, object]] = [
        {"id": f"q{i}", "text": f"{TOPICS[i % 5]} fact{i}", "source": "free", "positive_passage_id": f"p{i}"}
        for i in range(10)
    ]
    queries += [
        {"id": "qs", "text": "glacier secret", "source": "shared", "positive_passage_id": "sa"},
        {"id": "qn", "text": "violin", "source": "free", "positive_passage_id": None},
    ]
    return write(tmp_path / "p.jsonl", passages), write(tmp_path / "q.jsonl", queries)


@pytest.fixture(scope="session")
def texts() -> list[dict[str, str]]:
    """The passages of the sample."""
    with gzip.open(SAMPLE / "passages.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.fixture
def documents(tmp_path: Path, texts: list[dict[str, str]]) -> Path:
    """A person's own folder: 120 passages of the sample in a Markdown file and a text file for each of the books."""
    folder = tmp_path / "documents"
    for number, row in enumerate(texts[:120]):
        path = folder / row["source"] / ("notes.md" if number % 2 else "plain.txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        heading = f"# {' '.join(row['text'].split()[:4])}\n\n" if number % 2 else ""
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{heading}{row['text']}\n\n")
    return folder


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder of a user's own, whose files have names of ours and of packages, and must not be run."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    for name in ("inference", "cost", "infra", "json", "numpy", "torch", "tqdm", "sagerank_cost"):
        (folder / f"{name}.py").write_text("raise SystemExit('a file of the user was run')", encoding="utf-8")
    for name in ("evaluation", "distillation", "sagerank", "sagerank_inference"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(
            "raise SystemExit('a file of the user was run')", encoding="utf-8"
        )
    return folder


COMMAND = [
    "distil", "--passages", str(SAMPLE / "passages.jsonl.gz"), "--queries", str(SAMPLE / "queries.jsonl.gz"),
    "--teacher", "micro", "--start", "micro", "--layers", "0,0", "--made-queries", "0", "--lexical", "0", "--steps", "60",
    "--queries-per-step", "8", "--learning-rate", "1e-3", "--warmup-steps", "5", "--max-tokens", "96", "--checkpoint-every", "10",
    "--dtype", "float16", "--gate", str(SAMPLE / "heldout"), "--gate-queries", "40", "--threads", "1",
]  # fmt: skip
