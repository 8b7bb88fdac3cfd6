"""`sagerank eval explain`: where a model loses to the first stage, or one model to another, by kind of query and query by query."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from sagerank_cost.text import fit, flat

from ..explain import Example, Explanation, Part, explain, pool
from ..kinds import kinds
from ..scorer import Cascade, EngineScorer, Scorer
from ..scores import ScoreStore
from . import inputs

_LONGEST, _LONGEST_NAME = 60, 20  # characters of a query and of a model in a table; JSON has them whole


def run(options: argparse.Namespace, store: ScoreStore) -> int:
    specs = options.model or ["micro"]
    scorers = [inputs.scorer(spec, options) for spec in specs]
    parts = []
    for source in options.data:
        collection, base = inputs.candidates(source, options)
        rankings = [inputs.ranking(collection, base, scorer, store, options) for scorer in scorers]
        first, second = (*rankings, base)[:2]
        own = kinds(collection, base.run, _pieces(scorers), relevant_from=options.relevant_from)
        parts.append(Part(collection, first, second, own))
    if len(parts) > 1:
        parts.append(pool(parts))
    results = []
    for part in parts:
        found = explain(part, examples=options.examples, relevant_from=options.relevant_from)
        named = {"data": part.collection.name, "first": part.first.name, "second": part.second.name}
        results.append(named | _facts(found))
        if not options.json:
            other = specs[1] if len(specs) > 1 else part.second.name
            _show(found, part.collection.name, (_short(specs[0]), _short(other)))
    if options.json:
        print(json.dumps(results[0] if len(results) == 1 else results, indent=2))
    return 0


def _pieces(scorers: list[Scorer]) -> Any:
    """The vocabulary of the first model that shows one."""
    alone = (scorer.stages[-1] if isinstance(scorer, Cascade) else scorer for scorer in scorers)
    return next((scorer.pieces for scorer in alone if isinstance(scorer, EngineScorer)), None)


def _short(name: str) -> str:
    """A name that can stand over a column of numbers."""
    return name if len(name) <= _LONGEST_NAME else f"...{name[3 - _LONGEST_NAME :]}"


def _facts(found: Explanation) -> dict[str, Any]:
    facts = dataclasses.asdict(found)
    facts["mean"] = {"first": facts.pop("first"), "second": facts.pop("second")}
    return facts


def _show(found: Explanation, name: str, names: tuple[str, str]) -> None:
    first, second = names
    cells: list[tuple[str, ...]] = [
        ("kind of query", "queries", first, second, "difference", "95 %", "p", "p by Holm", "adds")
    ]
    for row in found.rows:
        by = row.difference
        cells.append(
            (
                f"{row.group}: {row.name}",
                f"{row.queries}",
                f"{row.first:.3f}",
                f"{row.second:.3f}",
                f"{by.mean:+.3f}",
                f"{by.low:+.3f} to {by.high:+.3f}",
                f"{by.p:.4f}",
                f"{row.adjusted:.4f}",
                f"{row.adds:+.4f}",
            )
        )
    whole = found.difference
    print(
        fit(
            f"{name}: NDCG@10 of {first} and of {second}, {found.queries} queries: {found.first:.3f} and {found.second:.3f}, "
            f"{whole.mean:+.4f} (95 % {whole.low:+.4f} to {whole.high:+.4f}, p = {whole.p:.4f})",
            "",
            cells,
            "",
        )
    )
    for verb, examples in (("loses", found.lost), ("wins", found.won)):
        if examples:
            print(fit(f"Where {first} {verb} most, with the place of the best relevant document:", ""))
            print(fit(_examples(examples, names), ""))


def _examples(examples: tuple[Example, ...], names: tuple[str, str]) -> list[tuple[str, ...]]:
    cells: list[tuple[str, ...]] = [("query", names[0], "place", names[1], "place", "id")]
    for one in examples:
        text = flat(one.text)
        text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
        places = [str(place or "none") for place in (one.first_place, one.second_place)]
        cells.append((text, f"{one.first:.3f}", places[0], f"{one.second:.3f}", places[1], flat(one.query)))
    return cells
