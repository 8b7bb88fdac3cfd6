"""Teachers: ONNX models that score candidates once, onto disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from .mine import Candidates, read_jsonl

_CHUNK = 32  # texts per forward, neighbours in length


class Teacher(Protocol):
    name: str

    def score(self, query: str, documents: Sequence[str]) -> list[float]: ...


class _OnnxBert:
    """A BERT-like ONNX model: tokenizer.json + model.onnx with input_ids, attention_mask, token_type_ids."""

    def __init__(self, folder: Path, *, threads: int, max_tokens: int) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(max_tokens)
        self._tokenizer.no_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.enable_mem_pattern = False
        self._session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options)
        self._inputs = {value.name for value in self._session.get_inputs()}

    def _run(self, texts: Sequence[str] | Sequence[tuple[str, str]]) -> list[NDArray[np.float32]]:
        """First output for each text, in order: [1] for a cross-encoder, [tokens, hidden] cut at the text's
        end otherwise.
        """
        encodings: list[Encoding] = self._tokenizer.encode_batch(list(texts))
        order = sorted(range(len(encodings)), key=lambda index: len(encodings[index].ids))
        result: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(encodings)
        for start in range(0, len(order), _CHUNK):
            chunk = order[start : start + _CHUNK]
            longest = len(encodings[chunk[-1]].ids)
            feed = {name: np.zeros((len(chunk), longest), np.int64) for name in self._inputs}
            for row, index in enumerate(chunk):
                encoding, size = encodings[index], len(encodings[index].ids)
                feed["input_ids"][row, :size] = encoding.ids
                feed["attention_mask"][row, :size] = 1
                if "token_type_ids" in feed:
                    feed["token_type_ids"][row, :size] = encoding.type_ids
            for index, row_output in zip(chunk, self._session.run(None, feed)[0], strict=True):
                result[index] = row_output
        return result


class CrossEncoder(_OnnxBert):
    """Scores a pair in one forward; the score is the logit."""

    def __init__(self, folder: Path, *, threads: int = 1, max_tokens: int = 256) -> None:
        super().__init__(folder, threads=threads, max_tokens=max_tokens)
        self.name = self.name_of(folder)

    @staticmethod
    def name_of(folder: Path) -> str:
        return f"cross-encoder:{folder.name}"

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        return [
            float(logit.reshape(-1)[0]) for logit in self._run([(query, document) for document in documents])
        ]


def score_all(teacher: Teacher, candidates: Iterable[Candidates], output: Path) -> int:
    """Append {"key", "scores"} for each of `candidates` that `output` does not hold yet; return how many were
    added.

    The key is the hash of teacher, query and documents, so a killed run goes on, and changed candidates are
    scored afresh.
    """
    done = {row["key"] for row in read_jsonl(output)} if output.exists() else set()
    if output.exists():
        _drop_cut_line(output)
    added = 0
    with output.open("a", encoding="utf-8") as file:
        for item in candidates:
            key = candidate_key(teacher.name, item)
            if key in done:
                continue
            scores = [round(score, 5) for score in teacher.score(item.query, item.documents)]
            file.write(json.dumps({"key": key, "scores": scores}) + "\n")
            file.flush()
            added += 1
    return added


def candidate_key(teacher: str, item: Candidates) -> str:
    text = json.dumps([teacher, item.query, item.documents], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _drop_cut_line(path: Path) -> None:
    """Remove an incomplete last line, so that what is appended starts on a line of its own."""
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)
