"""`sagerank distil`: what a command needs is imported when it runs."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from sagerank import aws
from sagerank_cost.text import examples

from . import DistillationError
from .recipe import Recipe, kinds, read_settings

_HELP = {
    "passages": "folder of .md and .txt files, or JSON Lines (.gz): id, text, title, source, licence",
    "queries": "JSON Lines (.gz) with id, text, source, positive_passage_id; without, all are made",
    "teachers": "SPEC or SPEC=SHARE: a scorer of `sagerank eval`, or bge|e5|minilm:FOLDER; more than once",
    "start": "the student is cut out of this: a BERT cross-encoder's folder, or a JinaBERT model",
    "layers": "those of --start that are kept, as 0,1,2",
    "hidden_layers": "layers of --start whose hidden states the student's learn, one for each, as 3,7,11",
    "neurons": "kept in each layer of a BERT",
    "vocabulary": "tokens kept of a BERT's, or trained afresh; a JinaBERT keeps its own",
    "student": "shape where there is no --start: micro, tiny, turbo, or a config.json",
    "embedder": "finds near passages by meaning: bge|e5|minilm|hf:FOLDER_OR_NAME",
    "made_queries": "queries that are made from passages, beside --queries or in their place",
    "heldout": "passages kept for the gate, a made query of each, where there is neither --queries nor --gate; a fifth of all at most",
    "limit": "queries at most",
    "documents": "candidates a query",
    "lexical": "weight of BM25 in what the student learns, in logits",
    "teacher_tokens": "pairs are cut to this for the teacher",
    "steps": "optimiser steps",
    "queries_per_step": "queries a step, each with its candidates",
    "accumulate": "parts a step is cut into, for memory; the gradient is the same",
    "learning_rate": "at its height, after the warm-up; it falls to 0",
    "warmup_steps": "steps up to the full learning rate",
    "temperature": "of the softmax over the candidates",
    "kl_weight": "of the listwise loss, KL divergence from the teacher's ranking",
    "error_weight": "of the squared error of the logits",
    "margin_weight": "of MarginMSE",
    "hidden_weight": "of the error of hidden states",
    "max_tokens": "pairs are cut to this for the student",
    "checkpoint_every": "steps between checkpoints",
    "seed": "of everything drawn",
    "keep_start": "share of the first weights in the student's last ones",
    "gate": "BEIR folder the student is judged on; more than once. Without --queries it may be left out: the teacher judges",
    "gate_queries": "queries of each collection",
    "retention": "share of the teacher's NDCG@10 the student must keep",
    "first_stage_margin": "how far below the first stage the student may be, in NDCG@10",
    "dtype": "of the stored weights: int8, float16, bfloat16 or float32",
}


# Whose prices are told where no region is given.
_REGION = "us-east-1"
_ADVICE = (
    "Train longer, keep more layers or give more text, with another --output or --work; or ask for less with --retention, "
    "for which nothing is trained again."
)

EXAMPLES = (
    "sagerank distil --passages docs --teacher tiny --output student.tar.gz",
    "sagerank distil --recipe recipe.json --sagemaker --role R --bucket B --image I",
)


def add(commands: Any) -> None:
    """Add `distil` to the subparsers of the `sagerank` command."""
    description = "distil a student from a teacher, and keep it if it ranks well"
    sub = commands.add_parser("distil", help=description, description=description, epilog=examples(*EXAMPLES))
    sub.set_defaults(group="make")
    configure(sub)


def configure(parser: argparse.ArgumentParser) -> None:
    # A training job brings what it needs itself.
    parser.set_defaults(run=run, extra=lambda options: "" if options.sagemaker else "distil")
    parser.add_argument(
        "--recipe", type=Path, help="JSON with any of the settings below; options override it"
    )
    parser.add_argument(
        "--work",
        type=Path,
        help="folder for everything on the way (default: OUTPUT.work, without .tar.gz); a killed run goes on there",
    )
    parser.add_argument("--output", type=Path, help="folder of the artefact, or a file ending in .tar.gz")
    parser.add_argument(
        "--name", default="student", help="the model's name in its manifest and card (default: %(default)s)"
    )
    parser.add_argument(
        "--licence", default="apache-2.0", help="of the weights, in the card (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=0, help="0: PyTorch's choice")
    parser.add_argument(
        "--device",
        choices=("cpu", "cuda", "auto"),
        default="cpu",
        help="where the student is trained; auto: cuda where PyTorch sees a GPU (default: %(default)s)",
    )
    parser.add_argument(
        "--estimate",
        action="store_true",
        help="print sizes, hours and price of a training job, and do nothing",
    )
    parser.add_argument("--json", action="store_true", help="print the gate's figures as JSON")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the loss and the gate: .svg, .png or .pdf"
    )
    settings = parser.add_argument_group("recipe")
    for name, (many, value_type) in kinds(Recipe).items():
        settings.add_argument(
            f"--{name.replace('_', '-').removesuffix('s') if many and value_type is str else name.replace('_', '-')}",
            dest=f"recipe_{name}",
            type=_numbers if many and value_type is int else value_type,
            action="append" if many and value_type is str else "store",
            metavar=name.upper(),
            help=_help(name),
        )
    job = parser.add_argument_group("on AWS")
    job.add_argument("--sagemaker", action="store_true", help="run it as a SageMaker training job and return")
    job.add_argument("--role", help="ARN of the job's role")
    job.add_argument("--bucket", help="S3 bucket for input, checkpoints and output")
    job.add_argument("--image", help="the region's PyTorch training image")
    job.add_argument("--instance", default="ml.g5.xlarge", help="default: %(default)s")
    job.add_argument("--hours", type=int, default=12, help="limit of the job (default: %(default)s)")
    job.add_argument("--on-demand", dest="spot", action="store_false", help="no managed spot")
    job.add_argument(
        "--subnet", dest="subnets", metavar="SUBNET", action="append", default=[], help="more than once"
    )
    job.add_argument(
        "--security-group",
        dest="security_groups",
        metavar="SECURITY_GROUP",
        action="append",
        default=[],
        help="more than once",
    )
    job.add_argument("--kms-key", default="", help="for the volume, the input and the output")
    job.add_argument("--region", help=aws.REGION_HELP)
    job.add_argument("--profile", help=aws.PROFILE_HELP)


def _help(name: str) -> str:
    default = next(field.default for field in dataclasses.fields(Recipe) if field.name == name)
    return _HELP[name] + (
        f" (default: {default})" if default and isinstance(default, int | float | str) else ""
    )


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers like 0,1,2") from None


def run(options: argparse.Namespace) -> int:
    recipe = _recipe(options)
    if options.sagemaker:
        return _launch(recipe, options)
    if options.estimate:
        return _estimate(recipe, options)
    if options.output is None:
        raise DistillationError("--output is missing: give a folder, or a file ending in .tar.gz.")
    if recipe.queries and not recipe.gate:
        raise DistillationError(
            "--gate is missing: give a BEIR folder that the student is judged on, or leave --queries out, and it is judged on made ones."
        )
    from sagerank.evaluation.progress import bars
    from sagerank_cost.text import fit

    from .card import model_card
    from .claim import begun
    from .distil import distil
    from .gate import below_first_stage, check, judge, publish, student_shortfalls
    from .report import write_report
    from .scale import calibrated, calibration, sentence
    from .screen import student_cells

    if options.plot:
        from sagerank.evaluation.draw import check_ending

        check_ending(options.plot)
    work = options.work or options.output.with_name(options.output.name.removesuffix(".tar.gz") + ".work")
    for written in (work, options.output):
        inside = written.resolve().is_relative_to(Path(recipe.passages).resolve())
        if inside and not written.name.endswith(".tar.gz"):
            raise DistillationError(
                f"{written} lies in {recipe.passages}, where the student's model card would be one of the passages next time: give another folder."
            )
    device = _device(options.device)
    if begun(work):
        print(f"sagerank: going on with what is in {work}", file=sys.stderr)
    with bars() as progress:
        distil(recipe, work, threads=options.threads, device=device, progress=progress)
        rankings = judge(recipe, work, threads=options.threads, progress=progress)
    judged = [row.quality for row in rankings]
    print(fit(student_cells(judged), stream=sys.stderr), file=sys.stderr)
    if options.plot:
        from .draw import picture

        picture(work, judged, options.plot)
    shortfalls = student_shortfalls(recipe, judged)
    place = {"instance": options.instance, "region": options.region or _REGION}
    scores = calibrated(rankings)
    report = write_report(recipe, work, rankings, shortfalls, scores, name=options.name, **place)
    print(f"sagerank: report in {report}", file=sys.stderr)
    for line in below_first_stage(judged):
        print(f"sagerank: {line}", file=sys.stderr)
    check("The student does not pass the gate, and no artefact was written", shortfalls, _ADVICE)
    card = model_card(
        recipe, work, judged, name=options.name, licence=options.licence, scores=sentence(scores)
    )
    kept = None if isinstance(scores, str) else calibration(scores, recipe.first_teacher, rankings)
    manifest = publish(work, card, options.output, options.name, kept)
    if options.json:
        facts = {
            "output": str(options.output),
            "report": str(report),
            "gate": [dataclasses.asdict(row) for row in judged],
            "calibration": dataclasses.asdict(kept) if kept else None,
        }
        print(json.dumps(facts, indent=2))
    else:
        print(sentence(scores))
        print(
            f"{options.output}: {manifest.model}, {manifest.parameters:,} parameters stored as {recipe.dtype}"
        )
    return 0


def _device(wanted: str) -> str:
    """Where the student is trained. Raises DistillationError where that is a GPU and there is none."""
    import torch

    gpu = torch.cuda.is_available()
    if wanted == "cuda" and not gpu:
        raise DistillationError(
            f"--device is cuda, and PyTorch {torch.__version__} sees no GPU here: look at `nvidia-smi`, install PyTorch's build for "
            "CUDA, or leave --device out."
        )
    return "cuda" if gpu and wanted != "cpu" else "cpu"


def _estimate(recipe: Recipe, options: argparse.Namespace) -> int:
    from sagerank_cost.render import render
    from sagerank_cost.sheet import Report
    from sagerank_cost.text import width

    from .estimate import job, sizes

    tables = sizes(recipe), job(recipe, options.instance, options.region or _REGION)
    form = "json" if options.json else "text"
    print(render(Report(title=f"The cost of {options.name}", tables=tables), form, width=width()))
    return 0


def _recipe(options: argparse.Namespace) -> Recipe:
    raw = read_settings(options.recipe) if options.recipe else {}
    for name in kinds(Recipe):
        value = getattr(options, f"recipe_{name}")
        if value is not None:
            raw[name] = value
    for name in ("passages", "teachers"):
        if not raw.get(name):
            raise DistillationError(
                f"--{name.removesuffix('s') if name == 'teachers' else name} is missing: {_HELP[name]}."
            )
    return Recipe.from_json(raw, str(options.recipe or "the options"))


def _launch(recipe: Recipe, options: argparse.Namespace) -> int:
    for name in ("role", "bucket", "image"):
        if not getattr(options, name):
            raise DistillationError(f"--{name} is missing: a training job needs it.")
    if options.hours < 1:
        raise DistillationError(f"--hours is {options.hours}: give at least 1.")
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    from .training_job import PREFIX, Job, launch

    job = Job(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Job)})
    try:
        session = boto3.Session(botocore_session=aws.session(options.region, options.profile))
        if session.get_credentials() is None:
            raise DistillationError(f"No AWS credentials were found: {aws.SIGN_IN}.")
        name = launch(
            recipe,
            job,
            options.name,
            session=session,
            licence=options.licence,
            work=options.work,
            progress=lambda what: print(f"sagerank: {what}", file=sys.stderr),
        )
    except (BotoCoreError, ClientError) as error:
        raise DistillationError(f"AWS refused: {error}") from None
    where = f"s3://{job.bucket}/{PREFIX}/{name}"
    print(
        f"Training job {name} was created. Its artefact will be below {where}/output/, its work folder with report.html in {where}/checkpoints/."
    )
    return 0
