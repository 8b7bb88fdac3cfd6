"""`sagerank eval`: measure rankings. What a command needs is imported when it runs."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .table import show, table_of

if TYPE_CHECKING:
    from .cascade import Curve
    from .collection import Collection
    from .evaluate import Ranking
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
        choices=["run", "table", "rag", "cascade"],
        help="run: rerank a first stage (default); table: beside the published numbers; rag: hit rate and MRR; "
        "cascade: quality against cost for every K of FIRST>SECOND",
    )
    sub.add_argument(
        "--data",
        action="append",
        help="BEIR folder, or BEIR name to download; more than once (default of table: BEIR's 13 public sets)",
    )
    sub.add_argument("--split", default="test", help="which qrels/SPLIT.tsv (default: %(default)s)")
    sub.add_argument("--run", dest="run_file", type=Path, help="TREC run file to rerank (default: BM25)")
    sub.add_argument(
        "--model",
        action="append",
        help=SCORERS + " (default: micro; table and rag: the announcement's models and micro)",
    )
    sub.add_argument("--top-k", type=int, help="candidates reranked (default: 100; rag: 10)")
    sub.add_argument(
        "--keep", type=int, default=5, help="rag: contexts kept after reranking (default: %(default)s)"
    )
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
    sub.add_argument(
        "--cache",
        type=Path,
        help="keep scores in this file (embeddings in FILE.vectors), and go on from it after a kill",
    )
    sub.add_argument("--save-run", type=Path, help="write the ranking as a TREC run: one --data, one --model")
    sub.add_argument("--endpoint-url", help="where the API of endpoint: models is, if not at AWS")
    sub.add_argument(
        "--embedder", action="append", help="rag: bge|e5|minilm|hf:FOLDER_OR_NAME; more than once"
    )
    sub.add_argument(
        "--questions", type=Path, help="rag: LlamaIndex question-context JSON, in place of --data"
    )
    sub.add_argument(
        "--plot",
        type=Path,
        help="table: draw the table, and quality against throughput, into this .svg, .png or .pdf; cascade: the curve",
    )
    sub.add_argument(
        "--retain",
        type=float,
        default=0.99,
        help="cascade: share of the last model's NDCG@10 that K has to keep (default: %(default)s)",
    )
    sub.add_argument(
        "--arithmetic", action="store_true", help="cascade: cost by the models' shapes instead of timing them"
    )
    sub.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    from .published import BEIR
    from .scores import ScoreStore

    if options.what == "table" and not options.data:
        options.data = list(BEIR)
    _check(options)
    with ScoreStore(options.cache) as store:
        what: dict[str, Callable[[argparse.Namespace, ScoreStore], int]] = {
            "run": _run,
            "table": _table,
            "rag": _rag,
            "cascade": _cascade,
        }
        return what[options.what](options, store)


def _check(options: argparse.Namespace) -> None:
    """Refuse what cannot work, before hours of scoring rather than after."""
    from . import EvaluationError
    from .draw import check_ending

    for name in ("top_k", "keep", "queries", "max_tokens", "relevant_from"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise EvaluationError(f"--{name.replace('_', '-')} is {value}: give at least 1.")
    sources = options.data or []
    goes_with = {
        "plot": ("table", "cascade"),
        "save_run": ("run",),
        "questions": ("rag",),
        "embedder": ("rag",),
        "arithmetic": ("cascade",),
    }
    for name, commands in goes_with.items():
        if getattr(options, name) and options.what not in commands:
            raise EvaluationError(
                f"--{name.replace('_', '-')} goes with `sagerank eval {' or '.join(commands)}`."
            )
    if not 0 < options.retain <= 1:
        raise EvaluationError(f"--retain is {options.retain:g}: give a share above 0, at most 1.")
    if options.what == "rag":
        if len(sources) + bool(options.questions) != 1:
            raise EvaluationError("Give one --data or one --questions: a folder, or question-context pairs.")
        if options.run_file:
            raise EvaluationError("--run does not go with rag: there the embedders are the first stage.")
        if not options.embedder:
            raise EvaluationError(
                "--embedder is missing: give bge:FOLDER, e5:FOLDER, minilm:FOLDER or hf:NAME."
            )
    elif not sources:
        raise EvaluationError(
            "--data is missing: give a BEIR folder (corpus.jsonl, queries.jsonl, qrels/) or a BEIR name."
        )
    if options.what == "cascade" and (len(sources) != 1 or len(options.model or []) != 1):
        raise EvaluationError("cascade takes exactly one --data and one --model, such as 'tiny>base'.")
    if options.run_file and len(sources) != 1:
        raise EvaluationError("--run goes with exactly one --data.")
    if options.save_run and (len(sources) != 1 or len(options.model or []) > 1):
        raise EvaluationError("--save-run goes with exactly one --data and one --model.")
    names = [Path(source).resolve().name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise EvaluationError(f"Two --data are called {name!r}: rename one of the folders.")
    if options.plot:
        check_ending(options.plot)
    for path in (options.save_run, options.plot):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)


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

    collection = load(source, split=options.split, relevant_from=options.relevant_from).first(options.queries)
    _notices(collection)
    top_k = options.top_k or 100
    run = read_run(options.run_file, collection, top_k) if options.run_file else bm25(collection, top_k)
    name = options.run_file.name if options.run_file else "bm25"
    without = [query for query in collection.queries if not run[query]]
    if without:
        _note(
            f"{name} has no candidate for {len(without)} of {len(run)} queries ({without[0]!r} the first): they count as 0"
        )
    return collection, first_stage(name, collection, run, relevant_from=options.relevant_from)


def _notices(collection: Collection) -> None:
    for sentence in collection.notices:
        _note(sentence)


def _note(sentence: str) -> None:
    print(f"sagerank: {sentence}", file=sys.stderr)


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
    cells = [("ranking", *METRICS, "NDCG@10, 95 %")]
    for row in (result["first_stage"], *result["models"]):
        low, high = row["ndcg@10_95"]
        cells.append((row["name"], *(f"{row[metric]:.3f}" for metric in METRICS), f"{low:.3f} to {high:.3f}"))
    title = f"{result['data']}: {result['queries']} queries, {result['documents']:,} documents"
    show(table_of(title, cells, left=1))
    for row in result["models"]:
        for other, difference in row["ndcg@10_minus"].items():
            print(
                f"{row['name']} - {other.replace('_', ' ')}: {difference['mean']:+.4f} NDCG@10 "
                f"(95 % {difference['low']:+.4f} to {difference['high']:+.4f}, p = {difference['p']:.4f})"
            )


# -- the announcement's tables -----------------------------------------------------------------------------------


def _table(options: argparse.Namespace, store: ScoreStore) -> int:
    from .announcement import compared, not_run, table_cells
    from .bench.timing import documents_per_50_ms
    from .draw import Point, picture, scatter_text
    from .scorer import EngineScorer

    prepared = [_prepare(options, source) for source in options.data]
    rows: list[dict[str, Any]] = []
    for spec, entry in compared(options.model):
        row: dict[str, Any] = {
            "name": entry.name if entry else spec,
            "scorer": spec,
            "layers": entry.layers if entry else None,
            "millions": entry.millions if entry else None,
            "published_ndcg": entry.ndcg if entry else None,
            "ndcg": None,
        }
        rows.append(row)
        with not_run(row):
            scorer = _open(spec, options)
            if isinstance(scorer, EngineScorer):
                row["millions"] = round(scorer.parameters / 1e6, 1)
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
    if options.plot and points:
        picture(points, title, table_cells(rows, first), options.plot)
    elif options.plot:
        _note(f"no model was run, and {options.plot} was not written")
    if options.json:
        print(json.dumps({"data": list(first), "first_stage": first, "rows": rows}, indent=2))
        return 0
    _print_table(rows, first)
    if points:
        print(scatter_text(points, title))
    return 0


def _print_table(rows: Sequence[dict[str, Any]], first: dict[str, float]) -> None:
    from .announcement import table_cells

    title = "NDCG@10 in points. Published: mean over BEIR. Ours: mean over " + ", ".join(first)
    show(table_of(title, table_cells(rows, first), left=1))
    _print_not_run(rows)


def _print_not_run(rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        if "not_run" in row:
            print(f"not run: {row['name']}: {row['not_run']}")


# -- RAG ---------------------------------------------------------------------------------------------------------


def _rag(options: argparse.Namespace, store: ScoreStore) -> int:
    from .announcement import compared, not_run, rag_cells
    from .collection import load
    from .progress import bars
    from .rag import benchmark, from_collection, mean_over_embedders, open_embedder, read_questions

    if options.questions:
        questions = read_questions(options.questions)
    else:
        collection = load(options.data[0], split=options.split, relevant_from=options.relevant_from)
        _notices(collection)
        questions = from_collection(collection, relevant_from=options.relevant_from)
    questions = questions.first(options.queries)
    embedders = [open_embedder(spec, threads=options.threads or 1) for spec in options.embedder]
    scorers: dict[str, Scorer] = {}
    means: list[dict[str, Any]] = []
    for spec, entry in compared(options.model):
        row: dict[str, Any] = {
            "name": entry.name if entry else spec,
            "scorer": spec,
            "published_hit_rate": entry.hit_rate if entry else None,
            "published_mrr": entry.mrr if entry else None,
            "hit_rate": None,
            "mrr": None,
        }
        means.append(row)
        with not_run(row):
            scorers[spec] = _open(spec, options)
    with bars() as progress:
        rows = benchmark(
            questions,
            embedders,
            list(scorers.values()),
            store,
            retrieve=options.top_k or 10,
            keep=options.keep,
            vectors=options.cache and options.cache.with_name(f"{options.cache.name}.vectors"),
            progress=progress,
        )
    measured = {row.reranker: row for row in mean_over_embedders(rows)}
    for row in means:
        if row["scorer"] in scorers:
            mean = measured[scorers[row["scorer"]].name]
            row |= {"hit_rate": mean.hit_rate, "mrr": mean.mrr}
            for name in ("hit_rate", "mrr"):
                published = row[f"published_{name}"]
                row[f"{name}_gap"] = None if published is None else 100 * (row[name] - published)
    alone = measured[None]
    means.insert(0, {"name": "none", "scorer": None, "hit_rate": alone.hit_rate, "mrr": alone.mrr})
    if options.json:
        print(json.dumps({"rows": [dataclasses.asdict(row) for row in rows], "mean": means}, indent=2))
        return 0
    title = f"{len(questions.questions)} questions, {len(questions.contexts):,} contexts: {options.top_k or 10} retrieved, {options.keep} kept"
    cells = [("embedder", "reranker", "hit rate", "MRR")]
    cells += [(row.embedder, row.reranker or "none", f"{row.hit_rate:.4f}", f"{row.mrr:.4f}") for row in rows]
    show(table_of(title, cells, left=2))
    show(table_of("Mean over embedders; gap to the published value in points", rag_cells(means), left=1))
    _print_not_run(means)
    return 0


# -- cascades ----------------------------------------------------------------------------------------------------


def _cascade(options: argparse.Namespace, store: ScoreStore) -> int:
    from tqdm import tqdm

    from . import EvaluationError
    from .cascade import arithmetic, curve, measured, sample
    from .draw import curve_picture, curve_text
    from .scorer import Cascade

    (spec,) = options.model
    head, sign, tail = spec.rpartition(">")
    if not sign or not head or not tail or tail.rpartition("@")[2].isdecimal():
        raise EvaluationError(f"--model is {spec!r}: write FIRST>SECOND without K, which is what is sought.")
    before, last = _open(head, options), _open(tail, options)
    collection, base = _prepare(options, options.data[0])
    stages = [*(before.stages if isinstance(before, Cascade) else [before]), last]
    paces = (arithmetic if options.arithmetic else measured)(stages, sample(collection, base.run))
    total = sum(len(rows) for rows in base.run.values())
    with tqdm(total=total, desc=spec[-60:], unit="document", disable=None, leave=False) as bar:
        found = curve(
            collection,
            base.run,
            before,
            last,
            store,
            retain=options.retain,
            paces=paces,
            progress=bar.update,
        )
    title = f"{spec}: NDCG@10 against cost, {collection.name}, {len(collection.queries)} queries"
    if options.plot:
        curve_picture(found, title, options.plot)
    made = not any(
        part.startswith(("endpoint:", "http://", "https://", "hf:", "onnx:")) for part in spec.split(">")
    )
    line = None
    if found.chosen:
        command = "build" if made else "eval"
        line = f"sagerank {command} --model '{spec}@{found.chosen}'" + (
            " --output model.tar.gz" if made else f" --data {options.data[0]}"
        )
    if options.json:
        facts = {"data": collection.name, "model": spec, "command": line, **dataclasses.asdict(found)}
        print(json.dumps(facts, indent=2))
        return 0
    unit = paces[0].unit
    cells = [
        (
            "K",
            "NDCG@10",
            "of the last model's",
            "margin",
            "one-sided 95 % from",
            f"{unit} a query",
            "of its cost",
        )
    ]
    for step in found.steps:
        if step.keep in (
            0,
            1,
            2,
            3,
            5,
            10,
            15,
            20,
            30,
            50,
            75,
            found.chosen,
            found.by_mean,
            len(found.steps) - 1,
        ):
            mark = " <" if step.keep == found.chosen else ""
            cells.append(
                (
                    f"{step.keep}{mark}",
                    f"{step.ndcg:.4f}",
                    f"{step.share:.1%}",
                    f"{step.margin:+.4f}",
                    f"{step.low:+.4f}",
                    f"{step.cost:.4g}",
                    f"{step.cost_share:.1%}",
                )
            )
    show(table_of(title, cells, left=0))
    print(curve_text(found, title))
    for pace in paces:
        how = "estimated from its shape" if options.arithmetic else "measured here"
        print(f"{pace.name}: {pace.cost:.4g} {unit} a document ({pace.low:.4g} to {pace.high:.4g}), {how}")
    print(
        f"The last model alone: NDCG@10 {found.last_ndcg:.4f}, {found.last_cost:.4g} {unit} a query. To keep {options.retain:.1%} of it: {_verdict(found)}"
    )
    if line:
        print(line)
    return 0


def _verdict(found: Curve) -> str:
    by_mean = "no K does" if found.by_mean is None else f"K = {found.by_mean} does"
    if found.chosen is None:
        return (
            f"no K is sure to, beyond noise (by the mean alone {by_mean}): more queries, or a lower --retain."
        )
    if found.chosen == 0:
        return "the stages before it do without it."
    return f"K = {found.chosen}, beyond noise (by the mean alone {by_mean})."
