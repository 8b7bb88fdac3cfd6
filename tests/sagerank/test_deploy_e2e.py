"""The whole way with the unmodified CDK command line, against the local AWS: what the documentation says to type is typed, what is
deployed runs and is asked through boto3, and what is destroyed is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from sagerank.models.build import MICRO, archive
from sagerank_inference.archive import unpack
from sagerank_inference.artefact import Manifest
from sagerank_inference.engine import Engine
from sagerank_inference.settings import Settings

from ..local_aws.launch import ACCOUNT, REGION, ROOT, running
from ..local_aws.registry import reason

pytestmark = pytest.mark.e2e

SECONDS = 900  # of one command: the machine may be busy
PAGE = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
COMMANDS = {
    line.split(" #")[0].strip() for line in PAGE.splitlines() if line.startswith(("sagerank ", "npx cdk "))
}


class Aws:
    """The local AWS, and people at its command lines."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self.environment, self.folder = environment, folder
        self.inference = ROOT / "inference"
        self.said = ""  # by the last command, on standard error
        archive("micro", folder / "model.tar.gz")

    def client(self, service: str) -> Any:
        own = self.environment
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=own["AWS_ENDPOINT_URL"],
            aws_access_key_id=own["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=own["AWS_SECRET_ACCESS_KEY"],
        )

    def start(self, *words: str, cwd: Path, method: str = "direct") -> subprocess.Popen[str]:
        """A command in a process group of its own."""
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        own = {
            "PATH": path,
            "CDK_METHOD": method,
            "CDK_VALIDATION": "false",
            "NODE_NO_WARNINGS": "1",
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "PYTHONPATH": os.pathsep.join(
                str(room) for room in (self.inference, *(ROOT / name for name in (".", "cost", "infra")))
            ),
        }
        return subprocess.Popen(
            words,
            cwd=cwd,
            env={**os.environ, **self.environment, **own},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, cwd: Path = ROOT, expect: int = 0, method: str = "direct") -> str:
        """Standard output of a command."""
        process = self.start(*words, cwd=cwd, method=method)
        try:
            out, err = process.communicate(timeout=SECONDS)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.communicate()
            raise
        assert process.returncode == expect, (
            f"{shlex.join(words)}: exit code {process.returncode}\n{out[-3000:]}\n{err[-3000:]}"
        )
        self.said = err
        return out + (err if "npx" in words[0] else "")

    def sagerank(self, *words: str, expect: int = 0) -> str:
        return self.run(sys.executable, "-m", "sagerank.cli", *words, cwd=self.folder, expect=expect)

    def documented(self, command: str, *more: str) -> str:
        """Run a command line that docs/deploy.md has, with nothing but `more` added."""
        assert command in COMMANDS, f"docs/deploy.md no longer says: {command}"
        program, *words = shlex.split(command)
        return self.sagerank(*words, *more) if program == "sagerank" else self.run("npx", *words, *more)

    def rerank(self, name: str, **arguments: str) -> list[Any]:
        """Logits of the golden pairs' first query, by boto3."""
        pair = GOLDEN[0]
        body = json.dumps({"query": pair.query, "texts": [pair.document], "raw_scores": True}).encode()
        answer = self.client("sagemaker-runtime").invoke_endpoint(
            EndpointName=name, ContentType="application/json", Body=body, **arguments
        )
        found: list[Any] = json.loads(answer["Body"].read())
        return found

    def docker(self) -> list[str]:
        """What was asked of Docker so far, in order: build, tag, push and so on."""
        log = Path(self.environment["LOCAL_AWS_FOLDER"]) / "docker.log"
        return [line.split()[0] for line in log.read_text(encoding="utf-8").splitlines()]

    def image(self) -> str:
        """The digest that the endpoint runs."""
        found = self.client("sagemaker").describe_endpoint(EndpointName="sagerank")
        return str(found["ProductionVariants"][0]["DeployedImages"][0]["ResolvedImage"])

    def nothing_is_left(self) -> None:
        sagemaker = self.client("sagemaker")
        assert sagemaker.list_endpoints()["Endpoints"] == []
        assert sagemaker.list_endpoint_configs()["EndpointConfigs"] == []
        assert sagemaker.list_models()["Models"] == []
        assert sagemaker.list_inference_components()["InferenceComponents"] == []
        assert (
            self.client("application-autoscaling").describe_scalable_targets(ServiceNamespace="sagemaker")[
                "ScalableTargets"
            ]
            == []
        )
        assert self.client("cloudwatch").describe_alarms()["MetricAlarms"] == []
        # SageMaker makes the log of all transform jobs of an account, which outlives them.
        groups = {group["logGroupName"] for group in self.client("logs").describe_log_groups()["logGroups"]}
        assert groups <= {"/aws/sagemaker/TransformJobs"}
        assert [bucket["Name"] for bucket in self.client("s3").list_buckets()["Buckets"]] == [
            f"cdk-hnb659fds-assets-{ACCOUNT}-{REGION}"
        ]
        stacks = self.client("cloudformation").describe_stacks()["Stacks"]
        assert [stack["StackName"] for stack in stacks] == ["CDKToolkit"]


GOLDEN = Manifest.read(MICRO).golden


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Aws]:
    if shutil.which("npx") is None:
        pytest.fail(
            "The CDK's command line needs Node.js: install it, or run the other tests with `make test`."
        )
    if not (ROOT / "node_modules/.bin/cdk").is_file():
        subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund", "--no-update-notifier"],
            cwd=ROOT,
            check=True,
            timeout=SECONDS,
        )
    folder = tmp_path_factory.mktemp("aws")
    why = reason()
    said = f"processes of this source: {why}" if why else "containers of the image"
    capture = request.config.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():
        sys.stdout.write(f"\nEndpoints are {said}\n")
    with running(folder / "log", containers=not why) as environment:
        aws = Aws(environment, folder)
        # From another folder: at the repository's root the CDK would ask the app, which wants a configuration.
        aws.run(str(ROOT / "node_modules/.bin/cdk"), "bootstrap", f"aws://{ACCOUNT}/{REGION}", cwd=folder)
        yield aws


@pytest.fixture(autouse=True)
def clean(aws: Aws) -> Iterator[None]:
    yield
    aws.nothing_is_left()


def test_the_cdks_own_words_from_bootstrap_to_destroy(aws: Aws) -> None:
    """Real time on CPU, without `sagerank deploy` in between."""
    artefact = ("-c", f"artefact={aws.folder / 'model.tar.gz'}")
    words = "-c model=micro -c mode=realtime -c instance=ml.c7i.large"
    aws.documented(f"npx cdk deploy --all {words}", *artefact, "--require-approval", "never")

    found = aws.client("sagemaker").describe_endpoint(EndpointName="sagerank")
    assert found["EndpointStatus"] == "InService"
    assert aws.rerank("sagerank")[0]["score"] == pytest.approx(GOLDEN[0].logit, abs=1e-3)
    targets = aws.client("application-autoscaling").describe_scalable_targets(ServiceNamespace="sagemaker")[
        "ScalableTargets"
    ]
    assert [target["ResourceId"] for target in targets] == ["endpoint/sagerank/variant/AllTraffic"]
    assert targets[0]["MinCapacity"] == 1
    alarms = {
        alarm["AlarmName"]: alarm for alarm in aws.client("cloudwatch").describe_alarms()["MetricAlarms"]
    }
    assert any(
        alarm["MetricName"] == "ModelLatency" and alarm["ExtendedStatistic"] == "p99"
        for alarm in alarms.values()
        if "MetricName" in alarm
    )
    model = aws.client("sagemaker").list_models()["Models"][0]["ModelName"]
    described = aws.client("sagemaker").describe_model(ModelName=model)
    assert described["EnableNetworkIsolation"] is True
    assert described["PrimaryContainer"]["ModelDataUrl"].endswith(".tar.gz")

    status = json.loads(aws.sagerank("status", "--json"))
    assert status["endpoint"]["variants"][0]["instance"] == "ml.c7i.large"
    assert status["alarms"].keys() == alarms.keys()
    assert "USD" in status["estimate"]
    assert json.loads(aws.sagerank("verify", "--json"))["ok"] is True
    changes = aws.run("npx", "cdk", "diff", *shlex.split(words), *artefact, method="template")
    assert "no differences" in changes
    aws.run("npx", "cdk", "destroy", "--all", "--force", *shlex.split(words), *artefact)


def test_an_image_is_built_pushed_and_run_when_its_files_have_changed_and_only_then(aws: Aws) -> None:
    if why := reason():
        pytest.skip(why)
    words = (
        *("npx", "cdk", "deploy", "--all", "--require-approval", "never"),
        *shlex.split("-c model=micro -c mode=realtime -c instance=ml.c7i.large"),
        *("-c", f"artefact={aws.folder / 'model.tar.gz'}"),
    )
    aws.run(*words)
    first, done = aws.image(), aws.docker()
    aws.run(*words)
    assert (aws.image(), aws.docker()) == (first, done)

    changed = aws.folder / "inference"
    shutil.copytree(ROOT / "inference", changed, ignore=shutil.ignore_patterns("__pycache__"))
    with (changed / "sagerank_inference/routes.py").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    aws.inference = changed
    try:
        aws.run(*words)
    finally:
        aws.inference = ROOT / "inference"
    assert aws.image() != first
    more = aws.docker()[len(done) :]
    assert [word for word in more if word in ("login", "build", "tag", "push")] == [
        "login",
        "build",
        "tag",
        "push",
    ]
    assert aws.rerank("sagerank")[0]["score"] == pytest.approx(GOLDEN[0].logit, abs=1e-3)
    assert json.loads(aws.sagerank("destroy", "--yes", "--json"))["ok"] is True


@pytest.mark.parametrize(
    ("command", "instance"),
    [
        ("sagerank deploy --model micro --mode realtime --instance ml.g5.xlarge --yes", "ml.g5.xlarge"),
        ("sagerank deploy --model micro --mode serverless --yes", ""),
        (
            "sagerank deploy --model micro --mode scale-to-zero --instance ml.c7i.xlarge --yes",
            "ml.c7i.xlarge",
        ),
    ],
    ids=["gpu", "serverless", "scale-to-zero"],
)
def test_deploy_verifies_and_destroy_leaves_nothing(aws: Aws, command: str, instance: str) -> None:
    verdict = json.loads(aws.documented(command, "--json"))
    assert verdict["ok"] is True
    assert verdict["config"] == verdict["wanted"]
    found = json.loads(aws.sagerank("status", "--json"))["endpoint"]
    assert (found["status"], found["variants"][0]["instance"]) == ("InService", instance)
    if found["components"]:
        answer = aws.rerank("sagerank", InferenceComponentName=found["components"][0]["name"])
    else:
        answer = aws.rerank("sagerank")
    # In bfloat16 where there is a GPU; the local AWS has the backend of the mode, and no GPU.
    assert answer[0]["score"] == pytest.approx(GOLDEN[0].logit, abs=0.1)
    assert json.loads(aws.sagerank("destroy", "--yes", "--json")) | {"checked": 0} == {
        "kept": [],
        "left": [],
        "unchecked": [],
        "checked": 0,
        "ok": True,
    }


def test_a_cascade_is_deployed_as_one_model_and_ranks_as_the_engine_does(aws: Aws) -> None:
    artefact = aws.folder / "cascade.tar.gz"
    archive("micro>random:tiny@2", artefact, cache=aws.folder / "cache")
    command = "deploy --model micro>tiny@2 --mode realtime --instance ml.c7i.large --yes --json -c settings.max_tokens=600"
    verdict = json.loads(aws.sagerank(*shlex.split(command), "-c", f"artefact={artefact}"))
    assert verdict["ok"] is True
    assert verdict["judged"][0]["model"] == "sagerank-micro>random:tiny@2"

    texts = [
        "Mars is red.",
        "Bread is baked.",
        "Iron oxide colours the dust of Mars. " * 200,  # several windows
        "",
        "Venus is hot.",
    ]
    body = json.dumps({"query": "why is mars red", "texts": texts, "raw_scores": True}).encode()
    answer = aws.client("sagemaker-runtime").invoke_endpoint(
        EndpointName="sagerank", ContentType="application/json", Body=body
    )
    found = {item["index"]: item["score"] for item in json.loads(answer["Body"].read())}
    folder = aws.folder / "cascade"
    folder.mkdir()
    unpack(artefact, folder)
    own = Engine.load(folder, Settings(model_dir=folder, threads=1, max_tokens=600)).score(
        "why is mars red", texts
    )
    assert [found[index] for index in range(len(texts))] == pytest.approx(own.values, abs=1e-4)
    (model,) = aws.client("sagemaker").list_models()["Models"]
    tags = aws.client("sagemaker").list_tags(ResourceArn=model["ModelArn"])["Tags"]
    assert {"Key": "sagerank:model", "Value": "micro/tiny@2"} in tags

    assert json.loads(aws.sagerank("destroy", "--yes", "--json"))["ok"] is True


def test_an_asynchronous_endpoint_answers_through_s3(aws: Aws) -> None:
    verdict = json.loads(
        aws.documented("sagerank deploy --model micro --mode async --instance ml.c7i.large --yes", "--json")
    )
    assert verdict["ok"] is True
    bucket = next(
        each["Name"]
        for each in aws.client("s3").list_buckets()["Buckets"]
        if not each["Name"].startswith("cdk-")
    )
    s3 = aws.client("s3")
    s3.put_object(
        Bucket=bucket,
        Key="input/one.json",
        Body=json.dumps({"query": "rain", "documents": ["clouds", "cats"]}),
    )
    sent = aws.client("sagemaker-runtime").invoke_endpoint_async(
        EndpointName="sagerank", InputLocation=f"s3://{bucket}/input/one.json", ContentType="application/json"
    )
    out_bucket, _, key = sent["OutputLocation"].removeprefix("s3://").partition("/")
    s3.get_waiter("object_exists").wait(
        Bucket=out_bucket, Key=key, WaiterConfig={"Delay": 1, "MaxAttempts": 120}
    )
    assert len(json.loads(s3.get_object(Bucket=out_bucket, Key=key)["Body"].read())["results"]) == 2
    # The bucket is not empty; destroy empties it first.
    assert json.loads(aws.sagerank("destroy", "--yes", "--json"))["ok"] is True


def test_a_batch_job_scores_a_file(aws: Aws) -> None:
    aws.documented("sagerank deploy --model micro --mode batch --instance ml.c7i.xlarge --yes")
    lines = [
        {"query": "rain", "documents": ["clouds bring rain", "cats sleep"]},
        {"query": "cats", "documents": ["clouds", "cats"]},
    ]
    (aws.folder / "requests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = json.loads(
        aws.documented(
            "sagerank transform --instance ml.c7i.xlarge --input requests.jsonl --output answers", "--json"
        )
    )
    assert done["status"] == "Completed"
    job = aws.client("sagemaker").describe_transform_job(TransformJobName=done["job"])
    assert ":kms:" in job["TransformResources"]["VolumeKmsKeyId"]
    answers = [
        json.loads(line) for line in (aws.folder / "answers/requests.jsonl.out").read_text().splitlines()
    ]
    assert [len(answer["results"]) for answer in answers] == [2, 2]
    assert json.loads(aws.sagerank("destroy", "--yes", "--json"))["ok"] is True


def test_the_difference_is_shown_written_for_a_reviewer_and_deployed_as_it_was_reviewed(aws: Aws) -> None:
    words = ("deploy", "--model", "micro", "--mode", "batch", "--instance", "ml.c7i.xlarge")
    plan = ("--plan", "plan.tar.gz")
    aws.sagerank(*words, "-c", "data.read=s3://theirs/in/", *plan)
    assert len(aws.client("cloudformation").describe_stacks()["Stacks"]) == 1  # the CDK's own
    with tarfile.open(aws.folder / "plan.tar.gz") as opened:
        text = opened.extractfile("DIFFERENCE.md").read().decode()  # type: ignore[union-attr]
    assert "\nDeployed now: nothing\n" in text
    assert "│ ecr:BatchGetImage " in text
    assert "│ Everyone (IPv4) │" in text  # of the security group
    assert re.search(r"\[\+\] AWS::SageMaker::Model \S*Model Model\n", text)

    (aws.folder / "cache").rename(aws.folder / "elsewhere")  # all that is needed is in the file
    aws.sagerank("deploy", "--apply", "plan.tar.gz", "--yes")
    assert "Deployed now: nothing" in aws.said
    assert "│ ecr:BatchGetImage " in " ".join(aws.said.split())
    aws.sagerank("deploy", "--apply", "plan.tar.gz", "--yes", expect=2)
    assert "is not what the difference was shown against" in aws.said

    refused = aws.sagerank(*words, "-c", "network.cidr=10.90.0.0/22", *plan, expect=2)
    assert "Nothing was changed." in refused + aws.said
    change = (
        "-c",
        "budget.enabled=false",
        "-c",
        "settings.max_tokens=2048",
        "-c",
        "traffic.requests_per_second=0.2",
    )
    said = " ".join(aws.sagerank(*words, *change, *plan).split())
    assert re.search(r"Deployed now: USD \S+ a month; the new estimate is USD \S+ more", said)
    with tarfile.open(aws.folder / "plan.tar.gz") as opened:
        text = opened.extractfile("DIFFERENCE.md").read().decode()  # type: ignore[union-attr]
    assert re.search(r"\[-\] AWS::Budgets::Budget \S*Budget", text)
    assert re.search(r"\[~\] AWS::SageMaker::Model \S*Model Model replace", text)
    assert re.search(r"│ - │ \S*:s3:::theirs/in/\* +│ Allow +│ s3:GetObject ", text)

    aws.sagerank(*words, "-c", "data.read=s3://theirs/in/", "-c", "batch.days=5", "--yes")
    assert re.search(r"\[~\] AWS::S3::Bucket \S*Data", aws.said)
    aws.sagerank("deploy", "--apply", "plan.tar.gz", "--yes", expect=2)
    assert "somebody deployed meanwhile" in aws.said
    assert json.loads(aws.sagerank("destroy", "--yes", "--json"))["ok"] is True


def test_a_plan_is_for_one_account_and_region(aws: Aws) -> None:
    words = ("deploy", "--model", "micro", "--mode", "serverless")
    aws.sagerank(*words, "--plan", "plan.tar.gz")
    for more, sentence in (
        (("--region", "eu-west-1"), "was planned for us-east-1"),
        (("--model", "tiny"), "--apply deploys what its file says"),
        (("-c", "log_days=7"), "--apply deploys what its file says"),
        (("--plan", "other"), "--apply deploys what its file says"),
    ):
        aws.sagerank("deploy", "--apply", "plan.tar.gz", "--yes", *more, expect=2)
        assert sentence in aws.said
    own, aws.environment = aws.environment, {**aws.environment, "AWS_ACCESS_KEY_ID": _of_another_account(aws)}
    try:
        aws.sagerank("deploy", "--apply", "plan.tar.gz", "--yes", expect=2)
    finally:
        aws.environment = own
    assert "account is 123456789012, and the credentials are of 111122223333" in aws.said


def _of_another_account(aws: Aws) -> str:
    """An access key of it: moto knows an account by the role that was assumed."""
    role = {"RoleArn": "arn:aws:iam::111122223333:role/other", "RoleSessionName": "other"}
    return str(aws.client("sts").assume_role(**role)["Credentials"]["AccessKeyId"])


def test_a_bootstrap_of_ones_own_and_stacks_that_are_protected(aws: Aws) -> None:
    """What a custom qualifier names is used and nothing else; what is protected goes when that is said."""
    own = ["-c", "bootstrap_qualifier=ours", "-c", "termination_protection=true"]
    deploy = ["deploy", "--model", "micro", "--mode", "serverless", "--yes", *own]
    aws.sagerank(*deploy, expect=2)
    aws.sagerank(*deploy, "--bootstrap")
    formation, s3 = aws.client("cloudformation"), aws.client("s3")
    (made,) = formation.describe_stacks(StackName="sagerank-endpoint")["Stacks"]
    assert f"role/cdk-ours-cfn-exec-role-{ACCOUNT}" in made["RoleARN"]
    assert made["EnableTerminationProtection"] is True
    aws.sagerank("destroy", "--yes", expect=2)
    assert json.loads(aws.sagerank("destroy", "--yes", "--unprotect", "--json"))["ok"] is True
    bucket = f"cdk-ours-assets-{ACCOUNT}-{REGION}"
    stored = s3.list_object_versions(Bucket=bucket)
    assert stored["Versions"]
    for each in (*stored["Versions"], *stored.get("DeleteMarkers", ())):
        s3.delete_object(Bucket=bucket, Key=each["Key"], VersionId=each["VersionId"])
    formation.delete_stack(StackName="CDKToolkit-ours")
    if bucket in [each["Name"] for each in s3.list_buckets()["Buckets"]]:
        s3.delete_bucket(Bucket=bucket)  # the CDK's template keeps it


def test_a_wrong_value_creates_nothing(aws: Aws) -> None:
    aws.sagerank(
        "deploy",
        "--model",
        "micro",
        "--mode",
        "serverless",
        "-c",
        "serverless.memory_mb=3000",
        "--yes",
        expect=2,
    )
    aws.sagerank(
        "deploy", "--model", "micro", "--mode", "realtime", "--instance", "ml.c7i.lrge", "--yes", expect=2
    )
