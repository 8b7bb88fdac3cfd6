"""What is compared: the shapes of Base, Turbo, Tiny and micro, their arithmetic, and how well they rank."""

from __future__ import annotations

from dataclasses import dataclass

from . import CostError, unknown


@dataclass(frozen=True, slots=True)
class Model:
    """A JinaBERT shape. ndcg: BEIR NDCG@10 in points as the announcement printed it; None where nobody measured."""

    name: str
    layers: int
    hidden: int
    intermediate: int
    vocabulary: int
    ndcg: float | None
    heads: int = 12

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

    def flops(self, tokens: int) -> float:
        """Multiply-adds count two. The last layer computes keys and values for all tokens, and the rest for one."""
        h, f = self.hidden, self.intermediate
        full = 4 * h * h + 3 * h * f
        per_token = (self.layers - 1) * full + 2 * h * h
        attention = (self.layers - 1) * 2 * h * tokens + 2 * h
        return 2.0 * tokens * (per_token + attention) + 2.0 * full


MODELS = {
    model.name: model
    for model in (
        Model("base", 12, 768, 3072, 30_528, 52.45),
        Model("turbo", 6, 384, 1536, 61_056, 49.60),
        Model("tiny", 4, 384, 1536, 61_056, 48.54),
        Model("micro", 3, 384, 1024, 11_500, None),
    )
}
# Bytes of a stored weight, and of one in the linear layers while it computes.
PRECISIONS = {"fp32": (2, 4), "bf16": (2, 2), "int8": (1, 1)}


@dataclass(frozen=True, slots=True)
class Choice:
    """A model, or a cascade: the first scores all documents, the second the best `keep` again."""

    stages: tuple[Model, ...]
    keep: int = 20

    @property
    def name(self) -> str:
        return ">".join(model.name for model in self.stages)

    @property
    def ndcg(self) -> float | None:
        """A cascade's is not known until somebody measures it: `sagerank eval --model 'tiny>base@20'`."""
        return self.stages[0].ndcg if len(self.stages) == 1 else None

    def flops(self, documents: int, tokens: int) -> float:
        """Of one request."""
        first, *rest = self.stages
        return documents * first.flops(tokens) + sum(
            min(self.keep, documents) * model.flops(tokens) for model in rest
        )


def choice(text: str, keep: int = 20) -> Choice:
    """`tiny`, or `tiny>base`."""
    stages = []
    for name in text.split(">"):
        if name not in MODELS:
            raise unknown("model", name, MODELS)
        stages.append(MODELS[name])
    if len(stages) > 3 or len(set(stages)) != len(stages):
        raise CostError(f"The cascade {text!r} has a model twice, or more than three.")
    return Choice(tuple(stages), keep)


def precision(name: str) -> str:
    if name not in PRECISIONS:
        raise unknown("precision", name, PRECISIONS)
    return name
