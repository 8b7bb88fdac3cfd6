"""Endpoints that may have no instance, against the local AWS: who calls them is seen, and who calls them waits for the start."""

from __future__ import annotations

import datetime
import json
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import boto3
import pytest

from sagerank import AsyncRerankClient, RerankClient
from sagerank.cli import main
from sagerank.client import Retry
from sagerank.errors import NoCapacity
from sagerank.operate.account import Account
from sagerank.operate.idle import idle

from ..local_aws.launch import REGION
from ..servers import wait_for
from .conftest import status

DOCUMENTS = ["Ice carves valleys.", "Cats sleep."]


@pytest.fixture(autouse=True)
def environment(aws: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in aws.items():
        monkeypatch.setenv(name, text)


@pytest.fixture
def sagemaker(environment: None) -> Any:
    return boto3.client("sagemaker", region_name=REGION)


def scale(sagemaker: Any, copies: int) -> None:
    sagemaker.update_inference_component_runtime_config(
        InferenceComponentName="reranker", DesiredRuntimeConfig={"CopyCount": copies}
    )
    wait_for(lambda: settled(sagemaker) == copies)


def settled(sagemaker: Any) -> int:
    found = sagemaker.describe_inference_component(InferenceComponentName="reranker")
    return (
        int(found["RuntimeConfig"]["CurrentCopyCount"])
        if found["InferenceComponentStatus"] == "InService"
        else -1
    )


@pytest.fixture
def at_zero(sagemaker: Any) -> Iterator[Any]:
    """The component of the endpoint `parts` without a copy."""
    scale(sagemaker, 0)
    yield sagemaker
    if settled(sagemaker) != 1:
        wait_for(lambda: settled(sagemaker) >= 0)
        scale(sagemaker, 1)


@pytest.fixture
def queued(sagemaker: Any) -> Iterator[str]:
    """An asynchronous endpoint."""
    variant = {
        "VariantName": "All",
        "ModelName": "micro",
        "InstanceType": "ml.c7i.large",
        "InitialInstanceCount": 1,
    }
    output = {"OutputConfig": {"S3OutputPath": "s3://artefacts/answers"}}
    sagemaker.create_endpoint_config(
        EndpointConfigName="queued", ProductionVariants=[variant], AsyncInferenceConfig=output
    )
    sagemaker.create_endpoint(EndpointName="queued", EndpointConfigName="queued")
    wait_for(lambda: status(sagemaker, "queued") == "InService")
    yield "queued"
    sagemaker.delete_endpoint(EndpointName="queued")
    sagemaker.delete_endpoint_config(EndpointConfigName="queued")


def nobody_calls(name: str) -> bool:
    """Whether `idle` says so, a day after the endpoint's creation, of all that was called since."""
    account = Account(REGION)
    created = account.client("sagemaker").describe_endpoint(EndpointName=name)["CreationTime"]
    found, _ = idle(account, 1, now=created + datetime.timedelta(days=1, milliseconds=1))
    return name in {each.endpoint for each in found}


def test_an_asynchronous_endpoint_that_is_called_is_not_idle(queued: str) -> None:
    assert nobody_calls(queued)
    body = json.dumps({"query": "ice", "documents": DOCUMENTS})
    sent = boto3.client("sagemaker-runtime", region_name=REGION).invoke_endpoint_async(
        EndpointName=queued, ContentType="application/json", Body=body
    )
    bucket, _, key = sent["OutputLocation"].removeprefix("s3://").partition("/")
    s3 = boto3.client("s3", region_name=REGION)
    wait_for(lambda: bool(s3.list_objects_v2(Bucket=bucket, Prefix=key).get("Contents")))
    counted = boto3.client("cloudwatch", region_name=REGION).list_metrics(
        Dimensions=[{"Name": "EndpointName", "Value": queued}]
    )["Metrics"]
    # AWS has no Invocations of an asynchronous endpoint.
    assert {each["MetricName"] for each in counted} == {
        "ModelLatency",
        "Invocation4XXErrors",
        "Invocation5XXErrors",
    }
    assert not nobody_calls(queued)


def test_a_component_is_not_idle_where_calls_find_no_capacity(at_zero: Any) -> None:
    client = RerankClient.sagemaker("parts", inference_component="reranker")
    with client, pytest.raises(NoCapacity):
        client.rerank("ice", DOCUMENTS, timeout=0.5)
    assert not nobody_calls("parts")


def start_soon(sagemaker: Any) -> threading.Thread:
    """Have autoscaling's work done by a thread, later than any other fault would be tried again."""

    def start() -> None:
        time.sleep(1.0)
        scale(sagemaker, 1)

    thread = threading.Thread(target=start)
    thread.start()
    return thread


IMPATIENT = Retry(tries=1, first=0.001, longest=0.002, start=0.1)


def test_a_client_waits_for_the_first_instance(at_zero: Any) -> None:
    heard: list[float] = []
    with RerankClient.sagemaker(
        "parts", inference_component="reranker", retry=IMPATIENT, starting=heard.append
    ) as client:
        thread = start_soon(at_zero)
        ranking = client.rerank("ice", DOCUMENTS, timeout=60)
    thread.join()
    assert len(ranking.results) == 2
    assert heard
    assert heard == sorted(heard)


def test_a_client_waits_no_longer_than_it_was_told(at_zero: Any) -> None:
    began = time.monotonic()
    client = RerankClient.sagemaker("parts", inference_component="reranker", retry=IMPATIENT)
    with client, pytest.raises(NoCapacity, match=r"parts has no instance now.*minutes.*longer timeout"):
        client.rerank("ice", DOCUMENTS, timeout=0.5)
    assert time.monotonic() - began < 5


async def _rerank(component: str) -> int:
    async with AsyncRerankClient.sagemaker("parts", inference_component=component, retry=IMPATIENT) as client:
        return len((await client.rerank("ice", DOCUMENTS, timeout=60)).results)


def test_the_client_for_asyncio_waits_too(at_zero: Any) -> None:
    import asyncio

    thread = start_soon(at_zero)
    assert asyncio.run(_rerank("reranker")) == 2
    thread.join()


def test_a_component_that_no_instance_has_room_for_fails_and_says_so(sagemaker: Any) -> None:
    """An ml.c7i.large has 4096 MB and 2 vCPUs, of which the component `reranker` has 1024 MB."""

    def made(name: str, **needs: float) -> dict[str, Any]:
        sagemaker.create_inference_component(
            InferenceComponentName=name,
            EndpointName="parts",
            VariantName="All",
            Specification={"ModelName": "micro", "ComputeResourceRequirements": needs},
            RuntimeConfig={"CopyCount": 1},
        )

        def found() -> dict[str, Any]:
            return dict(sagemaker.describe_inference_component(InferenceComponentName=name))

        wait_for(lambda: found()["InferenceComponentStatus"] != "Creating")
        after = found()
        sagemaker.delete_inference_component(InferenceComponentName=name)
        return after

    for needs in (
        {"MinMemoryRequiredInMb": 4000},
        {"MinMemoryRequiredInMb": 512, "NumberOfCpuCoresRequired": 2.5},
        {"MinMemoryRequiredInMb": 512, "NumberOfAcceleratorDevicesRequired": 1},
    ):
        large = made("large", **needs)
        assert large["InferenceComponentStatus"] == "Failed"
        assert "not enough hardware resources" in large["FailureReason"]
    assert made("small", MinMemoryRequiredInMb=1024)["InferenceComponentStatus"] == "InService"


def test_status_says_that_a_request_starts_the_first(
    at_zero: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "parts"]) == 0
    assert "0 copies on All (the next request starts the first" in " ".join(capsys.readouterr().out.split())


def test_verify_waits_and_says_what_for(at_zero: Any, capsys: pytest.CaptureFixture[str]) -> None:
    thread = start_soon(at_zero)
    assert main(["verify", "parts"]) == 0
    thread.join()
    assert "no instance; AWS is starting one" in capsys.readouterr().err


def test_rerank_waits_and_says_what_for(at_zero: Any, capsys: pytest.CaptureFixture[str]) -> None:
    thread = start_soon(at_zero)
    assert (
        main(["rerank", "ice", "--sample", "--endpoint", "parts", "--component", "reranker", "--json"]) == 0
    )
    thread.join()
    said = capsys.readouterr()
    assert len(json.loads(said.out)["results"]) == 36
    assert "no instance; AWS is starting one" in said.err
