"""`sagerank bench`: the measurements on the command line. What one needs is imported when it runs."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sagerank_cost.text import examples

from ..evaluation import EvaluationError
from . import serve
from .report import begin, ceiling_lines

if TYPE_CHECKING:
    from .throughput import Row
    from .workload import Workload

EXAMPLES = {
    "throughput": (
        "sagerank bench throughput --model micro",
        "sagerank bench throughput --model random:tiny --peers all --plot speed.svg",
    ),
    "latency": (
        "sagerank bench latency --documents 1 10 100",
        "sagerank bench latency --model tiny --json",
    ),
    "memory": (
        "sagerank bench memory --tokens 512 8192",
        "sagerank bench memory --model random:base --tokens 8192",
    ),
    "startup": (
        "sagerank bench startup --repeats 3",
        "sagerank bench startup --model micro --model tiny",
    ),
    "profile": (
        "sagerank bench profile --model micro",
        "sagerank bench profile --model tiny --model tiny-int8 --json",
    ),
    "serve": (
        "sagerank bench serve --seconds 20 --clients 1 16",
        "sagerank bench serve --model tiny --no-toolkit --json",
    ),
}
MODEL = "micro, tiny, turbo, base, random:tiny|turbo|base, a model folder, an artefact; more than once (default: micro)"


def add(commands: Any) -> None:
    """Add `bench` with its measurements to the subparsers of the `sagerank` command."""
    description = "measure speed, memory and start, beside the machine's ceiling"
    chosen = (EXAMPLES["throughput"][0], EXAMPLES["memory"][0])
    bench = commands.add_parser("bench", help=description, description=description, epilog=examples(*chosen))
    bench.set_defaults(run=lambda _: _help(bench), extra="", group="measure")
    measurements = bench.add_subparsers(metavar="what")

    def measurement(name: str, run: Callable[[argparse.Namespace], int], description: str) -> Any:
        sub = measurements.add_parser(
            name, help=description, description=description, epilog=examples(*EXAMPLES[name])
        )
        sub.set_defaults(run=run, extra=_extra)
        sub.add_argument("--model", action="append", help=MODEL)
        if name == "profile":  # shares of several threads would be those of waiting, too
            sub.set_defaults(threads=1)
        else:
            sub.add_argument("--threads", type=int, default=0, help="0: one for each physical core")
        sub.add_argument(
            "--json", action="store_true", help="print JSON, and the conditions on standard error"
        )
        sub.add_argument("--plot", type=Path, help="draw it into this .svg, .png or .pdf")
        return sub

    sub = measurement("throughput", _throughput, "documents a second, of models or beside peers")
    sub.add_argument("--peers", help="all, or names with commas between; on the first model's weights")
    sub.add_argument(
        "--device",
        choices=["cpu", "cuda"],
        help="PyTorch there, and the peers that run there, in its precision (default: ONNX Runtime)",
    )
    sub.add_argument("--rounds", type=int, default=7, help="interleaved rounds (default: %(default)s)")
    sub.add_argument(
        "--tolerance",
        type=float,
        default=1e-4,
        help="of a logit: a peer farther from sagerank is not timed (default: %(default)s; int8 peers 0.5)",
    )
    sub.add_argument(
        "--tune-peers", action="store_true", help="each with its fastest batch size, not its library's own"
    )
    sub.add_argument(
        "--cache",
        type=Path,
        default=Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "sagerank" / "peers",
        help="where peers are installed (default: %(default)s)",
    )
    _add_workload(sub)
    sub = measurement("latency", _latency, "milliseconds of one call, by its number of documents")
    sub.add_argument(
        "--documents", type=int, nargs="+", default=[1, 10, 25, 100], help="of a call (default: 1 10 25 100)"
    )
    sub.add_argument("--calls", type=int, default=100, help="of each kind (default: %(default)s)")
    sub = measurement("memory", _memory, "peak resident memory of one pair, or of a batch")
    sub.add_argument(
        "--tokens", type=int, nargs="+", default=[8192], help="length of each pair (default: 8192)"
    )
    sub.add_argument("--batch", type=int, nargs="+", default=[1], help="pairs (default: 1)")
    sub.add_argument("--backend", default="onnx", choices=["onnx", "torch"])
    sub.add_argument(
        "--save", type=Path, help="add the points to this CSV file, as cost/sagerank_cost/data/memory.csv"
    )
    sub = measurement("startup", _startup, "seconds from a process's start to its first score or /ping 200")
    sub.add_argument("--repeats", type=int, default=5, help="starts that count (default: %(default)s)")

    sub = measurement("profile", _profile, "what a forward pass spends its time on, on one thread")
    sub.add_argument("--rounds", type=int, default=5, help="rounds that count (default: %(default)s)")
    _add_workload(sub)

    description = "requests under load: the server beside the engine alone and AWS's toolkit"
    sub = measurements.add_parser(
        "serve", help=description, description=description, epilog=examples(*EXAMPLES["serve"])
    )
    serve.add_arguments(sub)
    sub.set_defaults(extra=_extra)


def _help(bench: argparse.ArgumentParser) -> int:
    bench.print_help()
    return 0


def _extra(options: argparse.Namespace) -> str:
    """What the measurement needs: an artefact is there already, and any other model has to be built."""
    models = [options.model] if isinstance(options.model, str) else options.model or []
    built = all(model == "micro" or Path(model).exists() for model in models)
    return "eval" if built and not getattr(options, "peers", None) else "bench"


def _add_workload(sub: Any) -> None:
    sub.add_argument(
        "--workload",
        default="passages",
        choices=["passages", "long"],
        help="100 mixed passages (default), or documents of 1,000 to 8,000 tokens",
    )
    sub.add_argument("--tokens", type=int, nargs="+", help="long: the documents' lengths, with the query")
    sub.add_argument("--documents", type=Path, help="your own documents in place of --workload, one a line")
    sub.add_argument("--query", help="the query that goes with --documents")


def _throughput(options: argparse.Namespace) -> int:
    from ..evaluation.progress import bars
    from .tables import throughput_cells
    from .throughput import measure, peer_names, sentences

    run = begin(options, "rounds", "tolerance", plot=options.plot)
    device = options.device or ""
    peers, workload = peer_names(options.peers, device), _workload(options)
    with bars() as progress:
        measured = measure(
            run.models,
            workload,
            peers=peers,
            threads=run.threads,
            rounds=options.rounds,
            device=device,
            tolerance=options.tolerance,
            cache=options.cache.expanduser(),
            tune_peers=options.tune_peers,
            progress=progress,
        )
    mean = sum(measured.tokens) / len(measured.tokens)
    what = (
        f"{workload.name}: {len(workload.documents)} documents, {mean:.0f} tokens with the query in the mean "
        f"({min(measured.tokens)} to {max(measured.tokens)}), {options.rounds} interleaved rounds"
    )
    timed = [row for row in measured.rows if row.error is None]
    if options.plot:
        on = f"{timed[0].model} on {workload.name}" if peers else workload.name
        _draw_throughput(timed, f"{on}, {run.threads} threads", options.plot)
    lines = [what, *ceiling_lines(measured.ceiling, timed)]
    run.show(measured.rows, lines, throughput_cells(timed), answer=sentences(measured.rows))
    return 0


def _draw_throughput(rows: Sequence[Row], where: str, path: Path) -> None:
    from .plot import Bar, bars
    from .throughput import label

    entries = []
    for row in rows:
        value, base = row.docs_per_50_ms or 0.0, rows[0].docs_per_50_ms or 0.0
        low, high = (ratio * base for ratio in row.spread or (0.0, 0.0))
        entries.append(
            Bar(label=label(row, rows), value=value, low=low, high=high, ours=row.name == "sagerank")
        )
    bars(entries, f"Documents per 50 ms: {where}", "documents per 50 ms", path)


def _latency(options: argparse.Namespace) -> int:
    from ..evaluation.progress import bars
    from .latency import measure
    from .tables import latency_cells
    from .workload import passages

    run = begin(options, "calls", plot=options.plot)
    with bars() as progress:
        measured = measure(
            run.models,
            passages(),
            documents=options.documents,
            calls=options.calls,
            threads=run.threads,
            progress=progress,
        )
    if options.plot:
        from .plot import curves

        lines = {
            f"{name} p{percent}": [
                (row.documents, getattr(row.total, f"p{percent}"))
                for row in measured.rows
                if row.model == name
            ]
            for name in run.models
            for percent in (50, 90, 99)
        }
        curves(lines, f"One call, {run.threads} threads", "documents", "milliseconds", options.plot)
    what = f"{options.calls} calls of Engine.score, one after the other"
    run.show(
        measured.rows, [what, *ceiling_lines(measured.ceiling, measured.rows)], latency_cells(measured.rows)
    )
    return 0


def _memory(options: argparse.Namespace) -> int:
    from sagerank_inference.settings import Settings

    from .memory import measure, save
    from .tables import memory_cells

    for name in ("tokens", "batch"):
        if min(getattr(options, name)) < 1:
            raise EvaluationError(f"--{name} is {min(getattr(options, name))}: give at least 1.")
    run = begin(options, plot=options.plot)
    settings = Settings(backend=options.backend, threads=options.threads)
    points = []
    for name, folder in run.models.items():
        for tokens in options.tokens:
            for pairs in options.batch:
                points.append(measure(folder, name, tokens, settings, pairs=pairs))
                if options.save:  # each at once: a long series that is stopped keeps what it has
                    save(points[-1:], run.models, options.save)
    if options.plot:
        from .plot import curves

        lines = {
            name: sorted(
                (point.tokens * point.pairs, point.peak_rss_mb) for point in points if point.model == name
            )
            for name in run.models
        }
        curves(lines, f"Peak resident memory, {options.backend}", "tokens of the batch", "MB", options.plot)
    run.show(
        points,
        [f"one forward in a fresh process, backend {options.backend}"],
        memory_cells(points),
        single=True,
    )
    return 0


def _startup(options: argparse.Namespace) -> int:
    from ..evaluation.progress import bars
    from .startup import measure
    from .tables import startup_cells

    run = begin(options, "repeats", plot=options.plot)
    with bars() as progress:
        rows = measure(run.models, repeats=options.repeats, threads=run.threads, progress=progress)
    if options.plot:
        from .plot import Bar
        from .plot import bars as draw

        stages = [field.name for field in dataclasses.fields(rows[0].median)]
        entries = [
            Bar(
                label=f"{row.model}, {stage}",
                value=getattr(row.median, stage),
                high=getattr(row.longest, stage),
            )
            for row in rows
            for stage in stages
        ]
        draw(entries, f"Start, {run.threads} threads", "seconds", options.plot)
    what = (
        f"medians of {options.repeats} starts with files in the page cache; ready: a server's first /ping 200"
    )
    run.show(rows, [what], startup_cells(rows))
    return 0


def _profile(options: argparse.Namespace) -> int:
    from ..evaluation.progress import bars
    from .profile import measure
    from .tables import profile_cells

    run = begin(options, "rounds", plot=options.plot)
    workload = _workload(options)
    with bars() as progress:
        rows = measure(run.models, workload, rounds=options.rounds, progress=progress)
    if options.plot:
        from .plot import Bar
        from .plot import bars as draw

        entries = [Bar(label=f"{row.model}, {row.kind}", value=row.milliseconds) for row in rows]
        draw(entries, f"A forward pass on {workload.name}, 1 thread", "milliseconds a document", options.plot)
    what = f"{workload.name}: {len(workload.documents)} documents, {options.rounds} rounds; without: how many times as fast it were if that cost nothing"
    run.show(rows, [what], profile_cells(rows))
    return 0


def _workload(options: argparse.Namespace) -> Workload:
    from .workload import LONG_TOKENS, from_file, long, passages

    if bool(options.documents) != bool(options.query):
        raise EvaluationError(
            "--documents and --query go together: documents, one a line, and what they are ranked for."
        )
    if options.tokens and options.workload != "long":
        raise EvaluationError("--tokens goes with --workload long.")
    if options.documents:
        return from_file(options.query, options.documents)
    return long(options.tokens or LONG_TOKENS) if options.workload == "long" else passages()
