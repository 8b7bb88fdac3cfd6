"""The SageMaker training job: its request, its archive run as its container runs it, and what it installs."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.moto_api._internal import moto_api_backend
from moto.server import ThreadedMotoServer
from sagerank_inference.artefact import Manifest

from sagerank.cli import main
from sagerank.distillation import DistillationError, training_job
from sagerank.distillation.recipe import Recipe
from sagerank.distillation.training_job import Job, launch
from sagerank.evaluation import SAMPLE

from ...conftest import ROOT, run_python
from .conftest import COMMAND


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-central-1",
    }.items():
        monkeypatch.setenv(name, value)
    moto_api_backend.reset()  # its state is the process's
    boto3.client("s3").create_bucket(
        Bucket="ours", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    yield
    server.stop()


def test_a_training_job_carries_all_it_needs(
    aws: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    role = "arn:aws:iam::123456789012:role/training"
    command = [
        *COMMAND,
        "--sagemaker",
        "--role",
        role,
        "--bucket",
        "ours",
        "--image",
        "image:1",
        "--hours",
        "2",
    ]
    assert main(command) == 0
    name = capsys.readouterr().out.split()[2]
    job = boto3.client("sagemaker").describe_training_job(TrainingJobName=name)
    assert job["EnableManagedSpotTraining"] is True
    assert job["StoppingCondition"] == {"MaxRuntimeInSeconds": 7200, "MaxWaitTimeInSeconds": 14400}
    assert (
        job["CheckpointConfig"]["LocalPath"]
        == json.loads(job["HyperParameters"]["work"])
        == "/opt/ml/checkpoints"
    )
    s3 = boto3.client("s3")
    keys = {item["Key"] for item in s3.list_objects_v2(Bucket="ours")["Contents"]}
    for channel in job["InputDataConfig"]:
        prefix = channel["DataSource"]["S3DataSource"]["S3Uri"].removeprefix("s3://ours/")
        assert any(key.startswith(prefix) for key in keys), channel["ChannelName"]
    uri = json.loads(job["HyperParameters"]["sagemaker_submit_directory"])
    body = s3.get_object(Bucket="ours", Key=uri.removeprefix("s3://ours/"))["Body"].read()
    # What the container does: unpack, and start the program with the hyperparameters as options. Here its paths lead to the channels.
    code = tmp_path / "code"
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        archive.extractall(code, filter="data")
    recipe = json.loads((code / "recipe.json").read_text())
    assert recipe["passages"] == "/opt/ml/input/data/passages/passages.jsonl.gz"
    assert recipe["gate"] == ["/opt/ml/input/data/gate0"]
    assert recipe["teachers"] == ["micro"], "a model the job has itself stays a name"
    local = recipe | {
        "passages": str(SAMPLE / "passages.jsonl.gz"),
        "queries": str(SAMPLE / "queries.jsonl.gz"),
        "gate": [str(SAMPLE / "heldout")],
    }
    (code / "recipe.json").write_text(
        json.dumps(local | {"limit": 20, "steps": 2, "gate_queries": 3, "retention": 0.0})
    )
    options = {
        key: json.loads(value)
        for key, value in job["HyperParameters"].items()
        if not key.startswith("sagemaker_")
    }
    options |= {"work": str(tmp_path / "work"), "output": str(tmp_path / "model")}
    program = json.loads(job["HyperParameters"]["sagemaker_program"])
    started = [
        sys.executable,
        program,
        *(part for key, value in options.items() for part in (f"--{key}", str(value))),
    ]
    done = subprocess.run(started, cwd=code, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    Manifest.read(tmp_path / "model").verify(tmp_path / "model")


def test_what_the_job_installs_is_what_its_code_imports() -> None:
    """Of the packages that `distil` needs here the container gets all but PyTorch, which it has, and what only the
    other commands import.
    """
    root = ROOT
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    stated = {line for name in ("client", "cpu", "build", "eval", "eval-hf") for line in extras[name]}
    assert set(training_job._REQUIREMENTS.split()) <= stated
    others = {"ir_datasets", "matplotlib", "plotext", "prometheus_client", "rich", "starlette", "uvicorn"}
    done = run_python(
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({sorted(others)}))\n"
        "import sagerank.distillation.__main__, sagerank.distillation.distil, sagerank.distillation.gate, sagerank.distillation.card, tqdm"
    )
    assert done.returncode == 0, done.stderr
    installed = {re.split("[<>=]", line)[0].replace("-", "_") for line in training_job._REQUIREMENTS.split()}
    wanted = {re.split("[<>=]", line)[0].replace("-", "_") for line in stated if "[" not in line}
    assert wanted - installed == others | {"torch"}


def test_a_teacher_that_answers_over_a_network_stays_where_it_is() -> None:
    passages, queries = str(SAMPLE / "passages.jsonl.gz"), str(SAMPLE / "queries.jsonl.gz")
    teachers = ("http://10.0.0.7:8080=2", "endpoint:ranker@eu-west-1", "hf:BAAI/bge-reranker-base")
    moved, folders = training_job._relocate(Recipe(passages=passages, queries=queries, teachers=teachers))
    assert moved.teachers == teachers
    assert folders.keys() == {"passages", "queries"}
    with pytest.raises(DistillationError, match="takes no cascade"):
        training_job._relocate(Recipe(passages=passages, queries=queries, teachers=("micro>base@8",)))


def test_a_missing_path_is_found_before_anything_is_created(aws: None, tmp_path: Path) -> None:
    recipe = Recipe(passages=str(tmp_path / "none"), queries="q", teachers=("micro",))
    with pytest.raises(DistillationError, match="passages: .*none does not exist"):
        launch(recipe, Job(role="r", bucket="ours", image="i"), "x", session=boto3.Session())
    assert "Contents" not in boto3.client("s3").list_objects_v2(Bucket="ours")
    assert boto3.client("sagemaker").list_training_jobs()["TrainingJobSummaries"] == []
