"""The options of `sagerank deploy | policies | template | verify | status | idle | transform | destroy`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sagerank.aws import PROFILE_HELP, REGION_HELP
from sagerank_cost.text import examples

from . import running

# Options of their own for what every deployment decides; the rest is -c OPTION=VALUE.
_OWN = {
    "name": "of the endpoint, and the prefix of its stacks (default: sagerank)",
    "model": "micro, tiny, turbo, base, or a cascade such as tiny>base@20",
    "mode": "realtime, serverless, async, scale-to-zero, batch or marketplace (default: realtime)",
    "instance": "hosting type, such as ml.c7i.large; none in serverless",
    "preset": "dev or prod (default: dev)",
    "region": REGION_HELP,
}


# Two of each command, for its help.
_EXAMPLES = {
    "deploy": (
        "sagerank deploy --model tiny --instance ml.c7i.large --dry-run",
        "sagerank deploy --config sagerank.yaml --yes",
    ),
    "policies": (
        "sagerank policies --role --config sagerank.yaml",
        "sagerank policies --key -c account=123456789012 --instance ml.c7i.large",
    ),
    "template": (
        "sagerank template --mode serverless --output sagerank.yaml",
        "sagerank template --config s.yaml --format terraform --output main.tf.json",
    ),
    "verify": ("sagerank verify", "sagerank verify my-reranker --region eu-west-1 --json"),
    "status": ("sagerank status", "sagerank status my-reranker --region eu-west-1 --wait"),
    "idle": ("sagerank idle --region eu-west-1", "sagerank idle --days 30 --fail"),
    "transform": (
        "sagerank transform --input requests.jsonl --instance ml.c7i.xlarge",
        "sagerank transform --input s3://B/in --output s3://B/o --instance ml.m5.large",
    ),
    "destroy": ("sagerank destroy", "sagerank destroy my-reranker --region eu-west-1 --yes"),
}


def add(commands: Any) -> None:
    """Add the commands to the subparsers of `sagerank`."""

    def command(
        name: str, run: Callable[[argparse.Namespace], int], description: str, *, asks: bool = True
    ) -> Any:
        epilog = examples(*_EXAMPLES[name])
        sub = commands.add_parser(name, help=description, description=description, epilog=epilog)
        # Only the CDK app needs what is not always installed.
        extra = "infra" if name in ("deploy", "policies", "template") else ""
        sub.set_defaults(
            run=lambda options: _guarded(run, options), extra=extra, group="deploy", own=list(_OWN)
        )
        if asks:
            _add_account(sub)
        return sub

    def named(name: str, run: Callable[[argparse.Namespace], int], description: str) -> Any:
        sub = command(name, run, description)
        sub.add_argument(
            "name", nargs="?", default="sagerank", help="of the deployment (default: %(default)s)"
        )
        sub.add_argument("--region", help=_OWN["region"])
        return sub

    def configured(
        name: str, run: Callable[[argparse.Namespace], int], description: str, *, asks: bool = True
    ) -> Any:
        sub = command(name, run, description, asks=asks)
        for option, meaning in _OWN.items():
            sub.add_argument(f"--{option}", help=meaning)
        sub.add_argument(
            "--config", type=Path, help="configuration file: YAML, TOML or JSON; options override it"
        )
        sub.add_argument(
            "-c",
            "--context",
            action="append",
            default=[],
            metavar="OPTION=VALUE",
            help="any other option, such as autoscaling.max=8",
        )
        return sub

    deploy = configured(
        "deploy", running.deploy, "deploy a model to SageMaker with the AWS CDK, and verify it"
    )
    deploy.add_argument("--yes", action="store_true", help="do not ask")
    deploy.add_argument(
        "--dry-run",
        action="store_true",
        help="show what would be deployed and its cost, and stop: no credentials, weights or Docker needed",
    )
    deploy.add_argument("--output", type=Path, help="with --dry-run: folder that the templates stay in")
    deploy.add_argument(
        "--plan",
        type=Path,
        metavar="FILE",
        help="write what would be deployed to a file for a reviewer, and stop",
    )
    deploy.add_argument("--apply", type=Path, metavar="FILE", help="deploy a reviewed plan, and nothing else")
    deploy.add_argument(
        "--bootstrap",
        action="store_true",
        help="also set the CDK up in this account and region, where it is not",
    )
    deploy.add_argument("cdk", nargs="*", help="after --: passed to `cdk deploy`")

    policies = configured(
        "policies",
        running.policies,
        "print the policies that a role, a key and callers need",
    )
    for who, meaning in {
        "role": "the role that the model runs with: its policy, and whom it trusts",
        "key": "a KMS key of yours, whole: with the statement that every key has",
        "caller": "whoever asks the model",
    }.items():
        policies.add_argument(f"--{who}", dest=f"for_{who}", action="store_true", help=f"of {meaning}")

    _add_template(configured)

    verify = named("verify", running.verify, "check that an endpoint runs what was deployed, and its scores")
    verify.add_argument(
        "--model", help="judge by this model's golden pairs (default: the deployed artefact's own)"
    )
    verify.add_argument(
        "--tolerance",
        type=float,
        help="of a logit (default: 0.001; on GPU 0.15 of the golden logits' range, at least 0.1)",
    )
    verify.add_argument(
        "--expect-config",
        default="",
        help="name of the endpoint configuration it must run (default: its stack's)",
    )

    status = named("status", running.status, "one screen about an endpoint")
    status.add_argument("--wait", action="store_true", help="until nothing is under way any more")

    idle = command("idle", running.idle, "find endpoints that nobody calls, and what they cost")
    idle.add_argument("--region", help=_OWN["region"])
    idle.add_argument("--days", type=int, default=7, help="without an invocation (default: %(default)s)")
    idle.add_argument("--fail", action="store_true", help="exit with 1 where one is found")

    transform = named("transform", running.transform, "score a file or an S3 folder in a batch job")
    transform.add_argument(
        "--input", required=True, help="JSON Lines, JSON or CSV: a file, or s3://BUCKET/PREFIX"
    )
    transform.add_argument(
        "--output", default=".", help="folder for the answers, or s3://BUCKET/FOLDER (default: here)"
    )
    transform.add_argument("--instance", required=True, help="type the job runs on, such as ml.c7i.xlarge")
    transform.add_argument(
        "--count", type=int, default=1, help="of instances; a file goes to one (default: %(default)s)"
    )
    transform.add_argument("--content-type", default="", help="of the input (default: by its name)")
    transform.add_argument(
        "--output-key", default="", help="ARN of the KMS key of the answers (default: the deployment's)"
    )
    transform.add_argument("--no-wait", action="store_true", help="create the job and return")

    destroy = named("destroy", running.destroy, "delete a deployment, and prove that nothing is left")
    destroy.add_argument("--yes", action="store_true", help="do not ask")
    destroy.add_argument(
        "--unprotect", action="store_true", help="turn the stacks' termination protection off first"
    )


def _add_account(sub: argparse.ArgumentParser) -> None:
    """The options of a command that asks AWS."""
    sub.add_argument("--json", action="store_true", help="print JSON")
    sub.add_argument("--profile", help=PROFILE_HELP)
    sub.add_argument("--endpoint-url", help="where the AWS API is, if not at AWS")


def _add_template(configured: Callable[..., Any]) -> None:
    about = "write a plain template for those who do not use the CDK"
    template = configured("template", running.template, about, asks=False)
    template.add_argument(
        "--format",
        default="cloudformation",
        choices=("cloudformation", "terraform"),
        help="cloudformation (YAML) or terraform (JSON) (default: %(default)s)",
    )
    template.add_argument("--output", type=Path, metavar="FILE", help="(default: what is printed)")


def _guarded(run: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    from .account import sentences

    with sentences():
        return run(options)
