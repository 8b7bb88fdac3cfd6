"""The RAG benchmark in LlamaIndex's manner: does the context of a question come back among the first k?

Each question has one context (node) it was written from. An embedder retrieves the `retrieve` nearest contexts,
a reranker orders them, and hit rate (is it among the first k) and MRR (1 / its place, 0 beyond k) are averaged
over questions, then over embedders.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..models import hub
from ..models.extras import install
from .collection import Collection, CollectionError
from .progress import Progress
from .scorer import OnnxBert, Scorer, ScorerError, version
from .scores import ScoreStore


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


@dataclass(frozen=True, slots=True)
class RagRow:
    """Hit rate and MRR of one embedder with one reranker, over all questions."""

    embedder: str
    reranker: str | None  # None: the embedder's own order
    hit_rate: float
    mrr: float


_Embed = Callable[[Sequence[str]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Embedder:
    """A bi-encoder. embed: texts -> [texts, dimension], each row of length 1; each side's prefix goes before its texts."""

    name: str
    embed: _Embed
    query_prefix: str = ""
    passage_prefix: str = ""

    def queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.embed([self.query_prefix + text for text in texts])

    def passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.embed([self.passage_prefix + text for text in texts])


def _onnx(folder: Path, pooling: str, threads: int) -> tuple[str, _Embed]:
    """Load model.onnx and tokenizer.json; pooling is cls, or mean over tokens."""
    model = OnnxBert(folder, threads=threads, max_tokens=512)

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        rows = np.stack([tokens[0] if pooling == "cls" else tokens.mean(0) for tokens in model(texts)])
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)

    return model.name.removeprefix("onnx:"), embed


def _hugging_face(name: str, pooling: str = "") -> tuple[str, _Embed]:
    """Load any bi-encoder of sentence-transformers, by name or folder; pooling "" is what its own files say."""
    if find_spec("sentence_transformers") is None:
        raise ScorerError(f"hf: embedders need sentence-transformers: {install('eval-hf')}")
    local = hub.local_only(name)  # before PyTorch loads, which takes seconds
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    try:
        model = SentenceTransformer(name, trust_remote_code=False, device="cpu", local_files_only=local)
        transformer: Any = model[0]
        if pooling:
            pooled = Pooling(transformer.get_embedding_dimension(), pooling)
            model = SentenceTransformer(modules=[transformer, pooled], device="cpu")
    except Exception as error:  # hub, file and configuration errors share no class
        raise ScorerError(f"{name!r} cannot be loaded: {str(error).splitlines()[0]}") from None

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        rows = model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(rows, np.float32)

    return f"{Path(name).name}{version(name, transformer.auto_model.config)}/{model.max_seq_length}", embed


# What each family was trained with: pooling, query prefix, passage prefix.
FAMILIES = {
    "bge": ("cls", "Represent this sentence for searching relevant passages: ", ""),
    "e5": ("mean", "query: ", "passage: "),
    "minilm": ("mean", "", ""),
}


def open_embedder(spec: str, *, threads: int = 1) -> Embedder:
    """Open bge:, e5: or minilm:FOLDER_OR_NAME with its family's pooling and prefixes, or hf: with its own.

    A folder holds model.onnx, or what sentence-transformers loads.
    """
    family, _, where = spec.partition(":")
    if family == "hf" and where:
        return Embedder(*_hugging_face(where))
    if family not in FAMILIES or not where:
        raise ScorerError(
            f"The embedder {spec!r} is written {', '.join(f'{name}:FOLDER' for name in FAMILIES)} or hf:NAME."
        )
    pooling, query, passage = FAMILIES[family]
    onnx = (Path(where) / "model.onnx").exists()
    loaded = _onnx(Path(where), pooling, threads) if onnx else _hugging_face(where, pooling)
    return Embedder(*loaded, query_prefix=query, passage_prefix=passage)


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


def benchmark(
    questions: Questions,
    embedders: Sequence[Embedder],
    rerankers: Sequence[Scorer],
    store: ScoreStore,
    *,
    retrieve: int = 10,
    keep: int = 5,
    vectors: Path | None = None,
    progress: Progress = lambda *_: None,
) -> list[RagRow]:
    """One row for each embedder alone and with each reranker. LlamaIndex's post retrieves 10 and keeps 5.

    vectors: folder in which embeddings are kept, so that a killed run goes on and a second one embeds nothing.
    """
    identifiers = list(questions.contexts)
    rows = []
    for embedder in embedders:
        contexts = _embed(embedder, "passages", list(questions.contexts.values()), vectors, progress)
        asked = _embed(embedder, "queries", list(questions.questions.values()), vectors, progress)
        nearest = np.argsort(-(asked @ contexts.T), axis=1, kind="stable")[:, :retrieve].tolist()
        retrieved = {
            query: [identifiers[index] for index in row]
            for query, row in zip(questions.questions, nearest, strict=True)
        }
        rows.append(_row(embedder.name, None, questions, retrieved, keep))
        for reranker in rerankers:
            again = {}
            for number, (query, ids) in enumerate(retrieved.items(), 1):
                scores = store.score(
                    reranker, questions.questions[query], [questions.contexts[key] for key in ids]
                )
                again[query] = [
                    key for _, key in sorted(zip(scores, ids, strict=True), key=lambda item: -item[0])
                ]
                progress(f"{embedder.name} > {reranker.name}", number, len(retrieved))
            rows.append(_row(embedder.name, reranker.name, questions, again, keep))
    return rows


def _embed(
    embedder: Embedder, side: str, texts: Sequence[str], folder: Path | None, progress: Progress
) -> NDArray[np.float32]:
    """[texts, dimension]; parts of 256 are kept in `folder` under a hash of the embedder and their texts."""
    parts = []
    for start in range(0, len(texts), 256):
        chunk = texts[start : start + 256]
        if folder is None:
            parts.append(getattr(embedder, side)(chunk))
        else:
            key = hashlib.sha256(json.dumps([embedder.name, side, chunk]).encode()).hexdigest()[:32]
            path = folder / f"{key}.npy"
            if not path.exists():
                folder.mkdir(parents=True, exist_ok=True)
                part = folder / f"{key}.part.npy"
                np.save(part, getattr(embedder, side)(chunk))
                part.replace(path)
            parts.append(np.load(path))
        progress(f"{embedder.name}: embed {side}", start + len(chunk), len(texts))
    return np.concatenate(parts)


def mean_over_embedders(rows: Sequence[RagRow]) -> list[RagRow]:
    """Average each reranker's hit rate and MRR over the embedders, as the announcement's table does."""
    result = []
    for reranker in dict.fromkeys(row.reranker for row in rows):
        mine = [row for row in rows if row.reranker == reranker]
        result.append(
            RagRow(
                "mean",
                reranker,
                sum(row.hit_rate for row in mine) / len(mine),
                sum(row.mrr for row in mine) / len(mine),
            )
        )
    return result


def _row(
    embedder: str, reranker: str | None, questions: Questions, ranking: dict[str, list[str]], keep: int
) -> RagRow:
    ranks = []
    for query, expected in questions.expected.items():
        rank = next((rank for rank, key in enumerate(ranking[query][:keep], 1) if key in expected), None)
        ranks.append(rank)
    count = len(ranks)
    return RagRow(
        embedder,
        reranker,
        hit_rate=sum(rank is not None for rank in ranks) / count,
        mrr=sum(1 / rank for rank in ranks if rank is not None) / count,
    )
