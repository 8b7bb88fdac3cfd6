"""Model, EndpointConfig and Endpoint of AWS's SDK, as one configuration describes them."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import boto3
from sagemaker.core import shapes
from sagemaker.core.resources import Endpoint, EndpointConfig, Model, TrainingJob, TransformJob
from sagemaker.core.utils.utils import SPECIAL_SNAKE_TO_PASCAL_MAPPINGS

from sagerank_infra import rules
from sagerank_infra.config import ConfigError, DeployConfig
from sagerank_infra.environment import environment
from sagerank_infra.hosting import main_variant, tags
from sagerank_infra.instances import hardware

from .prediction import RerankDeserializer, RerankSerializer
from .scaling import stop_scaling

PREFIX = "sagerank/models"
_MODES = ("realtime", "serverless", "async", "batch")
# What the SDK's pieces are made of; the rest of a configuration is for the stacks of `sagerank deploy`.
_OPTIONS = (
    "artefact",
    "asynchronous",
    "autoscaling",
    "encryption",
    "image",
    "image_architecture",
    "instance",
    "mode",
    "model",
    "name",
    "network",
    "precision",
    "region",
    "serverless",
    "settings",
    "startup_seconds",
    "ami",
    "tags",
    "traffic",
)
# Its list of what is written otherwise lacks a serverless endpoint's memory, and CreateEndpointConfig refuses MemorySizeInMb.
SPECIAL_SNAKE_TO_PASCAL_MAPPINGS.setdefault("memory_size_in_mb", "MemorySizeInMB")
_BUSY = ("Creating", "Updating", "SystemUpdating", "RollingBack", "InProgress", "Stopping", "Deleting")


class SageMakerError(RuntimeError):
    """What was asked of SageMaker did not come about; the text gives its reason."""


def config(**given: Any) -> DeployConfig:
    """A deployment, checked: model, mode, instance and image are enough, and the other options are those of `sagerank deploy`.

    Nested options are mappings: autoscaling={"max": 8}. Raises ConfigError, with one sentence, for what cannot be deployed.
    """
    for name in given:
        if name not in _OPTIONS:
            raise ConfigError(f"{name} is not an option here: known are {', '.join(_OPTIONS)}.")
    if given.get("mode", "realtime") not in _MODES:
        raise ConfigError(
            f"mode is {given['mode']!r}: give one of {', '.join(_MODES)}, or use `sagerank deploy`."
        )
    if ".dkr.ecr." not in str(given.get("image", "")):
        raise ConfigError(
            "image is no address in ECR: give that of our image, as docs/sagemaker.md builds it."
        )
    region = given.get("region") or boto3.Session().region_name
    if not region:
        raise ConfigError("No AWS region is set: give region=, or set AWS_DEFAULT_REGION.")
    # Nothing here makes a VPC, a key, or the alarm that wakes a fleet of none.
    own: dict[str, dict[str, Any]] = {
        "network": {"vpc": "none"},
        "encryption": {"key": "aws"},
        "autoscaling": {"min": 1},
    }
    own = {name: {**section, **given.get(name, {})} for name, section in own.items()}
    made = rules.read(None, {**given, **own, "region": region})
    if made.vpc == "new" or made.encryption.key == "new" or made.autoscaling.min == 0:
        raise ConfigError(
            "A new VPC, a new key and a fleet of none are made by `sagerank deploy`: give what exists, and autoscaling.min of at least 1."
        )
    return made


def model(
    config: DeployConfig, *, role: str, bucket: str = "", session: boto3.Session | None = None
) -> Model:
    """Create the Model: our image, the artefact, the server's settings, and no way out to the network.

    role: the ARN that SageMaker takes on to pull both. bucket: where an artefact that is a local file is uploaded to.
    """
    if not role.startswith("arn:"):
        raise ConfigError(f"role is {role!r}: give the ARN of the role that SageMaker takes on.")
    container: dict[str, Any] = {"image": config.image, "environment": environment(config)}
    where = _uploaded(config, bucket, session)
    if where.endswith(".tar.gz"):
        container["model_data_url"] = where
    else:
        data = shapes.S3ModelDataSource(s3_uri=where, s3_data_type="S3Prefix", compression_type="None")
        container["model_data_source"] = shapes.ModelDataSource(s3_data_source=data)
    network = config.network
    vpc = shapes.VpcConfig(subnets=[*network.subnets], security_group_ids=[*network.security_groups])
    return Model.create(
        model_name=config.name,
        primary_container=shapes.ContainerDefinition(**container),
        execution_role_arn=role,
        # Serverless endpoints have none; their container does not call out either.
        enable_network_isolation=config.traits.instances,
        vpc_config=vpc if network.subnets else None,
        tags=_tags(config),
        session=session,
        region=config.region,
    )


def deploy(
    config: DeployConfig,
    model: Model,
    *,
    output: str = "",
    wait_for: bool = True,
    session: boto3.Session | None = None,
) -> Endpoint:
    """Create EndpointConfig and Endpoint of the configuration's name, and wait until the Endpoint is in service.

    output: an s3:// folder for the answers of mode async. `endpoint.invoke` takes and gives what RerankSerializer and
    RerankDeserializer say. Raises SageMakerError, with SageMaker's reason, where the container does not start.
    """
    if not config.traits.endpoint:
        raise ConfigError(f"mode is {config.mode!r}, which has no endpoint: run a transform_job.")
    if config.traits.queued != output.startswith("s3://"):
        raise ConfigError(
            f"output is {output!r}: mode async needs an s3:// folder for its answers, and the others have none."
        )
    variant = shapes.ProductionVariant(model_name=model.model_name, **main_variant(config))
    configuration = EndpointConfig.create(
        endpoint_config_name=config.name,
        production_variants=[variant],
        async_inference_config=_asynchronous(config, output) if output else None,
        kms_key_id=_volume_key(config),
        tags=_tags(config),
        session=session,
        region=config.region,
    )
    try:
        endpoint = Endpoint.create(
            endpoint_name=config.name,
            endpoint_config_name=config.name,
            tags=_tags(config),
            session=session,
            region=config.region,
        )
    except BaseException:  # so that a second try finds its names free
        configuration.delete()
        raise
    endpoint.serializer, endpoint.deserializer = RerankSerializer(), RerankDeserializer()
    if wait_for:
        wait(endpoint)
    return endpoint


def wait(resource: Endpoint | TransformJob | TrainingJob, *, poll: float = 5.0) -> None:
    """Wait until it is in service or completed, asking every `poll` seconds. Raises SageMakerError with SageMaker's reason."""
    kind = {Endpoint: "endpoint", TransformJob: "transform_job", TrainingJob: "training_job"}[type(resource)]
    while (status := getattr(resource.refresh(), f"{kind}_status")) in _BUSY:
        time.sleep(poll)
    if status not in ("InService", "Completed"):
        raise SageMakerError(
            f"{resource.get_name()} is {status}: {resource.failure_reason or 'SageMaker gives no reason'}."
        )


def delete(config: DeployConfig, *, session: boto3.Session | None = None) -> None:
    """Delete scaling, Endpoint, EndpointConfig and Model of the configuration's name, where they are; what lies in S3 stays."""
    stop_scaling(config, session=session)
    for kind in (Endpoint, EndpointConfig, Model):
        for found in kind.get_all(name_contains=config.name, session=session, region=config.region):
            if found.get_name() == config.name:
                found.delete()


def _uploaded(config: DeployConfig, bucket: str, session: boto3.Session | None) -> str:
    """The artefact's address in S3. Equal artefacts get one address."""
    if config.artefact.startswith("s3://"):
        return config.artefact
    if not bucket:
        raise ConfigError(
            "bucket is empty: give one to upload the artefact to, or an artefact's s3:// address."
        )
    with Path(config.artefact).open("rb") as file:
        key = f"{PREFIX}/{hashlib.file_digest(file, 'sha256').hexdigest()}/model.tar.gz"
    client = (session or boto3.Session()).client("s3", region_name=config.region)
    client.upload_file(config.artefact, bucket, key)
    return f"s3://{bucket}/{key}"


def _asynchronous(config: DeployConfig, output: str) -> shapes.AsyncInferenceConfig:
    folder, key = output.rstrip("/"), config.encryption.key
    return shapes.AsyncInferenceConfig(
        client_config=shapes.AsyncInferenceClientConfig(
            max_concurrent_invocations_per_instance=config.asynchronous.concurrency
        ),
        output_config=shapes.AsyncInferenceOutputConfig(
            s3_output_path=folder,
            s3_failure_path=f"{folder}/failed",
            kms_key_id=key if key.startswith("arn:") else None,
        ),
    )


def _volume_key(config: DeployConfig) -> str | None:
    """The key of the instances' volumes. An NVMe disk is encrypted by its hardware, and takes none."""
    given = config.encryption.key.startswith("arn:") and config.instance
    return config.encryption.key if given and not hardware(config.instance).local_disk else None


def _tags(config: DeployConfig) -> list[shapes.Tag]:
    return [shapes.Tag(key=name, value=text) for name, text in tags(config).items()]
