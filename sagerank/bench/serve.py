"""`sagerank bench serve` on the command line: options in, rows and conditions out."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from typing import TYPE_CHECKING

from ..evaluation import EvaluationError
from .report import begin, number

if TYPE_CHECKING:
    from .serving import Row


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
    parser.add_argument("--no-toolkit", dest="toolkit", action="store_false", help="leave AWS's toolkit out")
    parser.add_argument(
        "--json", action="store_true", help="print JSON, and the conditions on standard error"
    )


def run(options: argparse.Namespace) -> int:
    """Measure, and print the rows. Raises EvaluationError for options that cannot be measured."""
    from .serving import Plan, measure

    if min(options.clients) < 1 or options.documents > 36:
        raise EvaluationError(
            "Give --clients of at least 1, and at most 36 --documents: so many are at hand."
        )
    report = begin(options, "documents", "rounds", "stretch", "load", "seconds", "long_tokens")
    (folder,) = report.models.values()
    plan = Plan(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Plan)})
    rows = measure(folder, plan, threads=report.threads, note=lambda text: print(text, file=sys.stderr))
    what = f"requests of {plan.documents} documents; every answer compared with the engine's scores"
    report.show(rows, [what], [_HEAD, *map(_cells, rows)], left=2)
    return 0


_HEAD = (
    "", "load", "clients", "requests", "docs / s", "of offline", "spread", "p50, ms", "p90", "p99", "above engine, ms",
    "CPU ms / doc", "RSS, MB", "lost", "twice", "wrong", "errors",
)  # fmt: skip


def _cells(row: Row) -> tuple[str, ...]:
    if row.error:
        return (row.name, row.error, *[""] * (len(_HEAD) - 2))
    return (
        row.name, row.load, number(row.clients, "d"), str(row.requests), number(row.documents_per_second, ".1f"),
        number(row.share_of_offline, ".3f"), "{:.3f} to {:.3f}".format(*row.spread) if row.spread else "",
        *(number(value, ".1f") for value in (row.p50_ms, row.p90_ms, row.p99_ms, row.overhead_ms)),
        number(row.cpu_ms_per_document, ".2f"), number(row.rss_mb, ".0f"),
        *(str(count) for count in (row.lost, row.duplicated, row.wrong, row.errors)),
    )  # fmt: skip
