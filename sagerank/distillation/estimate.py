"""What a recipe costs before it is run: the student's size beside its teacher's, and the hours and dollars of a training job.

All of it is arithmetic: shapes, pairs, and the speed and the hosting price that sagerank_cost knows of an instance.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from sagerank.models.arithmetic import shape
from sagerank.models.build import MICRO, SHAPES
from sagerank_cost import CostError
from sagerank_cost.catalogue import Catalogue
from sagerank_cost.memory import peak_mb, weights_mb
from sagerank_cost.models import Choice, Model
from sagerank_cost.sheet import Table
from sagerank_cost.throughput import speed
from sagerank_inference.checkpoint import CheckpointError, JinaBertConfig

from . import DistillationError
from .heldout import CANDIDATES
from .mine import LENGTHS
from .recipe import Recipe, parse_teachers

# Tokens of an English word, and of a query with what separates it.
_TOKENS, _QUERY = 1.35, 12
_SERVED = 512  # tokens of the pair whose memory is told
# A step of training computes the forward pass, and the gradient of activations and of weights.
_TRAINING = 3
_BYTES = 4 * 4  # float32: a weight, its gradient and two moments


def sizes(recipe: Recipe) -> Table:
    """Parameters and memory of the student, of the model that it is cut out of, and of each teacher whose shape is known here."""
    models = {f"teacher {name}": config_of(name) for name in parse_teachers(recipe.teachers)}
    if recipe.start:
        models[f"first weights {recipe.start}"] = config_of(recipe.start)
    rows: list[tuple[object, ...]] = []
    for name, config in (models | {"student": student(recipe)}).items():
        if config is None:
            rows.append((name, *[None] * 6))
            continue
        model = shape(config)
        sized = (weights_mb(model, "fp32"), weights_mb(model, "int8"), peak_mb(model, "fp32", _SERVED))
        layers = (config.num_hidden_layers, config.hidden_size, model.parameters)
        rows.append((name, *layers, *(round(mb) for mb in sized)))
    memory = f"process MB, {_SERVED} tokens"
    return Table(
        key="sizes",
        title="Sizes",
        columns=("model", "layers", "width", "parameters", "16-bit MB", "int8 MB", memory),
        rows=tuple(rows),
        notes=(
            "Memory is sagerank_cost's formula for serving in float32 on one core. - : not a shape that is known here.",
        ),
    )


def job(recipe: Recipe, instance: str, region: str, *, scored: int | None = None) -> Table:
    """Pairs, hours and US dollars of a training job. Raises DistillationError for an instance or region without a price.

    scored: pairs that teachers scored, where that is known; None: as many as the recipe allows.
    """
    words = sum(length * share for length, share in LENGTHS.items())
    tokens = round(words * _TOKENS) + _QUERY
    queries = min(recipe.limit, recipe.made_queries) if not recipe.queries else recipe.limit
    gate = recipe.gate_made * CANDIDATES if scored is None else 0
    shares = parse_teachers(recipe.teachers)
    of_queries = queries * recipe.documents if scored is None else scored
    work = [
        (f"teacher {name} scores", config_of(name), of_queries * share, recipe.teacher_tokens)
        for name, share in shares.items()
    ]
    work[0] = (*work[0][:2], work[0][2] + gate, work[0][3])
    seen = recipe.steps * recipe.queries_per_step * recipe.documents
    if recipe.hidden_layers:
        work.append(("hidden states of the first weights", _states(recipe), seen, recipe.max_tokens))
    work.append(("student is trained", student(recipe), seen, recipe.max_tokens))
    try:
        price = Catalogue().hosting(region, instance)
        hours = [
            None if config is None else _hours(shape(config), pairs, min(tokens, most), instance)
            for _, config, pairs, most in work
        ]
    except CostError as error:
        raise DistillationError(str(error)) from None
    rows: list[tuple[object, ...]] = []
    whole = True
    hours[-1] = None if hours[-1] is None else _TRAINING * hours[-1]
    for (name, _, pairs, _), taken in zip(work, hours, strict=True):
        whole &= taken is not None
        usd = None if taken is None else round(taken * float(price.usd), 2)
        rows.append((name, round(pairs), None if taken is None else round(taken, 2), usd))
    total = sum(taken or 0.0 for taken in hours)
    rows.append(("total", None, round(total, 2), round(total * float(price.usd), 2)))
    partial = "" if whole else " The total is without those whose speed is not known here."
    own = student(recipe)
    held_mb = (
        f" Its weights, gradients and AdamW's moments are {_BYTES * shape(own).parameters / 1e6:,.0f} MB there, activations aside."
        if own
        else ""
    )
    return Table(
        key="job",
        title=f"A training job on {instance} in {region}, estimated",
        columns=("what", "pairs at most" if scored is None else "pairs", "hours", "USD"),
        rows=tuple(rows),
        notes=(
            f"Pairs of {tokens} tokens at the speed that sagerank_cost estimates, a step of training as {_TRAINING} times a forward "
            f"pass; start, mining and gate are not in it.{partial}{held_mb}",
            f"{price.usd} USD an hour is the hosting price of {price.date}: that of training is not in the data. Spot takes off.",
        ),
    )


def _hours(model: Model, pairs: float, tokens: int, instance: str) -> float:
    machine = Catalogue().instance(instance)
    precision = "bf16" if machine.gpus else "fp32"
    request = 100  # documents: what is beside the arithmetic is small in it
    pace = speed(Choice((model,)), precision, machine, documents=request, tokens=tokens)
    return pairs / request * pace.seconds / 3600


def student(recipe: Recipe) -> JinaBertConfig | None:
    """The shape that the recipe's student will have; None where its first weights are no model that is known here."""
    if not recipe.start:
        return recipe.shape(recipe.vocabulary)
    kept = len(recipe.layers)
    start = config_of(recipe.start)
    if start is not None:
        return replace(start, num_hidden_layers=kept)
    whole = _bert(recipe.start)
    return whole and replace(
        whole,
        vocab_size=min(recipe.vocabulary, whole.vocab_size),
        num_hidden_layers=kept,
        intermediate_size=min(recipe.neurons, whole.intermediate_size),
    )


def _states(recipe: Recipe) -> JinaBertConfig | None:
    """The shape of what gives the hidden states: `start` up to the last layer that is learned."""
    start = config_of(recipe.start) or _bert(recipe.start)
    return start and replace(start, num_hidden_layers=max(recipe.hidden_layers) + 1)


def _bert(folder: str) -> JinaBertConfig | None:
    """The shape of a BERT in a folder, as if its neurons had gates; None where no config.json tells it."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        return None
    raw = json.loads(path.read_text(encoding="utf-8"))
    return JinaBertConfig(
        vocab_size=int(raw["vocab_size"]),
        hidden_size=int(raw["hidden_size"]),
        num_hidden_layers=int(raw["num_hidden_layers"]),
        num_attention_heads=int(raw["num_attention_heads"]),
        intermediate_size=int(raw["intermediate_size"]),
    )


def config_of(spec: str) -> JinaBertConfig | None:
    """The shape of a JinaBERT by its name or in a folder; None for another."""
    name = spec.removeprefix("random:")
    if name in SHAPES:
        return SHAPES[name]
    try:
        return JinaBertConfig.read(MICRO if spec == "micro" else Path(spec))
    except (CheckpointError, OSError):
        return None
