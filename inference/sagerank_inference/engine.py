"""Scores in one process: tokenise, plan, forward, scatter; of a cascade, once for each of its models."""

from __future__ import annotations

import importlib
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Protocol, Self

from .artefact import MANIFEST, STAGES, ArtefactError, GoldenPair, Manifest
from .cache import Lookup, ScoreCache
from .cascade import Rounds, Stage
from .contract import RerankError, Scores, TokenLimitExceeded, Truncation
from .lanes import Lanes, carried, chosen
from .onnx_check import check_graph
from .plan import plan
from .steps import finish
from .tokenise import Tokeniser, reading

if TYPE_CHECKING:
    from .dialects import Call
    from .settings import Settings
    from .windows import Windows

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
        self.lanes = Lanes(max(forward.lanes for forward in forwards), "threads")
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
    def load(cls, model_dir: Path, settings: Settings, *, cached: bool = True) -> Self:
        """Verify the artefact's hashes, load it, warm it up and check its golden pairs.

        cached: False where another process has the cache that the settings speak of.

        Raises ArtefactError where any of that fails: an engine that exists scores as the reference does. Raises SettingsError
        where there is no memory for the cache.
        """
        manifest = Manifest.read(model_dir, settings.manifest_sha256)
        importing = Thread(target=_import_runtime, args=[settings.backend])
        importing.start()  # the hashes leave the interpreter to it
        try:
            manifest.verify(model_dir)
            stages = load_stages(model_dir, settings)
        finally:
            importing.join()
        folders = manifest.stages(model_dir)
        forwards = [load_forward(folder, settings, shared_arena=len(folders) > 1) for folder in folders]
        lanes = carried(settings, folders, forwards[0].lanes)
        for forward in forwards:
            forward.lanes = min(forward.lanes, lanes.number)
        cache = ScoreCache(settings.cache_mb) if settings.cache_mb and cached else None
        engine = cls(manifest, stages, forwards, batch_tokens=settings.batch_tokens, cache=cache)
        began, seconds = time.perf_counter(), []
        for folder, stage, forward in zip(folders, stages, forwards, strict=True):
            if stage.golden:
                engine._warm_up(stage, forward)
            else:  # these settings cut every pair, and are no reason to check none
                whole = Manifest.read(folder)
                tokeniser = Tokeniser.load(folder, max_tokens=whole.max_tokens)
                golden = tuple(windows for _, windows in _golden(whole, tokeniser))
                engine._warm_up(Stage(whole, tokeniser, None, golden), forward)
            seconds.append(time.perf_counter() - began)
        # By the first model of a cascade, which scores every document.
        text = max((ids for windows in stages[0].golden for ids in windows.ids), key=len, default=(0,))
        engine.lanes = chosen(lanes, settings, forwards[0], text, full_seconds=seconds[0])
        for forward in forwards:
            forward.lanes = min(forward.lanes, engine.lanes.number)
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
        # Whoever has a call has imported it; the model's process of a server has none.
        from .dialects import render

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
        for windows in stage.golden:
            logits += windows.scatter(self._logits(forward, windows.ids))
        stage.manifest.check_golden(logits, forward.tolerance)

    def _warm_up(self, stage: Stage, forward: Forward) -> None:
        """Check the golden pairs beside batches of full size, a batch to each lane.

        So the memory that serving needs is claimed before anybody waits for it. A golden pair that is larger than a batch is the batch of one
        lane.
        """
        pair = stage.tokeniser("", [""]).ids[0]
        full = [pair] * max(1, self.batch_tokens // len(pair))
        longest = max((len(ids) for windows in stage.golden for ids in windows.ids), default=0)
        batches = forward.lanes - (longest > self.batch_tokens)
        beside = [self._others.submit(forward, full) for _ in range(min(batches, forward.lanes - 1))]
        try:
            self._check_golden(stage, forward)
            if batches == forward.lanes:
                forward(full)
        finally:
            wait(beside)
        for batch in beside:
            batch.result()


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
            golden = _golden(manifest, tokenisers[key])
        whole = replace(manifest, golden=tuple(pair for pair, _ in golden))
        stages.append(Stage(whole, tokenisers[key], keep, tuple(windows for _, windows in golden)))
    return stages


def _golden(manifest: Manifest, tokeniser: Tokeniser) -> list[tuple[GoldenPair, Windows]]:
    """Return the golden pairs with their tokens, but those that these settings would cut: they have no score to compare."""
    found = []
    for pair in manifest.golden:
        with suppress(TokenLimitExceeded):
            windows = tokeniser(pair.query, [pair.document], Truncation(allowed=False))
            # Where truncation is not allowed the query may be longer than its limit.
            if windows.query_tokens - 2 <= tokeniser.query_tokens:
                found.append((pair, windows))
    return found


def load_tokeniser(model_dir: Path, manifest: Manifest, settings: Settings) -> Tokeniser:
    return Tokeniser.load(
        model_dir,
        query_tokens=settings.query_tokens,
        max_tokens=min(settings.max_tokens, manifest.max_tokens),
        overlap_tokens=settings.overlap_tokens,
        threads=settings.threads,
    )


def _import_runtime(backend: str) -> None:
    """Have what `load_forward` imports ready; it says what is wrong."""
    with suppress(Exception):
        importlib.import_module(f"{__package__}.{backend}_model")


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

    return TorchModel(
        model_dir, device=settings.device, threads=settings.threads, precision=settings.precision
    )


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
