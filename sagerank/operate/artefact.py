"""The archive that a deployment takes: built from a model's name, or, to plan with, one that knows the model's shape alone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from sagerank_inference.archive import pack
from sagerank_inference.artefact import MANIFEST

if TYPE_CHECKING:
    from sagerank_infra.config import DeployConfig


def built(model: str, *, code: bool) -> Path:
    """The archive of a model by name, from the cache where it was built before."""
    from sagerank.models.build import archive, default_cache, resolve

    folder = resolve(model)
    name = hashlib.sha256((folder / MANIFEST).read_bytes() + bytes([code])).hexdigest()[:16]
    cache = default_cache() / "deploy" / name
    if code or not (cache / "model.tar.gz").is_file():  # code/ changes with this source
        archive(model, cache / "model.tar.gz", code=code)
    return cache / "model.tar.gz"


def of_shape(config: DeployConfig, folder: Path) -> Path:
    """An archive with all that the stacks ask of one, and no weights: nothing is downloaded or built."""
    from sagerank_infra import estimate

    members: dict[str, Path | bytes] = {
        MANIFEST: json.dumps({"parameters": estimate.parameters(config)}).encode()
    }
    if config.image == "dlc":
        members["code/of_shape"] = b""
    pack(members, folder / "model.tar.gz")
    return folder / "model.tar.gz"
