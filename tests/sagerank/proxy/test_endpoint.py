"""The proxy before an endpoint of the local AWS, whose containers run the real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from sagerank.models.build import archive
from sagerank_inference.engine import Engine

from ...local_aws.launch import REGION, running
from ...servers import proxied, wait_for

ROLE = "arn:aws:iam::123456789012:role/any"
QUERY, DOCUMENTS = "what causes rain", ["A cat sleeps.", "Clouds cool and drop water.", "Rain falls. " * 40]
BODY = json.dumps({"query": QUERY, "documents": DOCUMENTS, "raw_scores": True})


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A local AWS with an endpoint `whole` of a model, and one `parts` whose models are inference components."""
    folder = tmp_path_factory.mktemp("aws")
    archive("micro", folder / "model.tar.gz")
    with running(folder / "log") as environment:
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
        yield environment


def status(sagemaker: Any, name: str) -> str:
    return str(sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"])


@pytest.mark.parametrize("arguments", [["whole"], ["parts", "--component", "reranker"]])
def test_an_endpoint_ranks_as_the_engine_does(
    aws: dict[str, str], micro: Engine, arguments: list[str]
) -> None:
    expected = micro.score(QUERY, DOCUMENTS).values
    with proxied("--endpoint", *arguments, **aws) as proxy:
        code, answer, _ = proxy.ask("/v1/rerank", BODY)
        assert code == 200
        got = {result["index"]: result["relevance_score"] for result in answer["results"]}
        assert [got[index] for index in range(3)] == pytest.approx(expected, abs=1e-5)
        assert answer["model"] == "sagerank-micro"
        assert proxy.ask("/v1/models")[1]["data"][0]["id"] == arguments[-1]
        code, answer, _ = proxy.ask("/rerank", json.dumps({"query": QUERY, "texts": DOCUMENTS}))
        assert (code, len(answer)) == (200, 3)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["gone"], "There is no endpoint gone"),
        (["parts", "--component", "other"], "name one of parts's"),
    ],
)
def test_a_name_that_is_not_there_is_told(aws: dict[str, str], arguments: list[str], sentence: str) -> None:
    with proxied("--endpoint", *arguments, **aws) as proxy:
        code, answer, _ = proxy.ask("/v1/rerank", BODY)
        assert (code, sentence in answer["detail"]["message"]) == (502, True), answer


def test_what_the_model_refuses_is_the_callers_to_change(aws: dict[str, str]) -> None:
    body = json.dumps({"query": QUERY, "documents": ["a", "rain " * 9_000], "truncate": False})
    with proxied("--endpoint", "whole", **aws) as proxy:
        code, answer, _ = proxy.ask("/v1/rerank", body)
        assert (code, answer["detail"]["code"]) == (400, "INPUT_TOKEN_LIMIT_EXCEEDED")
        assert answer["detail"]["message"].startswith("documents[1] has ")
