"""Whatever scores documents for a query: a local artefact, an endpoint, a cascade, or somebody else's cross-encoder.

Written as one string, for `--model` and `--teacher`:

    micro, tiny, turbo, base, FOLDER, FILE.tar.gz   what `sagerank build` knows, by the local engine (cascades too)
    endpoint:NAME[@REGION]                          a live SageMaker endpoint
    http://..., https://...                         a server that answers as ours does
    hf:NAME_OR_FOLDER                               any cross-encoder, by sentence-transformers
    onnx:FOLDER                                     a BERT cross-encoder as model.onnx and tokenizer.json
    FIRST>SECOND@K[>THIRD@K]                        a cascade: the next scores the best K again

The score is a logit in every case.
"""

from __future__ import annotations

import math
import re
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sagerank.client import Options, RerankClient, Reranking
from sagerank.errors import BadAnswer, InvalidRequest
from sagerank_inference.artefact import Manifest, sha256
from sagerank_inference.cascade import merge
from sagerank_inference.checkpoint import CheckpointError, JinaBertConfig
from sagerank_inference.contract import Truncation, best_first, sigmoid
from sagerank_inference.scale import AS_IT_IS, Scale
from sagerank_inference.settings import Settings

from ..models import hub
from ..models.arithmetic import shape
from ..models.build import resolve
from ..models.cascade import Spec
from ..models.extras import install
from . import EvaluationError


class ScorerError(EvaluationError):
    """A scorer that cannot be had, with what to do about it."""


class Scorer(Protocol):
    # What the scores depend on: scores are cached under it, so it changes with the weights.
    name: str

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        """One score a document, in their order; higher is better."""
        ...


class EngineScorer:
    """A sagerank artefact in this process; the scores are logits."""

    def __init__(
        self,
        folder: Path,
        *,
        threads: int = 0,
        max_document_tokens: int | None = None,
        window_tokens: int | None = None,
    ) -> None:
        """Load the artefact in `folder`.

        max_document_tokens: a document keeps its first. window_tokens: of a pair; a document that does not fit is
        scored in windows, as by a server with this SAGERANK_MAX_TOKENS.
        """
        # Loads the tokenizer's library, which other scorers do without.
        from sagerank_inference.engine import Engine

        settings = Settings(model_dir=folder, threads=threads)
        if window_tokens is not None:
            half = min(settings.query_tokens, window_tokens // 2)
            settings = replace(settings, max_tokens=window_tokens, query_tokens=half)
        self._engine = Engine.load(folder, settings)
        self._truncation = Truncation(max_document_tokens=max_document_tokens)
        self.parameters = self._engine.manifest.parameters
        self.scale = self._engine.manifest.scale
        self._shape = shape(JinaBertConfig.read(folder))
        weights = Manifest.read(folder).files["model.safetensors"]
        limit = "" if max_document_tokens is None else f"/{max_document_tokens}"
        limit += "" if window_tokens is None else f"/windows of {window_tokens}"
        self.name = f"{self._engine.manifest.model}@{weights[:12]}{limit}"

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        return list(self._engine.score(query, documents, self._truncation).values)

    def pieces(self, words: Sequence[str]) -> list[int]:
        """How many tokens of the vocabulary each word is."""
        special, *counts = self._engine.tokeniser("", ["", *words]).document_tokens
        return [count - special for count in counts]

    def gflop(self, query: str, documents: Sequence[str]) -> float:
        """The arithmetic of these pairs by the model's shape, without padding."""
        windows = self._engine.tokeniser(query, documents, self._truncation)
        return sum(self._shape.flops(len(ids)) for ids in windows.ids) / 1e9


# A relevant document, a near one and another, which no model gives one score; and two scores, or certainty, up to rounding.
_PROBE = ("what causes rain", ("Rain falls when moist air rises and cools.", "Moist air.", "A cat sleeps."))
_SAME = 1e-6


class ClientScorer:
    """A live endpoint or server, through the client; the scores are logits, as the model gave them where the server can say so."""

    def __init__(
        self, target: str, *, endpoint_url: str | None = None, max_document_tokens: int | None = None
    ) -> None:
        """Connect to `target`, endpoint:NAME[@REGION] or a URL. max_document_tokens: a document keeps its first, if the server knows how."""
        if target.startswith("endpoint:"):
            endpoint, _, region = target.removeprefix("endpoint:").partition("@")
            self._client = RerankClient.sagemaker(endpoint, region=region or None, endpoint_url=endpoint_url)
        else:
            self._client = RerankClient.http(target)
        weakref.finalize(self, self._client.close)  # nobody closes a scorer
        self._options = Options(raw_scores=True, max_tokens_per_doc=max_document_tokens)
        self._answered = False
        self.name = public_address(target)
        self.name += "" if max_document_tokens is None else f"/{max_document_tokens}"

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        answer, raw = self._ask(query, list(documents))
        scores = [0.0] * len(documents)
        for item in answer.results:
            scores[item.index] = item.score if raw else _logit(item.score)
        return scores

    @cached_property
    def scale(self) -> Scale:
        """How the server shows its logits: by the calibration of its artefact, of which pairs of our own tell, scored both ways.

        Raises ScorerError where they tell nothing.
        """
        query, documents = _PROBE
        logits = self.score(query, documents)
        if not self._options.raw_scores:  # they were made of what it shows
            return AS_IT_IS
        asked = replace(self._options, raw_scores=False)
        answer = self._client.rerank(query, list(documents), options=asked).results
        pairs = [(logits[item.index], item.score) for item in answer]
        if all(abs(sigmoid(logit) - score) < _SAME for logit, score in pairs):
            return AS_IT_IS
        told = sorted((logit, _logit(score)) for logit, score in pairs if _SAME < score < 1 - _SAME)
        (low, first), (high, last) = (told[0], told[-1]) if told else ((0.0, 0.0), (0.0, 0.0))
        if not last > first:
            raise ScorerError(
                f"{self.name} does not tell how its scores are made of its logits: give its artefact in its place."
            )
        temperature = (high - low) / (last - first)
        return Scale(temperature, low - temperature * first)

    def _ask(self, query: str, documents: list[str]) -> tuple[Reranking, bool]:
        """What the server answers, and whether in logits; until it has answered for the first time, what it does not know is not insisted on."""
        options = self._options
        try:
            answer = self._client.rerank(query, documents, options=options)
        except (BadAnswer, InvalidRequest):
            # Another thread may have learned meanwhile what the server does not know.
            if self._answered and options is self._options:
                raise
            options = Options()
            answer = self._client.rerank(query, documents, options=options)
            self._options = options
        self._answered = True
        return answer, options.raw_scores


def public_address(target: str) -> str:
    """Return a scorer's text without what an address may hold of secrets: it is shown, and kept."""
    return re.sub(r"^(https?://)[^/?#]*@|[?#].*", r"\1", target)


def _logit(probability: float) -> float:
    # Answers are rounded to 8 decimals.
    kept = min(max(probability, 1e-8), 1 - 1e-8)
    return math.log(kept / (1 - kept))


class HuggingFaceScorer:
    """Any cross-encoder with one output, by sentence-transformers: the announcement's mxbai, MiniLM and bge rows.

    The scores are logits, whatever activation the model's own configuration names: a sigmoid rounds the tails away.
    """

    def __init__(self, model: str, *, max_tokens: int = 512) -> None:
        if find_spec("sentence_transformers") is None:
            raise ScorerError(f"hf: scorers need sentence-transformers: {install('eval-hf')}")
        local = hub.local_only(model)  # before PyTorch loads, which takes seconds
        from sentence_transformers import CrossEncoder as Model
        from torch.nn import Identity

        try:
            # Remote code stays off: what needs it is not run.
            self._model = Model(
                model,
                max_length=max_tokens,
                trust_remote_code=False,
                activation_fn=Identity(),
                local_files_only=local,
            )
        except Exception as error:  # hub, file and configuration errors share no class
            raise ScorerError(f"{model!r} cannot be loaded: {str(error).splitlines()[0]}") from None
        if self._model.num_labels != 1:
            raise ScorerError(f"{model!r} has {self._model.num_labels} outputs; a reranker has one.")
        self.name = f"hf:{model}{version(model, self._model.config)}/{max_tokens}"

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        pairs = [(query, document) for document in documents]
        return [float(value) for value in self._model.predict(pairs, show_progress_bar=False)]


def version(model: str, config: Any) -> str:
    """@HASH of a local folder's weights, or @COMMIT of a hub model; scores are cached under it."""
    folder = Path(model)
    if folder.is_dir():
        weights = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
        return "".join(f"@{sha256(path)[:12]}" for path in weights)
    commit = getattr(config, "_commit_hash", None)
    return f"@{commit[:12]}" if commit else ""


class OnnxBert:
    """A BERT-like ONNX model: tokenizer.json and model.onnx with input_ids, attention_mask, token_type_ids."""

    def __init__(self, folder: Path, *, threads: int = 1, max_tokens: int = 256) -> None:
        from tokenizers import Tokenizer

        from sagerank_inference.onnx_runtime import onnxruntime

        for name in ("model.onnx", "tokenizer.json"):
            if not (folder / name).is_file():
                raise ScorerError(f"{folder} holds no {name}.")
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(max_tokens)
        self._tokenizer.no_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.enable_mem_pattern = False
        self._session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options)
        self._inputs = {value.name for value in self._session.get_inputs()}
        self.name = f"onnx:{folder.name}@{sha256(folder / 'model.onnx')[:12]}/{max_tokens}"

    def __call__(self, texts: Sequence[str] | Sequence[tuple[str, str]]) -> list[NDArray[np.float32]]:
        """First output for each text, in order: [1] of a cross-encoder, [tokens, hidden] otherwise, padding cut."""
        encodings = self._tokenizer.encode_batch(list(texts))
        order = sorted(range(len(encodings)), key=lambda index: len(encodings[index].ids))
        result: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(encodings)
        for start in range(0, len(order), 32):
            chunk = order[start : start + 32]
            longest = len(encodings[chunk[-1]].ids)
            feed = {name: np.zeros((len(chunk), longest), np.int64) for name in self._inputs}
            for row, index in enumerate(chunk):
                encoding, size = encodings[index], len(encodings[index].ids)
                values = {
                    "input_ids": encoding.ids,
                    "attention_mask": [1] * size,
                    "token_type_ids": encoding.type_ids,
                }
                for name, rows in feed.items():
                    rows[row, :size] = values[name]
            for index, output in zip(chunk, self._session.run(None, feed)[0], strict=True):
                result[index] = output[: len(encodings[index].ids)] if output.ndim == 2 else output
        return result


class OnnxScorer:
    """A cross-encoder as an ONNX file; the score is the logit."""

    def __init__(self, folder: Path, *, threads: int = 1, max_tokens: int = 512) -> None:
        self._model = OnnxBert(folder, threads=threads, max_tokens=max_tokens)
        self.name = self._model.name

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        return [float(logit.reshape(-1)[0]) for logit in self._model([(query, text) for text in documents])]


class Cascade:
    """The first scores all; each next one scores the best `keep` of what came before again.

    As an artefact of the same models does, by the same rule: sagerank_inference.cascade.merge.
    """

    def __init__(self, stages: Sequence[Scorer], keep: Sequence[int], *, scale: Scale | None = None) -> None:
        """scale: of the artefact that holds the stages; by default the last stage's."""
        self.stages, self.keep, self._scale = stages, keep, scale
        self.name = ">".join(
            [
                stages[0].name,
                *(f"{stage.name}@{count}" for stage, count in zip(stages[1:], keep, strict=True)),
            ]
        )

    @property
    def scale(self) -> Scale:
        """How its logits are shown as scores."""
        return self._scale or scale_of(self.stages[-1])

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        return self.combine(lambda stage, texts: stage.score(query, texts), documents)

    def combine(
        self, score: Callable[[Scorer, Sequence[str]], list[float]], documents: Sequence[str]
    ) -> list[float]:
        """Rank as `score` does, with each stage's scores from the function `score`, so that they can be cached by stage."""
        scores = score(self.stages[0], documents)
        for stage, keep in zip(self.stages[1:], self.keep, strict=True):
            best = best_first(scores, keep)
            again = score(stage, [documents[index] for index in best])
            scores = merge(scores, best, again, documents)
        return scores


def scale_of(scorer: Scorer) -> Scale:
    """Return how a scorer's logits are shown as scores: as its artefact or its server says, else by the sigmoid alone."""
    return scorer.scale if isinstance(scorer, EngineScorer | ClientScorer | Cascade) else AS_IT_IS


def open_scorer(
    spec: str, *, threads: int = 0, max_tokens: int | None = None, endpoint_url: str | None = None
) -> Scorer:
    """The scorer that `spec` names (see the module). Raises ScorerError and what the model's own loader raises.

    max_tokens cuts documents where an artefact or a server scores, and pairs with hf: and onnx: (where 512 is the default).
    """
    if ">" in spec:
        try:
            cascade = Spec.parse(spec)
        except CheckpointError as error:
            raise ScorerError(str(error)) from None
        opened = {
            name: open_scorer(name, threads=threads, max_tokens=max_tokens, endpoint_url=endpoint_url)
            for name in cascade.models
        }
        return Cascade([opened[name] for name in cascade.models], cascade.keep)
    if spec.startswith(("endpoint:", "http://", "https://")):
        return ClientScorer(spec, endpoint_url=endpoint_url, max_document_tokens=max_tokens)
    kinds: Mapping[str, Callable[[], Scorer]] = {
        "hf:": lambda: HuggingFaceScorer(spec[3:], max_tokens=max_tokens or 512),
        "onnx:": lambda: OnnxScorer(Path(spec[5:]), threads=threads or 1, max_tokens=max_tokens or 512),
    }
    for prefix, make in kinds.items():
        if spec.startswith(prefix):
            return make()
    folder = resolve(spec)
    manifest = Manifest.read(folder)
    engines = [
        EngineScorer(stage, threads=threads, max_document_tokens=max_tokens)
        for stage in manifest.stages(folder)
    ]
    return Cascade(engines, manifest.keep, scale=manifest.scale) if manifest.keep else engines[0]
