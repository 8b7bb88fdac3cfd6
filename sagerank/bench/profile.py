"""`sagerank bench profile`: where a forward pass spends its time, and how much faster it were without each part of that."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from sagerank_inference.artefact import Manifest
from sagerank_inference.onnx_model import feed
from sagerank_inference.onnx_runtime import onnxruntime
from sagerank_inference.plan import apart, plan
from sagerank_inference.settings import Settings
from sagerank_inference.tokenise import Tokeniser

from ..evaluation import EvaluationError
from ..evaluation.progress import Progress
from .workload import Workload

# What the operators of our graphs do; those that are not here are "other".
_KINDS = {
    "products": ("Gemm", "FusedGemm", "MatMul", "FusedMatMul", "MatMulIntegerToFloat"),
    "attention": ("Attention", "Softmax"),
    "GELU and norms": ("Gelu", "LayerNormalization", "Tanh"),
    "scale, add, quantise": ("Mul", "Add", "Sub", "Div", "Abs", "Max", "Min", "ReduceMax", "QuantizeLinear"),
    "copies": ("Cast", "Expand", "Gather", "Reshape", "Transpose", "Unique", "Unsqueeze"),
}
_KIND = {operator: kind for kind, operators in _KINDS.items() for operator in operators}
# Their time is that of the nodes inside, which are counted themselves.
_AROUND = ("If", "Loop")


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of work of a model's forward passes on one thread."""

    model: str
    precision: str
    kind: str
    operators: dict[str, float]  # milliseconds a document of each of ONNX Runtime's operators, most first
    milliseconds: float  # a document
    share: float
    without: float  # how many times as fast the forward were if this cost nothing


def measure(
    models: dict[str, Path], workload: Workload, *, rounds: int, progress: Progress = lambda *_: None
) -> list[Row]:
    """Run each model's graph (name -> artefact folder) on the workload in the engine's batches, on one thread, `rounds` times after one that is not counted.

    Times are those of ONNX Runtime's profiler, the mean of the rounds. Raises EvaluationError for a cascade.
    """
    for name, folder in models.items():
        if Manifest.read(folder).keep:
            raise EvaluationError(f"{name} is a cascade, of several graphs: give one of its models.")
    rows = []
    for name, folder in models.items():
        spent = _spent(folder, workload, rounds, name, progress)
        documents = len(workload.documents) * rounds
        total = sum(spent.values())
        for kind in (*_KINDS, "other"):
            parts = {op: us for op, us in spent.most_common() if _KIND.get(op, "other") == kind}
            if not parts:
                continue
            share = sum(parts.values()) / total
            rows.append(
                Row(
                    model=name,
                    precision=Manifest.read(folder).precision,
                    kind=kind,
                    operators={op: round(us / 1e3 / documents, 4) for op, us in parts.items()},
                    milliseconds=share * total / 1e3 / documents,
                    share=share,
                    without=1 / (1 - share),
                )
            )
    return rows


def _spent(folder: Path, workload: Workload, rounds: int, name: str, progress: Progress) -> Counter[str]:
    """Microseconds of each operator in all counted rounds."""
    manifest = Manifest.read(folder)
    tokeniser = Tokeniser.load(folder, max_tokens=manifest.max_tokens)
    pairs = tokeniser(workload.query, workload.documents).ids
    lengths = [len(ids) for ids in pairs]
    batches = [
        feed([pairs[batch[index]] for index in part])
        for batch in plan(lengths, max_tokens=Settings(model_dir=folder).batch_tokens)
        for part in apart([lengths[index] for index in batch])
    ]
    with tempfile.TemporaryDirectory() as scratch:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.enable_mem_pattern = False  # as the engine
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = os.path.join(scratch, "profile")
        session = onnxruntime.InferenceSession(
            folder / "model.onnx", options, providers=["CPUExecutionProvider"]
        )
        for number in range(rounds + 1):
            for batch in batches:
                session.run(["logits"], batch)
            progress(name, number, rounds)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    runs = sorted(event["ts"] for event in events if event["name"] == "model_run")
    counted = runs[len(batches)]  # the first round warms up
    spent: Counter[str] = Counter()
    for event in events:
        if event["cat"] == "Node" and event["ts"] >= counted:
            spent[event["args"]["op_name"]] += event["dur"]
    for operator in _AROUND:
        del spent[operator]
    return spent
