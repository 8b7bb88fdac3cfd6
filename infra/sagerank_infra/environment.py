"""What the container is told: the server's settings for a mode and an instance type, as environment variables."""

from __future__ import annotations

from sagerank_inference import quiet
from sagerank_inference.settings import PREFIX, Settings, SettingsError

from .config import DeployConfig
from .instances import hardware
from .modes import MEGABYTE
from .options import ConfigError

# What an asynchronous or batch request may hold unless `settings` says otherwise: the server keeps it in memory.
_LARGE_BODY = 64 * MEGABYTE


def settings(config: DeployConfig, instance: str = "") -> dict[str, str]:
    """Settings that differ from the server's defaults, as text by their name in sagerank_inference.settings.Settings."""
    instance = instance or config.instance
    chosen: dict[str, str] = {}
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


def environment(config: DeployConfig, instance: str = "") -> dict[str, str]:
    """The settings as environment variables that the server reads. Raises ConfigError for one it would refuse.

    Only what is chosen is written: to_env() of a whole Settings would carry the cores of the machine that synthesises.
    """
    chosen = settings(config, instance)
    given = {f"{PREFIX}{name.upper()}": text for name, text in chosen.items()}
    try:
        written = Settings.from_env(given).to_env()
    except SettingsError as error:
        raise ConfigError(f"settings: {error}") from None
    variables = {name: written[name] for name in sorted(given)}
    if config.image != "dockerfile":  # ours says it itself
        variables |= quiet.CONTAINER
    if config.image == "dlc":
        variables["SAGEMAKER_PROGRAM"] = "sagerank_inference.handler"
    return variables


def max_tokens(config: DeployConfig) -> int:
    return Settings.from_env(environment(config)).max_tokens
