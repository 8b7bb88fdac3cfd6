"""Stacks by example, their templates by meaning: nothing here knows a logical id."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk.assertions import Template

from sagerank.models.build import MICRO
from sagerank_inference.archive import pack
from sagerank_inference.artefact import Manifest
from sagerank_infra.app import build
from sagerank_infra.config import PRESETS, DeployConfig

from .synth import EXAMPLES, example

MODEL, CONFIG = "AWS::SageMaker::Model", "AWS::SageMaker::EndpointConfig"
ENDPOINT, COMPONENT = "AWS::SageMaker::Endpoint", "AWS::SageMaker::InferenceComponent"
TARGET, POLICY = "AWS::ApplicationAutoScaling::ScalableTarget", "AWS::ApplicationAutoScaling::ScalingPolicy"
ALARM, BUCKET = "AWS::CloudWatch::Alarm", "AWS::S3::Bucket"


@dataclass(frozen=True)
class Synthesised:
    """Templates by what they are of: network, model, endpoint, observability. assembly: the folder of all files."""

    config: DeployConfig
    assembly: Path
    templates: dict[str, dict[str, Any]]

    def __getitem__(self, stack: str) -> Template:
        return Template.from_json(self.templates[stack])

    def resources(self, kind: str) -> list[dict[str, Any]]:
        return [each for _, each in self.named(kind)]

    def named(self, kind: str) -> list[tuple[str, dict[str, Any]]]:
        every = (item for template in self.templates.values() for item in template["Resources"].items())
        return [(name, each) for name, each in every if each["Type"] == kind]

    def one(self, kind: str) -> dict[str, Any]:
        (found,) = self.resources(kind)
        return dict(found["Properties"])

    def outputs(self) -> dict[str, Any]:
        every = (template.get("Outputs", {}) for template in self.templates.values())
        return {name: each["Value"] for outputs in every for name, each in outputs.items()}


@cache
def _scratch() -> str:
    folder = tempfile.mkdtemp(prefix="sagerank-assemblies-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def new_app(**options: Any) -> cdk.App:
    """An app whose folder is removed with this process. The CDK's own choice stays in /tmp."""
    return cdk.App(outdir=tempfile.mkdtemp(dir=_scratch()), **options)


def synthesise(config: DeployConfig, app: cdk.App | None = None) -> Synthesised:
    app = app or new_app()
    build(app, config)
    folder = Path(app.synth().directory)
    found = sorted(folder.glob("*.template.json"))
    templates = {
        path.name.split(".")[0].rpartition("-")[2]: json.loads(path.read_text(encoding="utf-8"))
        for path in found
    }
    return Synthesised(config, folder, templates)


@cache
def stacks(name: str, preset: str = "dev", **options: str) -> Synthesised:
    return synthesise(example(name, preset, **options))


EVERY = [(name, preset) for name in EXAMPLES for preset in PRESETS]
ENDPOINTS = [name for name in EXAMPLES if name != "batch"]


@pytest.fixture(autouse=True, scope="module")
def _no_network() -> Iterator[None]:
    """Synthesis asks nobody. (The CDK's own process is a child; it has no credentials and no region either.)"""
    with pytest.MonkeyPatch.context() as patch:

        def refuse(self: socket.socket, address: Any) -> None:
            raise AssertionError(f"a connection to {address}")

        patch.setattr(socket.socket, "connect", refuse)
        for name in [
            name for name in os.environ if name.startswith("AWS_") and name != "AWS_EC2_METADATA_DISABLED"
        ]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """micro's model.tar.gz, as `sagerank build` packs it."""
    path = tmp_path_factory.mktemp("artefact") / "model.tar.gz"
    pack({name: MICRO / name for name in (*Manifest.read(MICRO).files, "manifest.json")}, path)
    return path


def statements(resource: dict[str, Any]) -> list[dict[str, Any]]:
    return list(resource["Properties"]["PolicyDocument"]["Statement"])


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def variant(found: Synthesised) -> dict[str, Any]:
    (only,) = found.one(CONFIG)["ProductionVariants"]
    return dict(only)


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
