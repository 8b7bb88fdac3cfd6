"""Questions with the contexts that answer them: LlamaIndex's files, or a test collection."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from .collection import Collection, CollectionError


@dataclass(frozen=True, slots=True)
class Questions:
    """contexts: id -> text; questions: id -> text; expected: question id -> context ids, any of which counts."""

    contexts: dict[str, str]
    questions: dict[str, str]
    expected: dict[str, frozenset[str]]

    def first(self, count: int | None) -> Questions:
        """Return the first so many questions only, or all of them with None."""
        kept = dict(list(self.questions.items())[:count])
        return replace(self, questions=kept, expected={query: self.expected[query] for query in kept})


def read_questions(path: Path) -> Questions:
    """LlamaIndex's EmbeddingQAFinetuneDataset: JSON with queries, corpus and relevant_docs."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        contexts, questions = dict(raw["corpus"]), dict(raw["queries"])
        expected = {query: frozenset(ids) for query, ids in raw["relevant_docs"].items()}
    except FileNotFoundError:
        raise CollectionError(f"{path} does not exist.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise CollectionError(
            f"{path} is not a question-context file (queries, corpus, relevant_docs): {error!r}."
        ) from None
    for role, texts in {"question": questions, "context": contexts}.items():
        for key, text in texts.items():
            if not isinstance(text, str) or not text.strip():
                raise CollectionError(f"{path}: the {role} {key!r} has no text.")
    for query, ids in expected.items():
        if query not in questions:
            raise CollectionError(f"{path}: relevant_docs names the unknown question {query!r}.")
        if not ids or not ids <= contexts.keys():
            raise CollectionError(
                f"{path}: question {query!r} expects contexts that are not in corpus: {sorted(ids - contexts.keys())}."
            )
    if not expected:
        raise CollectionError(f"{path} has no question with a context.")
    return Questions(contexts, {query: questions[query] for query in expected}, expected)


def from_collection(collection: Collection, *, relevant_from: int = 1) -> Questions:
    """A test collection's queries with their relevant documents."""
    expected = {
        query: frozenset(
            document
            for document, grade in grades.items()
            if grade >= relevant_from and document in collection.documents
        )
        for query, grades in collection.qrels.items()
    }
    expected = {query: documents for query, documents in expected.items() if documents}
    return Questions(collection.documents, {query: collection.queries[query] for query in expected}, expected)
