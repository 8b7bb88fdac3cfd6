"""A local AWS with a registry, and what its tests do with it: push, create, ask, and look at the containers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from containers.engine import podman
from sagerank.models.build import MICRO
from sagerank_inference.artefact import Manifest

from ..local_aws.launch import ACCOUNT, DOCKER, REGION
from ..local_aws.registry import PASSWORD, USER, Registry

HOST = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/any"
REPOSITORY = "reranker"
GOLDEN = Manifest.read(MICRO).golden[0]


@dataclass(frozen=True)
class Aws:
    environment: dict[str, str]
    folder: Path

    @property
    def registry(self) -> Registry:
        return Registry(self.environment["LOCAL_AWS_REGISTRY"], Path(self.environment["LOCAL_AWS_FOLDER"]))

    def client(self, service: str) -> Any:
        session = boto3.Session("local", "local", region_name=REGION)
        return session.client(service, endpoint_url=self.environment["AWS_ENDPOINT_URL"])

    def docker(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """As the CDK's asset publishing calls it."""
        return subprocess.run(
            [sys.executable, str(DOCKER), *words],
            env={**os.environ, **self.environment},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    def push(self, image: str, tag: str, *more: str, store: Mapping[str, str] = {}) -> None:
        """From the machine's images, or those of another store, without the CDK."""
        target = f"docker://{self.registry.address}/{HOST}/{REPOSITORY}:{tag}"
        access = ("--dest-tls-verify=false", "--dest-creds", f"{USER}:{PASSWORD}")
        subprocess.run(
            ["skopeo", "copy", "--quiet", *access, *more, f"containers-storage:{image}", target],
            env={**os.environ, **podman().environ, **store},
            check=True,
        )

    def create_model(self, name: str, image: str, **more: str) -> None:
        self.client("sagemaker").create_model(
            ModelName=name,
            ExecutionRoleArn=ROLE,
            EnableNetworkIsolation=True,
            PrimaryContainer={
                "Image": image,
                "ModelDataUrl": more.pop("artefact", "s3://artefacts/model.tar.gz"),
                "Environment": more,
            },
        )

    def create_endpoint(self, name: str, model: str | None = None, **variant: Any) -> dict[str, Any]:
        """Until it is created or has failed."""
        if "ServerlessConfig" not in variant:
            variant = {"InstanceType": "ml.c7i.large", "InitialInstanceCount": 1, **variant}
        if model:
            variant["ModelName"] = model
        sagemaker = self.client("sagemaker")
        sagemaker.create_endpoint_config(
            EndpointConfigName=name, ProductionVariants=[{"VariantName": "All", **variant}]
        )
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
        deadline = time.monotonic() + 180
        while True:
            found: dict[str, Any] = sagemaker.describe_endpoint(EndpointName=name)
            if found["EndpointStatus"] != "Creating":
                return found
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def containers(self) -> list[dict[str, Any]]:
        environ = {**os.environ, **podman().environ, **self.registry.storage("instances")}
        ids = subprocess.run(
            ["podman", "ps", "--quiet"], env=environ, capture_output=True, text=True, check=True
        ).stdout.split()
        if not ids:
            return []
        said = subprocess.run(["podman", "inspect", *ids], env=environ, capture_output=True, check=True)
        found: list[dict[str, Any]] = json.loads(said.stdout)
        return found

    def rerank(self, endpoint: str, **more: str) -> float:
        body = json.dumps({"query": GOLDEN.query, "texts": [GOLDEN.document], "raw_scores": True})
        answer = self.client("sagemaker-runtime").invoke_endpoint(
            EndpointName=endpoint, ContentType="application/json", Body=body, **more
        )
        return float(json.loads(answer["Body"].read())[0]["score"])

    def push_tiny(self, tag: str, *more: str, platform: str = "linux/amd64") -> None:
        """An image with a label and nothing that runs."""
        engine, store = podman(), self.registry.storage("builds")
        done = subprocess.run(
            [
                *(engine.name, "build", "--quiet", "--no-cache", "--format", "docker"),
                *("--platform", platform, "--file", "-", str(self.folder)),
            ],
            env={**os.environ, **engine.environ, **store},
            input=b"FROM scratch\nLABEL tiny=yes\n",
            capture_output=True,
            check=True,
        )
        self.push(done.stdout.decode().strip(), tag, *more, store=store)

    def push_many(self, tag: str, kind: str) -> None:
        """What lists the manifests of several architectures."""
        where = f"{HOST}/{REPOSITORY}"
        one = self.registry.manifest(where, "cpu")
        assert one
        entry = {
            "mediaType": one.media_type,
            "digest": one.digest,
            "size": len(one.text),
            "platform": {"os": "linux", "architecture": "amd64"},
        }
        body = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": [entry]}).encode()
        manager = urllib.request.HTTPPasswordMgrWithPriorAuth()
        manager.add_password(None, f"http://{self.registry.address}/", USER, PASSWORD, is_authenticated=True)
        request = urllib.request.Request(
            f"http://{self.registry.address}/v2/{where}/manifests/{tag}",
            data=body,
            method="PUT",
            headers={"Content-Type": kind},
        )
        with urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(manager)).open(
            request
        ) as answer:
            assert answer.status == 201
