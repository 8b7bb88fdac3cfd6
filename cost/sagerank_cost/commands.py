"""`sagerank cost`: what it will cost, and what to run. What a command needs is imported when it runs."""

from __future__ import annotations

import argparse
import codecs
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import CostError
from .arguments import EXAMPLES, WHAT, add_options, given, read
from .options import PRICED
from .questions import catalogue, one, question, regions
from .render import render
from .text import examples, width

if TYPE_CHECKING:
    from .catalogue import Catalogue
    from .sheet import Report
    from .templates.template import Configured


def add(commands: Any, configured: Configured | None = None) -> None:
    """Add `cost` to the subparsers of the `sagerank` command. `diff` reads configuration files where `configured` prices them."""
    description = "what it will cost and what to run, before anything is deployed"
    sub = commands.add_parser(
        "cost", help=description, description=description, epilog=examples(*EXAMPLES["report"])
    )
    sub.set_defaults(group="decide")
    configure(sub, configured)


def print_any_text() -> None:
    """Let standard output and error take every text: a locale that cannot hold one must not cost the answer."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            ascii_only = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding="utf-8" if ascii_only else None, errors="backslashreplace")


def configure(parser: argparse.ArgumentParser, configured: Configured | None = None) -> None:
    """Give the parser the options and sub-commands. Options may stand before or after a sub-command; without one, it is report."""
    parser.set_defaults(run=run, extra="cost", configured=configured)
    add_options(parser)
    subcommands = parser.add_subparsers(dest="what", metavar="what")
    for name, description in WHAT.items():
        sub = subcommands.add_parser(
            name, help=description, description=description, epilog=examples(*EXAMPLES[name])
        )
        if name == "diff":
            sub.add_argument("old", type=Path, help="template, folder such as cdk.out, or configuration")
            sub.add_argument("new", type=Path, help="the same, after the change")
        add_options(sub, name)


def run(parsed: argparse.Namespace) -> int:
    """Run the parsed command, and return its exit code. Raises CostError for what cannot be answered as asked."""
    options = read(parsed.what or "report", given(parsed))
    if options.command == "diff":
        options.old, options.new, options.configured = Path(parsed.old), Path(parsed.new), parsed.configured
    try:
        return COMMANDS[options.command](options, catalogue(options))
    except Exception as error:
        # Loaded only where AWS is asked: a profile or a region that does not exist is found before anything is sent.
        loaded = sys.modules.get("botocore.exceptions")
        if loaded is None or not isinstance(error, loaded.BotoCoreError):
            raise
        raise CostError(f"AWS cannot be asked: {error}.") from None


def _report(options: argparse.Namespace, prices: Catalogue) -> int:
    if options.scenarios is not None:
        from .scenarios import flat, scenarios_report

        report = scenarios_report(options, prices)
        return _answer(options, report, flat(report) if options.format == "csv" else None)
    from .reports.decision import decision_report

    asked = question(options, prices)
    return _answer(options, decision_report(asked, options.service, charts=options.format == "html"))


def _compare(options: argparse.Namespace, prices: Catalogue) -> int:
    from .reports.compare import compare_report

    return _answer(options, compare_report(question(options, prices)))


def _simulate(options: argparse.Namespace, prices: Catalogue) -> int:
    from .decide import decide

    asked = question(options, prices)
    best = decide(asked).best
    if best is None:  # the report that says why
        from .reports.decision import decision_report

        return _answer(options, decision_report(asked))
    from .reports.simulation import simulation_report
    from .simulate import simulate

    simulated = simulate(best.deployment, asked.scenario, minutes=options.minutes, seed=options.seed)
    return _answer(options, simulation_report(simulated, options.seed))


def _breakeven(options: argparse.Namespace, prices: Catalogue) -> int:
    from .reports.breakeven import breakeven_report

    return _answer(options, breakeven_report(question(options, prices), options.service))


def _fit(options: argparse.Namespace, prices: Catalogue) -> int:
    from .models import check_precision, choice
    from .reports.fit import fit_report

    models = options.model if "model" in options.given else ("tiny",)
    precisions = options.precision if "precision" in options.given else ("fp32",)
    return _answer(
        options,
        fit_report(
            [*map(choice, models)],
            [*map(check_precision, precisions)],
            options.max_tokens,
            regions(options, prices),
            prices,
        ),
    )


def _diff(options: argparse.Namespace, prices: Catalogue) -> int:
    from .reports.diff import comment, diff_report
    from .templates.template import read as read_template
    from .templates.usage import Usage

    region = prices.region(one(options, "region"))
    usage = Usage(options.usage) if options.usage is not None else None
    old, new = (
        read_template(path, prices, region, options.configured, usage) for path in (options.old, options.new)
    )
    if usage is not None:
        usage.check()
    report = diff_report(old, new, options.max_monthly)
    written = comment(report, explain=options.explain) if options.format == "markdown" else None
    return _answer(options, report, written)


def _refresh(options: argparse.Namespace, prices: Catalogue) -> int:
    from .refresh import apply, client, fetch

    named = "region" in options.given and options.region != ("all",)
    wanted = options.region if named else prices.regions
    refreshed = fetch(prices, wanted, client(options.endpoint_url))
    for change in refreshed.changes:
        print(f"{change}{'  <- look at this' if change.suspicious else ''}")
    for name in refreshed.unspecified:
        print(f"? {name} has a price, and its specification is not known here: left out")
    print(
        f"{len(refreshed.changes)} of {len(refreshed.prices)} prices differ in {', '.join(refreshed.regions)}."
    )
    if refreshed.suspicious and not options.yes:
        raise CostError(
            f"{len(refreshed.suspicious)} changes are over 25 % or take a price away. Nothing was written: look at them, then add --yes."
        )
    apply(prices, refreshed)
    print(f"Written to {prices.folder}.")
    return 0


def _measure(options: argparse.Namespace, prices: Catalogue) -> int:
    from .measure import rows
    from .measured import append

    measured = rows(options, prices)
    kept = append(measured, prices.folder)
    for row in measured:
        print(
            f"{row.model} {row.precision} on {row.instance}: {row.documents} documents of {row.tokens:g} tokens in {row.seconds:.4f} s, "
            f"{row.documents / row.seconds:,.3g} documents/s ({row.source}). Kept in {kept}."
        )
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace, Catalogue], int]] = {
    "report": _report,
    "fit": _fit,
    "compare": _compare,
    "simulate": _simulate,
    "breakeven": _breakeven,
    "diff": _diff,
    "refresh": _refresh,
    "measure": _measure,
}


def _answer(options: argparse.Namespace, report: Report, written: str | None = None) -> int:
    """Print the report, or what is `written` of it, and return the exit code of its total beside the budget.

    Raises CostError, after that, where there is no total, or one that may be above the budget.
    """
    from .lines import AtLeast

    # A file has no width.
    columns = width() if options.output is None else None
    text = written or render(report, options.format, explain=options.explain, width=columns)
    _emit(text, options.output)
    total, limit = report.monthly, options.max_monthly
    if total is None and options.command in PRICED:
        raise CostError(
            "Nothing meets the limits: raise --p95 or --max-instances, or allow more models, modes, types or regions."
        )
    if total is None or limit is None:
        return 0
    if total > limit:
        print(f"sagerank: {total:,} USD a month is above --max-monthly {limit:,}.", file=sys.stderr)
        return 1
    if isinstance(total, AtLeast):
        lacks = ", ".join(total.lacks) or "a line"
        raise CostError(
            f"The total is at least {total:,} USD a month, as no price is known of {lacks}: whether it is within --max-monthly {limit:,} cannot be said."
        )
    return 0


def _emit(text: str, output: Path | None) -> None:
    if output is None:
        try:
            print(text, flush=True)
        except OSError as error:
            # What Python still holds would fail again when it exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if isinstance(error, BrokenPipeError):
                return  # who reads has seen enough, as `head` has; the exit code is still the budget's
            raise CostError(f"Standard output cannot be written: {error.strerror}.") from None
        return
    from .store import write_text

    write_text(output, text + "\n")
    print(f"{output}: {len(text) / 1e3:.0f} kB")
