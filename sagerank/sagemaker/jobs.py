"""Jobs of AWS's SDK: a batch transform over the model, and the distillation of a recipe."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import boto3
from sagemaker.core.resources import TrainingJob, TransformJob

from sagerank.distillation.recipe import Recipe
from sagerank.distillation.training_job import Job, launch
from sagerank.operate import transform
from sagerank_infra.config import ConfigError, DeployConfig

from .options import default_session, named_key


def transform_job(
    config: DeployConfig,
    source: str,
    output: str,
    *,
    content_type: str = "application/jsonlines",
    count: int = 1,
    session: boto3.Session | None = None,
) -> TransformJob:
    """Start a batch transform with the Model of the configuration's name, on `count` instances of its type.

    source: an s3:// file or folder of requests, a line each. output: the s3:// folder that gets NAME.out where NAME was.
    A key that encryption.key names encrypts the answers, and the volumes of the instances that take one.
    """
    for name, address in {"source": source, "output": output}.items():
        if not address.startswith("s3://"):
            raise ConfigError(f"{name} is {address!r}: give an s3:// address.")
    if not config.instance:
        raise ConfigError(
            "instance is empty: a transform job needs a type, and a Model of mode batch made with it."
        )
    key = named_key(config)
    title = f"{config.name}-{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}"
    wanted = transform.request(
        title,
        config.name,
        transform.Job(instance=config.instance, count=count),
        mime=content_type,
        source=source,
        target=output,
        key=key,
        output_key=key,
    )
    own = session or default_session(config.region)
    own.client("sagemaker", region_name=config.region).create_transform_job(**wanted)
    return TransformJob.get(transform_job_name=title, session=session, region=config.region)


def training_job(
    recipe: Recipe,
    job: Job,
    name: str,
    *,
    session: boto3.Session | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> TrainingJob:
    """Upload the recipe's texts, models and code, and start its distillation into the model `name`.

    Raises DistillationError before anything is created where a path is missing.
    """
    own = session or default_session()
    title = launch(recipe, job, name, session=own, progress=progress)
    return TrainingJob.get(training_job_name=title, session=session, region=own.region_name)
