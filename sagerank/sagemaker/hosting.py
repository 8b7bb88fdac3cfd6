"""Model, EndpointConfig and Endpoint of AWS's SDK, as one configuration describes them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import boto3
from sagemaker.core import shapes
from sagemaker.core.resources import Endpoint, EndpointConfig, Model
from sagemaker.core.utils.utils import SPECIAL_SNAKE_TO_PASCAL_MAPPINGS

from sagerank_infra.config import ConfigError, DeployConfig
from sagerank_infra.environment import environment
from sagerank_infra.hosting import main_variant, tags
from sagerank_infra.instances import hardware

from .options import default_session, named_key
from .prediction import RerankDeserializer, RerankSerializer
from .scaling import stop_scaling
from .waiting import SageMakerError
from .waiting import wait as wait_for

PREFIX = "sagerank/models"
# Its list of what is written otherwise lacks a serverless endpoint's memory, and CreateEndpointConfig refuses MemorySizeInMb.
SPECIAL_SNAKE_TO_PASCAL_MAPPINGS.setdefault("memory_size_in_mb", "MemorySizeInMB")


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
        data = shapes.S3ModelDataSource(
            s3_uri=f"{where.rstrip('/')}/", s3_data_type="S3Prefix", compression_type="None"
        )
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
    wait: bool = True,
    session: boto3.Session | None = None,
) -> Endpoint:
    """Create EndpointConfig and Endpoint of the configuration's name, and wait until the Endpoint is in service.

    output: an s3:// folder for the answers of mode async. `endpoint.invoke` takes and gives what RerankSerializer and
    RerankDeserializer say. Raises SageMakerError, with SageMaker's reason, where the container does not start:
    what was made stays to be looked at, and `sr.delete(config)` frees the names.
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
    if wait:
        try:
            wait_for(endpoint)
        except SageMakerError as error:
            raise SageMakerError(f"{error} sr.delete(config) frees the names for another try.") from None
    return endpoint


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
    client = (session or default_session(config.region)).client("s3", region_name=config.region)
    client.upload_file(config.artefact, bucket, key)
    return f"s3://{bucket}/{key}"


def _asynchronous(config: DeployConfig, output: str) -> shapes.AsyncInferenceConfig:
    folder = output.rstrip("/")
    return shapes.AsyncInferenceConfig(
        client_config=shapes.AsyncInferenceClientConfig(
            max_concurrent_invocations_per_instance=config.asynchronous.concurrency
        ),
        output_config=shapes.AsyncInferenceOutputConfig(
            s3_output_path=folder,
            s3_failure_path=f"{folder}/failed",
            kms_key_id=named_key(config) or None,
        ),
    )


def _volume_key(config: DeployConfig) -> str | None:
    """The key of the instances' volumes. An NVMe disk is encrypted by its hardware, and takes none."""
    key = named_key(config)
    return key if key and config.instance and not hardware(config.instance).local_disk else None


def _tags(config: DeployConfig) -> list[shapes.Tag]:
    return [shapes.Tag(key=name, value=text) for name, text in tags(config).items()]
