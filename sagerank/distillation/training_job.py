"""The same distillation as a SageMaker training job: script mode on AWS's PyTorch container, managed spot, checkpoints in S3.

The work folder is the checkpoint folder, so an interrupted spot job goes on with what it had mined, scored and
trained, and a job goes on with what a machine had done, whose work folder it is given; the output folder is the model
folder, so the job's model.tar.gz is an artefact that can be deployed.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sagerank
import sagerank_cost
import sagerank_inference
from sagerank_inference import quiet

from . import DistillationError
from .claim import claimed, settle
from .corpus import text_files
from .recipe import Recipe

CHANNELS = "/opt/ml/input/data"
PREFIX = "sagerank/distil"
VOLUME_GB = 50
# sagerank_cost counts the operations of a model.
_PACKAGES = (sagerank, sagerank_cost, sagerank_inference)
# What of them a job never imports: measuring, deploying to AWS, pictures for --plot.
_LEFT_OUT = (
    "sagerank/bench/",
    "sagerank/distillation/draw.py",
    "sagerank/evaluation/draw.py",
    "sagerank/operate/",
    "sagerank/sagemaker/",
)
# What the container lacks beside its own PyTorch. A test holds it against the imports and pyproject.toml.
_REQUIREMENTS = """\
bm25s>=0.3
boto3>=1.44
httpx2>=2.16
huggingface-hub>=1.0
ir-datasets>=0.5
ir-measures>=0.4
matplotlib>=3.10
numpy>=2.2
onnx>=1.23
onnxruntime>=1.32
pystemmer>=3.0
safetensors>=0.8
scipy>=1.15
sentence-transformers>=5.0
tokenizers>=0.23
tqdm>=4.66
"""
_ENTRY = b"import sys\n\nfrom sagerank.distillation.__main__ import main\n\nsys.exit(main())\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Where and how the job runs."""

    role: str
    bucket: str  # everything it reads and writes in S3 lies in PREFIX there
    image: str  # AWS's PyTorch training image of the region, or one's own
    instance: str = "ml.g5.xlarge"
    hours: int = 12
    spot: bool = True
    subnets: Sequence[str] = ()
    security_groups: Sequence[str] = ()
    kms_key: str = ""


def launch(
    recipe: Recipe,
    job: Job,
    name: str,
    *,
    session: Any,
    licence: str = "apache-2.0",
    work: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> str:
    """Upload text, models and code, and create the job; return its name.

    session: a boto3 session. licence: of the weights, in the card. work: a folder that this recipe was begun in, with which
    the job goes on. Raises DistillationError before anything is created where a path is missing, or `work` is another recipe's.
    """
    remote, folders = _relocate(recipe)
    if work is not None and (work / "recipe.json").exists():
        with claimed(work):
            settle(work, recipe)
    job_name = time.strftime("sagerank-distil-%Y%m%d-%H%M%S")
    base = f"{PREFIX}/{job_name}"
    s3, sagemaker = session.client("s3"), session.client("sagemaker")
    encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": job.kms_key} if job.kms_key else {}

    def upload(body: bytes | Path, key: str) -> None:
        progress(f"s3://{job.bucket}/{key}")
        data = body if isinstance(body, bytes) else body.read_bytes()
        s3.put_object(Bucket=job.bucket, Key=key, Body=data, **encryption)

    channels = []
    for channel, source in folders.items():
        for path in _files(source, texts=channel == "passages"):
            inside = path.name if source.is_file() else path.relative_to(source).as_posix()
            upload(path, f"{base}/input/{channel}/{inside}")
        uri = {
            "S3DataType": "S3Prefix",
            "S3Uri": f"s3://{job.bucket}/{base}/input/{channel}/",
            "S3DataDistributionType": "FullyReplicated",
        }
        channels.append({"ChannelName": channel, "DataSource": {"S3DataSource": uri}, "InputMode": "File"})
    if work is not None and work.is_dir():
        for path in _files(work):
            upload(path, f"{base}/checkpoints/{path.relative_to(work).as_posix()}")
    upload(_source(remote), f"{base}/code/sourcedir.tar.gz")
    hyperparameters = {
        "recipe": "recipe.json",
        "name": name,
        "licence": licence,
        "instance": job.instance,  # whose price the report tells
        "region": session.region_name,
        "work": "/opt/ml/checkpoints",
        "output": "/opt/ml/model",
        "device": "auto",
        # The keys of SageMaker's training toolkit; every value is JSON.
        "sagemaker_program": "entry.py",
        "sagemaker_submit_directory": f"s3://{job.bucket}/{base}/code/sourcedir.tar.gz",
        "sagemaker_region": session.region_name,
    }
    seconds = 3600 * job.hours
    key = {"KmsKeyId": job.kms_key} if job.kms_key else {}
    volume_key = {"VolumeKmsKeyId": job.kms_key} if job.kms_key else {}
    request: dict[str, Any] = {
        "TrainingJobName": job_name,
        "RoleArn": job.role,
        "AlgorithmSpecification": {"TrainingImage": job.image, "TrainingInputMode": "File"},
        "HyperParameters": {name: json.dumps(value) for name, value in hyperparameters.items()},
        "InputDataConfig": channels,
        "OutputDataConfig": {"S3OutputPath": f"s3://{job.bucket}/{base}/output"} | key,
        "CheckpointConfig": {
            "S3Uri": f"s3://{job.bucket}/{base}/checkpoints",
            "LocalPath": "/opt/ml/checkpoints",
        },
        "ResourceConfig": {"InstanceType": job.instance, "InstanceCount": 1, "VolumeSizeInGB": VOLUME_GB}
        | volume_key,
        "StoppingCondition": {"MaxRuntimeInSeconds": seconds}
        | ({"MaxWaitTimeInSeconds": 2 * seconds} if job.spot else {}),
        "EnableManagedSpotTraining": job.spot,
        "EnableInterContainerTrafficEncryption": False,
        "Environment": quiet.CONTAINER,
    }
    if job.subnets:
        request["VpcConfig"] = {"Subnets": list(job.subnets), "SecurityGroupIds": list(job.security_groups)}
    sagemaker.create_training_job(**request)
    return job_name


def _relocate(recipe: Recipe) -> tuple[Recipe, dict[str, Path]]:
    """Return the recipe with the container's paths, and the local file or folder behind each input channel."""
    folders: dict[str, Path] = {}

    def channel(name: str, spec: str) -> str:
        scheme, colon, where = spec.rpartition(":")
        where, equals, share = where.partition("=")
        path = Path(where)
        if spec.startswith(("endpoint:", "http://", "https://")):
            return spec
        if ">" in spec:
            raise DistillationError(f"{name}: a training job takes no cascade: give its stages apart.")
        if not path.exists():
            if scheme == "hf" or not ("/" in where or colon):
                return spec  # a hub name, or a model the job builds itself
            raise DistillationError(f"{name}: {path} does not exist.")
        folders[name] = path
        inside = f"{CHANNELS}/{name}" + (f"/{path.name}" if path.is_file() else "")
        return f"{scheme}{colon}{inside}{equals}{share}"

    moved = replace(
        recipe,
        passages=channel("passages", recipe.passages),
        queries=channel("queries", recipe.queries) if recipe.queries else "",
        teachers=tuple(channel(f"teacher{number}", spec) for number, spec in enumerate(recipe.teachers)),
        start=channel("start", recipe.start) if recipe.start else "",
        student=channel("student", recipe.student),
        embedder=channel("embedder", recipe.embedder) if recipe.embedder else "",
        gate=tuple(channel(f"gate{number}", source) for number, source in enumerate(recipe.gate)),
    )
    return moved, folders


def _files(source: Path, *, texts: bool = False) -> list[Path]:
    """The file, or those of a folder; with `texts`, only those that are read as such: nothing else of a person's goes up."""
    if source.is_file():
        return [source]
    return text_files(source) if texts else sorted(path for path in source.rglob("*") if path.is_file())


def _source(recipe: Recipe) -> bytes:
    """The bytes of sourcedir.tar.gz: our packages, the recipe, the entry point, and what pip installs first.

    Equal recipes give equal bytes.
    """
    members = {
        "entry.py": _ENTRY,
        "requirements.txt": _REQUIREMENTS.encode(),
        "recipe.json": json.dumps(recipe.to_json(), indent=2).encode(),
    }
    for package in _PACKAGES:
        folder = Path(package.__path__[0])
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder.parent).as_posix()
            if path.is_file() and "__pycache__" not in path.parts and not name.startswith(_LEFT_OUT):
                members[name] = path.read_bytes()
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as archive,
    ):
        for name, data in sorted(members.items()):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
