"""`sagerank doctor`: what is installed, whether the artefact scores as it should, and what to do if not."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sagerank_cost.text import hang
from sagerank_inference.settings import Settings, physical_cores

from . import aws
from .errors import InvalidRequest
from .models import extras

_RUNTIME = ("numpy", "onnxruntime", "tokenizers", "starlette", "uvicorn", "httptools", "prometheus-client")


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    ok: bool | None  # None: not there, and only needed by some
    detail: str
    fix: str = ""

    def line(self, columns: int | None) -> str:
        """The check as a person reads it on a terminal of so many columns; below a failure stands what to do."""
        mark = {True: "ok", False: "FAIL", None: "-"}[self.ok]
        line = hang(f"{mark:<4}  {self.name:<18} ", self.detail, columns)
        return line if self.ok or not self.fix else f"{line}\n{hang(' ' * 6, self.fix, columns)}"


def examine(model: str, *, region: str | None = None, profile: str | None = None) -> Iterator[Check]:
    """Checks in the order in which a failure explains the next, up to one that makes the rest meaningless."""
    version = platform.python_version()
    yield Check("python", sys.version_info >= (3, 11), version, "Install Python 3.11 or newer.")
    missing = []
    for name in _RUNTIME:
        installed = _version(name)
        if installed is None:
            missing.append(name)
        fix = extras.install("cpu") if missing == [name] else ""  # once is enough
        yield Check(name, installed is not None, installed or "missing", fix)
    for extra in extras.names():
        lacking = extras.missing(extra)
        detail = f"needs {extras.listed(lacking)}" if lacking else "installed"
        yield Check(f"extra {extra}", None if lacking else True, detail)
    yield Check("to add an extra", True, extras.install("EXTRA"))
    yield _aws(region, profile)
    yield Check("cores", True, f"{physical_cores()} physical cores for the model's threads")
    if missing:
        return
    yield from _examine_artefact(model)


def _aws(region: str | None, profile: str | None) -> Check:
    """Which AWS every command would ask; nobody is asked."""
    try:
        made = aws.session(region, profile)
    except aws.NoRegion as error:
        return Check("aws", None, str(error))
    except InvalidRequest as error:
        return Check("aws", False, str(error))
    return Check(
        "aws", True, f"region {made.get_config_variable('region')}, profile {made.profile or 'default'}"
    )


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _examine_artefact(model: str) -> Iterator[Check]:
    from sagerank_inference.artefact import ArtefactError, Manifest
    from sagerank_inference.checkpoint import CheckpointError
    from sagerank_inference.engine import Engine

    from .models.build import check_graphs, resolve

    fix = f"sagerank build --model {model} --output model.tar.gz, and deploy that."
    try:
        folder: Path = resolve(model)
        manifest = Manifest.read(folder)
        manifest.verify(folder)
        yield Check(
            "artefact",
            True,
            f"{manifest.model}, {manifest.parameters:,} parameters, {len(manifest.files)} hashes agree",
        )
        if check_graphs(folder):
            yield Check("graph", True, "byte for byte what this version writes for these weights")
        else:
            yield Check("graph", None, f"not compared, which needs onnx: {extras.install('build')}")
        engine = Engine.load(folder, Settings(model_dir=folder))
    except (ArtefactError, CheckpointError) as error:
        yield Check("artefact", False, str(error), fix)
        return
    for stage in engine.stages:
        pairs = f"{len(stage.manifest.golden)} pairs of {stage.manifest.model} score as the reference does"
        yield Check("golden scores", True, pairs)
    if "bf16" in manifest.precision.split(">"):
        from sagerank_inference.onnx_model import has_bfloat16

        there = has_bfloat16()
        detail = (
            "products in bfloat16"
            if there
            else "computed in float32, as ONNX Runtime does without an Arm processor that has it"
        )
        yield Check("bf16", there or None, detail)
