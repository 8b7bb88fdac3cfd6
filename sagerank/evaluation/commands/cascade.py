"""`sagerank eval cascade`: quality against cost for every K of a cascade's last model, and the K to build it with."""

from __future__ import annotations

import argparse
import dataclasses
import json

from sagerank_cost.text import fit, width

from .. import EvaluationError
from ..cascade import Curve, arithmetic, curve, measured, sample
from ..draw import curve_picture, curve_text
from ..scorer import Cascade
from ..scores import ScoreStore
from . import inputs

# Rows of the table, beside the chosen ones and the last; the picture and the JSON have every K.
_SHOWN = (0, 1, 2, 3, 5, 10, 15, 20, 30, 50, 75)

# Of the last model's cost: above it, a second model to keep and deploy buys next to nothing.
_LITTLE = 0.9


def run(options: argparse.Namespace, store: ScoreStore) -> int:
    (spec,), (source,) = options.model, options.data
    head, sign, tail = spec.rpartition(">")
    if not sign or not head or not tail or tail.rpartition("@")[2].isdecimal():
        raise EvaluationError(f"--model is {spec!r}: write FIRST>SECOND without K, which is what is sought.")
    before, last = inputs.scorer(head, options), inputs.scorer(tail, options)
    collection, base = inputs.candidates(source, options)
    stages = [*(before.stages if isinstance(before, Cascade) else [before]), last]
    paces = (arithmetic if options.arithmetic else measured)(stages, sample(collection, base.run))
    with inputs.bar(inputs.pairs(base), spec[-60:], "document") as bar:
        result = curve(
            collection, base.run, before, last, store, retain=options.retain, paces=paces, progress=bar.update
        )
    title = f"{spec}: NDCG@10 against cost, {collection.name}, {len(collection.queries)} queries"
    if options.plot:
        curve_picture(result, title, options.plot)
    command = _command(spec, result, source)
    if options.json:
        facts = {"data": collection.name, "model": spec, "command": command, **dataclasses.asdict(result)}
        print(json.dumps(facts, indent=2))
        return 0
    print(fit(verdict(result)))
    if command:
        print(command)
    print(fit("", title, curve_cells(result), ""))
    print(curve_text(result, title, width()))
    how = "estimated from its shape" if options.arithmetic else "measured here"
    costs = (
        f"{pace.name}: {pace.cost:.4g} {pace.unit} a document ({pace.low:.4g} to {pace.high:.4g}), {how}"
        for pace in result.paces
    )
    alone = (
        f"The last model alone: NDCG@10 {result.last_ndcg:.4f}, {result.last_cost:.4g} {result.unit} a query."
    )
    print(fit(alone, *costs))
    return 0


def _command(spec: str, result: Curve, source: str) -> str | None:
    """Write the command that builds the cascade with the chosen K, or that measures it where a stage cannot be built.

    None where the last model, or those before it, are better alone.
    """
    if not result.chosen or result.steps[result.chosen].cost_share >= 1:
        return None
    foreign = ("endpoint:", "http://", "https://", "hf:", "onnx:")
    if any(stage.startswith(foreign) for stage in spec.split(">")):
        return f"sagerank eval --model '{spec}@{result.chosen}' --data {source}"
    return f"sagerank build --model '{spec}@{result.chosen}' --output model.tar.gz"


def curve_cells(result: Curve) -> list[tuple[str, ...]]:
    quality = ("NDCG@10", "of the last model's", "margin", "one-sided 95 % from")
    cells: list[tuple[str, ...]] = [("K", *quality, f"{result.unit} a query", "of its cost")]
    shown = {*_SHOWN, result.chosen, result.by_mean, len(result.steps) - 1}
    for step in result.steps:
        if step.keep in shown:
            cells.append(
                (
                    f"{step.keep}{' <' if step.keep == result.chosen else ''}",
                    f"{step.ndcg:.4f}",
                    f"{step.share:.1%}",
                    f"{step.margin:+.4f}",
                    f"{step.low:+.4f}",
                    f"{step.cost:.4g}",
                    f"{step.cost_share:.1%}",
                )
            )
    return cells


def verdict(result: Curve) -> str:
    """Whether the cascade is worth it, with which K, and what it saves; where it is not, what to run in its place."""
    by_mean = "no K" if result.by_mean is None else f"K = {result.by_mean}"
    goal = f"{result.retain:.1%} of the last model's NDCG@10"
    if result.chosen is None:
        return (
            f"The cascade is not worth it as far as these queries tell: no K is sure to keep {goal}, beyond noise (by the mean alone {by_mean}). "
            "Run the last model alone, or measure more queries, or give a lower --retain."
        )
    step = result.steps[result.chosen]
    if step.cost_share >= 1:
        return (
            f"The cascade is not worth it: with K = {step.keep}, the smallest that keeps {goal}, it costs {step.cost_share:.0%} "
            "of what the last model costs alone. Run the last model alone."
        )
    if result.chosen == 0:
        return f"The last model is not needed: the stages before it keep {goal} alone, at {step.cost_share:.0%} of its cost."
    saves = "saves little" if step.cost_share > _LITTLE else "is worth it"
    return (
        f"The cascade {saves}: K = {step.keep} keeps {goal}, beyond noise (by the mean alone {by_mean}), "
        f"at {step.cost_share:.0%} of the cost of the last model alone."
    )
