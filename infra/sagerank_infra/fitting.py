"""Instance types, image and artefact: whether they exist and go together."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from functools import cache
from pathlib import Path

from sagerank_inference.archive import limit, members
from sagerank_inference.artefact import MANIFEST, MOST_BYTES, ArtefactError

from . import estimate, fleet, fleet_rules
from .beside import Variant
from .config import DeployConfig
from .environment import manifest_sha256
from .instances import hardware
from .options import ConfigError, nearest

_ARCHITECTURE_WORDS = {"arm64": ("arm64", "aarch64", "graviton"), "amd64": ("amd64", "x86_64", "x86-64")}


@cache
def instance_types(batch: bool = False) -> tuple[str, ...]:
    """Instance types that SageMaker's API has, from botocore's own model: no call is made."""
    import botocore.session

    model = botocore.session.get_session().get_service_model("sagemaker")
    return tuple(model.shape_for("TransformInstanceType" if batch else "ProductionVariantInstanceType").enum)


@cache
def amis() -> tuple[str, ...]:
    """InferenceAmiVersions of GPU instances that SageMaker's API has, from the same model."""
    import botocore.session

    model = botocore.session.get_session().get_service_model("sagemaker")
    return tuple(
        name for name in model.shape_for("ProductionVariantInferenceAmiVersion").enum if "-gpu-" in name
    )


def check_instances(config: DeployConfig) -> None:
    if not config.instance:
        raise ConfigError(
            f"instance is empty: mode {config.mode} needs a hosting type such as ml.c7i.xlarge, ml.c8g.xlarge or ml.g5.xlarge."
        )
    others = {
        f"variants[{index}].instance": variant.instance for index, variant in enumerate(config.variants)
    }
    pools = {f"pools[{index}].instance": pool.instance for index, pool in enumerate(config.pools)}
    for where, instance in {"instance": config.instance, **others, **pools}.items():
        if instance:
            _check_instance(config, where, instance)
    if config.pools and not config.traits.pools:
        raise ConfigError(
            f"pools are for modes realtime, async and scale-to-zero, and mode is {config.mode!r}: leave them out."
        )
    if config.ami not in amis():
        raise ConfigError(
            f"ami is {config.ami!r}, which SageMaker does not have for GPUs: {nearest(config.ami, amis())}"
        )
    types = [config.instance, *pools.values()]
    priorities = [pool.priority for pool in config.pools]
    if len(set(types)) < len(types) or len(set(priorities)) < len(priorities):
        raise ConfigError(
            "pools has an instance type or a priority twice: give each once, beside the endpoint's own type with priority 1."
        )


def _check_instance(config: DeployConfig, where: str, instance: str) -> None:
    known = instance_types(not config.traits.endpoint)
    if instance not in known:
        kind = "transform jobs" if not config.traits.endpoint else "endpoints"
        raise ConfigError(
            f"{where} is {instance!r}, which SageMaker does not have for {kind}: {nearest(instance, known)}"
        )
    machine, main = hardware(instance), hardware(config.instance)
    if machine.accelerator:
        raise ConfigError(
            f"{where} is {instance!r}: nothing of ours runs on {machine.accelerator}; take a CPU or an NVIDIA type."
        )
    if (machine.arch, bool(machine.gpu)) != (main.arch, bool(main.gpu)):
        raise ConfigError(
            f"{where} is {instance!r}, which needs another image than {config.instance}: take one of the same architecture, with a GPU or without as that."
        )
    for each in fleet.models(config):
        estimate.check_precision(each, instance)


def check_image(config: DeployConfig) -> None:
    for name, text in asdict(config.image_build).items():
        if text and config.image != "dockerfile":
            raise ConfigError(
                f"image_build.{name} is {text!r}, and image is {config.image!r}, which is built already: leave one out."
            )
        if text and name != "base" and not Path(text).expanduser().is_file():
            raise ConfigError(f"image_build.{name} is {text!r}: there is no such file.")
    architecture = hardware(config.instance).arch if config.instance else "amd64"
    where = config.instance or "serverless"
    if config.image == "dlc" and architecture == "arm64":
        raise ConfigError(
            f"image is 'dlc', and AWS has no container for {where} with what we need: give dockerfile, or an x86 type such as ml.c7i.xlarge."
        )
    if config.image in ("dockerfile", "dlc"):
        return
    name = config.image.rpartition("/")[2].lower()
    said = config.image_architecture or next(
        (kind for kind, words in _ARCHITECTURE_WORDS.items() if any(word in name for word in words)),
        architecture,
    )
    if said != architecture:
        other = "ml.c8g.xlarge" if said == "arm64" else "ml.c7i.xlarge"
        raise ConfigError(
            f"image is {config.image!r}, built for {said}, and {where} is {architecture}: give an image for {architecture}, or an instance such as {other}."
        )


def check_memory(config: DeployConfig) -> None:
    if not config.traits.instances:
        estimate.serverless_memory(config)
        return
    for instance in config.instances:
        for model in fleet.models(config):
            estimate.check_fit(model, instance)
        if config.components:
            fleet_rules.check_together(config, instance)


def check_artefact(config: DeployConfig) -> None:
    named: list[tuple[str, DeployConfig, Variant | None]] = [
        ("", config, None),
        *((f"variants[{n}].", config, variant) for n, variant in enumerate(config.variants)),
        *((f"components[{n}].", model, None) for n, model in enumerate(fleet.models(config)[1:])),
    ]
    for section, model, variant in named:
        own, where = variant or model, f"{section}artefact"
        artefact, wanted = own.artefact, own.artefact_sha256
        if wanted and not (artefact and config.traits.own_container):
            raise ConfigError(f"{where}_sha256 is {wanted!r}, and there is no {where}: leave it out.")
        if model.component and not artefact:
            raise ConfigError(
                f"{where} is empty: `sagerank deploy` builds {model.model}; without it give a model.tar.gz or an s3:// address."
            )
        if not artefact or artefact.startswith("s3://") or not config.traits.own_container:
            continue
        path = Path(artefact)
        if not path.is_file():
            raise ConfigError(
                f"{where} is {artefact!r}, which is no file here: make it with `sagerank build --model {shlex.quote(model.model)} --output {artefact}`, or give an s3:// address."
            )
        parameters, code = _inspect(path)
        if not parameters:
            raise ConfigError(
                f"{where} is {artefact!r}, which holds no manifest.json: make it with `sagerank build`."
            )
        expected = estimate.parameters(model)
        if abs(parameters / expected - 1) > 0.01:
            raise ConfigError(
                f"{where} is {artefact!r} with {parameters / 1e6:.1f}M parameters, and {model.model} has {expected / 1e6:.1f}M: give the model it was built from."
            )
        if wanted and wanted != (found := manifest_sha256(model, variant)):
            raise ConfigError(
                f"{where}_sha256 is {wanted!r}, and the manifest of {artefact} has {found}: it is another artefact; give the one that is meant."
            )
        if config.image == "dlc" and not code:
            raise ConfigError(
                f"{where} is {artefact!r}, without the code/ that image dlc needs: build it with --code."
            )


def _inspect(path: Path) -> tuple[int, bool]:
    """Parameters by the archive's manifest (0 without one), and whether it holds code/."""
    # Names are sorted: both stand before the weights, and nothing large is read.
    code = False
    try:
        with path.open("rb") as file:
            for name, size, content in members(file, str(path), most=limit(path)):
                code = code or name.startswith("code/")
                if name == MANIFEST and size <= MOST_BYTES:
                    return int(json.loads(b"".join(content))["parameters"]), code
    except ArtefactError as error:
        raise ConfigError(f"artefact {error}") from None
    except (OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        raise ConfigError(
            f"artefact {path} cannot be read ({error}): make it again with `sagerank build`."
        ) from None
    return 0, code
