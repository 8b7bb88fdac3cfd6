"""`make updates`: a deployment becomes every other one that it may, on the local AWS, by `sagerank deploy`, while a client keeps asking.

    python -m tests.trials.updates --every pair
    python -m tests.trials.updates --every change --record updates.jsonl

The configurations and which changes work are those of tests/infra/test_transitions.py. A walk over the working ones makes every pair of
differences between two configurations' resources once, or enters and leaves each configuration once, or makes each change once; where it
can go no further it destroys, and deploys the next from nothing.
`--record` keeps what was done, and a second call goes on from there. Exit code 1 where a deployment fails or an answer is lost or wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import deque
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import combinations
from pathlib import Path
from typing import Any

from sagerank.operate.transitions import decide

from ..infra.test_transitions import CONFIGS, KEY, VPC, templates
from ..local_aws.launch import ACCOUNT, REGION, ROOT, running
from ..sagerank.test_deploy_e2e import Aws
from ..sagerank.test_update_e2e import asking

# Why the local AWS cannot carry one: it has no model package, no image of another's, and no registry of AWS's own.
NOT_CARRIED = {
    "marketplace": "a model package is AWS Marketplace's",
    "dlc": "AWS's own container is not to be had here",
    "ecr": "an image of the user's own is not to be had here",
}
CARRIED = [name for name in CONFIGS if name not in NOT_CARRIED]
Change = tuple[str, str]
Difference = tuple[str, ...]


def working() -> dict[str, list[str]]:
    """By configuration, those that it may become."""
    return {old: [new for new in CARRIED if new != old and _works(old, new)] for old in CARRIED}


def _works(old: str, new: str) -> bool:
    found = decide(templates(old), templates(new))
    protected = (
        CONFIGS[old][1] == "prod"
    )  # which no template says: a stack that is not needed any more stays then
    return not (found.refused or (protected and found.abandoned))


def path(graph: Mapping[str, list[str]], start: str, open: set[Change]) -> list[str]:
    """The shortest way from `start` whose last change is one of `open`; empty where there is none."""
    seen, waiting = {start}, deque([[start]])
    while waiting:
        way = waiting.popleft()
        for new in graph[way[-1]]:
            if (way[-1], new) in open:
                return [*way[1:], new]
            if new not in seen:
                seen.add(new)
                waiting.append([*way, new])
    return []


def chosen(graph: Mapping[str, list[str]], every: str) -> set[Change]:
    """The changes to be made: all, as many as enter and leave each configuration, or as many as make each pair of differences."""
    if every == "change":
        return {(old, new) for old, all_new in graph.items() for new in all_new}
    if every == "pair":
        return _of_each_pair(graph)
    base = {
        "serverless": "serverless",
        "warm": "serverless",
        "more memory": "serverless",
        "serverless prod": "serverless",
    }
    base |= {"async": "async", "async prod": "async", "async gpu": "async"}
    base |= {name: "scale-to-zero" for name in CARRIED if name.startswith("scale-to-zero")}
    ring = [(name, base.get(name, "realtime")) for name in CARRIED]
    changes = {(a, b) for a, b in ring} | {(b, a) for a, b in ring}
    return {(old, new) for old, new in changes if new in graph[old]}


def _of_each_pair(graph: Mapping[str, list[str]]) -> set[Change]:
    """Few changes among which any two differences that some change makes together are made together once.

    A fault of an update mostly comes of one difference or of two that meet (combinatorial testing calls it a pairwise cover). Taken
    greedily: the one with most that are still to be made, the first by name of equals.
    """
    made = {
        change: {frozenset(pair) for pair in combinations(sorted(_differences(*change)), 2)}
        for change in sorted(chosen(graph, "change"))
    }
    left, found = set[frozenset[Difference]]().union(*made.values()), set[Change]()
    while left:
        change = max(made, key=lambda each: len(made[each] & left))
        left -= made[change]
        found.add(change)
    return found


def _differences(old: str, new: str) -> set[Difference]:
    """What a change does to the stacks' resources: types that come and go, properties that change, and whether scaling is off for it."""
    before, after = (
        {
            (stack, id): each
            for stack, template in templates(name).items()
            for id, each in template["Resources"].items()
        }
        for name in (old, new)
    )
    found: set[Difference] = {("comes", after[key]["Type"]) for key in after.keys() - before.keys()}
    found |= {("goes", before[key]["Type"]) for key in before.keys() - after.keys()}
    for key in before.keys() & after.keys():
        ours, theirs = (each[key].get("Properties", {}) for each in (before, after))
        changed = (name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))
        found |= {("changes", before[key]["Type"], name) for name in changed}
    if decide(templates(old), templates(new)).unscaled:
        found.add(("unscaled",))
    return found


class Account(Aws):
    """The local AWS with what others own there: a key, a VPC with a subnet and a security group, and two models."""

    def prepare(self) -> None:
        key = self.client("kms").create_key(Policy=json.dumps(_key_policy()))["KeyMetadata"]["Arn"]
        ec2 = self.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
        group = ec2.create_security_group(GroupName="ours", Description="ours", VpcId=vpc)["GroupId"]
        s3 = self.client("s3")
        s3.create_bucket(Bucket="example-models")
        for model in ("turbo", "other"):
            s3.upload_file(str(self.folder / "model.tar.gz"), "example-models", f"{model}/model.tar.gz")
        self.theirs = dict(zip((KEY, *VPC.values()), (key, vpc, subnet, group), strict=True))

    def deploy(self, config: str) -> dict[str, Any]:
        name, preset, options = CONFIGS[config]
        words = ["deploy", "--config", str(ROOT / f"infra/examples/{name}.yaml"), "--model", "micro"]
        for option, text in ({"preset": preset} | options).items():
            words += ["-c", f"{option.replace('__', '.')}={self.theirs.get(text, text)}"]
        found: dict[str, Any] = json.loads(self.sagerank(*words, "--yes", "--json"))
        return found

    def clear(self) -> None:
        """Destroy the deployment, and delete the logs that preset prod keeps, which the next deployment would have to take over."""
        self.sagerank("destroy", "--yes", "--unprotect", "--json")
        logs = self.client("logs")
        for kind in ("Endpoints/sagerank", "InferenceComponents/sagerank-"):
            found = logs.describe_log_groups(logGroupNamePrefix=f"/aws/sagemaker/{kind}")["logGroups"]
            for group in found:
                logs.delete_log_group(logGroupName=group["logGroupName"])

    def asked(self, config: str) -> AbstractContextManager[object]:
        """A client that asks all the while. Answers in S3 and of jobs are not asked for."""
        example = CONFIGS[config][0]
        if example in ("async", "batch"):
            return nullcontext()
        component = "sagerank-component" if example == "scale-to-zero" else ""
        return asking(self, within=0.1, component=component)


def _key_policy() -> dict[str, Any]:
    """As an owner has it who did what `sagerank policies --key` prints, generously."""
    everyone = {"AWS": f"arn:aws:iam::{ACCOUNT}:root", "Service": _SERVICES}
    return {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": everyone, "Action": "kms:*", "Resource": "*"}],
    }


_SERVICES = [
    f"logs.{REGION}.amazonaws.com",
    "cloudwatch.amazonaws.com",
    "budgets.amazonaws.com",
]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.trials.updates", description="Deploy every change that works."
    )
    parser.add_argument("--every", choices=("pair", "configuration", "change"), default="pair")
    parser.add_argument("--from", dest="start", choices=CARRIED, default="realtime")
    parser.add_argument("--minutes", type=float, default=1e9, help="no change is begun after these")
    parser.add_argument("--record", type=Path, help="what was done, a line each; a second call goes on")
    given = parser.parse_args()
    graph = working()
    left = chosen(graph, given.every)
    total, failed = len(left), 0
    if given.record and given.record.exists():
        lines = map(json.loads, given.record.read_text(encoding="utf-8").splitlines())
        left -= {(line["old"], line["new"]) for line in lines if not line["wrong"]}
    until = time.monotonic() + 60 * given.minutes
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "log") as environment:
        aws = Account(environment, Path(folder))
        aws.run(str(ROOT / "node_modules/.bin/cdk"), "bootstrap", f"aws://{ACCOUNT}/{REGION}", cwd=aws.folder)
        aws.prepare()
        here = ""
        while left and time.monotonic() < until:
            way = path(graph, here, left) if here else []
            if not way:
                if here:
                    aws.clear()
                here = given.start if any(old == given.start for old, _ in left) else min(left)[0]
                aws.deploy(here)
                continue
            for new in way:
                began = time.monotonic()
                wrong = _changed(aws, here, new)
                line = {
                    "old": here,
                    "new": new,
                    "seconds": round(time.monotonic() - began, 1),
                    "wrong": wrong,
                }
                sys.stdout.write(json.dumps(line) + "\n")
                sys.stdout.flush()
                if given.record:
                    with given.record.open("a", encoding="utf-8") as record:
                        record.write(json.dumps(line) + "\n")
                left.discard((here, new))
                failed += bool(wrong)
                here = new
                if wrong:  # nobody knows what is there now
                    aws.clear()
                    here = ""
                    break
    sys.stdout.write(f"{total - len(left)} of {total} changes made, {failed} failed\n")
    return 1 if failed else 0


def _changed(aws: Account, old: str, new: str) -> list[str]:
    """Why one did not become the other, or what a client got instead of the right answer meanwhile."""
    try:
        with aws.asked(old):
            verdict = aws.deploy(new)
    except AssertionError as error:
        return [str(error)[-2000:]]
    return [] if verdict.get("ok", CONFIGS[new][0] == "batch") else [json.dumps(verdict)]


if __name__ == "__main__":
    sys.exit(main())
