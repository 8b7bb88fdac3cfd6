"""The archive that a deployment takes: built from a model's name, or, to plan with, one that knows the model's shape alone."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from sagerank_inference.archive import pack, unpack
from sagerank_inference.artefact import MANIFEST, ArtefactError

if TYPE_CHECKING:
    from sagerank_infra.config import DeployConfig


def built(model: str, *, code: bool) -> Path:
    """The archive of a model by name, from the cache where it was built before."""
    from sagerank.models.build import archive, default_cache, resolve

    folder = resolve(model)
    name = hashlib.sha256((folder / MANIFEST).read_bytes() + bytes([code])).hexdigest()[:16]
    target = default_cache() / "deploy" / name / "model.tar.gz"
    if code or not _whole(target):  # code/ changes with this source
        archive(model, target, code=code)
    return target


def _whole(archive: Path) -> bool:
    try:
        check(archive)
    except (ArtefactError, OSError):
        return False
    return True


def check(archive: Path) -> None:
    """Raise ArtefactError unless an archive holds a whole artefact, with the graph that this version writes (where onnx is installed)."""
    from sagerank.models.build import check_graphs

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        unpack(archive, folder)
        check_graphs(folder)


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
