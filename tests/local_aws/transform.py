"""Batch transform jobs that run: every record of every input object goes through the model's container."""

from __future__ import annotations

import threading
from typing import Any

from moto.core.utils import utcnow
from moto.sagemaker import models

from .artefact import ContainerFailed
from .container import Container
from .place import Place
from .resources import client
from .rights import role_may

_create = models.SageMakerModelBackend.create_transform_job


def create_transform_job(self: Any, **asked: Any) -> Any:
    job = _create(self, **asked)
    job.transform_job_status, job.transform_end_time = "InProgress", None

    def run() -> None:
        try:
            _transform(self, job)
            status = "Completed"
        except ContainerFailed as error:
            status, job.failure_reason = "Failed", str(error)
        job.transform_end_time = utcnow()
        job.transform_job_status = status

    threading.Thread(target=run, daemon=True).start()
    return job


def _transform(backend: Any, job: Any) -> None:
    s3, given, target = client("s3", backend.region_name), job.transform_input, job.transform_output
    bucket, _, prefix = given["DataSource"]["S3DataSource"]["S3Uri"].removeprefix("s3://").partition("/")
    out_bucket, _, out_prefix = target["S3OutputPath"].removeprefix("s3://").partition("/")
    role = backend._models[job.model_name].execution_role_arn
    _require(role, "s3:ListBucket", bucket, s3__prefix=prefix)
    # Transform jobs of an account share a log.
    place = Place(
        job.transform_job_name, "/aws/sagemaker/TransformJobs", job.transform_resources["InstanceType"]
    )
    container = Container(backend, job.model_name, place)
    try:
        for item in s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", ()):
            _require(role, "s3:GetObject", f"{bucket}/{item['Key']}")
            body: bytes = s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
            single = given.get("SplitType") == "Line" and job.batch_strategy == "SingleRecord"
            parts = [line for line in body.splitlines() if line] if single else [body]
            answers = []
            for part in parts:
                answer = container.invoke(part, given.get("ContentType", ""), target.get("Accept", ""))
                if answer.status != 200:
                    raise ContainerFailed(
                        f"ClientError: {item['Key']}: {answer.status}: {answer.body.decode(errors='replace')}"
                    )
                answers.append(answer.body)
            joined = b"\n".join(answers) if target.get("AssembleWith") == "Line" else b"".join(answers)
            name = item["Key"].removeprefix(prefix).lstrip("/") or item["Key"].rsplit("/", 1)[-1]
            written = f"{out_prefix.rstrip('/')}/{name}.out"
            _require(role, "s3:PutObject", f"{out_bucket}/{written}")
            s3.put_object(Bucket=out_bucket, Key=written, Body=joined)
    finally:
        container.stop()


def _require(role: str, action: str, place: str, **context: str) -> None:
    if not role_may(role, action, f"arn:aws:s3:::{place}", **context):
        raise ContainerFailed(f"ClientError: {role} is not authorized to perform: {action} on s3://{place}")


def install() -> None:
    models.SageMakerModelBackend.create_transform_job = create_transform_job
