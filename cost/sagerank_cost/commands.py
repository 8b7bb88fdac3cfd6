"""`sagerank cost`: what it will cost, and what to run. What a command needs is imported when it runs."""

from __future__ import annotations

import argparse
import codecs
import io
import sys
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import CostError, unknown
from .render import FORMATS, render
from .text import examples, width

if TYPE_CHECKING:
    from .bill import Bill
    from .catalogue import Catalogue
    from .decide import Question
    from .sheet import Report
    from .template import Configured
    from .traffic import Traffic

WHAT = {
    "report": "models compared on CPU, GPU and serverless, and a decision (the default)",
    "fit": "which instances and serverless sizes hold a model",
    "compare": "all feasible deployments, and why others are not",
    "simulate": "a month of the cheapest deployment, or of the one you name, request by request",
    "breakeven": "from how many requests a month it is cheaper than serverless and services billed by use",
    "diff": "the monthly change between two synthesised templates, folders or configurations",
    "refresh": "prices again from the AWS Price List API",
    "measure": "time an endpoint, and keep its speed in place of the estimate",
}


EXAMPLES = {
    "report": (
        "sagerank cost --rate 0.2 --p95 2 --min-ndcg 49",
        "sagerank cost --model tiny --format html --output cost.html",
    ),
    "fit": (
        "sagerank cost fit --model base --max-tokens 8192",
        "sagerank cost fit --model tiny --precision int8",
    ),
    "compare": (
        "sagerank cost compare --rate 5 --model turbo",
        "sagerank cost compare --mode serverless --p95 inf",
    ),
    "simulate": (
        "sagerank cost simulate --rate 5 --model tiny --instance ml.c7g.large",
        "sagerank cost simulate --mode serverless --rate 0.05 --p95 inf",
    ),
    "breakeven": (
        "sagerank cost breakeven --model tiny",
        "sagerank cost breakeven --service cohere-rerank --format json",
    ),
    "diff": (
        "sagerank cost diff before.yaml after.yaml --max-monthly 500",
        "sagerank cost diff old/cdk.out cdk.out",
    ),
    "refresh": ("sagerank cost refresh --region eu-west-1", "sagerank cost refresh --data prices --yes"),
    "measure": (
        "sagerank cost measure --endpoint mine --instance ml.c7i.large --model tiny",
        "sagerank cost measure --endpoint mine --instance ml.g5.xlarge --model turbo",
    ),
}


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
    _options(parser)
    subcommands = parser.add_subparsers(dest="what", metavar="what")
    for name, description in WHAT.items():
        # Given after the sub-command an option counts; not given, what stood before it or the default does.
        sub = subcommands.add_parser(
            name,
            help=description,
            description=description,
            epilog=examples(*EXAMPLES[name]),
            argument_default=argparse.SUPPRESS,
        )
        if name == "diff":
            sub.add_argument("old", type=Path, help="template, folder such as cdk.out, or configuration")
            sub.add_argument("new", type=Path, help="the same, after the change")
        if name == "refresh":
            sub.add_argument("--yes", action="store_true", default=False, help="write even what looks wrong")
        if name == "measure":
            sub.add_argument("--endpoint", required=True, help="name of a SageMaker endpoint")
        if name in ("refresh", "measure"):
            sub.add_argument("--endpoint-url", default=None, help="where the API is, if not at AWS")
        _options(sub, suppressed=True)


def _options(parser: argparse.ArgumentParser, *, suppressed: bool = False) -> None:
    def option(name: str, default: Any, description: str, **more: Any) -> None:
        if more.get("action") != "store_true":
            more.setdefault("type", str if default is None else type(default))
        shown = "" if default in (None, False) else f" (default: {default})"
        parser.add_argument(
            name, default=argparse.SUPPRESS if suppressed else default, help=description + shown, **more
        )

    many: dict[str, Any] = {"action": "append"}
    option("--rate", 1.0, "requests a second on average")
    option("--swing", 0.8, "of the daily curve: 0 constant, 1 nothing at night")
    option("--log", None, "CSV of requests in place of --rate: time,documents,tokens", type=Path)
    option("--documents", 100, "documents in a request")
    option("--tokens", 150, "tokens of a document with its query")
    option("--variation", 0.3, "of the work of requests, standard deviation to mean")
    option(
        "--model",
        None,
        "micro, tiny, turbo, base or a cascade tiny>base@20; more than once (default: turbo, tiny, base)",
        **many,
    )
    option("--precision", None, "fp32, bf16 or int8; more than once (default: what the engine has)", **many)
    option(
        "--mode",
        None,
        "realtime, serverless or async; more than once (default: realtime and serverless)",
        **many,
    )
    option("--region", None, "AWS region, more than once, or all (default: us-east-1)", **many)
    option(
        "--instance", None, "instance type, or serverless memory in MB; more than once (default: all)", **many
    )
    option("--p95", 1.0, "latency limit in seconds at the 95th percentile of the busiest minute; inf: none")
    option("--min-ndcg", None, "quality limit, BEIR NDCG@10 in points", type=float)
    option("--min-instances", 1, "instances that always run")
    option("--max-instances", 20, "instances at most")
    option("--max-tokens", 8192, "longest pair that must fit into memory")
    option("--minutes", 43_800, "simulate: length")
    option(
        "--cold-start",
        6.0,
        "simulate: seconds until a serverless worker serves; an assumption, measure yours",
    )
    option("--seed", 0, "simulate: of the random numbers")
    option("--service", None, "service to compare with; more than once (default: all known)", **many)
    option(
        "--price", None, "your own price, INSTANCE=USD an hour or SERVICE=USD a unit; more than once", **many
    )
    option("--data", None, "folder of price and measurement files (default: the package's)", type=Path)
    option("--format", "text", "text, json, csv, markdown or html")
    option("--output", None, "file to write (default: standard output)", type=Path)
    option("--explain", False, "say where every number comes from", action="store_true")
    option("--max-monthly", None, "budget in US dollars a month: exit code 1 above it", type=str)


def run(options: argparse.Namespace) -> int:
    """Run the parsed command, and return its exit code. Raises CostError for what cannot be answered as asked."""
    from .catalogue import Catalogue
    from .store import DATA

    options.what = options.what or "report"
    if options.format not in FORMATS:
        raise unknown("format", options.format, FORMATS)
    catalogue = Catalogue(options.data or DATA, dict(map(_price, options.price or ())))
    limit = _money("--max-monthly", options.max_monthly) if options.max_monthly is not None else None
    if options.what == "refresh":
        return _refresh(options, catalogue)
    if options.what == "measure":
        return _measure(options, catalogue)
    if options.what == "diff":
        from .reports.diff import diff_report
        from .template import read

        region = catalogue.region((options.region or ["us-east-1"])[0])
        old, new = (read(path, catalogue, region, options.configured) for path in (options.old, options.new))
        report = diff_report(old, new, limit)
    else:
        report = _report(options, catalogue)
    # A file has no width.
    columns = width() if options.output is None else None
    _emit(render(report, options.format, explain=options.explain, width=columns), options.output)
    if limit is not None and report.monthly is not None and report.monthly > limit:
        print(f"sagerank: {report.monthly:,} USD a month is above --max-monthly {limit:,}.", file=sys.stderr)
        return 1
    return 0


def _report(options: argparse.Namespace, catalogue: Catalogue) -> Report:
    from .models import choice

    if options.what == "fit":
        from .reports.fit import fit_report

        models = tuple(map(choice, options.model or ["tiny"]))
        regions = _regions(options, catalogue)
        return fit_report(models, options.precision or ["fp32"], options.max_tokens, regions, catalogue)

    question = _question(options, catalogue)
    if options.what == "report":
        from .reports.decision import decision_report

        return decision_report(question, options.service or (), charts=options.format == "html")
    if options.what == "compare":
        from .reports.compare import compare_report

        return compare_report(question)
    if options.what == "breakeven":
        from .reports.breakeven import breakeven_report

        return breakeven_report(question, options.service or ())
    best = _best(question)
    from .reports.simulation import simulation_report
    from .simulate import simulate

    simulated = simulate(
        best.deployment,
        question.scenario,
        minutes=options.minutes,
        seed=options.seed,
    )
    return simulation_report(simulated, options.seed)


def _question(options: argparse.Namespace, catalogue: Catalogue) -> Question:
    from .bill import MODES, Scenario
    from .decide import Question
    from .models import check_precision, choice

    modes = tuple(options.mode or ("realtime", "serverless"))
    for mode in modes:
        if mode not in MODES:
            raise unknown("mode", mode, MODES)
    return Question(
        scenario=Scenario(_traffic(options), catalogue, options.max_tokens, cold_start=options.cold_start),
        choices=tuple(choice(name) for name in options.model or ("turbo", "tiny", "base")),
        precisions=tuple(map(check_precision, options.precision or ("fp32", "bf16"))),
        modes=modes,
        regions=_regions(options, catalogue),
        instances=tuple(options.instance or ()),
        p95_seconds=options.p95,
        min_ndcg=options.min_ndcg,
        min_instances=options.min_instances,
        max_instances=options.max_instances,
        hypothetical=bool(options.precision),
    )


def _regions(options: argparse.Namespace, catalogue: Catalogue) -> tuple[str, ...]:
    if options.region == ["all"]:
        return catalogue.regions
    return tuple(catalogue.region(name) for name in options.region or ("us-east-1",))


def _traffic(options: argparse.Namespace) -> Traffic:
    from .traffic import daily, from_log

    if options.log is not None:
        return from_log(options.log)
    shape = {name: getattr(options, name) for name in ("swing", "documents", "tokens", "variation")}
    return daily(options.rate, **shape)


def _best(question: Question) -> Bill:
    from .decide import decide

    decision = decide(question)
    if decision.best is None:
        example = next(iter(decision.examples.values()), "")
        raise CostError(
            f"Nothing carries this traffic within the limits: raise --p95 or --max-instances, or allow more types. {example}"
        )
    return decision.best


def _refresh(options: argparse.Namespace, catalogue: Catalogue) -> int:
    from .refresh import apply, client, fetch

    refreshed = fetch(catalogue, options.region or catalogue.regions, client(options.endpoint_url))
    for change in refreshed.changes:
        print(f"{change}{'  <- look at this' if change.suspicious else ''}")
    for name in refreshed.unspecified:
        print(f"? {name} has a price, and its specification is not known here: left out")
    print(
        f"{len(refreshed.changes)} of {len(refreshed.prices)} prices differ in {', '.join(refreshed.regions)}."
    )
    if refreshed.suspicious and not options.yes:
        print(
            f"sagerank: {len(refreshed.suspicious)} changes are over 25 % or take a price away. Nothing was written: look at them, then add --yes.",
            file=sys.stderr,
        )
        return 1
    apply(catalogue, refreshed)
    print(f"Written to {catalogue.folder}.")
    return 0


def _measure(options: argparse.Namespace, catalogue: Catalogue) -> int:
    from .measure import documents, measure
    from .models import check_precision, choice
    from .throughput import append

    instances = options.instance or []
    if len(instances) != 1 or len(options.model or []) != 1:
        raise CostError(
            "Give --instance TYPE and --model NAME once: what the endpoint runs on, and what it runs."
        )
    instance = catalogue.instance(instances[0])
    row = measure(
        options.endpoint,
        documents(options.documents, max(1, round(options.tokens / 1.3))),
        instance=instance.name,
        model=choice(options.model[0]).name,
        precision=check_precision((options.precision or ["bf16" if instance.gpu else "fp32"])[0]),
        region=(options.region or [None])[0],
        endpoint_url=options.endpoint_url,
    )
    append(row, catalogue.folder)
    print(
        f"{row.model} {row.precision} on {row.instance}: {row.documents} documents of {row.tokens:g} tokens in {row.seconds:.4f} s, "
        f"{0.05 * row.documents / row.seconds:.1f} documents per 50 ms ({row.source}). Kept in {catalogue.folder / 'throughput.csv'}."
    )
    return 0


def _price(text: str) -> tuple[str, Decimal]:
    name, equals, usd = text.partition("=")
    if not equals:
        raise CostError(f"--price is {text!r}: give NAME=USD, as in ml.c7i.large=0.09.")
    return name, _money(f"--price {name}", usd)


def _money(what: str, text: str) -> Decimal:
    try:
        usd = Decimal(text)
    except InvalidOperation:
        raise CostError(f"{what} is {text!r}: give US dollars as a number.") from None
    if not usd.is_finite() or usd < 0:
        raise CostError(f"{what} is {text}: give US dollars, not below 0.")
    return usd


def _emit(text: str, output: Path | None) -> None:
    if output is None:
        print(text)
        return
    from .store import write_text

    write_text(output, text + "\n")
    print(f"{output}: {len(text) / 1e3:.0f} kB")
