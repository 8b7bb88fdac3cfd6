"""Scores in one process: tokenise, plan, forward, scatter; of a cascade, once for each of its models."""

from __future__ import annotations

import shutil
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from .artefact import MANIFEST, STAGES, ArtefactError, GoldenPair, Manifest
from .cache import Lookup, ScoreCache
from .cascade import Rounds, Stage
from .contract import RerankError, Scores, TokenLimitExceeded, Truncation
from .dialects import Call, render
from .onnx_check import check_graph
from .plan import plan
from .reader import finish
from .tokenise import Tokeniser, reading

if TYPE_CHECKING:
    from .settings import Settings

_ONNX_FILES = ("model.onnx", "model.safetensors")


class Forward(Protocol):
    """The model proper: token ids of each pair of one batch -> logits."""

    tolerance: float  # how far a golden logit may be from the float32 reference
    lanes: int  # calls that may run at once

    def __call__(self, batch: Sequence[Sequence[int]]) -> list[float]: ...


class Engine:
    """A model, or the stages of a cascade; `forwards` are theirs, in that order."""

    def __init__(
        self,
        manifest: Manifest,
        stages: Sequence[Stage],
        forwards: Sequence[Forward],
        *,
        batch_tokens: int,
        cache: ScoreCache | None = None,
    ) -> None:
        """cache: answers pairs that `score` has scored before; golden pairs are always computed."""
        self.manifest, self.stages, self.forwards = manifest, stages, forwards
        self.batch_tokens, self.cache = batch_tokens, cache
        # The caller's thread is a lane too.
        self._others = ThreadPoolExecutor(max(1, *(forward.lanes - 1 for forward in forwards)))

    @property
    def tokeniser(self) -> Tokeniser:
        """The first model's, which reads every document."""
        return self.stages[0].tokeniser

    @property
    def forward(self) -> Forward:
        """The first model."""
        return self.forwards[0]

    @classmethod
    def load(cls, model_dir: Path, settings: Settings) -> Self:
        """Verify the artefact's hashes, load it, warm it up and check its golden pairs.

        Raises ArtefactError where any of that fails: an engine that exists scores as the reference does. Raises SettingsError
        where there is no memory for the cache.
        """
        manifest = Manifest.read(model_dir, settings.manifest_sha256)
        manifest.verify(model_dir)
        stages = load_stages(model_dir, settings)
        folders = manifest.stages(model_dir)
        forwards = [load_forward(folder, settings, shared_arena=len(folders) > 1) for folder in folders]
        cache = ScoreCache(settings.cache_mb) if settings.cache_mb else None
        engine = cls(manifest, stages, forwards, batch_tokens=settings.batch_tokens, cache=cache)
        engine.check_golden()
        for folder, stage, forward in zip(folders, stages, forwards, strict=True):
            if not stage.manifest.golden:  # these settings cut every pair, and are no reason to check none
                whole = Manifest.read(folder)
                tokeniser = Tokeniser.load(folder, max_tokens=whole.max_tokens)
                engine._check_golden(Stage(whole, tokeniser, None), forward)
        # Batches of full size claim the memory that serving needs, before anybody waits for it.
        for stage, forward in zip(stages, forwards, strict=True):
            pair = stage.tokeniser("", [""]).ids[0]
            full = max(1, settings.batch_tokens // len(pair))
            engine._logits(forward, [pair] * (full * forward.lanes))
        return engine

    def score(
        self,
        query: str,
        documents: Sequence[str],
        truncation: Truncation = Truncation(),  # noqa: B008 - frozen
        *,
        spans: bool = False,
    ) -> Scores:
        """Score every document for the query; logits are in the order of `documents`.

        spans: also find the characters of each document that its score is of: all, or its best window's.

        Raises TokenLimitExceeded where truncation is not allowed and a pair does not fit, and InvalidRequest where one
        is to be cut to next to nothing.
        """
        rounds = Rounds(self.stages, query, documents, truncation, spans=spans)
        for number, forward in enumerate(self.forwards):
            lookup = Lookup(self.cache, number)
            lookup.add(rounds.read().ids)
            rounds.take(lookup.complete(self._logits(forward, lookup.missing)))
        finish(rounds.find_spans())
        return rounds.scores()

    def _logits(self, forward: Forward, pairs: Sequence[Sequence[int]]) -> list[float]:
        """Return the logits of the pairs' token ids, in order; as many batches run at once as the model has lanes."""
        logits = [0.0] * len(pairs)
        batches = deque(plan([len(ids) for ids in pairs], max_tokens=self.batch_tokens))

        def work(batch: Sequence[int]) -> None:
            for index, logit in zip(batch, forward([pairs[index] for index in batch]), strict=True):
                logits[index] = logit

        def lane() -> None:
            while True:
                try:
                    batch = batches.popleft()
                except IndexError:
                    return
                work(batch)

        # The longest come first. One that exceeds a batch has all cores and the memory to itself.
        while batches and len(pairs[batches[0][0]]) > self.batch_tokens:
            work(batches.popleft())
        others = [self._others.submit(lane) for _ in range(min(forward.lanes, len(batches)) - 1)]
        try:
            lane()
        finally:
            batches.clear()
            wait(others)
        for other in others:
            other.result()
        return logits

    def answer(self, call: Call, *, request_id: str) -> tuple[bytes, str]:
        """Score what was parsed; return body and content type. Raises a RerankError with its dialect."""
        return render(call, self.scores(call), model=self.manifest.model, request_id=request_id)

    def scores(self, call: Call) -> list[list[Scores]]:
        """Return the scores of each group of each request. Raises a RerankError with its dialect."""
        scores = []
        for request in call.requests:
            try:
                scores.append(
                    [
                        self.score(
                            group.query, group.documents, request.truncation, spans=request.return_spans
                        )
                        for group in request.groups
                    ]
                )
            except RerankError as error:
                error.dialect = request.dialect
                raise
        return scores

    def check_golden(self) -> None:
        """Raise ArtefactError unless each model scores its golden pairs as the reference scored them."""
        for stage, forward in zip(self.stages, self.forwards, strict=True):
            self._check_golden(stage, forward)

    def _check_golden(self, stage: Stage, forward: Forward) -> None:
        logits = []
        for pair in stage.manifest.golden:
            windows = stage.tokeniser(pair.query, [pair.document])
            logits += windows.scatter(self._logits(forward, windows.ids))
        stage.manifest.check_golden(logits, forward.tolerance)


def load_stages(model_dir: Path, settings: Settings) -> list[Stage]:
    """Read the models of an artefact, without their weights. Stages with equal tokenizers share one, and what it reads."""
    root = Manifest.read(model_dir, settings.manifest_sha256)
    tokenisers: dict[tuple[str, int], Tokeniser] = {}
    stages = []
    for folder, keep in zip(root.stages(model_dir), (None, *root.keep), strict=True):
        # The root's manifest vouches for those of its stages.
        name = (folder / MANIFEST).relative_to(model_dir).as_posix()
        manifest = Manifest.read(folder, root.files.get(name, settings.manifest_sha256))
        if manifest.keep and root.keep:
            raise ArtefactError(f"{folder} is a cascade inside a cascade: build the artefact again.")
        key = manifest.files["tokenizer.json"], manifest.max_tokens
        if key not in tokenisers:
            # A server reads it while the model's process, which verifies all files, is still loading.
            manifest.verify_file(folder, "tokenizer.json")
            tokenisers[key] = load_tokeniser(folder, manifest, settings)
        with reading(folder / "tokenizer.json"):  # which may fail with its first text
            whole = _whole(manifest, tokenisers[key])
        stages.append(Stage(whole, tokenisers[key], keep))
    return stages


def _whole(manifest: Manifest, tokeniser: Tokeniser) -> Manifest:
    """Leave out the golden pairs that these settings would cut: they have no score to compare."""

    def fits(pair: GoldenPair) -> bool:
        try:
            whole = tokeniser(pair.query, [pair.document], Truncation(allowed=False))
        except TokenLimitExceeded:
            return False
        return whole == tokeniser(pair.query, [pair.document])

    return replace(manifest, golden=tuple(filter(fits, manifest.golden)))


def load_tokeniser(model_dir: Path, manifest: Manifest, settings: Settings) -> Tokeniser:
    return Tokeniser.load(
        model_dir,
        query_tokens=settings.query_tokens,
        max_tokens=min(settings.max_tokens, manifest.max_tokens),
        overlap_tokens=settings.overlap_tokens,
        threads=settings.threads,
    )


def load_forward(model_dir: Path, settings: Settings, *, shared_arena: bool = False) -> Forward:
    """Load a model with the backend that the settings name, whose runtime is imported here and nowhere else.

    shared_arena: with the other models of this process. Raises ArtefactError for a cascade's folder, which holds several models.
    """
    manifest = Manifest.read(model_dir) if (model_dir / MANIFEST).is_file() else None
    if manifest and manifest.keep:
        raise ArtefactError(
            f"{model_dir} is a cascade: give one of its models, such as {model_dir / STAGES / '0'}."
        )
    if settings.backend == "onnx":
        from .onnx_model import OnnxModel

        check_graph(model_dir)
        with _unlinked(model_dir) as folder:
            try:
                return OnnxModel(
                    folder,
                    threads=settings.threads,
                    shared_arena=shared_arena,
                    bfloat16=manifest is not None and manifest.precision == "bf16",
                )
            except MemoryError:
                raise
            except Exception as error:  # ONNX Runtime's own are bare Exceptions
                first = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
                raise ArtefactError(
                    f"ONNX Runtime does not load {model_dir / 'model.onnx'}: build the artefact again. It says: {first}"
                ) from None
    from .torch_model import TorchModel

    return TorchModel(model_dir, device=settings.device, threads=settings.threads)


@contextmanager
def _unlinked(model_dir: Path) -> Iterator[Path]:
    """The folder; for a moment another one with its graph and weights, where the weights are a link to elsewhere.

    ONNX Runtime reads weights in the graph's own folder alone. Caches lay files out as links, and what is loaded or
    mapped stays when its name is gone.
    """
    if all((model_dir / name).resolve().is_relative_to(model_dir.resolve()) for name in _ONNX_FILES):
        yield model_dir
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        for name in _ONNX_FILES:
            file = (model_dir / name).resolve()
            try:
                (Path(scratch) / name).hardlink_to(file)
            except OSError:  # another file system
                shutil.copyfile(file, Path(scratch) / name)
        yield Path(scratch)
