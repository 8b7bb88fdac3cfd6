"""A test collection in BEIR folder form: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import EvaluationError


class CollectionError(EvaluationError):
    """A file of the collection is missing or wrong; the message gives file, line and reason."""


@dataclass(frozen=True, slots=True)
class Collection:
    """documents: id -> title and text in one; queries: id -> text; qrels: query id -> document id -> grade.

    Only judged queries with a relevant document are kept in `queries`, as trec_eval and BEIR average.
    """

    name: str
    documents: dict[str, str]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]
    # Documents without text, with file and line: the classic collections hold some. They are left out.
    left_out: tuple[str, ...] = ()


def load(source: str, *, split: str = "test", relevant_from: int = 1) -> Collection:
    """The collection in the folder `source`, or the BEIR data set of that name, downloaded by ir_datasets.

    relevant_from: the lowest grade that counts as relevant. Raises CollectionError.
    """
    folder = Path(source)
    if folder.is_dir():
        return _read_folder(folder, split, relevant_from)
    if folder.exists() or "/" in source or source.startswith("."):
        raise CollectionError(
            f"{source} is not a folder: give one with corpus.jsonl, queries.jsonl and qrels/."
        )
    return _download(source, split, relevant_from)


def _read_folder(folder: Path, split: str, relevant_from: int) -> Collection:
    documents: dict[str, str] = {}
    left_out: list[str] = []
    for where, row in _objects(folder / "corpus.jsonl"):
        key = _identifier(row, where, documents)
        parts = [row.get(name, "") or "" for name in ("title", "text")]
        if not all(isinstance(part, str) for part in parts):
            raise CollectionError(f"{where}: title and text must be strings.")
        documents[key] = "\n".join(part.strip() for part in parts if part.strip())
        if not documents[key]:
            left_out.append(f"{where}: document {key!r} has neither title nor text")
    queries: dict[str, str] = {}
    for where, row in _objects(folder / "queries.jsonl"):
        key = _identifier(row, where, queries)
        text = row.get("text")
        if not isinstance(text, str) or not text.strip():
            raise CollectionError(f"{where}: query {key!r} has no text.")
        queries[key] = text
    qrels = _read_qrels(folder / "qrels" / f"{split}.tsv", queries)
    documents = {key: text for key, text in documents.items() if text}
    return _judged(folder.resolve().name, documents, queries, qrels, relevant_from, tuple(left_out))


def _judged(
    name: str,
    documents: dict[str, str],
    queries: dict[str, str],
    qrels: dict[str, dict[str, int]],
    relevant_from: int,
    left_out: tuple[str, ...] = (),
) -> Collection:
    kept = {
        query: queries[query]
        for query, grades in qrels.items()
        if any(grade >= relevant_from for grade in grades.values())
    }
    if not kept:
        raise CollectionError(f"{name}: no query has a document of grade {relevant_from} or more.")
    return Collection(name, documents, kept, {query: qrels[query] for query in kept}, left_out)


def _objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """("file:line", object) of each line that is not blank."""
    if not path.is_file():
        raise CollectionError(f"{path} is missing: a BEIR folder has corpus.jsonl, queries.jsonl and qrels/.")
    with path.open(encoding="utf-8") as lines:
        try:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                where = f"{path}:{number}"
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise CollectionError(f"{where}: not JSON ({error}).") from None
                if not isinstance(row, dict):
                    raise CollectionError(f"{where}: expected an object with _id and text.")
                yield where, row
        except UnicodeDecodeError as error:
            raise CollectionError(f"{path} is not UTF-8 ({error}).") from None


def _identifier(row: dict[str, Any], where: str, seen: dict[str, str]) -> str:
    key = row.get("_id")
    if not isinstance(key, str) or not key.strip():
        raise CollectionError(f"{where}: _id must be a string that is not empty.")
    if key in seen:
        raise CollectionError(f"{where}: the id {key!r} occurs twice.")
    return key


def _read_qrels(path: Path, queries: dict[str, str]) -> dict[str, dict[str, int]]:
    """Tab-separated query-id, corpus-id, score with a header line.

    A judged document that the corpus lacks is no error: pools for reranking keep all judgements, so that the
    ideal ranking is the true one.
    """
    if not path.is_file():
        found = sorted(item.stem for item in path.parent.glob("*.tsv"))
        raise CollectionError(f"{path} is missing" + (f": there is {', '.join(found)}." if found else "."))
    qrels: dict[str, dict[str, int]] = {}
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            cells = line.rstrip("\n").split("\t")
            if cells == [""] or (number == 1 and cells[-1].strip() == "score"):
                continue
            where = f"{path}:{number}"
            if len(cells) != 3:
                raise CollectionError(
                    f"{where}: expected query-id, corpus-id and score, tab-separated; found {len(cells)} cells."
                )
            query, document, grade = (cell.strip() for cell in cells)
            if query not in queries:
                raise CollectionError(f"{where}: the query {query!r} is not in queries.jsonl.")
            try:
                value = int(grade)
            except ValueError:
                raise CollectionError(f"{where}: the score {grade!r} is not an integer.") from None
            if qrels.setdefault(query, {}).setdefault(document, value) != value:
                raise CollectionError(f"{where}: {document!r} is judged twice for {query!r}, differently.")
    return qrels


def _download(name: str, split: str, relevant_from: int) -> Collection:
    try:
        import ir_datasets
    except ImportError:
        raise CollectionError(
            f"{name!r} is not a folder; to download it by name: pip install 'sagerank[eval]'."
        ) from None
    identifier = f"beir/{name}" if "/" not in name else name
    for candidate in (f"{identifier}/{split}", identifier):
        try:
            dataset = ir_datasets.load(candidate)
            break
        except KeyError:
            continue
    else:
        raise CollectionError(
            f"There is no folder and no BEIR data set {name!r} (ir_datasets knows no {identifier})."
        )
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
        raise CollectionError(
            f"{name!r} could not be downloaded ({error}): where there is no network, give a BEIR folder instead."
        ) from None
    return _judged(name, documents, queries, qrels, relevant_from)
