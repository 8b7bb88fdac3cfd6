"""Everything a distillation depends on, in frozen values that check themselves."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self, get_args, get_origin, get_type_hints

from sagerank.models.build import SHAPES
from sagerank_inference.checkpoint import CheckpointError, JinaBertConfig

from . import DistillationError

_SHAPES = {"micro": replace(SHAPES["tiny"], hidden_size=192, intermediate_size=512), **SHAPES}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """What the training of a student depends on. Raises DistillationError for what cannot work."""

    steps: int
    queries_per_step: int = 16
    accumulate: int = 1  # parts a step's queries are cut into, for memory; the gradient is the same
    learning_rate: float = 3e-4
    warmup_steps: int = 60
    weight_decay: float = 0.01
    temperature: float = 2.0  # of the teacher's softmax: its logits span about 20
    kl_weight: float = 1.0
    error_weight: float = 0.03
    margin_weight: float = 0.0
    hidden_weight: float = 1.0  # of the error of hidden states, where some are learned
    max_tokens: int = 256
    checkpoint_every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        _check_kinds(self)
        for name in (
            "steps",
            "queries_per_step",
            "accumulate",
            "learning_rate",
            "temperature",
            "max_tokens",
            "checkpoint_every",
        ):
            if not getattr(self, name) > 0:
                raise DistillationError(f"{name} is {getattr(self, name)}: it must be above 0.")
        if min(self.kl_weight, self.error_weight, self.margin_weight, self.hidden_weight) < 0 or not (
            self.kl_weight + self.error_weight + self.margin_weight > 0
        ):
            raise DistillationError(
                "Of the loss weights none may be below 0, and at least one must be above 0 (kl, error, margin)."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything a distillation depends on. Raises DistillationError for what cannot work.

    Paths are strings, so that a recipe is the same JSON here and in a training job.
    """

    passages: str  # a folder of text files, or JSON Lines (.gz) with id, text, source, licence
    queries: str = ""  # JSON Lines (.gz) with id, text, source, positive_passage_id; without, all are made
    teachers: tuple[str, ...]  # SPEC or SPEC=SHARE; each query is scored by one of them, drawn by share
    # Where the student's first weights come from: a BERT cross-encoder's folder, a JinaBERT model, or "" for none.
    start: str = ""
    layers: tuple[int, ...] = ()  # those of `start` that are kept
    # The layers of `start` whose hidden states the student's layers learn to give, one for each; none where empty.
    hidden_layers: tuple[int, ...] = ()
    neurons: int = 1024  # kept in each layer of a BERT
    vocabulary: int = 11_500  # tokens kept of a BERT's, or trained afresh; a JinaBERT keeps its own
    student: str = "micro"  # shape where start is empty: micro, tiny, turbo, or a config.json
    embedder: str = ""  # bge|e5|minilm:FOLDER or hf:NAME, finds near passages by meaning
    made_queries: int = 24_000  # beside those of `queries`, or in their place
    heldout: int = 200  # made queries that are kept for the gate, where it has neither `queries` nor `gate`
    limit: int = 40_000
    documents: int = 8  # candidates a query
    lexical: float = 4.0  # weight of BM25 in what the student learns, in logits
    teacher_tokens: int = 256
    steps: int = 3200
    queries_per_step: int = 16
    accumulate: int = 1
    learning_rate: float = 3e-4
    warmup_steps: int = 60
    temperature: float = 2.0  # of the teacher's softmax
    kl_weight: float = 1.0
    error_weight: float = 0.03
    margin_weight: float = 0.0
    hidden_weight: float = 1.0
    max_tokens: int = 256
    checkpoint_every: int = 100
    seed: int = 1
    # Share of the first weights in the student's last ones: what it knew before helps on other text (Wortsman et al. 2022).
    keep_start: float = 0.0
    gate: tuple[str, ...] = ()  # BEIR folders
    gate_queries: int = 100  # of each
    retention: float = 0.85  # of the first teacher's NDCG@10
    first_stage_margin: float = 1.0  # the student may be this much NDCG@10 below the first stage
    dtype: str = "int8"  # of the stored weights: int8, float16, bfloat16, float32

    def __post_init__(self) -> None:
        _check_kinds(self)
        parse_teachers(self.teachers)
        if not self.teachers:
            raise DistillationError("teachers is empty: give at least one.")
        if self.start and not self.layers:
            raise DistillationError(
                "layers is empty: say which layers of `start` the student keeps, for example 0,1,2."
            )
        if self.hidden_layers and not self.start:
            raise DistillationError(
                "hidden_layers are those of `start`, which is empty: give it, or leave hidden_layers out."
            )
        if self.hidden_layers and len(self.hidden_layers) != len(self.layers):
            raise DistillationError(
                f"hidden_layers has {len(self.hidden_layers)} layers, and the student {len(self.layers)}: give one for each, "
                "for example 3,7,11."
            )
        for name, low in {
            "vocabulary": 200,
            "neurons": 1,
            "limit": 1,
            "documents": 2,
            "gate_queries": 1,
            "made_queries": 0 if self.queries else 1,
            "heldout": 1,
            "teacher_tokens": 8,
        }.items():
            if getattr(self, name) < low:
                raise DistillationError(f"{name} is {getattr(self, name)}: it must be at least {low}.")
        if not 0 <= self.keep_start < 1:
            raise DistillationError(f"keep_start is {self.keep_start}: it must be at least 0 and below 1.")
        if self.lexical < 0 or not 0 <= self.retention <= 2:
            raise DistillationError("lexical must be at least 0, and retention between 0 and 2.")
        if self.dtype not in ("int8", "float16", "bfloat16", "float32"):
            raise DistillationError(f"dtype is {self.dtype!r}: int8, float16, bfloat16 or float32.")
        self.training()

    @property
    def first_teacher(self) -> str:
        """The spec of the teacher that the gate asks."""
        return next(iter(parse_teachers(self.teachers)))

    @property
    def gate_made(self) -> int:
        """How many made queries are kept for the gate at most: none beside queries, or a gate, of one's own."""
        return 0 if self.queries or self.gate else self.heldout

    def training(self) -> TrainConfig:
        names = {field.name for field in fields(TrainConfig)} & {field.name for field in fields(Recipe)}
        return TrainConfig(**{name: getattr(self, name) for name in names})

    def shape(self, vocabulary: int) -> JinaBertConfig:
        """Return the configuration of a student that starts from nothing."""
        if self.student in _SHAPES:
            config = _SHAPES[self.student]
        else:
            path = Path(self.student)
            if path.name != "config.json" or not path.is_file():
                raise DistillationError(
                    f"student is {self.student!r}: {', '.join(_SHAPES)}, or a config.json."
                )
            try:
                config = JinaBertConfig.read(path.parent)
            except CheckpointError as error:
                raise DistillationError(str(error)) from None
        return replace(config, vocab_size=vocabulary)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, path: Path) -> Self:
        """A recipe file; raises DistillationError for an unknown name."""
        return cls.from_json(read_settings(path), str(path))

    @classmethod
    def from_json(cls, raw: dict[str, Any], where: str) -> Self:
        known = {field.name: field for field in fields(cls)}
        for name in raw:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                raise DistillationError(
                    f"{where}: there is no {name!r}" + (f": did you mean {near[0]!r}?" if near else ".")
                )
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()
        }
        try:
            return cls(**values)
        except TypeError as error:
            raise DistillationError(f"{where}: {error}") from None


_KIND_OF: dict[type, Callable[[Any], bool]] = {
    int: lambda value: type(value) is int,
    float: lambda value: type(value) in (int, float) and math.isfinite(value),
    str: lambda value: isinstance(value, str),
}
_KINDS = {int: "a whole number", float: "a finite number", str: "text"}


def kinds(of: type[TrainConfig | Recipe]) -> dict[str, tuple[bool, type]]:
    """What each field is declared as: name -> (more than one, type of one)."""
    return {
        name: (True, get_args(hint)[0]) if get_origin(hint) is tuple else (False, hint)
        for name, hint in get_type_hints(of).items()
    }


def _check_kinds(value: TrainConfig | Recipe) -> None:
    """Raise DistillationError for a field that is of another kind than it is declared, as a recipe file may have it."""
    for name, (many, kind) in kinds(type(value)).items():
        found = getattr(value, name)
        entries = (found if isinstance(found, tuple) else (None,)) if many else (found,)
        if not all(map(_KIND_OF[kind], entries)):
            wanted = f"a list, each of it {_KINDS[kind]}" if many else _KINDS[kind]
            raise DistillationError(f"{name} is {str(found)[:100]!r}: give {wanted}.")


def read_settings(path: Path) -> dict[str, Any]:
    """Whatever settings a recipe file has: options may bring those that it lacks."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DistillationError(f"The recipe {path} does not exist.") from None
    except ValueError as error:
        raise DistillationError(f"{path} is not JSON ({error}).") from None
    if not isinstance(raw, dict):
        raise DistillationError(f"{path} is not a recipe: give a JSON object of settings.")
    return raw


def parse_teachers(specs: Sequence[str]) -> dict[str, float]:
    """["SPEC", "SPEC=3"] -> share of the queries each teacher scores; shares add up to 1."""
    weights: dict[str, float] = {}
    for spec in specs:
        name, equals, weight = spec.rpartition("=")
        if not equals:
            name, weight = spec, "1"
        try:
            value = float(weight)
        except ValueError:
            raise DistillationError(
                f"The teacher {spec!r} is written SPEC or SPEC=SHARE, with a number."
            ) from None
        if not value > 0:
            raise DistillationError(f"The share of the teacher {name!r} is {weight}: give more than 0.")
        weights[name] = value
    total = sum(weights.values())
    return {name: value / total for name, value in weights.items()}
