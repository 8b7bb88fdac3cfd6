"""The `sagerank` command. A command imports what it runs, so `sagerank rerank` loads no model runtime."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sagerank_cost.commands

from . import __version__
from .bench import commands as bench_commands
from .distillation import commands as distillation_commands
from .evaluation import commands as evaluation_commands
from .models.extras import install
from .operate import commands as operate_commands

if TYPE_CHECKING:
    from sagerank_cost.catalogue import Catalogue
    from sagerank_cost.lines import Statement
    from sagerank_inference.artefact import Manifest

    from .distillation.int8 import Int8Comparison

MODEL_HELP = (
    "micro, tiny, turbo, base, random:tiny|turbo|base, a model folder, an artefact folder, a model.tar.gz, "
    "or a cascade FIRST>SECOND@K of them"
)


class Refused(Exception):
    """Bad input to a command: printed as one sentence, exit code 2."""


def main(arguments: Sequence[str] | None = None) -> int:
    sagerank_cost.commands.print_any_text()
    options = _parser().parse_args(arguments)
    try:
        code = int(options.run(options))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader has seen enough; what Python still holds must not be flushed into the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0].startswith("sagerank"):
            raise
        print(f"sagerank: this command needs {error.name}: {install(options.extra)}", file=sys.stderr)
        return 2
    except Exception as error:
        if not isinstance(error, _known_errors()):
            raise
        print(f"sagerank: {error}", file=sys.stderr)
        return 2


def _known_errors() -> tuple[type[Exception], ...]:
    """Errors whose text is written for the person at the command line."""
    from sagerank_cost import CostError
    from sagerank_inference.artefact import ArtefactError
    from sagerank_inference.checkpoint import CheckpointError
    from sagerank_inference.contract import RerankError
    from sagerank_inference.settings import SettingsError
    from sagerank_infra.options import ConfigError

    from .distillation import DistillationError
    from .evaluation import EvaluationError
    from .models.local_server import ServerError
    from .operate import OperateError

    return (
        Refused,
        RerankError,
        ArtefactError,
        CheckpointError,
        SettingsError,
        EvaluationError,
        DistillationError,
        ConfigError,
        OperateError,
        ServerError,
        CostError,
        OSError,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sagerank", description="Deploy and run the Jina Reranker v1 family."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(
        name: str, run: Any, description: str, *, extra: str = "cpu", as_json: bool = True
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=description, description=description)
        sub.set_defaults(run=run, extra=extra)
        sub.add_argument("--model", default="micro", help=MODEL_HELP + " (default: %(default)s)")
        if as_json:
            sub.add_argument("--json", action="store_true", help="print JSON")
        return sub

    command("demo", _demo, "rerank real passages through boto3 and a local server")
    serve = command("serve", _serve, "serve a model over HTTP, as the container does", as_json=False)
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=int, default=8080, help="port to listen on (default: %(default)s)")
    rerank = command("rerank", _rerank, "rerank the lines of a file, or JSON Lines with a text field")
    rerank.add_argument("query", type=_utf8, help="what the documents are ranked for")
    rerank.add_argument(
        "documents", nargs="?", default="-", help="file, one document a line (default: standard input)"
    )
    rerank.add_argument("--endpoint", help="name of a SageMaker endpoint to call in place of a local model")
    rerank.add_argument("--region", help="its AWS region")
    rerank.add_argument("--profile", help="of the AWS configuration (default: AWS_PROFILE)")
    rerank.add_argument("--endpoint-url", help="where its API is, if not at AWS")
    rerank.add_argument("--url", help="HTTP server to call in place of a local model")
    rerank.add_argument("--top-n", type=int, help="how many to print (default: all)")
    build = command("build", _build, "write a model's artefact, model.tar.gz or a folder", extra="build")
    build.add_argument(
        "--output", type=Path, default=Path("model.tar.gz"), help="file ending in .tar.gz, or a folder"
    )
    build.add_argument(
        "--code", action="store_true", help="add code/ for containers with the SageMaker toolkit"
    )
    build.add_argument(
        "--precision",
        default="fp32",
        choices=["fp32", "int8"],
        help="of the arithmetic on CPU; int8 is written only if it passes the gate (default: %(default)s)",
    )
    gate = build.add_argument_group("the gate of --precision int8")
    gate.add_argument(
        "--gate",
        action="append",
        default=[],
        help="BEIR folder to compare int8 with fp32 on; more than once (default: 250 queries that come with sagerank)",
    )
    gate.add_argument(
        "--gate-queries", type=int, help="only the first so many queries of each (default: all)"
    )
    gate.add_argument(
        "--max-ndcg-drop", type=float, default=0.005, help="of mean NDCG@10 (default: %(default)s)"
    )
    gate.add_argument(
        "--min-agreement",
        type=float,
        default=0.95,
        help="share of fp32's first ten among int8's first ten (default: %(default)s)",
    )
    gate.add_argument(
        "--max-score-error",
        type=float,
        default=0.05,
        help="mean error of a logit, in standard deviations of fp32's logits (default: %(default)s)",
    )
    command("doctor", _doctor, "check the installation and a model, and say what to do")
    bench_commands.add(commands)
    evaluation_commands.add(commands)
    sagerank_cost.commands.add(commands, _priced)
    distillation_commands.add(commands)
    operate_commands.add(commands)
    return parser


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _demo(options: argparse.Namespace) -> int:
    from .demo import demonstrate
    from .models.build import resolve

    shown = demonstrate(resolve(options.model))
    if options.json:
        _print_json(dataclasses.asdict(shown) | {"relevant": sorted(shown.relevant)})
        return 0
    rank = {index: place for place, index in enumerate(shown.order, 1)}
    print(f"Query: {shown.query}\n\nBefore, as the passages came (* answers the query):")
    for index, passage in enumerate(shown.passages):
        print(
            f"{index + 1:>4} {'*' if index in shown.relevant else ' '} now {rank[index]:>2}  {_line(passage)}"
        )
    print("\nAfter, by boto3 sagemaker-runtime.invoke_endpoint:")
    for place, (index, score) in enumerate(zip(shown.order, shown.scores, strict=True), 1):
        mark = "*" if index in shown.relevant else " "
        print(f"{place:>4} {mark} was {index + 1:>2}  {score:.4f}  {_line(shown.passages[index])}")
    print(
        f"\n{len(shown.passages)} passages in {1e3 * shown.seconds:.1f} ms: {shown.documents_per_50_ms:.1f} documents per 50 ms "
        f"(model {options.model}, one client, whole call). The server was ready {shown.start_seconds:.2f} s after its start."
    )
    return 0


def _line(text: str, width: int = 88) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"


def _serve(options: argparse.Namespace) -> int:
    from sagerank_inference import server

    from .models.build import resolve

    own = {
        "SAGERANK_MODEL_DIR": resolve(options.model),
        "SAGERANK_HOST": options.host,
        "SAGERANK_PORT": options.port,
    }
    return server.main({**os.environ, **{name: str(value) for name, value in own.items()}})


def _rerank(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from .client import RerankClient

    documents = _read_documents(options.documents)
    if options.endpoint and options.url:
        raise Refused("Give --endpoint or --url, not both.")
    if options.endpoint:
        client = RerankClient.sagemaker(
            options.endpoint,
            region=options.region,
            profile=options.profile,
            endpoint_url=options.endpoint_url,
        )
    elif options.url:
        client = RerankClient.http(options.url)
    else:
        from sagerank_inference.engine import Engine
        from sagerank_inference.settings import Settings

        from .models.build import resolve
        from .transport import EngineTransport

        folder = resolve(options.model)
        client = RerankClient(EngineTransport(Engine.load(folder, Settings(model_dir=folder))), concurrency=1)
    with (
        client,
        tqdm(total=len(documents), unit="document", disable=None if sys.stderr else True, leave=False) as bar,
    ):
        ranking = client.rerank(
            options.query, documents, top_n=options.top_n, progress=lambda done, _: bar.update(done - bar.n)
        )
    if options.json:
        _print_json(dataclasses.asdict(ranking))
    else:
        for item in ranking.results:
            text = item.document if isinstance(item.document, str) else item.document["text"]
            print(f"{item.score:.4f}\t{item.index}\t{_line(text, 200)}")
    return 0


def _priced(file: Path, prices: Catalogue) -> Statement:
    """The monthly cost of a DeployConfig file, for `sagerank cost diff`."""
    from sagerank_infra.estimate import priced

    return priced(file, prices)


def _utf8(argument: str) -> str:
    """A word of the command line as UTF-8, whatever the locale says it is."""
    return os.fsencode(argument).decode("utf-8", "surrogateescape")


def _read_documents(path: str) -> list[Any]:
    """A document a line; where every line is a JSON object with text, those objects."""
    raw = (sys.stdin.buffer.read() if sys.stdin else b"") if path == "-" else Path(path).read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refused(
            f"The documents are not UTF-8 from byte {error.start} on: convert them, for instance with iconv."
        ) from None
    # Not splitlines(), which takes characters inside a text for ends of lines.
    lines = [line for line in re.split(r"\r?\n", text) if line.strip()]
    if not lines:
        raise Refused("There are no documents: give one a line.")
    try:
        objects = [json.loads(line) for line in lines]
    except (ValueError, RecursionError):
        return lines
    return (
        objects
        if all(isinstance(item, dict) and isinstance(item.get("text"), str) for item in objects)
        else lines
    )


def _build(options: argparse.Namespace) -> int:
    from .models.build import archive, build

    output: Path = options.output
    extra: dict[str, Any] = {"output": str(output)}
    if options.code and not output.name.endswith(".tar.gz"):
        raise Refused("--code goes with an output that ends in .tar.gz.")
    if options.gate_queries is not None and options.gate_queries < 1:
        raise Refused(f"--gate-queries is {options.gate_queries}: give at least 1.")
    if options.precision == "int8":
        options.extra = "distil"  # whose evaluation is the gate
        manifest, extra["gate"] = _build_int8(options)
    elif output.name.endswith(".tar.gz"):
        manifest = archive(options.model, output, code=options.code)
    else:
        output.mkdir(parents=True, exist_ok=True)
        manifest = build(options.model, output)
    if options.json:
        _print_json(dataclasses.asdict(manifest) | extra)
    else:
        size = (
            output.stat().st_size
            if output.is_file()
            else sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
        )
        print(
            f"{output}: {manifest.model}, {manifest.parameters:,} parameters as {manifest.dtype}, {size / 1e6:.1f} MB"
        )
    return 0


def _build_int8(options: argparse.Namespace) -> tuple[Manifest, list[dict[str, Any]]]:
    from sagerank_cost.text import fit

    from .distillation.gate import GateFailed
    from .distillation.int8 import Thresholds, build_int8
    from .distillation.screen import int8_cells
    from .evaluation.progress import bars

    rows: list[dict[str, Any]] = []

    def show(judged: list[Int8Comparison]) -> None:
        rows.extend(dataclasses.asdict(row) | {"error": row.error} for row in judged)
        if not options.json:
            print(fit(int8_cells(judged)))

    try:
        with bars() as progress:
            manifest = build_int8(
                options.model,
                options.output,
                gate=options.gate,
                queries=options.gate_queries,
                thresholds=Thresholds(options.max_ndcg_drop, options.min_agreement, options.max_score_error),
                code=options.code,
                show=show,
                progress=progress,
            )
    except GateFailed:
        if options.json:
            _print_json({"gate": rows})
        raise
    return manifest, rows


def _doctor(options: argparse.Namespace) -> int:
    from sagerank_cost.text import width

    from .doctor import examine

    checks = []
    for check in examine(options.model):
        checks.append(check)
        if not options.json:
            print(check.line(width()))
    if options.json:
        _print_json([dataclasses.asdict(check) for check in checks])
    return 0 if all(check.ok for check in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
