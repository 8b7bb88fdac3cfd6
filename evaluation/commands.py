"""`sagerank eval`: measure rankings. What a command needs is imported when it runs."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .collection import Collection
    from .evaluate import Ranking
    from .rag import RagRow
    from .scorer import Scorer
    from .scores import ScoreStore

METRICS = ("ndcg@10", "mrr@10", "map", "recall@10", "recall@100")
SCORERS = (
    "a model of `sagerank build`, endpoint:NAME[@REGION], http(s)://..., hf:CROSS_ENCODER, onnx:FOLDER, "
    "or a cascade FIRST>SECOND@K; may be given more than once"
)


def add(commands: Any) -> None:
    """Add `eval` to the subparsers of the `sagerank` command."""
    description = "measure rankings: NDCG@10 and its kin, the announcement's table, the RAG benchmark"
    sub = commands.add_parser("eval", help=description, description=description)
    sub.set_defaults(run=run, extra="eval")
    sub.add_argument(
        "what",
        nargs="?",
        default="run",
        choices=["run", "table", "rag"],
        help="run: rerank a first stage (default); table: beside the published numbers; rag: hit rate and MRR",
    )
    sub.add_argument(
        "--data",
        action="append",
        required=False,
        help="BEIR folder, or BEIR name to download; more than once",
    )
    sub.add_argument("--split", default="test", help="which qrels/SPLIT.tsv (default: %(default)s)")
    sub.add_argument("--run", dest="run_file", type=Path, help="TREC run file to rerank (default: BM25)")
    sub.add_argument("--model", action="append", help=SCORERS + " (default: micro)")
    sub.add_argument("--top-k", type=int, default=100, help="candidates reranked (default: %(default)s)")
    sub.add_argument("--queries", type=int, help="measure only the first so many queries")
    sub.add_argument(
        "--relevant-from",
        type=int,
        default=1,
        help="lowest relevant grade of MRR, MAP, recall (default: %(default)s)",
    )
    sub.add_argument(
        "--max-tokens", type=int, help="cut longer documents (hf:, onnx: longer pairs; default there 512)"
    )
    sub.add_argument("--threads", type=int, default=0, help="0: one for each physical core")
    sub.add_argument("--cache", type=Path, help="keep scores in this file, and go on from it after a kill")
    sub.add_argument("--save-run", type=Path, help="write the last model's ranking as a TREC run")
    sub.add_argument("--endpoint-url", help="where the API of endpoint: models is, if not at AWS")
    sub.add_argument(
        "--embedder", action="append", help="rag: bge|e5|minilm:FOLDER or hf:NAME; more than once"
    )
    sub.add_argument(
        "--questions", type=Path, help="rag: LlamaIndex question-context JSON, in place of --data"
    )
    sub.add_argument(
        "--plot", type=Path, help="table: draw quality against throughput into this .svg, .png or .pdf"
    )
    sub.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    from .collection import CollectionError

    for name in ("top_k", "queries", "max_tokens", "relevant_from"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise CollectionError(f"--{name.replace('_', '-')} is {value}: give at least 1.")
    needs_data = not (options.what == "rag" and options.questions)
    if needs_data and not options.data:
        raise CollectionError(
            "--data is missing: give a BEIR folder (corpus.jsonl, queries.jsonl, qrels/) or a BEIR name."
        )
    if options.run_file and len(options.data or []) != 1:
        raise CollectionError("--run goes with exactly one --data.")
    if options.what == "rag" and not options.embedder:
        raise CollectionError("--embedder is missing: give bge:FOLDER, e5:FOLDER, minilm:FOLDER or hf:NAME.")
    from .scores import ScoreStore

    with ScoreStore(options.cache) as store:
        what: dict[str, Callable[[argparse.Namespace, ScoreStore], int]] = {
            "run": _run,
            "table": _table,
            "rag": _rag,
        }
        return what[options.what](options, store)


def _run(options: argparse.Namespace, store: ScoreStore) -> int:
    from .first_stage import write_run

    scorers = [_open(spec, options) for spec in options.model or ["micro"]]
    results = []
    for source in options.data:
        collection, base = _prepare(options, source)
        rankings = [_rerank(collection, base, scorer, store, options) for scorer in scorers]
        results.append(_result(collection, base, rankings))
        if not options.json:
            _print_result(results[-1])
        if options.save_run:
            write_run(rankings[-1].run, options.save_run, "sagerank")
    if options.json:
        print(json.dumps(results[0] if len(results) == 1 else results, indent=2))
    return 0


def _open(spec: str, options: argparse.Namespace) -> Scorer:
    from .scorer import open_scorer

    return open_scorer(
        spec, threads=options.threads, max_tokens=options.max_tokens, endpoint_url=options.endpoint_url
    )


def _prepare(options: argparse.Namespace, source: str) -> tuple[Collection, Ranking]:
    """The collection and its first stage, cut to --queries."""
    from .collection import load
    from .evaluate import first_stage
    from .first_stage import bm25, read_run

    collection = load(source, split=options.split, relevant_from=options.relevant_from)
    for line in collection.left_out:
        print(f"sagerank: {line}; left out", file=sys.stderr)
    if options.queries:
        kept = dict(list(collection.queries.items())[: options.queries])
        collection = dataclasses.replace(
            collection, queries=kept, qrels={query: collection.qrels[query] for query in kept}
        )
    run = (
        read_run(options.run_file, collection, options.top_k)
        if options.run_file
        else bm25(collection, options.top_k)
    )
    name = options.run_file.name if options.run_file else "bm25"
    return collection, first_stage(name, collection, run, relevant_from=options.relevant_from)


def _rerank(
    collection: Collection, base: Ranking, scorer: Scorer, store: ScoreStore, options: argparse.Namespace
) -> Ranking:
    from tqdm import tqdm

    from .evaluate import rerank

    total = sum(len(rows) for rows in base.run.values())
    with tqdm(
        total=total, desc=f"{collection.name} {scorer.name}"[:60], unit="pair", disable=None, leave=False
    ) as bar:
        return rerank(
            collection, base.run, scorer, store, relevant_from=options.relevant_from, progress=bar.update
        )


def _result(collection: Collection, base: Ranking, rankings: Sequence[Ranking]) -> dict[str, Any]:
    def row(ranking: Ranking) -> dict[str, Any]:
        values: dict[str, Any] = {"name": ranking.name}
        for metric in METRICS:
            values[metric] = ranking.mean(metric)
        interval = ranking.interval("ndcg@10")
        values["ndcg@10_95"] = [interval.low, interval.high]
        return values

    models = []
    for place, ranking in enumerate(rankings):
        difference = {"first_stage": dataclasses.asdict(ranking.versus(base))}
        for other in rankings[:place]:
            difference[other.name] = dataclasses.asdict(ranking.versus(other))
        models.append(row(ranking) | {"ndcg@10_minus": difference})
    return {
        "data": collection.name,
        "documents": len(collection.documents),
        "queries": len(collection.queries),
        "first_stage": row(base),
        "models": models,
    }


def _print_result(result: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(
        title=f"{result['data']}: {result['queries']} queries, {result['documents']:,} documents",
        title_justify="left",
    )
    table.add_column("ranking", overflow="fold")
    for name in (*METRICS, "NDCG@10, 95 %"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in (result["first_stage"], *result["models"]):
        low, high = row["ndcg@10_95"]
        table.add_row(row["name"], *(f"{row[metric]:.3f}" for metric in METRICS), f"{low:.3f} to {high:.3f}")
    _show(table)
    for row in result["models"]:
        for other, difference in row["ndcg@10_minus"].items():
            print(
                f"{row['name']} - {other.replace('_', ' ')}: {difference['mean']:+.4f} NDCG@10 "
                f"(95 % {difference['low']:+.4f} to {difference['high']:+.4f}, p = {difference['p']:.4f})"
            )


def _show(table: Any) -> None:
    """As wide as its content where the output is no terminal, so that nothing is cut in a file."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(table)


# -- the announcement's tables -----------------------------------------------------------------------------------


def _table(options: argparse.Namespace, store: ScoreStore) -> int:
    from .draw import Point, scatter, scatter_text
    from .published import PUBLISHED
    from .throughput import documents_per_50_ms

    prepared = [_prepare(options, source) for source in options.data]
    known = {row.scorer: row for row in PUBLISHED}
    rows: list[dict[str, Any]] = []
    for spec in options.model or [*known, "micro"]:
        entry = known.get(spec)
        row: dict[str, Any] = {
            "name": entry.name if entry else spec,
            "scorer": spec,
            "millions": entry.millions if entry else None,
            "published_ndcg": entry.ndcg if entry else None,
            "published_hit_rate": entry.hit_rate if entry else None,
            "published_mrr": entry.mrr if entry else None,
            "ndcg": None,
        }
        rows.append(row)
        with _not_run(row):
            scorer = _open(spec, options)
            rankings = {
                collection.name: _rerank(collection, base, scorer, store, options)
                for collection, base in prepared
            }
            row["by_data"] = {name: 100 * ranking.mean() for name, ranking in rankings.items()}
            row["ndcg"] = sum(row["by_data"].values()) / len(rankings)
            row["gap"] = row["ndcg"] - entry.ndcg if entry else None
            collection, base = prepared[0]
            query = next(query for query, found in base.run.items() if found)
            texts = [collection.documents[document] for document, _ in base.run[query]]
            row["documents_per_50_ms"] = documents_per_50_ms(scorer, collection.queries[query], texts)
    first = {collection.name: 100 * base.mean() for collection, base in prepared}
    title = "NDCG@10 over " + ", ".join(first)
    points = [
        Point(row["name"], row["documents_per_50_ms"], row["ndcg"]) for row in rows if row["ndcg"] is not None
    ]
    if options.plot:
        scatter(points, title, options.plot)
    if options.json:
        print(json.dumps({"data": list(first), "first_stage": first, "rows": rows}, indent=2))
        return 0
    _print_table(rows, first)
    if points:
        print(scatter_text(points, title))
    return 0


@contextmanager
def _not_run(row: dict[str, Any]) -> Iterator[None]:
    """What cannot be run here is a row that says so, with the reason; the others go on."""
    from inference.artefact import ArtefactError
    from inference.checkpoint import CheckpointError
    from inference.contract import RerankError

    from .scorer import ScorerError

    try:
        yield
    except (ArtefactError, CheckpointError, RerankError, ScorerError, ModuleNotFoundError, OSError) as error:
        row["not_run"] = str(error).splitlines()[0]


def _print_table(rows: Sequence[dict[str, Any]], first: dict[str, float]) -> None:
    from rich.table import Table

    table = Table(
        title="Published: mean over BEIR. Ours: mean over " + ", ".join(first), title_justify="left"
    )
    for name in ("model", "M parameters", "published", "ours", "gap", "docs / 50 ms"):
        table.add_column(name, justify="left" if name == "model" else "right", no_wrap=True)

    def number(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    table.add_row("first stage", "", "", f"{sum(first.values()) / len(first):.2f}", "", "")
    for row in rows:
        ours = "not run" if row["ndcg"] is None else f"{row['ndcg']:.2f}"
        table.add_row(
            row["name"],
            number(row["millions"], "g"),
            number(row["published_ndcg"], ".2f"),
            ours,
            number(row.get("gap"), "+.2f"),
            number(row.get("documents_per_50_ms"), ".1f"),
        )
    _show(table)
    for row in rows:
        if "not_run" in row:
            print(f"not run: {row['name']}: {row['not_run']}")


# -- RAG ---------------------------------------------------------------------------------------------------------


def _rag(options: argparse.Namespace, store: ScoreStore) -> int:
    from .collection import load
    from .published import PUBLISHED
    from .rag import benchmark, from_collection, mean_over_embedders, open_embedder, read_questions

    if options.questions:
        questions = read_questions(options.questions)
    else:
        collection = load(options.data[0], split=options.split, relevant_from=options.relevant_from)
        questions = from_collection(collection, relevant_from=options.relevant_from)
    if options.queries:
        kept = dict(list(questions.questions.items())[: options.queries])
        questions = dataclasses.replace(
            questions, questions=kept, expected={query: questions.expected[query] for query in kept}
        )
    embedders = [open_embedder(spec, threads=options.threads or 1) for spec in options.embedder]
    scorers = [_open(spec, options) for spec in options.model or ["micro"]]
    rows = benchmark(
        questions,
        embedders,
        scorers,
        store,
        progress=lambda what: print(f"sagerank: {what}", file=sys.stderr),
    )
    means = mean_over_embedders(rows)
    if options.json:
        print(
            json.dumps(
                {
                    "rows": [dataclasses.asdict(row) for row in rows],
                    "mean": [dataclasses.asdict(row) for row in means],
                },
                indent=2,
            )
        )
        return 0
    _print_rag(rows, means, len(questions.questions))
    print(
        "Published, mean of three embedders (hit rate / MRR): "
        + "; ".join(f"{row.name} {row.hit_rate:.4f} / {row.mrr:.4f}" for row in PUBLISHED)
    )
    return 0


def _print_rag(rows: Sequence[RagRow], means: Sequence[RagRow], questions: int) -> None:
    from rich.table import Table

    table = Table(title=f"{questions} questions: 10 retrieved, first 5 kept", title_justify="left")
    for name in ("embedder", "reranker", "hit rate", "MRR"):
        table.add_column(name, justify="left" if name in ("embedder", "reranker") else "right", no_wrap=True)
    for row in (*rows, *means):
        table.add_row(row.embedder, row.reranker or "none", f"{row.hit_rate:.4f}", f"{row.mrr:.4f}")
    _show(table)
