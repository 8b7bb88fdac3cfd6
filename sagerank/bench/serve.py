"""`sagerank bench serve` on the command line: options in, rows and conditions out."""

from __future__ import annotations

import argparse
import dataclasses
import sys

from ..evaluation import EvaluationError
from .report import begin


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `bench serve`."""
    parser.set_defaults(run=run)
    parser.add_argument("--model", default="micro", help="what `sagerank serve` takes (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="0: one for each physical core")
    parser.add_argument(
        "--documents", type=int, default=36, help="of a request, about 180 tokens each (default: %(default)s)"
    )
    parser.add_argument(
        "--clients", type=int, nargs="+", default=[1, 16, 64], help="of the closed loops (default: 1 16 64)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default: %(default)s)")
    parser.add_argument(
        "--stretch", type=float, default=5.0, help="seconds of each stretch of them (default: %(default)s)"
    )
    parser.add_argument(
        "--load", type=float, default=0.8, help="of the open loop, a share of capacity (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of the open loop (default: %(default)s)")
    parser.add_argument(
        "--long-documents", type=int, default=20, help="of the long request; 0: none (default: %(default)s)"
    )
    parser.add_argument("--long-tokens", type=int, default=8000, help="of each (default: %(default)s)")
    parser.add_argument(
        "--zipf",
        type=float,
        nargs="?",
        const=1.0,
        metavar="S",
        help="in place of these loads: requests that repeat by Zipf's law with this exponent (1 where none is given), with the score cache off and on",
    )
    parser.add_argument("--no-toolkit", dest="toolkit", action="store_false", help="leave AWS's toolkit out")
    parser.add_argument(
        "--json", action="store_true", help="print JSON, and the conditions on standard error"
    )


def run(options: argparse.Namespace) -> int:
    """Measure, and print the rows. Raises EvaluationError for options that cannot be measured."""
    from .serving import COMPARED_CLIENTS, Plan, measure
    from .tables import repeated_cells, serve_cells

    if min(options.clients) < 1 or options.documents > 36:
        raise EvaluationError(
            "Give --clients of at least 1, and at most 36 --documents: so many are at hand."
        )
    if options.zipf is not None and not 0 <= options.zipf <= 10:
        raise EvaluationError(f"--zipf is {options.zipf:g}: give 0 (all alike) to 10.")
    report = begin(options, "documents", "rounds", "stretch", "load", "seconds", "long_tokens")
    (folder,) = report.models.values()
    if options.zipf is not None:
        from . import repeated

        found = repeated.measure(
            folder,
            options.zipf,
            documents=options.documents,
            rounds=options.rounds,
            stretch=options.stretch,
            threads=report.threads,
            note=_note,
        )
        what = f"{COMPARED_CLIENTS} clients, requests of {options.documents} documents by Zipf's law with exponent {options.zipf:g}; every answer compared with the engine's scores"
        report.show(found, [what], repeated_cells(found), answer=repeated.sentences(found))
        return 0
    plan = Plan(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Plan)})
    rows = measure(folder, plan, threads=report.threads, note=_note)
    what = f"requests of {plan.documents} documents; every answer compared with the engine's scores"
    failed = [f"not measured: {row.name}: {row.error}" for row in rows if row.error]
    report.show(rows, [what, *failed], serve_cells(rows))
    return 0


def _note(text: str) -> None:
    print(text, file=sys.stderr)
