"""The options of `sagerank cost`: what each takes, its default, and the commands that use it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import values
from .standing import PRESETS

FORMATS = ("text", "json", "csv", "markdown", "html")
# The commands that price traffic, and those that print a report; the others do something, and say what.
PRICED = ("report", "compare", "simulate", "breakeven")
REPORTS = (*PRICED, "fit", "diff")
ALL = (*REPORTS, "refresh", "measure")


@dataclass(frozen=True, slots=True)
class Option:
    """An option: `read` makes a value of its text, or raises ValueError with what to give. Without `read` it is a flag.

    many: it may be given more than once, and its values are a tuple. modes: those of a deployment that use it; none: all.
    """

    name: str
    help: str
    commands: tuple[str, ...]
    read: Callable[[str], Any] | None = None
    default: Any = None
    many: bool = False
    modes: tuple[str, ...] = ()

    @property
    def dest(self) -> str:
        return self.name.replace("-", "_")

    @property
    def description(self) -> str:
        """The help, with the default where that is a single value."""
        known = self.read is not None and not self.many and self.default is not None
        return f"{self.help} (default: {self.default})" if known else self.help


# Where instances always run, and where they run at all.
_ALWAYS = ("realtime", "marketplace")
_INSTANCES = (*_ALWAYS, "async", "scale-to-zero", "batch")

# What describes a question, and so is a column of a scenarios file.
QUESTION: dict[str, tuple[Option, ...]] = {
    "traffic": (
        Option("rate", "requests a second on average", PRICED, values.number(1e-9, 1e9), 1.0),
        Option(
            "swing", "of the daily curve: 0 constant, 1 nothing at night", PRICED, values.number(0, 1), 0.8
        ),
        Option("documents", "documents in a request", (*PRICED, "measure"), values.whole(1, 100_000), 100),
        Option(
            "tokens", "tokens of a document with its query", (*PRICED, "measure"), values.whole(1, 8192), 150
        ),
        Option(
            "variation",
            "of the work of requests, standard deviation to mean",
            PRICED,
            values.number(0, 2),
            0.3,
        ),
        Option(
            "log", "CSV of requests in place of the five above: time,documents,tokens", PRICED, values.path
        ),
    ),
    "deployments to choose among": (
        Option(
            "model",
            "micro, tiny, turbo, base or a cascade tiny>base@20; more than once (default: turbo, tiny, base; fit: tiny)",
            (*PRICED, "fit", "measure"),
            values.name,
            ("turbo", "tiny", "base"),
            many=True,
        ),
        Option(
            "precision",
            "fp32, bf16 or int8; more than once (default: fp32, and bf16 on GPUs)",
            (*PRICED, "fit", "measure"),
            values.name,
            (),
            many=True,
        ),
        Option(
            "mode",
            "realtime, serverless, async, scale-to-zero, batch or marketplace; more than once (default: realtime and serverless)",
            PRICED,
            values.name,
            ("realtime", "serverless"),
            many=True,
        ),
        Option(
            "region",
            "AWS region, more than once, or all (default: us-east-1)",
            ALL,
            values.name,
            ("us-east-1",),
            many=True,
        ),
        Option(
            "instance",
            "instance type, or serverless memory in MB; more than once (default: all)",
            (*PRICED, "measure"),
            values.name,
            (),
            many=True,
        ),
        Option(
            "min-instances",
            "instances that always run (default: the preset's, or 1)",
            PRICED,
            values.whole(0, 10_000),
            modes=_ALWAYS,
        ),
        Option(
            "max-instances",
            "instances at most",
            PRICED,
            values.whole(1, 10_000),
            20,
            modes=_INSTANCES,
        ),
        Option(
            "preset",
            "dev or prod: with what `sagerank deploy` puts beside the endpoint; none: the endpoint alone",
            PRICED,
            values.one_of("preset", (*PRESETS, "none")),
            "dev",
        ),
    ),
    "limits": (
        Option(
            "p95",
            "latency limit in seconds at the 95th percentile of the busiest hour; inf: none",
            PRICED,
            values.limit,
            1.0,
        ),
        Option("min-ndcg", "quality limit, BEIR NDCG@10 in points", PRICED, values.number(0, 100)),
        Option(
            "max-tokens",
            "longest pair that must fit into memory",
            (*PRICED, "fit"),
            values.whole(1, 8192),
            8192,
        ),
    ),
    "assumptions": (
        Option(
            "confidence",
            "percent: speeds as slow as they are with it; 50: the estimate",
            PRICED,
            values.number(1, 99),
            95.0,
        ),
        Option(
            "hit-rate",
            "share of requests whose scores are known where the server keeps them, 0 to 0.99",
            PRICED,
            values.number(0, 0.99),
            0.0,
            modes=("realtime", "scale-to-zero"),
        ),
        Option(
            "cold-start",
            "seconds until a serverless worker serves; an assumption, measure yours",
            PRICED,
            values.number(0, 3600),
            6.0,
            modes=("serverless",),
        ),
        Option(
            "discount",
            "percent off every line (EDP), or savings-plan=PERCENT off the instance hours of real-time endpoints; more than once",
            PRICED,
            values.discount,
            (),
            many=True,
        ),
    ),
}
GROUPS: dict[str, tuple[Option, ...]] = QUESTION | {
    "prices": (
        Option(
            "price",
            "your own price, INSTANCE=USD an hour or SERVICE=USD a unit; more than once",
            REPORTS,
            values.price,
            (),
            many=True,
        ),
        Option(
            "service",
            "service to compare with; more than once (default: all known)",
            ("report", "breakeven"),
            values.name,
            (),
            many=True,
        ),
        Option("data", "folder of price and measurement files (default: the package's)", ALL, values.path),
    ),
    "the simulation": (
        Option("minutes", "its length", ("simulate",), values.whole(1, 525_600), 43_800),
        Option("seed", "of its random numbers", ("simulate",), values.whole(0, 2**32 - 1), 0),
    ),
    "the answer": (
        Option(
            "scenarios",
            "CSV file with a question in each row, answered by a row each; its columns are options",
            ("report",),
            values.path,
        ),
        Option(
            "format", "text, json, csv, markdown or html", REPORTS, values.one_of("format", FORMATS), "text"
        ),
        Option("output", "file to write (default: standard output)", REPORTS, values.path),
        Option(
            "usage",
            "YAML, TOML or JSON file that says how much the endpoints of templates are used",
            ("diff",),
            values.path,
        ),
        Option("explain", "say where every number comes from", REPORTS, None, False),
        Option(
            "max-monthly",
            "budget in US dollars a month: exit code 1 above it",
            (*PRICED, "diff"),
            values.budget,
        ),
    ),
    "a measurement, in place of one of --endpoint": (
        Option("seconds", "of one request, however measured", ("measure",), values.number(1e-6, 1e6)),
        Option(
            "from",
            "JSON of `sagerank bench throughput --json` on such an instance",
            ("measure",),
            values.path,
        ),
    ),
    "AWS": (
        Option("endpoint", "name of a SageMaker endpoint", ("measure",), values.name),
        Option("profile", "of the AWS configuration; default: AWS_PROFILE", ("measure",), values.name),
        Option("endpoint-url", "where the API is, if not at AWS", ("refresh", "measure"), values.url),
        Option("yes", "write even what looks wrong", ("refresh",), None, False),
    ),
}
OPTIONS = {option.name: option for group in GROUPS.values() for option in group}
COLUMNS = tuple(option.name for group in QUESTION.values() for option in group)
