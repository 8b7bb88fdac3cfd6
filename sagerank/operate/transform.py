"""`sagerank transform`: score a file, or a folder in S3, in one batch job on instances that exist for it alone."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagerank_infra.instances import hardware

from . import OperateError, rights, stacks
from .account import Account
from .stored import bucket_and_key

BUSY = ("InProgress", "Stopping")
_POLL_SECONDS = 5.0
CONTENT_TYPES = {".jsonl": "application/jsonlines", ".json": "application/json", ".csv": "text/csv"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A batch job. instance, count: what it runs on. payload_mb: of one request to the model; lines are packed into it."""

    instance: str
    count: int = 1
    payload_mb: int = 6
    concurrency: int = 1
    seconds: int = 3600


def start(
    account: Account,
    name: str,
    source: str,
    job: Job,
    *,
    content_type: str = "",
    output: str = "",
    output_key: str = "",
) -> tuple[str, str]:
    """Upload a local file, create the job, and return its name and the S3 folder of its answers.

    output_key: KMS key of the answers, in place of the deployment's. Raises OperateError for input of an unknown kind, a
    deployment of another mode, and where the model's role may not read the input, write the answers or use their key.
    """
    deployed = stacks.find(account, name)
    outputs = {key: text for stack in deployed.values() for key, text in stack.outputs.items()}
    model = _model(account, name, deployed, outputs)
    mime = content_type or CONTENT_TYPES.get(Path(source).suffix, "")
    if not mime:
        raise OperateError(
            f"What {source} holds cannot be told from its name: give --content-type, one of {', '.join(CONTENT_TYPES.values())}."
        )
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    title = titled(name, stamp)
    target = output or f"{outputs['OutputPath'].rstrip('/')}/{title}"
    remote = source.startswith("s3://")
    address = source if remote else _upload(account, Path(source), outputs["InputPath"], title)
    if remote or output:
        rights.check(account, model, source=address, target=target)
    if output_key:
        rights.check_key(account, model, output_key)
    key = _key(account, outputs)
    account.client("sagemaker").create_transform_job(
        **request(
            title,
            model,
            job,
            mime=mime,
            source=address,
            target=target,
            key=key,
            output_key=output_key or key,
        )
    )
    return title, target


def titled(name: str, stamp: str) -> str:
    """The name of a deployment's job of some moment, YYYYMMDD-HHMMSS."""
    return f"{name[:40]}-{stamp}"


def _key(account: Account, outputs: Mapping[str, str]) -> str:
    """The deployment's KMS key: the one of its bucket, where that has no key of AWS's own."""
    bucket, _ = bucket_and_key(outputs["OutputPath"])
    answer = account.client("s3").get_bucket_encryption(Bucket=bucket)
    (rule,) = answer["ServerSideEncryptionConfiguration"]["Rules"]
    return str(rule["ApplyServerSideEncryptionByDefault"].get("KMSMasterKeyID", ""))


def _model(
    account: Account, name: str, deployed: Mapping[str, stacks.Stack], outputs: Mapping[str, str]
) -> str:
    """The model of a deployment of mode batch; that of an endpoint has a role without the rights of a job."""
    if not deployed:
        raise OperateError(
            f"There is no deployment {name} in {account.region}: make one with `sagerank deploy --mode batch --name {name}`."
        )
    if "ModelName" not in outputs:
        raise OperateError(
            f"The deployment {name} is not of mode batch, and the role of its model has no rights for a job's files and log: make another with `sagerank deploy --mode batch --name {name[:34]}-batch`."
        )
    return outputs["ModelName"]


def _upload(account: Account, file: Path, folder: str, title: str) -> str:
    if not file.is_file():
        raise OperateError(f"{file} is no file: give JSON Lines, JSON or CSV, or an s3:// folder.")
    bucket, prefix = bucket_and_key(f"{folder.rstrip('/')}/{title}/{file.name}")
    account.client("s3").upload_file(str(file), bucket, prefix)
    return f"s3://{bucket}/{prefix}"


def request(
    title: str,
    model: str,
    job: Job,
    *,
    mime: str,
    source: str,
    target: str,
    key: str = "",
    output_key: str = "",
) -> dict[str, Any]:
    """What CreateTransformJob takes.

    mime: of input and answers. source, target: their addresses in S3. key, output_key: of the volumes and of the answers,
    which have AWS's own otherwise.
    """
    by_line = mime in ("application/jsonlines", "text/csv")
    # An NVMe disk is encrypted by its hardware, and takes no key.
    volume_key = {"VolumeKmsKeyId": key} if key and not hardware(job.instance).local_disk else {}
    return {
        "TransformJobName": title,
        "ModelName": model,
        "BatchStrategy": "MultiRecord" if by_line else "SingleRecord",
        "MaxPayloadInMB": job.payload_mb,
        "MaxConcurrentTransforms": job.concurrency,
        "ModelClientConfig": {"InvocationsTimeoutInSeconds": job.seconds, "InvocationsMaxRetries": 1},
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": source}},
            "ContentType": mime,
            "SplitType": "Line" if by_line else "None",
        },
        "TransformOutput": {
            "S3OutputPath": target,
            "Accept": mime,
            "AssembleWith": "Line" if by_line else "None",
            **({"KmsKeyId": output_key} if output_key else {}),
        },
        "TransformResources": {"InstanceType": job.instance, "InstanceCount": job.count} | volume_key,
    }


def wait(account: Account, title: str, progress: Callable[[str, float], None]) -> str:
    """Wait for the job, and return its last status. Raises OperateError, with SageMaker's reason, unless it completed."""
    began = time.monotonic()
    while (description := account.client("sagemaker").describe_transform_job(TransformJobName=title))[
        "TransformJobStatus"
    ] in BUSY:
        progress(description["TransformJobStatus"], time.monotonic() - began)
        time.sleep(_POLL_SECONDS)
    status = str(description["TransformJobStatus"])
    if status != "Completed":
        raise OperateError(
            f"The job {title} is {status}: {description.get('FailureReason') or 'SageMaker gives no reason'}. Its log is below /aws/sagemaker/TransformJobs, {title}/."
        )
    return status


def download(account: Account, target: str, folder: Path) -> list[Path]:
    """Save the answers below `folder`: NAME.out where NAME was."""
    bucket, prefix = bucket_and_key(target.rstrip("/") + "/")
    written = []
    for stored in account.pages("s3", "list_objects_v2", "Contents", Bucket=bucket, Prefix=prefix):
        file = folder / stored["Key"].removeprefix(prefix)
        file.parent.mkdir(parents=True, exist_ok=True)
        account.client("s3").download_file(bucket, stored["Key"], str(file))
        written.append(file)
    return written
