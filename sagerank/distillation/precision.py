"""`sagerank build --precision int8`, or bf16: an artefact in a faster arithmetic behind a gate.

It is written only if, on labelled text, it ranks and scores nearly as float32 does: NDCG@10, the
first ten of each query, and the error of a score are measured on both and held against thresholds. Of a cascade every
stage is converted, and has to pass by itself, over all candidates.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sagerank.evaluation import SAMPLE
from sagerank.evaluation.collection import Collection, load, sample
from sagerank.evaluation.evaluate import Ranking, rerank
from sagerank.evaluation.first_stage import Run, bm25
from sagerank.evaluation.metrics import Difference
from sagerank.evaluation.progress import Progress
from sagerank.evaluation.scores import ScoreStore
from sagerank_inference.archive import copy, replaced
from sagerank_inference.artefact import Manifest
from sagerank_inference.cascade import Stage
from sagerank_inference.checkpoint import CheckpointError
from sagerank_inference.engine import Engine, load_forward, load_tokeniser
from sagerank_inference.settings import Settings

from ..models.build import archive, default_cache, resolve
from ..models.cascade import Spec, compose
from ..models.graph_bf16 import RoundedGraph, convert
from ..models.quantise import quantise
from .gate import check, labelled

TOP_K = 20  # candidates of a query in the gate


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How far a faster arithmetic may be from float32 on each collection."""

    ndcg_drop: float = 0.005  # mean NDCG@10 may fall by, of 1
    agreement: float = 0.95  # mean share of float32's first ten that it has among its first ten, at least
    error: float = 0.05  # mean absolute error of a logit, in standard deviations of float32's logits


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A faster arithmetic beside float32 over the same candidates of one collection. Errors are of logits. model: as it was given."""

    model: str
    data: str
    queries: int
    pairs: int
    fp32: float  # mean NDCG@10
    precision: str  # int8 or bf16
    fast: float  # mean NDCG@10 in it
    difference: Difference  # fast - fp32
    agreement: float
    mean_error: float
    max_error: float
    spread: float  # standard deviation of fp32's logits over all pairs

    @property
    def error(self) -> float:
        return self.mean_error / self.spread if self.spread else math.inf


def build_gated(
    model: str,
    output: Path,
    precision: str = "int8",
    *,
    gate: Sequence[str] = (),
    queries: int | None = None,
    thresholds: Thresholds = Thresholds(),
    code: bool = False,
    cache: Path | None = None,
    show: Callable[[list[Comparison]], None] = lambda _: None,
    progress: Progress = lambda *_: None,
) -> Manifest:
    """Write the artefact of a model in int8 or bf16 to `output`, a folder or a .tar.gz file, if it passes the gate.

    Each stage of a cascade has to pass. gate: BEIR folders or names; by default the labelled sample in this
    package; of each the first so many `queries`. `show` gets the figures in either case. Random weights rank
    at random: their figures are shown, and held against nothing. Raises GateFailed with every figure that
    falls short, and leaves `output` as it was.
    """
    reference = resolve(model, cache=cache)
    root = Manifest.read(reference)
    sources = root.stages(reference)
    names = _names(model, root, sources)
    for name, source in zip(names, sources, strict=True):
        computed = Manifest.read(source).precision
        if computed != "fp32":
            raise CheckpointError(f"{name} computes in {computed} already: give the model it was built from.")
    if output.resolve() in {path.resolve() for path in (reference, *sources)}:
        raise CheckpointError(f"{precision} would replace the model in {output}: give another --output.")
    judged: list[Comparison] = []
    data = list(labelled(gate, queries, TOP_K) if gate else [_sample_candidates(queries)])
    with tempfile.TemporaryDirectory() as scratch:
        folders = [Path(scratch) / str(number) for number in range(len(sources))]
        with ScoreStore((cache or default_cache()) / "gate.jsonl") as store:
            for name, source, folder in zip(names, sources, folders, strict=True):
                folder.mkdir()
                manifest, fast, precise = _convert(source, folder, precision)
                rows = [judge(name, precise, fast, part, store, progress=progress) for part in data]
                _tolerate(folder, manifest, fast, max(row.max_error for row in rows))
                judged += rows
        show(judged)
        held = [row for row in judged if not row.model.startswith("random:")]
        check(f"{precision} does not pass the gate, and nothing was written", shortfalls(held, thresholds))
        folder = folders[0]
        if root.keep:
            folder = Path(scratch) / "cascade"
            folder.mkdir()
            compose(Spec(names, root.keep), folders, folder)
        if output.name.endswith(".tar.gz"):
            return archive(str(folder), output, code=code)
        with replaced(output) as new:
            return copy(folder, new)


def _names(model: str, root: Manifest, sources: Sequence[Path]) -> tuple[str, ...]:
    """The models as they were given, or, of a cascade's artefact, as its manifests name them."""
    if ">" in model:
        return Spec.parse(model).models
    return tuple(Manifest.read(source).model for source in sources) if root.keep else (model,)


def _convert(source: Path, folder: Path, precision: str) -> tuple[Manifest, _Artefact, _Artefact]:
    """Write the int8 or bf16 form of a float32 artefact into `folder`, all but the manifest; that, and the two as scorers, float32 last."""
    reference = Manifest.read(source)
    reference.verify(source)
    precise = _Artefact(source, reference)
    if precision == "int8":
        manifest = quantise(source, folder, _calibration(source, reference))
        return manifest, _Artefact(folder, manifest), precise
    # Few machines have the arithmetic: what is scored computes its rounding.
    rounded = folder.with_name(f"{folder.name}-rounded")
    rounded.mkdir()
    return convert(source, folder), _Artefact(rounded, convert(source, rounded, RoundedGraph)), precise


def _tolerate(folder: Path, manifest: Manifest, fast: _Artefact, max_error: float) -> None:
    """Write the manifest of `folder` with the error that its golden logits may have.

    A machine with other vector units rounds otherwise: they may be as far off as any of the gate's.
    """
    drift = max(abs(fast.score(pair.query, [pair.document])[0] - pair.logit) for pair in manifest.golden)
    replace(manifest, tolerance=_rounded_up(max(2 * drift, max_error))).write(folder)


def judge(
    model: str,
    exact: _Artefact,
    fast: _Artefact,
    data: tuple[Collection, Run],
    store: ScoreStore,
    *,
    progress: Progress = lambda *_: None,
) -> Comparison:
    """Score every candidate of a collection with both artefacts and compare."""
    collection, candidates = data
    total, done = 2 * sum(map(len, candidates.values())), 0

    def scored(documents: int) -> None:
        nonlocal done
        done += documents
        progress(f"gate {collection.name}, {model}", done, total)

    reference, result = (
        rerank(collection, candidates, scorer, store, progress=scored) for scorer in (exact, fast)
    )
    errors, logits = _errors(reference, result)
    return Comparison(
        model=model,
        data=collection.name,
        queries=len(collection.queries),
        pairs=len(errors),
        fp32=reference.mean(),
        precision=fast.manifest.precision,
        fast=result.mean(),
        difference=result.versus(reference),
        agreement=float(np.mean(list(_agreements(reference.run, result.run)))),
        mean_error=float(errors.mean()),
        max_error=float(errors.max()),
        spread=float(logits.std()),
    )


def shortfalls(judged: Sequence[Comparison], thresholds: Thresholds) -> list[str]:
    """Every figure beyond its threshold, in words."""
    problems = []
    for row in judged:
        where = f"on {row.data} for {row.model}"
        # Written so that a NaN fails too.
        if not row.fp32 - row.fast <= thresholds.ndcg_drop:
            problems.append(
                f"NDCG@10 falls by {row.fp32 - row.fast:.4f} (at most {thresholds.ndcg_drop:g}) {where}"
            )
        if not row.agreement >= thresholds.agreement:
            problems.append(
                f"{row.agreement:.1%} of the first ten agree (at least {thresholds.agreement:.1%}) {where}"
            )
        if not row.error <= thresholds.error:
            problems.append(
                f"the mean score error is {row.error:.1%} of the scores' spread (at most {thresholds.error:.1%}) {where}"
            )
    return problems


class _Artefact:
    """A scorer over an artefact whose golden pairs are not checked: how far off they are is what the gate measures."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.manifest, settings = manifest, Settings(model_dir=folder)
        self._engine = Engine(
            manifest,
            [Stage(manifest, load_tokeniser(folder, manifest, settings), None)],
            [load_forward(folder, settings)],
            batch_tokens=settings.batch_tokens,
        )
        hashes = (manifest.files[name][:12] for name in ("model.safetensors", "model.onnx"))
        self.name = "@".join([manifest.model, *hashes])

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        return list(self._engine.score(query, documents).values)


def _errors(
    reference: Ranking, result: Ranking
) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """The absolute errors [pairs] of the logits of `result`, and the reference's logits [pairs]."""
    pairs = [
        (score, again[document])
        for query, rows in reference.run.items()
        for again in [dict(result.run[query])]
        for document, score in rows
    ]
    exact, fast = np.array(pairs, np.float64).T
    return np.abs(fast - exact), exact


def _agreements(reference: Run, result: Run) -> Iterator[float]:
    for query, rows in reference.items():
        first, again = ({document for document, _ in run[:10]} for run in (rows, result[query]))
        yield len(first & again) / len(first)


def _sample_candidates(queries: int | None) -> tuple[Collection, Run]:
    collection = sample().first(queries)
    return collection, _filled(collection, bm25(collection, TOP_K))


def _filled(collection: Collection, run: Run) -> Run:
    """TOP_K candidates for every query: where words find fewer, other passages follow, so that there are ten to agree on."""
    documents = list(collection.documents)
    result = {}
    for start, (query, rows) in enumerate(run.items()):
        near = dict(rows)
        others = (name for name in documents[start:] + documents[:start] if name not in near)
        result[query] = rows + [
            (name, -1.0) for name, _ in zip(others, range(TOP_K - len(rows)), strict=False)
        ]
    return result


def _calibration(folder: Path, manifest: Manifest) -> list[Sequence[int]]:
    """Token ids of the held-out sample's queries, each with its passage: none of the gate's own texts."""
    tokeniser = load_tokeniser(folder, manifest, Settings(model_dir=folder))
    texts = load(str(SAMPLE / "heldout"))
    pairs: Iterator[tuple[str, Mapping[str, int]]] = (
        (text, texts.qrels[query]) for query, text in texts.queries.items()
    )
    return [
        tokeniser(text, [texts.documents[document]]).ids[0] for text, grades in pairs for document in grades
    ]


def _rounded_up(value: float) -> float:
    """The smallest number of two digits that is not below `value`."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1) if value > 0 else 1.0
    return float(f"{math.ceil(value / unit) * unit:.2g}")
