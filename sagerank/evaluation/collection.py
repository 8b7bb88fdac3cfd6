"""A test collection in BEIR folder form: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..models.extras import install
from ..models.hub import silence
from . import SAMPLE, EvaluationError

_BEIR = "https://public.ukp.informatik.tu-darmstadt.de/thakur/BEIR/datasets"


class CollectionError(EvaluationError):
    """A file of the collection is missing or wrong; the message gives file, line and reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """Documents, queries and judgements of a test collection.

    documents: id -> title and text in one; queries: id -> text; qrels: query id -> document id -> grade.

    Only judged queries with a relevant document are kept in `queries`, as trec_eval and BEIR average.
    """

    name: str
    documents: dict[str, str]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]
    # Documents without text, which the classic collections hold: id -> file and line. They are left out.
    empty: dict[str, str] = field(default_factory=dict)
    # What the owner of the files should know, one sentence each, with file and line.
    notices: tuple[str, ...] = ()

    def first(self, queries: int | None) -> Collection:
        """Return the collection with its first so many queries only, or all of them with None."""
        kept = dict(list(self.queries.items())[:queries])
        return replace(self, queries=kept, qrels={query: self.qrels[query] for query in kept})


def load(source: str, *, split: str = "test", relevant_from: int = 1) -> Collection:
    """Read the collection in the folder `source`, or download the BEIR data set of that name by ir_datasets.

    relevant_from: the lowest grade that counts as relevant. Raises CollectionError.
    """
    folder = Path(source)
    if folder.is_dir():
        return _read_folder(folder, split, relevant_from)
    if folder.exists() or source.startswith((".", "/", "~")):
        raise CollectionError(
            f"{source} is not a folder: give one with corpus.jsonl, queries.jsonl and qrels/."
        )
    return _download(source, split, relevant_from)


def sample() -> Collection:
    """The 250 queries and passages of the sample as a collection: a query's own passage is relevant."""

    def rows(name: str) -> list[dict[str, str]]:
        with gzip.open(SAMPLE / name, "rt", encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]

    queries = rows("queries.jsonl.gz")
    return Collection(
        name="sample",
        documents={row["id"]: row["text"] for row in rows("passages.jsonl.gz")},
        queries={row["id"]: row["text"] for row in queries},
        qrels={row["id"]: {row["positive_passage_id"]: 1} for row in queries},
    )


def _read_folder(folder: Path, split: str, relevant_from: int) -> Collection:
    documents: dict[str, str] = {}
    empty: dict[str, str] = {}
    for where, row in _objects(folder / "corpus.jsonl"):
        key = _identifier(row, where, documents)
        parts = [row.get(name, "") or "" for name in ("title", "text")]
        if not all(isinstance(part, str) for part in parts):
            raise CollectionError(f"{where}: title and text must be strings.")
        documents[key] = "\n".join(part.strip() for part in parts if part.strip())
        if not documents[key]:
            empty[key] = where
    queries: dict[str, str] = {}
    for where, row in _objects(folder / "queries.jsonl"):
        key = _identifier(row, where, queries)
        text = row.get("text")
        if not isinstance(text, str) or not text.strip():
            raise CollectionError(f"{where}: query {key!r} has no text.")
        queries[key] = text
    path = folder / "qrels" / f"{split}.tsv"
    qrels, lines = _read_qrels(path, queries)
    notices = [
        *(
            f"{where}: document {key!r} has neither title nor text and is left out"
            for key, where in empty.items()
        ),
        *_unknown_documents(path, lines, documents),
    ]
    documents = {key: text for key, text in documents.items() if text}
    name = folder.resolve().name
    return replace(
        _judged(name, documents, queries, qrels, relevant_from), empty=empty, notices=tuple(notices)
    )


def _judged(
    name: str,
    documents: dict[str, str],
    queries: dict[str, str],
    qrels: dict[str, dict[str, int]],
    relevant_from: int,
) -> Collection:
    kept = {
        query: queries[query]
        for query, grades in qrels.items()
        if any(grade >= relevant_from for grade in grades.values())
    }
    if not kept:
        raise CollectionError(f"{name}: no query has a document of grade {relevant_from} or more.")
    return Collection(
        name=name, documents=documents, queries=kept, qrels={query: qrels[query] for query in kept}
    )


def _objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """("file:line", object) of each line that is not blank."""
    if not path.is_file():
        raise CollectionError(f"{path} is missing: a BEIR folder has corpus.jsonl, queries.jsonl and qrels/.")
    for where, line in numbered_lines(path):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise CollectionError(f"{where}: not JSON ({error}).") from None
        if not isinstance(row, dict):
            raise CollectionError(f"{where}: expected an object with _id and text.")
        yield where, row


def numbered_lines(path: Path) -> Iterator[tuple[str, str]]:
    """("file:line", line) of each line that is not blank. Raises CollectionError at a line that is not UTF-8."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise CollectionError(f"{path}:{number}: not UTF-8 ({error.reason}).") from None
            if text.strip():
                yield f"{path}:{number}", text


def _identifier(row: dict[str, Any], where: str, seen: dict[str, str]) -> str:
    key = row.get("_id")
    if not isinstance(key, str) or not key.strip():
        raise CollectionError(f"{where}: _id must be a string that is not empty.")
    if key in seen:
        raise CollectionError(f"{where}: the id {key!r} occurs twice.")
    return key


def _read_qrels(path: Path, queries: dict[str, str]) -> tuple[dict[str, dict[str, int]], dict[str, str]]:
    """Tab-separated query-id, corpus-id, score with a header line -> qrels, and where each document is first judged."""
    if not path.is_file():
        found = sorted(item.stem for item in path.parent.glob("*.tsv"))
        raise CollectionError(f"{path} is missing" + (f": there is {', '.join(found)}." if found else "."))
    qrels: dict[str, dict[str, int]] = {}
    first: dict[str, str] = {}
    for where, line in numbered_lines(path):
        cells = [cell.strip() for cell in line.split("\t")]
        if cells == ["query-id", "corpus-id", "score"]:
            continue
        if len(cells) != 3:
            raise CollectionError(
                f"{where}: expected query-id, corpus-id and score, tab-separated; found {len(cells)} cells."
            )
        query, document, grade = cells
        if query not in queries:
            raise CollectionError(f"{where}: the query {query!r} is not in queries.jsonl.")
        try:
            value = int(grade)
        except ValueError:
            raise CollectionError(f"{where}: the score {grade!r} is not an integer.") from None
        if qrels.setdefault(query, {}).setdefault(document, value) != value:
            raise CollectionError(f"{where}: {document!r} is judged twice for {query!r}, differently.")
        first.setdefault(document, where)
    return qrels, first


def _unknown_documents(path: Path, judged: Mapping[str, str], documents: Mapping[str, str]) -> Iterator[str]:
    """A sentence about judged documents that the corpus lacks.

    Some are no error: pools for reranking keep all judgements, so that the ideal ranking is the true one. All of
    them are: the judgements belong to another corpus.
    """
    unknown = {document: where for document, where in judged.items() if document not in documents}
    if not unknown:
        return
    document, where = next(iter(unknown.items()))
    if len(unknown) == len(judged):
        raise CollectionError(
            f"{where}: the document {document!r} is not in corpus.jsonl, and none of {path.name}'s documents is: it belongs to another corpus."
        )
    yield (
        f"{where}: the document {document!r} is not in corpus.jsonl; of {len(judged):,} judged documents {len(unknown):,} are "
        "not, and count as missed where they are relevant"
    )


def _download(name: str, split: str, relevant_from: int) -> Collection:
    # Seconds without a byte, and tries without one: where there is no network, that is known soon.
    os.environ.setdefault("IR_DATASETS_DL_TIMEOUT", "5")
    os.environ.setdefault("IR_DATASETS_DL_TRIES", "2")
    try:
        import ir_datasets
    except ImportError:
        raise CollectionError(
            f"{name!r} is not a folder; to download it by name: {install('eval')}"
        ) from None
    except (
        OSError,
        RuntimeError,
    ):  # a home that cannot be written, or none, which is a RuntimeError of Path.home()
        raise CollectionError(
            f"There is no home to download {name!r} into: set IR_DATASETS_HOME to a folder."
        ) from None
    # Sets of one split carry its qrels themselves.
    for candidate in (f"beir/{name}/{split}", f"beir/{name}"):
        try:
            dataset = ir_datasets.load(candidate)
        except KeyError:
            continue
        if dataset.has_qrels():
            break
    else:
        raise CollectionError(
            f"There is no folder {name} and no BEIR data set {name!r} with {split} judgements (ir_datasets knows none)."
        )
    kept = ir_datasets.util.home_path() / "beir" / name
    if not any((kept / file).exists() for file in ("docs.pklz4", "source.zip")) and (
        reason := silence(_BEIR)
    ):
        raise _not_downloaded(name, reason)
    try:
        documents = {
            item.doc_id: "\n".join(part for part in (getattr(item, "title", ""), item.text) if part)
            for item in dataset.docs_iter()
        }
        queries = {item.query_id: item.text for item in dataset.queries_iter()}
        qrels: dict[str, dict[str, int]] = {}
        for item in dataset.qrels_iter():
            qrels.setdefault(item.query_id, {})[item.doc_id] = item.relevance
    except (OSError, RuntimeError) as error:
        raise _not_downloaded(name, type(error).__name__) from None
    return _judged(name, documents, queries, qrels, relevant_from)


def _not_downloaded(name: str, reason: str) -> CollectionError:
    archive = f"{_BEIR}/{name.partition('/')[0]}.zip"
    return CollectionError(
        f"{name!r} is no folder here and could not be downloaded ({reason}): where there is a network, run `curl -LO {archive}`, "
        "unzip it, and give its folder in place of the name."
    )
