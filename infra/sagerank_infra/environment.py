"""What the container is told: the server's settings for a mode and an instance type, and which artefact is the one that was deployed."""

from __future__ import annotations

from pathlib import Path

from sagerank_inference import archive, quiet
from sagerank_inference.settings import PREFIX, Settings, SettingsError

from .beside import Variant
from .config import DeployConfig
from .instances import hardware, usual_cache_mb
from .modes import MEGABYTE
from .options import ConfigError

# What an asynchronous or batch request may hold unless `settings` says otherwise: the server keeps it in memory.
_LARGE_BODY = 64 * MEGABYTE


def settings(config: DeployConfig, instance: str = "") -> dict[str, str]:
    """Settings that differ from the server's defaults, as text by their name in sagerank_inference.settings.Settings."""
    instance = instance or config.instance
    chosen: dict[str, str] = {}
    if config.image == "dockerfile" and (kept := usual_cache_mb(config.mode, instance)):
        chosen |= {"cache_mb": str(kept)}
    if instance and hardware(instance).gpu:
        chosen |= {"backend": "torch", "device": "cuda"}
    elif config.image == "dlc":
        # AWS's container has PyTorch and no ONNX Runtime, and network isolation leaves no way to fetch one.
        chosen |= {"backend": "torch"}
    if not config.traits.instances:
        chosen |= {"max_body_bytes": str(config.traits.max_bytes)}
    if config.traits.in_s3:
        seconds = config.asynchronous.timeout_seconds if config.traits.queued else config.traits.max_seconds
        chosen |= {"max_body_bytes": str(_LARGE_BODY), "request_seconds": str(max(1, seconds - 5))}
    return chosen | dict(config.settings)


def environment(config: DeployConfig, variant: Variant | None = None) -> dict[str, str]:
    """The environment of the container, or of a variant's. Raises ConfigError for a setting that the server would refuse."""
    variables = variables_of(settings(config, variant.instance if variant else ""))
    if config.image != "dockerfile":  # ours says it itself
        variables |= quiet.CONTAINER
    if config.image == "dlc":
        variables["SAGEMAKER_PROGRAM"] = "sagerank_inference.handler"
    if pinned := manifest_sha256(config, variant):
        variables[f"{PREFIX}MANIFEST_SHA256"] = pinned
    return variables


def manifest_sha256(config: DeployConfig, variant: Variant | None = None) -> str:
    """SHA-256 of the manifest of the artefact: of a local archive its own, in S3 the one that is given; empty where none is.

    Raises ArtefactError or OSError for an archive that cannot be read.
    """
    own = variant if variant and variant.artefact else config
    if own.artefact.startswith("s3://"):
        return own.artefact_sha256
    return archive.manifest_sha256(Path(own.artefact))


def variables_of(chosen: dict[str, str]) -> dict[str, str]:
    """Settings as environment variables that the server reads. Raises ConfigError for one it would refuse.

    Only what is chosen is written: to_env() of a whole Settings would carry the cores of the machine that synthesises.
    """
    given = {f"{PREFIX}{name.upper()}": text for name, text in chosen.items()}
    try:
        written = Settings.from_env(given).to_env()
    except SettingsError as error:
        raise ConfigError(f"settings: {error}") from None
    return {name: written[name] for name in sorted(given)}


def cache_mb(config: DeployConfig, instance: str) -> int:
    """MB of scores that the server keeps on an instance type (empty: serverless)."""
    return Settings.from_env(variables_of(settings(config, instance))).cache_mb


def max_tokens(config: DeployConfig) -> int:
    return Settings.from_env(variables_of(settings(config))).max_tokens
