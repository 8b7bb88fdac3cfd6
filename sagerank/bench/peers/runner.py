"""A peer at work: executed by the interpreter of the peer's environment, with the standard library and the peer's packages.

    python -I runner.py LOADER FOLDER OPTIONS

OPTIONS is a JSON object: those of the loader, and `tune`, true for the fastest batch size in place of the library's own.

One JSON object a line. First {"ready": true}; then {"pair": [query, document]} -> {"ids": [...]}, and
{"query": q, "documents": [...]} -> {"scores": [...], "seconds": s, "batch": b}, the seconds of the peer's own public
scoring call, tokenisation included; {"error": sentence} where one fails.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
MOST_TOKENS = 16_384  # of a batch with padding: Text Embeddings Inference's own limit


@dataclass(kw_only=True)
class Peer:
    """A library with the model loaded."""

    tokenise: Callable[[str, str], list[int]]
    score: Callable[[str, list[str], int], list[float]]  # the last: documents in a batch
    batches: tuple[int, ...]  # the library's own size, and others to choose from
    tune: bool = False
    heads: int = 0
    chosen: dict[tuple[int, int], int] = field(default_factory=dict)

    def batch(self, query: str, documents: list[str]) -> int:
        """The library's own size; to tune, the fastest for so many documents of such a length, measured on the first call.

        Dense attention is quadratic: sizes that would take more than half of the free memory are cut to what does not.
        """
        longest = max(len(self.tokenise(query, document)) for document in documents)
        workload = (len(documents), longest)
        if workload not in self.chosen:
            # Bias, scores and their softmax, in float32.
            most = max(1, _free_memory() // 2 // (3 * 4 * self.heads * longest**2))
            sizes = sorted({min(size, most) for size in (self.batches if self.tune else self.batches[:1])})
            # All that hold every document are the same.
            sizes = [size for size in sizes if size == sizes[0] or size // 2 < len(documents)]
            seconds = {}
            if len(sizes) > 1:
                self.score(query, documents, sizes[0])
                for size in sizes:
                    start = time.perf_counter()
                    self.score(query, documents, size)
                    seconds[size] = time.perf_counter() - start
            self.chosen[workload] = min(seconds, key=seconds.__getitem__, default=sizes[0])
        return self.chosen[workload]


def fastembed(folder: Path, threads: int, file: str) -> Peer:
    from fastembed.common.model_description import ModelSource
    from fastembed.rerank.cross_encoder import TextCrossEncoder

    name = "local/jina-bert"
    TextCrossEncoder.add_custom_model(name, sources=ModelSource(hf=name), model_file=file)
    model = TextCrossEncoder(name, threads=threads, specific_model_path=str(folder))
    tokenizer = model.model.tokenizer

    def score(query: str, documents: list[str], batch: int) -> list[float]:
        return [float(value) for value in model.rerank(query, documents, batch_size=batch)]

    def tokenise(query: str, document: str) -> list[int]:
        return list(tokenizer.encode(query, document).ids)

    return Peer(tokenise=tokenise, score=score, batches=(64, 8, 16, 32))


def sentence_transformers(
    folder: Path,
    threads: int,
    backend: str,
    file: str | None = None,
    *,
    device: str = "cpu",
    precision: str = "fp32",
) -> Peer:
    import torch
    from sentence_transformers import CrossEncoder

    torch.set_num_threads(threads)
    options: dict[str, Any] = {} if file is None else {"file_name": file}
    if precision != "fp32":
        options["torch_dtype"] = getattr(torch, DTYPES[precision])
    if backend == "onnx":
        from onnxruntime import SessionOptions

        session = SessionOptions()
        session.intra_op_num_threads = threads
        options |= {"provider": "CPUExecutionProvider", "session_options": session}
    elif backend == "openvino":
        options["ov_config"] = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
    model = CrossEncoder(
        str(folder),
        backend=backend,
        trust_remote_code=True,
        local_files_only=True,
        activation_fn=torch.nn.Identity(),
        device=device,
        model_kwargs=options,
    )

    def score(query: str, documents: list[str], batch: int) -> list[float]:
        pairs = [(query, document) for document in documents]
        values = model.predict(pairs, batch_size=batch, show_progress_bar=False)
        return [float(value) for value in values]

    return Peer(tokenise=_tokenise(model.tokenizer), score=score, batches=(32, 8, 16, 64))


def transformers(folder: Path, threads: int, device: str = "cpu", precision: str = "fp32") -> Peer:
    import torch

    tokenizer, model = _from_pretrained(folder, threads, device, precision)

    @torch.inference_mode()
    def score(query: str, documents: list[str], batch: int) -> list[float]:
        scores: list[float] = []
        for start in range(0, len(documents), batch):
            some = documents[start : start + batch]
            encoded = tokenizer([query] * len(some), some, padding=True, truncation=True, return_tensors="pt")
            scores += model(**encoded.to(device)).logits[:, 0].tolist()
        return scores

    return Peer(tokenise=_tokenise(tokenizer), score=score, batches=(32,))


def padded(folder: Path, threads: int, device: str = "cpu", precision: str = "fp32") -> Peer:
    """Sorted by length, as many pairs at once as MOST_TOKENS hold with padding: as servers batch that have no kernel without it."""
    import torch

    tokenizer, model = _from_pretrained(folder, threads, device, precision)

    @torch.inference_mode()
    def score(query: str, documents: list[str], batch: int) -> list[float]:
        pairs = tokenizer([query] * len(documents), documents, truncation=True)["input_ids"]
        order = sorted(range(len(pairs)), key=lambda index: -len(pairs[index]))
        scores = [0.0] * len(pairs)
        while order:
            room = max(1, min(batch, MOST_TOKENS // len(pairs[order[0]])))
            some, order = order[:room], order[room:]
            encoded = tokenizer.pad({"input_ids": [pairs[index] for index in some]}, return_tensors="pt")
            for index, logit in zip(some, model(**encoded.to(device)).logits[:, 0].tolist(), strict=True):
                scores[index] = logit
        return scores

    return Peer(tokenise=_tokenise(tokenizer), score=score, batches=(512,))


def _from_pretrained(folder: Path, threads: int, device: str, precision: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.set_num_threads(threads)
    model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)
    return AutoTokenizer.from_pretrained(folder), model.eval().to(device, getattr(torch, DTYPES[precision]))


def infinity(folder: Path, threads: int, engine: str) -> Peer:
    import torch
    from infinity_emb import EngineArgs, SyncEngineArray
    from transformers import AutoTokenizer

    torch.set_num_threads(threads)
    engines: dict[int, SyncEngineArray] = {}

    def start(batch: int) -> SyncEngineArray:
        if batch not in engines:
            for old in engines.values():
                old.stop()
            engines.clear()
            arguments = EngineArgs(
                model_name_or_path=str(folder),
                served_model_name="model",
                engine=engine,
                device="cpu",
                dtype="float32",
                batch_size=batch,
                model_warmup=False,
                bettertransformer=False,
                trust_remote_code=True,
            )
            engines[batch] = SyncEngineArray.from_args([arguments])
        return engines[batch]

    def score(query: str, documents: list[str], batch: int) -> list[float]:
        ranked, _ = start(batch).rerank(model="model", query=query, docs=documents, raw_scores=True).result()
        by_index = {item.index: item.relevance_score for item in ranked}
        return [float(by_index[index]) for index in range(len(documents))]

    start(32)
    return Peer(tokenise=_tokenise(AutoTokenizer.from_pretrained(folder)), score=score, batches=(32,))


def _tokenise(tokenizer: Any) -> Callable[[str, str], list[int]]:
    return lambda query, document: list(tokenizer(query, document)["input_ids"])


LOADERS: dict[str, Callable[..., Peer]] = {
    "fastembed": fastembed,
    "sentence-transformers": sentence_transformers,
    "transformers": transformers,
    "padded": padded,
    "infinity": infinity,
}


def _free_memory() -> int:
    """Bytes that can be had without swapping; where the system does not say, a quarter of its memory."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":") for line in file)
    except OSError:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
    return 1024 * int(lines["MemAvailable"].split()[0])


def load(loader: str, folder: Path, options: dict[str, Any]) -> Peer:
    tune = options.pop("tune")
    peer = LOADERS[loader](folder, **options)
    peer.tune = tune
    peer.heads = json.loads((folder / "config.json").read_text(encoding="utf-8"))["num_attention_heads"]
    return peer


def answer(peer: Peer, request: dict[str, Any]) -> dict[str, Any]:
    if "pair" in request:
        return {"ids": [int(token) for token in peer.tokenise(*request["pair"])]}
    query, documents = request["query"], request["documents"]
    batch = peer.batch(query, documents)
    start = time.perf_counter()
    scores = peer.score(query, documents, batch)
    return {"scores": scores, "seconds": time.perf_counter() - start, "batch": batch}


def main() -> None:
    # Libraries print. The protocol keeps stdout to itself, and what they print goes to stderr.
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(result: dict[str, Any]) -> None:
        lines.write(json.dumps(result) + "\n")
        lines.flush()

    try:
        peer = load(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]))
    except Exception as error:  # whatever a library raises becomes its row's sentence
        say(failure(error))
        return
    say({"ready": True})
    for line in sys.stdin.buffer:
        try:
            say(answer(peer, json.loads(line)))
        except Exception as error:
            say(failure(error))


def failure(error: Exception) -> dict[str, Any]:
    return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}


if __name__ == "__main__":
    main()
