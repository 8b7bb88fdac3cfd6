"""Bi-encoders: a text becomes a vector, each by itself, with the pooling and prefixes its family was trained with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..models import hub
from ..models.extras import install
from .scorer import OnnxBert, ScorerError, version

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
