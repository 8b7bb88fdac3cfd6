"""What a command measures, as its options name it: scorers, collections, and first stages with their rankings."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from tqdm import tqdm

from ..collection import Collection, load
from ..evaluate import Ranking, first_stage, rerank
from ..first_stage import bm25, read_run
from ..scorer import Scorer, open_scorer
from ..scores import ScoreStore


def note(sentence: str) -> None:
    """Tell the person at the command line, beside the results."""
    print(f"sagerank: {sentence}", file=sys.stderr)


def scorer(spec: str, options: argparse.Namespace) -> Scorer:
    return open_scorer(
        spec, threads=options.threads, max_tokens=options.max_tokens, endpoint_url=options.endpoint_url
    )


def collection(source: str, options: argparse.Namespace) -> Collection:
    """Read one --data and tell what its owner should know."""
    judged = load(source, split=options.split, relevant_from=options.relevant_from)
    for sentence in judged.notices:
        note(sentence)
    return judged


def candidates(source: str, options: argparse.Namespace) -> tuple[Collection, Ranking]:
    """The collection, cut to --queries, and its first stage: BM25, or --run."""
    judged = collection(source, options).first(options.queries)
    top_k = options.top_k or 100
    run = read_run(options.run_file, judged, top_k) if options.run_file else bm25(judged, top_k)
    name = options.run_file.name if options.run_file else "bm25"
    without = [query for query in judged.queries if not run[query]]
    if without:
        note(
            f"{name} has no candidate for {len(without)} of {len(run)} queries ({without[0]!r} the first): they count as 0"
        )
    return judged, first_stage(name, judged, run, relevant_from=options.relevant_from)


def ranking(
    judged: Collection, base: Ranking, scorer: Scorer, store: ScoreStore, options: argparse.Namespace
) -> Ranking:
    """Rerank the candidates of `base`, with a progress bar."""
    with bar(pairs(base), f"{judged.name} {scorer.name}"[:60], "pair") as progress:
        return rerank(
            judged, base.run, scorer, store, relevant_from=options.relevant_from, progress=progress.update
        )


def pairs(base: Ranking) -> int:
    """How many candidates a first stage has."""
    return sum(len(rows) for rows in base.run.values())


def bar(total: int, title: str, unit: str) -> Any:
    """A progress bar over so many of the unit, on a terminal only."""
    return tqdm(total=total, desc=title, unit=unit, disable=None, leave=False)
