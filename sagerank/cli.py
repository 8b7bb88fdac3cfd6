"""The `sagerank` command. A command imports what it runs, so `sagerank rerank` loads no model runtime."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sagerank_cost.commands
from sagerank_cost.text import examples
from sagerank_inference import quiet

from . import __version__, aws
from .bench import commands as bench_commands
from .connect import commands as connect_commands
from .distillation import commands as distillation_commands
from .evaluation import commands as evaluation_commands
from .listening import add_address, announce, open_sockets
from .models import extras
from .operate import commands as operate_commands
from .parser import Parser, overview
from .proxy import commands as proxy_commands
from .waiting import waiting

if TYPE_CHECKING:
    from sagerank_cost.catalogue import Catalogue
    from sagerank_cost.lines import Statement
    from sagerank_inference.artefact import Manifest

    from .client import RerankClient
    from .distillation.precision import Comparison

MODEL_HELP = (
    "micro, tiny, turbo, base, random:tiny|turbo|base, a model folder, an artefact folder, a model.tar.gz, "
    "or a cascade FIRST>SECOND@K of them"
)
SHELLS = ("bash", "zsh", "fish")


class Refused(Exception):
    """Bad input to a command: printed as one sentence, exit code 2."""


def main(arguments: Sequence[str] | None = None) -> int:
    quiet.switch_off(quiet.OURS)
    sagerank_cost.commands.print_any_text()
    options = _parser().parse_args(arguments)
    # The extras a command needs: their names with commas between, or a function of its options that gives them.
    needed = options.extra(options) if callable(options.extra) else options.extra
    try:
        if needed:
            extras.check(needed)
        code = int(options.run(options))
        if sys.stdout:  # closed by who started us
            sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader has seen enough; what Python still holds must not be flushed into the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ModuleNotFoundError as error:
        if not needed or error.name is None or error.name.partition(".")[0].startswith("sagerank"):
            raise
        print(f"sagerank: this command needs {error.name}: {extras.install(needed)}", file=sys.stderr)
        return 2
    except Exception as error:
        if not isinstance(error, _known_errors()):
            raise
        print(f"sagerank: {_sentence(error)}", file=sys.stderr)
        return 2


def _sentence(error: Exception) -> str:
    """What to print of an error. Of the system's: the file and the reason, without its number."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _known_errors() -> tuple[type[Exception], ...]:
    """Errors whose text is written for the person at the command line."""
    from sagerank_cost import CostError
    from sagerank_inference.artefact import ArtefactError
    from sagerank_inference.checkpoint import CheckpointError
    from sagerank_inference.contract import RerankError
    from sagerank_inference.settings import SettingsError
    from sagerank_infra.options import ConfigError

    from .distillation import DistillationError
    from .documents import DocumentsError
    from .evaluation import EvaluationError
    from .models.local_server import ServerError
    from .operate import OperateError

    return (
        Refused,
        DocumentsError,
        extras.MissingExtra,
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


def _parser() -> Parser:
    """The parser with all commands. A command's defaults hold its `group`, and its epilog two examples."""
    shown = (
        'sagerank rerank "what are the stages of sleep" --sample --top-n 3',
        "sagerank cost --rate 0.2 --p95 2",
    )
    parser = Parser(prog="sagerank", usage="%(prog)s COMMAND ...", epilog=examples(*shown))
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.set_defaults(run=lambda _: _help(parser), extra="")
    commands = parser.add_subparsers(prog="sagerank", metavar="COMMAND", help=argparse.SUPPRESS)
    _add_commands(commands)
    proxy_commands.add(commands)
    bench_commands.add(commands)
    evaluation_commands.add(commands)
    sagerank_cost.commands.add(commands, _priced)
    distillation_commands.add(commands)
    operate_commands.add(commands)
    connect_commands.add(commands)
    about = "Deploy and run the Jina Reranker v1 family: on AWS SageMaker, or on a laptop."
    parser.description = f"{about}\n{overview(commands)}"
    return parser


def _help(parser: argparse.ArgumentParser) -> int:
    parser.print_help()
    return 0


def _add_commands(commands: Any) -> None:
    """Add the commands that are of no room: those of a model on this machine."""

    def command(
        name: str, run: Callable[[argparse.Namespace], int], description: str, *shown: str, **defaults: Any
    ) -> Any:
        sub = commands.add_parser(name, help=description, description=description, epilog=examples(*shown))
        sub.set_defaults(**{"run": run, "extra": "", "group": "try"} | defaults)
        return sub

    def with_model(sub: Any, *, as_json: bool = True) -> Any:
        sub.add_argument("--model", default="micro", help=MODEL_HELP + " (default: %(default)s)")
        if as_json:
            sub.add_argument("--json", action="store_true", help="print JSON")
        return sub

    demo = command(
        "demo", _demo, "rerank real passages through boto3 and a local server",
        "sagerank demo", "sagerank demo --json",
        extra=_server_extra,
    )  # fmt: skip
    with_model(demo)
    rerank = command(
        "rerank", _rerank, "rerank the lines of a file, or JSON Lines with a text field",
        'sagerank rerank "what are the stages of sleep" --sample --top-n 3',
        'sagerank rerank "what causes rain" passages.txt --url http://localhost:8080',
        extra=lambda options: "" if options.url or options.endpoint else "cpu",
    )  # fmt: skip
    _add_rerank(with_model(rerank))
    serve = command(
        "serve", _serve, "serve a model over HTTP, as the container does",
        "sagerank serve", "sagerank serve --model micro --port 8081",
        extra=_server_extra,
    )  # fmt: skip
    with_model(serve, as_json=False)
    add_address(serve)
    build = command(
        "build", _build, "write a model's artefact, model.tar.gz or a folder",
        "sagerank build --model micro --output model.tar.gz",
        "sagerank build --model tiny --precision int8 --output model.tar.gz",
        group="make", extra=lambda options: "distil" if options.precision != "fp32" else "",
    )  # fmt: skip
    _add_build(with_model(build))
    doctor = command(
        "doctor", _doctor, "check the installation and a model, and say what to do",
        "sagerank doctor", "sagerank doctor --model micro --json",
        group="set up",
    )  # fmt: skip
    with_model(doctor)
    doctor.add_argument("--region", help=aws.REGION_HELP)
    doctor.add_argument("--profile", help=aws.PROFILE_HELP)
    completion = command(
        "completion", _completion, "print what makes a shell complete these commands",
        "source <(sagerank completion bash)",
        "sagerank completion fish > ~/.config/fish/completions/sagerank.fish",
        group="set up",
    )  # fmt: skip
    completion.add_argument("shell", choices=SHELLS, help=", ".join(SHELLS))


def _add_rerank(rerank: argparse.ArgumentParser) -> None:
    rerank.add_argument("query", type=_utf8, help="what the documents are ranked for")
    rerank.add_argument("documents", nargs="?", help="file, one document a line (default: what is piped in)")
    rerank.add_argument(
        "--sample", action="store_true", help="rank 36 textbook passages that come with sagerank"
    )
    rerank.add_argument("--endpoint", help="name of a SageMaker endpoint to call in place of a local model")
    rerank.add_argument("--component", help="inference component of the endpoint, where it has some")
    rerank.add_argument("--region", help=aws.REGION_HELP)
    rerank.add_argument("--profile", help=aws.PROFILE_HELP)
    rerank.add_argument("--endpoint-url", help="where its API is, if not at AWS")
    rerank.add_argument("--url", help="HTTP server to call in place of a local model")
    rerank.add_argument("--top-n", type=int, help="how many to print (default: all)")


def _add_build(build: argparse.ArgumentParser) -> None:
    build.add_argument(
        "--output", type=Path, default=Path("model.tar.gz"), help="file ending in .tar.gz, or a folder"
    )
    build.add_argument(
        "--code", action="store_true", help="add code/ for containers with the SageMaker toolkit"
    )
    build.add_argument(
        "--precision",
        default="fp32",
        choices=["fp32", "bf16", "int8"],
        help="of the arithmetic on CPU; bf16, for Arm, and int8 are written only if they pass the gate (default: %(default)s)",
    )
    gate = build.add_argument_group("the gate of --precision bf16 and int8")
    gate.add_argument(
        "--gate",
        action="append",
        default=[],
        help="BEIR folder to compare with fp32 on; more than once (default: 250 queries that come with sagerank)",
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
        help="share of fp32's first ten among the other's first ten (default: %(default)s)",
    )
    gate.add_argument(
        "--max-score-error",
        type=float,
        default=0.05,
        help="mean error of a logit, in standard deviations of fp32's logits (default: %(default)s)",
    )


def _server_extra(_: argparse.Namespace) -> str:
    """What the server needs: PyTorch where the environment asks for it, and ONNX Runtime elsewhere."""
    return "gpu" if os.environ.get("SAGERANK_BACKEND") == "torch" else "cpu"


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _demo(options: argparse.Namespace) -> int:
    from .demo import demonstrate

    folder = _artefact(options.model)
    with waiting("Starting a server and asking it", 3):
        shown = demonstrate(folder)
    if options.json:
        _print_json(dataclasses.asdict(shown) | {"relevant": sorted(shown.relevant)})
        return 0
    from sagerank_cost.text import fit

    rank = {index: place for place, index in enumerate(shown.order, 1)}
    print(f"Query: {shown.query}\n\nBefore, as the passages came (* answers the query):")
    for index, passage in enumerate(shown.passages):
        mark = "*" if index in shown.relevant else " "
        print(_line(f"{index + 1:>4} {mark} now {rank[index]:>2}  ", passage, 100))
    print("\nAfter, by boto3 sagemaker-runtime.invoke_endpoint:")
    for place, (index, score) in enumerate(zip(shown.order, shown.scores, strict=True), 1):
        mark = "*" if index in shown.relevant else " "
        print(_line(f"{place:>4} {mark} was {index + 1:>2}  {score:.4f}  ", shown.passages[index], 100))
    first = len(shown.relevant)
    before, after = (len(shown.relevant & set(order[:first])) for order in (range(first), shown.order))
    print(
        fit(
            "",
            f"{first} passages answer the query: {after} of them are among the first {first} now, {before} were before.",
            f"{len(shown.passages)} passages in {1e3 * shown.seconds:.1f} ms: {shown.documents_per_50_ms:.1f} documents per 50 ms "
            f"(model {options.model}, one client, whole call). The server was ready {shown.start_seconds:.2f} s after its start.",
        )
    )
    return 0


def _line(lead: str, text: str, otherwise: int | None = None) -> str:
    """A text behind its lead, on one line that is cut at a terminal's edge; in a pipe or a file at `otherwise`, if at all."""
    from sagerank_cost.text import flat, width

    text = flat(text)
    columns = width() or otherwise
    room = None if columns is None else max(columns - len(lead.expandtabs(8)), 1)
    return lead + (text if room is None or len(text) <= room else f"{text[: room - 1]}…")


def _completion(options: argparse.Namespace) -> int:
    import shtab

    parser = _parser()
    _complete_files(parser)
    print(shtab.complete(parser, options.shell))
    return 0


def _complete_files(parser: argparse.ArgumentParser) -> None:
    """Have a shell complete what is a path with files, and the commands, which the help lists by itself."""
    import shtab

    for action in parser._actions:
        if action.type is Path or action.dest == "documents" and action.type is None:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        if isinstance(action, argparse._SubParsersAction):
            action.help = None
            for sub in action.choices.values():
                _complete_files(sub)


def _serve(options: argparse.Namespace) -> int:
    from sagerank_inference import log, server
    from sagerank_inference.settings import Settings

    log.start()
    own = {"MODEL_DIR": _artefact(options.model), "HOST": options.host, "PORT": options.port}
    settings = Settings.from_env({**os.environ, **{f"SAGERANK_{name}": str(own[name]) for name in own}})
    sockets = open_sockets(settings.host, settings.port)
    # Standard output has the log, a JSON object a line.
    announce(options.model, options.host, options.port)
    return server.serve(settings, sockets)


def _rerank(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from . import documents as given
    from .client import SECONDS, START_SECONDS
    from .operate.terminal import watching_start

    if options.sample and options.documents:
        raise Refused("Give a file or --sample, not both.")
    if options.endpoint and options.url:
        raise Refused("Give --endpoint or --url, not both.")
    documents = given.sample() if options.sample else given.read(options.documents or "-")
    with (
        watching_start(options.endpoint) as starting,
        _client(options, starting) as client,
        tqdm(total=len(documents), unit="document", disable=None if sys.stderr else True, leave=False) as bar,
    ):
        ranking = client.rerank(
            options.query,
            documents,
            top_n=options.top_n,
            timeout=START_SECONDS if options.endpoint else SECONDS,
            progress=lambda done, _: bar.update(done - bar.n),
        )
    if options.json:
        # Not asdict(), which would copy the documents, level by level.
        results = [
            {"index": item.index, "score": item.score, "document": item.document} for item in ranking.results
        ]
        rest = {"total_tokens": ranking.total_tokens, "model": ranking.model, "requests": ranking.requests}
        _print_json({"results": results, **rest})
    else:
        for item in ranking.results:
            text = item.document if isinstance(item.document, str) else item.document["text"]
            print(_line(f"{item.score:.4f}\t{item.index}\t", text))
    return 0


def _client(options: argparse.Namespace, starting: Callable[[float], None]) -> RerankClient:
    """The client of an endpoint, a server or an engine in this process."""
    from .client import RerankClient, Retry, Split

    # Somebody waits, who can try again: not as long as an application would.
    retry = Retry(tries=3)
    if options.endpoint:
        return RerankClient.sagemaker(
            options.endpoint,
            region=options.region,
            profile=options.profile,
            inference_component=options.component,
            endpoint_url=options.endpoint_url,
            retry=retry,
            starting=starting,
        )
    if options.url:
        return RerankClient.http(options.url, retry=retry)
    from sagerank_inference.engine import Engine
    from sagerank_inference.settings import Settings

    from .transport import EngineTransport

    folder = _artefact(options.model)
    engine = Engine.load(folder, Settings(model_dir=folder))
    # In small parts, for the progress bar; but a cascade chooses among all documents at once.
    split = Split(max_documents=64) if len(engine.stages) == 1 else Split()
    return RerankClient(EngineTransport(engine), split=split, concurrency=1)


def _artefact(model: str) -> Path:
    """The artefact folder of a model. Where it has to be built first, a terminal shows how long that takes."""
    from .models.build import resolve

    with _building(model):
        return resolve(model)


def _building(model: str) -> AbstractContextManager[None]:
    from .models.build import SHAPES
    from .models.hub import HUB

    if model in HUB:  # whose download has bars of its own
        return nullcontext()
    shape = SHAPES.get(model.removeprefix("random:"))
    # Two million parameters a second, on a few cores; most of that time PyTorch scores the golden pairs.
    return waiting(f"Building {model}", shape.parameters / 2e6 if shape else 20)


def _priced(file: Path, prices: Catalogue) -> Statement:
    """The monthly cost of a DeployConfig file, for `sagerank cost diff`."""
    from sagerank_infra.estimate import priced

    return priced(file, prices)


def _utf8(argument: str) -> str:
    """A word of the command line as UTF-8, whatever the locale says it is."""
    return os.fsencode(argument).decode("utf-8", "surrogateescape")


def _build(options: argparse.Namespace) -> int:
    from sagerank_inference.archive import manifest_sha256

    from .models.build import archive, build

    output: Path = options.output
    extra: dict[str, Any] = {"output": str(output)}
    if options.code and not output.name.endswith(".tar.gz"):
        raise Refused("--code goes with an output that ends in .tar.gz.")
    if options.gate_queries is not None and options.gate_queries < 1:
        raise Refused(f"--gate-queries is {options.gate_queries}: give at least 1.")
    if options.precision != "fp32":
        manifest, extra["gate"] = _build_gated(options)
    elif output.name.endswith(".tar.gz"):
        with _building(options.model):
            manifest = archive(options.model, output, code=options.code)
    else:
        output.mkdir(parents=True, exist_ok=True)
        own = (output / "manifest.json").is_file() or output.resolve() == Path(options.model).resolve()
        if not own and any(output.iterdir()):
            raise Refused(
                f"{output} holds other files: give an empty or a new folder, or a name ending in .tar.gz."
            )
        with _building(options.model):
            manifest = build(options.model, output)
    extra["manifest_sha256"] = manifest_sha256(output)
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
        print(f"SHA-256 of its manifest: {extra['manifest_sha256']}")
    return 0


def _build_gated(options: argparse.Namespace) -> tuple[Manifest, list[dict[str, Any]]]:
    from sagerank_cost.text import fit

    from .distillation.gate import GateFailed
    from .distillation.precision import Thresholds, build_gated
    from .distillation.screen import comparison_cells
    from .evaluation.progress import bars

    rows: list[dict[str, Any]] = []

    def show(judged: list[Comparison]) -> None:
        rows.extend(dataclasses.asdict(row) | {"error": row.error} for row in judged)
        if not options.json:
            print(fit(comparison_cells(judged)))

    try:
        with bars() as progress:
            manifest = build_gated(
                options.model,
                options.output,
                options.precision,
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
    for check in examine(options.model, region=options.region, profile=options.profile):
        checks.append(check)
        if not options.json:
            print(check.line(width()))
    if options.json:
        _print_json([dataclasses.asdict(check) for check in checks])
    return 0 if all(check.ok is not False for check in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
