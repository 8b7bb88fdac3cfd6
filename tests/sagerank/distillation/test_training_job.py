"""The SageMaker training job: its request, its archive run as its container runs it, and what it installs."""

from __future__ import annotations

import ast
import dataclasses
import importlib.metadata
import io
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.moto_api._internal import moto_api_backend
from moto.server import ThreadedMotoServer
from packaging.requirements import Requirement

from sagerank.cli import main
from sagerank.distillation import DistillationError, training_job
from sagerank.distillation.claim import settle
from sagerank.distillation.corpus import text_files
from sagerank.distillation.recipe import Recipe
from sagerank.distillation.training_job import Job, launch
from sagerank.evaluation import SAMPLE
from sagerank_inference import quiet
from sagerank_inference.artefact import Manifest

from ...conftest import ROOT, alone, needs
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


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The unpacked archive of a job."""
    recipe = Recipe(passages="p", queries="q", teachers=("micro",))
    with tarfile.open(fileobj=io.BytesIO(training_job._source(recipe))) as packed:
        packed.extractall(tmp_path / "archive", filter="data")
    return tmp_path / "archive"


def third_party(folder: Path, entry: str) -> set[str]:
    """Distributions that `entry` and the modules of `folder` behind it import, installed here or not."""
    owners = {name: [name] for name in ("sentence_transformers", "torch", "transformers")}
    owners |= importlib.metadata.packages_distributions()
    result, reached, waiting = set[str](), set[str](), [entry]
    while waiting:
        name = waiting.pop()
        path = next(
            filter(
                Path.is_file,
                [
                    folder.joinpath(*name.split("."), "__init__.py"),
                    folder.joinpath(*name.split(".")).with_suffix(".py"),
                ],
            ),
            None,
        )
        if path is None or name in reached:
            continue
        reached.add(name)
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
                source = ".".join([*above, *filter(None, [node.module])])
                imported = [source, *(f"{source}.{alias.name}" for alias in node.names)]
            else:
                continue
            for target in imported:
                parts = target.split(".")
                waiting += [".".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
                if not (folder / parts[0]).is_dir() and parts[0] in owners:
                    result.add(re.sub("[-_.]+", "-", owners[parts[0]][0]).lower())
    return result


def installed(names: Sequence[str], target: Path) -> Path:
    """A folder of these distributions and all that they require, and nothing else, as links to those of this environment."""
    target.mkdir()
    waiting, seen = [(Requirement(name), "") for name in names], set[str]()
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        distribution = importlib.metadata.distribution(requirement.name)
        waiting += [
            (Requirement(line), extra)
            for line in distribution.requires or ()
            for extra in ("", *requirement.extras)
        ]
        for name in {path.parts[0] for path in distribution.files or ()} - {"..", "__pycache__"}:
            link = target / name
            if not link.exists():
                link.symlink_to(str(distribution.locate_file(name)))
    return target


def test_a_training_job_carries_all_it_needs(
    aws: None, capsys: pytest.CaptureFixture[str], tmp_path: Path, hostile: Path, documents: Path
) -> None:
    role = "arn:aws:iam::123456789012:role/training"
    options = ["--role", role, "--bucket", "ours", "--image", "image:1", "--hours", "2"]
    assert main([*COMMAND, "--sagemaker", *options]) == 0
    name = capsys.readouterr().out.split()[2]
    job = boto3.client("sagemaker").describe_training_job(TrainingJobName=name)
    assert job["EnableManagedSpotTraining"] is True
    assert job["StoppingCondition"] == {"MaxRuntimeInSeconds": 7200, "MaxWaitTimeInSeconds": 14400}
    given = {key: json.loads(value) for key, value in job["HyperParameters"].items()}
    assert job["CheckpointConfig"]["LocalPath"] == given["work"] == "/opt/ml/checkpoints"
    s3 = boto3.client("s3")
    keys = {item["Key"] for item in s3.list_objects_v2(Bucket="ours")["Contents"]}
    for channel in job["InputDataConfig"]:
        prefix = channel["DataSource"]["S3DataSource"]["S3Uri"].removeprefix("s3://ours/")
        assert any(key.startswith(prefix) for key in keys), channel["ChannelName"]
    uri = given["sagemaker_submit_directory"]
    body = s3.get_object(Bucket="ours", Key=uri.removeprefix("s3://ours/"))["Body"].read()
    # What the container does: unpack, install, and start the program with the hyperparameters as options. Here its
    # paths lead to the channels, and the folder that it runs in holds a user's files.
    code = tmp_path / "code"
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        archive.extractall(code, filter="data")
    assert not (code / "sagerank/bench").exists()
    recipe = json.loads((code / "recipe.json").read_text(encoding="utf-8"))
    assert recipe["passages"] == "/opt/ml/input/data/passages/passages.jsonl.gz"
    assert recipe["gate"] == ["/opt/ml/input/data/gate0"]
    assert recipe["teachers"] == ["micro"], "a model the job has itself stays a name"
    local = recipe | {
        "passages": str(SAMPLE / "passages.jsonl.gz"),
        "queries": str(SAMPLE / "queries.jsonl.gz"),
        "gate": [str(SAMPLE / "heldout")],
    }
    (code / "recipe.json").write_text(
        json.dumps(local | {"limit": 20, "steps": 2, "gate_queries": 3, "retention": 0.0}), encoding="utf-8"
    )
    given |= {"recipe": code / "recipe.json", "work": tmp_path / "work", "output": tmp_path / "model"}
    started = [sys.executable, "-S", "-P", str(code / given["sagemaker_program"])]
    for key, value in given.items():
        started += [] if key.startswith("sagemaker_") else [f"--{key}", str(value)]
    packages = installed(
        ["torch", *(code / "requirements.txt").read_text(encoding="utf-8").split()], tmp_path / "site"
    )
    environment = {**alone(), "PYTHONPATH": os.pathsep.join(map(str, (code, packages)))}

    def carried_out() -> None:
        done = subprocess.run(
            started, cwd=hostile, env=environment, capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == 0, done.stderr
        Manifest.read(tmp_path / "model").verify(tmp_path / "model")
        assert "ml.g5.xlarge in eu-central-1" in (tmp_path / "work/report.html").read_text(encoding="utf-8")

    carried_out()
    # The same container with a person's own documents, without queries and judgements.
    shutil.rmtree(tmp_path / "work")
    own = recipe | {"passages": str(documents), "queries": "", "gate": [], "made_queries": 60, "heldout": 5}
    (code / "recipe.json").write_text(json.dumps(own | {"steps": 2, "retention": 0.0}), encoding="utf-8")
    carried_out()
    assert "held-out queries" in (tmp_path / "model/README.md").read_text(encoding="utf-8")


@needs("torch")
def test_awss_container_is_told_to_report_nothing(aws: None) -> None:
    """As the request says it: moto forgets the job's variables."""
    session, sent = boto3.Session(), dict[str, Any]()
    session.events.register(
        "provide-client-params.sagemaker.CreateTrainingJob", lambda params, **_: sent.update(params)
    )
    text = str(SAMPLE / "passages.jsonl.gz")
    recipe = Recipe(passages=text, queries=text, teachers=("micro",))
    launch(
        recipe, Job(role="arn:aws:iam::123456789012:role/r", bucket="ours", image="i"), "x", session=session
    )
    assert sent["Environment"] == quiet.CONTAINER


def test_what_the_job_installs_is_what_its_code_imports(archive: Path) -> None:
    """Every package that the archive's code imports, wherever the import stands in it, and no other."""
    installed = {Requirement(line).name: line for line in training_job._REQUIREMENTS.split()}
    brought = {"botocore", "cycler", "urllib3"}  # by boto3 and matplotlib
    assert set(installed) | {"torch"} == third_party(archive, "sagerank.distillation.__main__") - brought
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    stated = {*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())}
    for line in stated:
        assert installed.get(Requirement(line).name, line) == line, "the version that pyproject.toml asks for"


def test_a_teacher_that_answers_over_a_network_stays_where_it_is() -> None:
    passages, queries = str(SAMPLE / "passages.jsonl.gz"), str(SAMPLE / "queries.jsonl.gz")
    teachers = ("http://10.0.0.7:8080=2", "endpoint:ranker@eu-west-1", "hf:BAAI/bge-reranker-base")
    moved, folders = training_job._relocate(Recipe(passages=passages, queries=queries, teachers=teachers))
    assert moved.teachers == teachers
    assert folders.keys() == {"passages", "queries"}
    with pytest.raises(DistillationError, match="takes no cascade"):
        training_job._relocate(Recipe(passages=passages, queries=queries, teachers=("micro>base@8",)))


def test_own_documents_go_up_without_what_lies_beside_them_and_with_what_was_done(
    aws: None, tmp_path: Path, documents: Path
) -> None:
    (documents / "secret.key").write_text("not text to learn from")
    (documents / ".git").mkdir()
    (documents / ".git" / "note.md").write_text("hidden")
    work = tmp_path / "work"
    recipe = Recipe(passages=str(documents), teachers=("micro",), student="tiny", made_queries=60, heldout=5)
    work.mkdir()
    settle(work, recipe)
    (work / "candidates.jsonl").write_text("mined elsewhere")
    job = Job(role="arn:aws:iam::123456789012:role/r", bucket="ours", image="i")
    name = launch(recipe, job, "x", session=boto3.Session(), licence="mit", work=work)
    keys = [item["Key"] for item in boto3.client("s3").list_objects_v2(Bucket="ours")["Contents"]]
    sent = {key.partition("/input/passages/")[2] for key in keys} - {""}
    assert sent == {path.relative_to(documents).as_posix() for path in text_files(documents)}
    made = boto3.client("sagemaker").describe_training_job(TrainingJobName=name)
    checkpoints = made["CheckpointConfig"]["S3Uri"].removeprefix("s3://ours/")
    assert f"{checkpoints}/candidates.jsonl" in keys
    assert json.loads(made["HyperParameters"]["licence"]) == "mit"
    with pytest.raises(DistillationError, match="begun with another steps"):
        launch(dataclasses.replace(recipe, steps=7), job, "x", session=boto3.Session(), work=work)


def test_a_missing_path_is_found_before_anything_is_created(aws: None, tmp_path: Path) -> None:
    recipe = Recipe(passages=str(tmp_path / "none"), queries="q", teachers=("micro",))
    with pytest.raises(DistillationError, match="passages: .*none does not exist"):
        launch(recipe, Job(role="r", bucket="ours", image="i"), "x", session=boto3.Session())
    assert "Contents" not in boto3.client("s3").list_objects_v2(Bucket="ours")
    assert boto3.client("sagemaker").list_training_jobs()["TrainingJobSummaries"] == []
