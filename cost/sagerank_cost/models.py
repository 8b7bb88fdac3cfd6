"""What is compared: the shapes of Base, Turbo, Tiny and micro, their arithmetic, and how well they rank."""

from __future__ import annotations

from dataclasses import dataclass

from . import CostError, unknown
from .store import DATA, rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A JinaBERT shape. `ndcg` is BEIR's NDCG@10 in points as the announcement printed it; None where nobody measured."""

    name: str
    vocabulary: int
    hidden: int
    layers: int
    heads: int
    intermediate: int
    ndcg: float | None

    @property
    def linear(self) -> int:
        """Weights of the linear layers: all that is multiplied with every token."""
        return self.layers * (4 * self.hidden**2 + 3 * self.hidden * self.intermediate)

    @property
    def parameters(self) -> int:
        h = self.hidden
        # Biases and LayerNorms of a layer, embeddings with two segments and a LayerNorm, pooler, head.
        small = self.layers * (4 * h + h + 2 * h + 2 * h)
        return self.linear + small + (self.vocabulary + 2 + 2) * h + h * h + h + h + 1

    def flops(self, tokens: int) -> int:
        """The operations of one pair: matrix products without padding, a multiply-add as two.

        Pruned: the last layer computes keys and values for all tokens, and the rest for token 0 alone, which is all that the
        head reads. Not counted: ALiBi, softmax, LayerNorm, GELU, embeddings, biases.
        """
        h, f = self.hidden, self.intermediate
        # Over all layers: whose query, output projection and MLP are computed, and whose keys and values.
        rows, columns = (self.layers - 1) * tokens + 1, self.layers * tokens
        linear = rows * (2 * h * h + 3 * h * f) + columns * 2 * h * h
        attention = rows * tokens * 2 * h  # queries x keys, weights x values
        head = h * h + h
        return 2 * (linear + attention + head)


def _read() -> dict[str, Model]:
    columns = ("vocabulary", "hidden", "layers", "heads", "intermediate")
    models = {}
    for _, row in rows(DATA / "models.csv", "name", *columns, "ndcg"):
        shape = {column: int(row[column]) for column in columns}
        ndcg = float(row["ndcg"]) if row["ndcg"] else None
        models[row["name"]] = Model(name=row["name"], ndcg=ndcg, **shape)
    return models


MODELS = _read()
# Bytes of a stored weight, and of one in the linear layers while a CPU computes: int8 has sums and scales beside it. bf16 is what
# float32 is on a CPU without it; where ONNX Runtime has it, it packs 16 bits, and float32's are counted, as that was not measured.
PRECISIONS = {"fp32": (2, 4), "bf16": (2, 4), "int8": (1, 1.25)}

_KEEP = 20  # documents of a later stage, where its number is not given


@dataclass(frozen=True, slots=True)
class Choice:
    """A model, or a cascade: the first scores all documents, and every later stage again the best `keep` of the one before."""

    stages: tuple[Model, ...]
    keep: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The text that `choice` reads as this one."""
        first, *rest = self.stages
        return first.name + "".join(
            f">{model.name}@{count}" for model, count in zip(rest, self.keep, strict=True)
        )

    @property
    def ndcg(self) -> float | None:
        """The model's NDCG@10; None for a cascade, until somebody measures it: `sagerank eval --model 'tiny>base@20'`."""
        return self.stages[0].ndcg if len(self.stages) == 1 else None

    @property
    def parameters(self) -> int:
        return sum(model.parameters for model in self.stages)

    def flops(self, documents: int, tokens: int) -> int:
        """The operations of one request of so many documents, whose pairs have so many tokens."""
        first, *rest = self.stages
        again = sum(
            min(count, documents) * model.flops(tokens) for model, count in zip(rest, self.keep, strict=True)
        )
        return documents * first.flops(tokens) + again


def choice(text: str) -> Choice:
    """Read `tiny`, or a cascade `tiny>base@20`, `tiny>turbo@40>base@10`; a stage without @ keeps 20.

    Raises CostError for a model that does not exist and a cascade that makes no sense.
    """
    stages: list[Model] = []
    keep: list[int] = []
    for part in text.split(">"):
        name, at, count = part.partition("@")
        if name not in MODELS:
            raise unknown("model", name, MODELS)
        if at and not (count.isdecimal() and int(count) > 0 and stages):
            raise CostError(
                f"{part!r} in {text!r}: @ goes with a later stage and a number, as in tiny>base@20."
            )
        if stages:
            keep.append(int(count) if at else _KEEP)
        stages.append(MODELS[name])
    if len(stages) > 3 or len(set(stages)) != len(stages):
        raise CostError(
            f"The cascade {text!r} has a model twice, or more than three: give one as in tiny>base@20."
        )
    if keep != sorted(set(keep), reverse=True):
        raise CostError(
            f"The cascade {text!r} keeps as many documents after a stage as before it: keep fewer from stage to stage."
        )
    return Choice(tuple(stages), tuple(keep))


def check_precision(name: str) -> str:
    """The name itself. Raises CostError for one that does not exist."""
    if name not in PRECISIONS:
        raise unknown("precision", name, PRECISIONS)
    return name
