"""Our artefact and image as the pieces of AWS's own SDK, `sagemaker` 3: its Model, Endpoint, TransformJob and TrainingJob.

    from sagerank import sagemaker as sr

    config = sr.config(model="tiny", mode="realtime", instance="ml.c7i.large", image="123456789012.dkr.ecr...")
    endpoint = sr.deploy(config, sr.model(config, role="arn:aws:iam::...", bucket="my-bucket"))
    ranking = sr.predictor(endpoint).rerank("what causes rain", documents, top_n=3)

Only `sagemaker.core.resources` is used, which sends no telemetry. `session` is a boto3 session everywhere; `sr.default_session(profile="work")`
makes one by the rule for region and profile that every command follows.
"""

from __future__ import annotations

from sagerank.models.extras import install

try:
    import sagemaker.core.resources  # noqa: F401
except ModuleNotFoundError as error:
    if str(error.name).partition(".")[0] != "sagemaker":
        raise
    raise ModuleNotFoundError(
        f"sagerank.sagemaker needs release 3 of AWS's SDK: {install('sagemaker')}", name=error.name
    ) from None

from sagerank_infra.config import ConfigError

from .hosting import delete, deploy, model
from .jobs import training_job, transform_job
from .options import config, default_session
from .prediction import RerankDeserializer, RerankSerializer, predictor
from .scaling import autoscale
from .waiting import SageMakerError, wait

__all__ = [
    "ConfigError",
    "RerankDeserializer",
    "RerankSerializer",
    "SageMakerError",
    "autoscale",
    "config",
    "default_session",
    "delete",
    "deploy",
    "model",
    "predictor",
    "training_job",
    "transform_job",
    "wait",
]
