"""`sagerank template` on the local AWS: CloudFormation gets the file and its parameters, and the endpoint answers and goes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sagerank_inference.archive import manifest_sha256

from ..local_aws.launch import ACCOUNT, REGION, running
from .test_deploy_e2e import GOLDEN, Aws

pytestmark = pytest.mark.e2e

BUCKET = "artefacts"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/team/sagerank:0.7"
BODY = json.dumps({"query": GOLDEN[0].query, "texts": [GOLDEN[0].document], "raw_scores": True})


class Owner(Aws):
    """With an artefact in a bucket of their own."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        super().__init__(environment, folder)
        s3 = self.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        s3.upload_file(str(folder / "model.tar.gz"), BUCKET, "micro/model.tar.gz")


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    folder = tmp_path_factory.mktemp("aws")
    with running(folder / "log") as environment:
        yield Owner(environment, folder)


@pytest.mark.parametrize(
    "words",
    ["--mode serverless", "--mode realtime --instance ml.c7i.large", "--mode async --instance ml.c7i.large"],
    ids=["serverless", "realtime", "async"],
)
def test_the_stack_is_made_answers_and_goes(aws: Owner, words: str) -> None:
    aws.sagerank("template", "--model", "micro", *words.split(), "--output", "sagerank.yaml")
    given = {
        "Image": IMAGE,
        "ArtefactBucket": BUCKET,
        "ArtefactKey": "micro/model.tar.gz",
        "ArtefactSha256": manifest_sha256(aws.folder / "model.tar.gz"),
    }
    formation, sagemaker = aws.client("cloudformation"), aws.client("sagemaker")
    formation.create_stack(
        StackName="reranker",
        TemplateBody=(aws.folder / "sagerank.yaml").read_text(encoding="utf-8"),
        Parameters=[{"ParameterKey": name, "ParameterValue": text} for name, text in given.items()],
        Capabilities=["CAPABILITY_IAM"],
    )
    formation.get_waiter("stack_create_complete").wait(StackName="reranker", WaiterConfig={"Delay": 1})
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="sagerank", WaiterConfig={"Delay": 1})
    (stack,) = formation.describe_stacks(StackName="reranker")["Stacks"]
    outputs = {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}
    (model,) = sagemaker.list_models()["Models"]
    container = sagemaker.describe_model(ModelName=model["ModelName"])["PrimaryContainer"]
    assert (container["Image"], container["ModelDataUrl"]) == (IMAGE, f"s3://{BUCKET}/micro/model.tar.gz")
    assert container["Environment"]["SAGERANK_MANIFEST_SHA256"] == given["ArtefactSha256"]
    assert outputs["EndpointName"] == "sagerank"
    repository = f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/team/sagerank"
    assert repository in _rights(aws, outputs["RoleArn"])

    if "async" in words:
        _ask_through_s3(aws, outputs["InputPath"])
    else:
        assert aws.rerank("sagerank")[0]["score"] == pytest.approx(GOLDEN[0].logit, abs=1e-3)
    assert json.loads(aws.sagerank("verify", "--json"))["ok"] is True

    s3 = aws.client("s3")
    for bucket in s3.list_buckets()["Buckets"]:
        for each in s3.list_objects_v2(Bucket=bucket["Name"]).get("Contents", ()):
            if bucket["Name"] != BUCKET:
                s3.delete_object(Bucket=bucket["Name"], Key=each["Key"])
    formation.delete_stack(StackName="reranker")
    formation.get_waiter("stack_delete_complete").wait(StackName="reranker", WaiterConfig={"Delay": 1})
    assert sagemaker.list_endpoints()["Endpoints"] == sagemaker.list_models()["Models"] == []
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == [BUCKET]


def _rights(aws: Owner, role: str) -> str:
    iam, name = aws.client("iam"), role.rpartition("/")[2]
    names = iam.list_role_policies(RoleName=name)["PolicyNames"]
    return json.dumps(
        [iam.get_role_policy(RoleName=name, PolicyName=each)["PolicyDocument"] for each in names]
    )


def _ask_through_s3(aws: Owner, folder: str) -> None:
    bucket, _, prefix = folder.removeprefix("s3://").partition("/")
    s3 = aws.client("s3")
    s3.put_object(Bucket=bucket, Key=f"{prefix}/one.json", Body=BODY)
    sent = aws.client("sagemaker-runtime").invoke_endpoint_async(
        EndpointName="sagerank", InputLocation=f"{folder}/one.json", ContentType="application/json"
    )
    key, until = sent["OutputLocation"].partition(f"{bucket}/")[2], time.monotonic() + 120
    while not s3.list_objects_v2(Bucket=bucket, Prefix=key).get("KeyCount"):
        assert time.monotonic() < until
        time.sleep(0.2)
    answer = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    assert answer[0]["score"] == pytest.approx(GOLDEN[0].logit, abs=1e-3)
