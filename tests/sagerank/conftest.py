"""What several rooms score with: a scorer by words, a small embedder, a second small model, and texts."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest

from sagerank.models.build import MICRO, archive, build
from sagerank.operate.account import Account

from ..conftest import VOCABULARY
from ..local_aws.launch import REGION
from ..local_aws.launch import running as local_aws
from ..servers import Server, running, wait_for
from .scripted import Script

ROLE = "arn:aws:iam::123456789012:role/any"

QUERY = "how do glaciers shape valleys"


DOCUMENTS = [
    "Ice carves valleys and leaves moraines.",
    "A cat sleeps on the mat.",
    "Glaciers pluck rock from the bed. " * 30,
    "Rivers make valleys, too.",
    "",
    "The piston moves in the cylinder.",
    "Valley glaciers flow downhill under their own weight.",
]


class Words:
    """A scorer one can compute in the head: how many of the query's words a document has."""

    def __init__(self, name: str = "words", sign: float = 1.0) -> None:
        self.name, self.sign, self.asked = name, sign, 0

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        self.asked += len(documents)
        return [self.sign * len(set(query.split()) & set(document.split())) for document in documents]


@pytest.fixture
def script() -> Iterator[Script]:
    with Script() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def embedder_folder(tmp_path: Path) -> Path:
    """A bi-encoder in ONNX: token embeddings drawn at random, so that texts which share words are near."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    folder = tmp_path / "embedder"
    folder.mkdir()
    shutil.copyfile(MICRO / "tokenizer.json", folder / "tokenizer.json")
    table = np.random.default_rng(0).normal(size=(VOCABULARY, 48)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])],
        "embedder",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["b", "s"])],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["b", "s", 48])],
        [numpy_helper.from_array(table, "table")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10),
        folder / "model.onnx",
    )
    return folder


@pytest.fixture(scope="session")
def second(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artefact of another model than micro, with micro's tokenizer."""
    folder = tmp_path_factory.mktemp("second")
    build(str(small_folder), folder)
    return folder


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A server of micro."""
    with running() as started:
        started.wait_until_ready()
        yield started


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A local AWS with an endpoint `whole` of a model, and one `parts` whose models are inference components."""
    folder = tmp_path_factory.mktemp("aws")
    archive("micro", folder / "model.tar.gz")
    with local_aws(folder / "log") as environment:
        session = boto3.Session("local", "local", region_name=REGION)
        s3, sagemaker = (
            session.client(name, endpoint_url=environment["AWS_ENDPOINT_URL"]) for name in ("s3", "sagemaker")
        )
        s3.create_bucket(Bucket="artefacts")
        s3.upload_file(str(folder / "model.tar.gz"), "artefacts", "model.tar.gz")
        container = {"Image": "any", "ModelDataUrl": "s3://artefacts/model.tar.gz", "Environment": {}}
        sagemaker.create_model(ModelName="micro", ExecutionRoleArn=ROLE, PrimaryContainer=container)
        variant = {"VariantName": "All", "InstanceType": "ml.c7i.large", "InitialInstanceCount": 1}
        for name, own in (("whole", {"ModelName": "micro"}), ("parts", {})):
            sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[{**variant, **own}])
            sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
            wait_for(lambda name=name: status(sagemaker, name) == "InService")  # type: ignore[misc]
        sagemaker.create_inference_component(
            InferenceComponentName="reranker",
            EndpointName="parts",
            VariantName="All",
            Specification={
                "ModelName": "micro",
                "ComputeResourceRequirements": {"MinMemoryRequiredInMb": 1024},
            },
            RuntimeConfig={"CopyCount": 1},
        )
        component = {"InferenceComponentName": "reranker"}
        wait_for(
            lambda: (
                sagemaker.describe_inference_component(**component)["InferenceComponentStatus"] == "InService"
            )
        )
        yield environment


@pytest.fixture
def account(aws: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Account:
    for name, text in aws.items():
        monkeypatch.setenv(name, text)
    return Account(REGION, endpoint_url=aws["AWS_ENDPOINT_URL"])


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Account:
    """Nobody listens there."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    return Account(REGION, endpoint_url="http://127.0.0.1:1")


def status(sagemaker: Any, name: str) -> str:
    return str(sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"])
