"""`sagerank eval`: its options, and what of them goes together; each command is a module, imported when it runs."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

from sagerank_cost.text import examples

from .. import EvaluationError

COMMANDS = {
    "run": "rerank a first stage (default)",
    "table": "beside the published numbers",
    "rag": "hit rate and MRR",
    "cascade": "quality against cost for every K of FIRST>SECOND",
    "threshold": "the lowest score with a wanted precision",
    "calibrate": "scores as probabilities, or as a teacher's",
    "explain": "where one ranker loses to another, by kind of query",
}
EXAMPLES = (
    "sagerank eval --data DATA/scifact --model micro --model tiny",
    "sagerank eval cascade --data DATA/scifact --model 'tiny>base' --retain 0.99",
    "sagerank eval threshold --labels labels.jsonl --model model.tar.gz --store",
    "sagerank eval calibrate --data DATA/mine --split dev --model FOLDER --store",
    "sagerank eval explain --data DATA/scifact --model micro --model turbo",
)
SCORERS = (
    "a model of `sagerank build`, endpoint:NAME[@REGION], http(s)://..., hf:CROSS_ENCODER, onnx:FOLDER, "
    "or a cascade FIRST>SECOND@K; may be given more than once"
)


def add(commands: Any) -> None:
    """Add `eval` to the subparsers of the `sagerank` command."""
    description = "measure rankings: NDCG@10 and its kin, the published table, RAG"
    sub = commands.add_parser("eval", help=description, description=description, epilog=examples(*EXAMPLES))
    sub.set_defaults(run=dispatch, extra=_extra, group="measure")
    sub.add_argument(
        "what",
        nargs="?",
        default="run",
        choices=list(COMMANDS),
        help="; ".join(f"{name}: {description}" for name, description in COMMANDS.items()),
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
        help="lowest relevant grade of MRR, MAP, recall, threshold, calibrate, explain (default: %(default)s)",
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
        "--embedder",
        action="append",
        help="rag: bm25, lsa, or bge|e5|minilm|hf:FOLDER_OR_NAME; more than once",
    )
    sub.add_argument(
        "--questions", type=Path, help="rag: LlamaIndex question-context JSON, in place of --data"
    )
    sub.add_argument(
        "--plot",
        type=Path,
        help="table: draw the table, and quality against throughput, into this .svg, .png or .pdf; cascade: the curve; calibrate: the reliability diagram",
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
    sub.add_argument(
        "--labels",
        type=Path,
        help='threshold, calibrate: JSON Lines of "query", "document", "label" (true, false or a grade), in place of --data',
    )
    sub.add_argument(
        "--precision",
        type=float,
        default=0.9,
        help="threshold: share of what is kept that has to be relevant (default: %(default)s)",
    )
    sub.add_argument(
        "--store",
        action="store_true",
        help="threshold, calibrate: keep it in the artefact that --model names",
    )
    sub.add_argument(
        "--teacher", help="calibrate: fit the scores to this model's, in place of the judgements"
    )
    sub.add_argument(
        "--examples",
        type=int,
        default=10,
        help="explain: queries shown where the first ranker loses most, and wins (default: %(default)s)",
    )
    sub.add_argument("--json", action="store_true", help="print JSON")


def _extra(options: argparse.Namespace) -> str:
    named = [*(options.model or ()), *(options.embedder or ()), options.teacher or ""]
    return "eval-hf" if any("hf:" in name for name in named) else "eval"


def dispatch(options: argparse.Namespace) -> int:
    """Run the command `options.what`. Raises EvaluationError at once where options do not go together."""
    from ..published import BEIR
    from ..scores import ScoreStore

    if options.what == "table" and not options.data:
        options.data = list(BEIR)
    _check(options)
    command = import_module(f"{__name__}.{options.what}")
    with ScoreStore(options.cache) as store:
        return int(command.run(options, store))


def _check(options: argparse.Namespace) -> None:
    """Refuse what cannot work, before hours of scoring rather than after."""
    from ..draw import check_ending

    _check_values(options)
    _check_sources(options, options.data or [], options.model or [])
    _check_models(options.what, options.model or [], options.data or [])
    if options.plot:
        check_ending(options.plot)
    for path in (options.save_run, options.plot):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)


def _check_values(options: argparse.Namespace) -> None:
    for name in ("top_k", "keep", "queries", "max_tokens", "relevant_from"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise EvaluationError(f"--{name.replace('_', '-')} is {value}: give at least 1.")
    goes_with = {
        "plot": ("table", "cascade", "calibrate"),
        "save_run": ("run",),
        "questions": ("rag",),
        "embedder": ("rag",),
        "arithmetic": ("cascade",),
        "labels": ("threshold", "calibrate"),
        "store": ("threshold", "calibrate"),
        "teacher": ("calibrate",),
    }
    for name, commands in goes_with.items():
        if getattr(options, name) and options.what not in commands:
            *others, last = commands
            where = f"{', '.join(others)} or {last}" if others else last
            raise EvaluationError(f"--{name.replace('_', '-')} goes with `sagerank eval {where}`.")
    if options.examples < 0:
        raise EvaluationError(f"--examples is {options.examples}: give 0 or more.")
    if not 0 < options.retain <= 1:
        raise EvaluationError(f"--retain is {options.retain:g}: give a share above 0, at most 1.")


def _check_sources(options: argparse.Namespace, sources: list[str], models: list[str]) -> None:
    if options.what == "rag":
        if len(sources) + bool(options.questions) != 1:
            raise EvaluationError("Give one --data or one --questions: a folder, or question-context pairs.")
        if options.run_file:
            raise EvaluationError("--run does not go with rag: there the embedders are the first stage.")
        if not options.embedder:
            raise EvaluationError(
                "--embedder is missing: give bm25, lsa, bge:FOLDER, e5:FOLDER, minilm:FOLDER or hf:NAME."
            )
    elif options.what in ("threshold", "calibrate"):
        _check_labels(options, sources)
    elif not sources:
        raise EvaluationError(
            "--data is missing: give a BEIR folder (corpus.jsonl, queries.jsonl, qrels/) or a BEIR name."
        )
    if options.run_file and len(sources) != 1:
        raise EvaluationError("--run goes with exactly one --data.")
    if options.save_run and (len(sources) != 1 or len(models) > 1):
        raise EvaluationError("--save-run goes with exactly one --data and one --model.")
    names = [Path(source).resolve().name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise EvaluationError(f"Two --data are called {name!r}: rename one of the folders.")


def _check_models(what: str, models: list[str], sources: list[str]) -> None:
    if what == "cascade" and (len(sources) != 1 or len(models) != 1):
        raise EvaluationError("cascade takes exactly one --data and one --model, such as 'tiny>base'.")
    if what == "explain" and len(models) > 2:
        raise EvaluationError("explain compares two: give one --model beside the first stage, or two.")
    if what in ("threshold", "calibrate") and len(models) > 1:
        raise EvaluationError(f"{what} takes one --model: each has numbers of its own.")


def _check_labels(options: argparse.Namespace, sources: list[str]) -> None:
    if len(sources) + bool(options.labels) != 1:
        raise EvaluationError(
            "Give one --labels or one --data: JSON Lines of labelled pairs, or a BEIR folder whose candidates are judged."
        )
