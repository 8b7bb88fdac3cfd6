"""AWS's own SDK over our artefact, against a local AWS whose endpoints really run."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from sagerank.client import RerankClient, Reranking
from sagerank.distillation import DistillationError
from sagerank.distillation.recipe import Recipe
from sagerank.distillation.training_job import Job
from sagerank.errors import AccessDenied, BadAnswer, EndpointNotFound, InvalidRequest
from sagerank.evaluation import SAMPLE
from sagerank.models.build import archive
from sagerank.models.extras import install
from sagerank.operate import transform
from sagerank.transport import EngineTransport
from sagerank_inference.archive import manifest_sha256, pack, unpack
from sagerank_inference.artefact import MANIFEST, Manifest
from sagerank_inference.engine import Engine
from sagerank_infra.config import ConfigError, DeployConfig
from sagerank_infra.estimate import tracked

from ..conftest import ROOT, run_python
from ..local_aws.launch import ACCOUNT, REGION
from ..local_aws.notebook import start

pytest.importorskip("sagemaker.core.resources")

from sagemaker.core.resources import Endpoint, EndpointConfig, Model
from sagemaker.core.utils.utils import SageMakerClient

from sagerank import sagemaker as sr

IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/sagerank:cpu"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/sagerank"
QUERY = "what causes rain"
DOCUMENTS = ["Cats sleep all day.", "Clouds cool, and drops fall.", "Rain is water that falls from clouds."]
BODY = {"query": QUERY, "documents": DOCUMENTS}


@dataclass(frozen=True, slots=True)
class Aws:
    """A bucket that holds `artefact`, and the addresses that this process connected to."""

    port: int
    artefact: str
    reached: list[tuple[Any, ...]] = field(default_factory=list)

    def config(self, **given: Any) -> DeployConfig:
        own = {"model": "micro", "instance": "ml.c7i.large", "image": IMAGE, "artefact": self.artefact}
        return sr.config(**{**own, **given})


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    local = start()
    SageMakerClient.reset()  # it keeps the clients of what was AWS before
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="ours")
    file = tmp_path_factory.mktemp("artefact") / "model.tar.gz"
    archive("micro", file)
    s3.upload_file(str(file), "ours", "given/model.tar.gz")
    found = Aws(int(local.url.rpartition(":")[2]), "s3://ours/given/model.tar.gz")
    listening = True

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if listening and event in ("socket.connect", "socket.getaddrinfo"):
            found.reached.append(arguments[1:] if event == "socket.connect" else arguments)

    sys.addaudithook(hear)  # for good, so it is told when to stop
    yield found
    listening = False
    SageMakerClient.reset()
    local.stop()


@pytest.fixture(autouse=True)
def silent(aws: Aws) -> Iterator[None]:
    """The SDK's telemetry would go to a host in the region."""
    yield
    hosts = {where[0] if isinstance(where, tuple) else where for where, *_ in aws.reached}
    assert hosts <= {"localhost", "127.0.0.1", "::1"}


def test_an_endpoint_ranks_as_the_engine_does_and_is_deleted_whole(
    aws: Aws, micro: Engine, tmp_path: Path
) -> None:
    archive("micro", tmp_path / "model.tar.gz")
    config = aws.config(name="real", artefact=str(tmp_path / "model.tar.gz"), tags={"team": "search"})
    session = boto3.Session(region_name="eu-west-1")  # the configuration's region counts
    made = sr.model(config, role=ROLE, bucket="ours", session=session)
    assert isinstance(made, Model)
    assert made.enable_network_isolation is True
    assert made.primary_container.model_data_url.startswith("s3://ours/sagerank/models/")
    endpoint = sr.deploy(config, made, session=session)
    assert endpoint.endpoint_status == "InService"
    tags = boto3.client("sagemaker").list_tags(ResourceArn=endpoint.endpoint_arn)["Tags"]
    assert {"Key": "sagerank:name", "Value": "real"} in tags
    assert {"Key": "team", "Value": "search"} in tags

    with RerankClient(EngineTransport(micro)) as local, sr.predictor("real", region=REGION) as client:
        expected, ranking = local.rerank(QUERY, DOCUMENTS), client.rerank(QUERY, DOCUMENTS)
    assert [result.index for result in ranking.results] == [result.index for result in expected.results]
    assert [result.score for result in ranking.results] == pytest.approx(
        [result.score for result in expected.results], abs=1e-5
    )
    answer = endpoint.invoke(body={**BODY, "top_n": 1}).body
    assert isinstance(answer, Reranking)
    assert answer.results == ranking.results[:1]
    assert aws.reached  # the hook hears

    sr.delete(config)
    for kind in (Endpoint, EndpointConfig, Model):
        assert "real" not in [each.get_name() for each in kind.get_all(region=REGION)]
    with sr.predictor(endpoint) as client, pytest.raises(EndpointNotFound, match="no endpoint real"):
        client.rerank(QUERY, DOCUMENTS)


def test_errors_are_sentences_without_the_callers_texts(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    config = aws.config(name="strict", mode="serverless", instance="", settings={"max_documents": "2"})
    made = sr.model(config, role=ROLE)
    assert not made.enable_network_isolation
    endpoint = sr.deploy(config, made)
    with sr.predictor(endpoint) as client, pytest.raises(InvalidRequest, match="2") as refused:
        client.rerank(QUERY, DOCUMENTS)
    assert not any(text in str(refused.value) for text in (QUERY, *DOCUMENTS))
    with pytest.raises(InvalidRequest, match="no documents"):
        endpoint.invoke(body={"query": QUERY})
    for asked in ({"return_documents": False}, {"api_version": 2}, {"rank_fields": ["text"]}):
        with pytest.raises(InvalidRequest, match="leave out return_documents, and Cohere's"):
            endpoint.invoke(body={**BODY, **asked})
    with (
        sr.predictor("nowhere") as client,
        pytest.raises(EndpointNotFound, match="no endpoint nowhere in us"),
    ):
        client.rerank(QUERY, DOCUMENTS)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    session = boto3.Session()
    for each in (endpoint, "strict"):
        with sr.predictor(each, session=session) as client, pytest.raises(AccessDenied, match="sso login"):
            client.rerank(QUERY, DOCUMENTS)
    monkeypatch.undo()
    with pytest.raises(ClientError, match="already existing"):  # and its configuration is not left behind
        sr.deploy(config, made)
    sr.delete(config)


def test_what_does_not_start_is_said_with_its_reason(aws: Aws) -> None:
    boto3.client("s3").put_object(Bucket="ours", Key="broken/model.tar.gz", Body=b"no archive")
    config = aws.config(name="broken", artefact="s3://ours/broken/model.tar.gz")
    with pytest.raises(sr.SageMakerError, match=r"broken is Failed: .*sr\.delete\(config\) frees the names"):
        sr.deploy(config, sr.model(config, role=ROLE))
    sr.delete(config)


def test_an_artefact_that_is_replaced_after_the_model_was_created_does_not_start(
    aws: Aws, tmp_path: Path
) -> None:
    archive("micro", tmp_path / "model.tar.gz")
    pinned = manifest_sha256(tmp_path / "model.tar.gz")
    config = aws.config(name="pinned", artefact=str(tmp_path / "model.tar.gz"))
    made = sr.model(config, role=ROLE, bucket="ours")
    assert made.primary_container.environment["SAGERANK_MANIFEST_SHA256"] == pinned
    given = aws.config(name="given", artefact_sha256="a" * 64)
    made_of = sr.model(given, role=ROLE).primary_container
    assert made_of.environment["SAGERANK_MANIFEST_SHA256"] == "a" * 64

    unpack(tmp_path / "model.tar.gz", tmp_path / "other")
    manifest = dataclasses.replace(Manifest.read(tmp_path / "other"), model="other")
    manifest.write(tmp_path / "other")
    pack({name: tmp_path / "other" / name for name in (*manifest.files, MANIFEST)}, tmp_path / "other.tar.gz")
    key = made.primary_container.model_data_url.removeprefix("s3://ours/")
    boto3.client("s3").upload_file(str(tmp_path / "other.tar.gz"), "ours", key)
    with pytest.raises(sr.SageMakerError, match="is of another artefact than the one that was deployed"):
        sr.deploy(config, made)
    for each in (config, given):
        sr.delete(each)


def test_an_asynchronous_endpoint_answers_through_s3_and_scales_on_its_queue(aws: Aws) -> None:
    config = aws.config(name="queued", mode="async", autoscaling={"max": 3})
    endpoint = sr.deploy(config, sr.model(config, role=ROLE), output="s3://ours/answers/")
    s3 = boto3.client("s3")
    s3.put_object(Bucket="ours", Key="one.json", Body=json.dumps(BODY))
    sent = endpoint.invoke_async(input_location="s3://ours/one.json", content_type="application/json")
    key = sent.output_location.removeprefix("s3://ours/")
    s3.get_waiter("object_exists").wait(Bucket="ours", Key=key, WaiterConfig={"Delay": 1, "MaxAttempts": 120})
    stored = sr.RerankDeserializer().deserialize(
        s3.get_object(Bucket="ours", Key=key)["Body"], "application/json"
    )
    assert [result.document for result in stored.results].index(DOCUMENTS[0]) == 2

    assert sr.autoscale(config) == tracked(config)
    scaling = boto3.client("application-autoscaling")
    (target,) = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    assert (target["ResourceId"], target["MinCapacity"], target["MaxCapacity"]) == (
        "endpoint/queued/variant/AllTraffic",
        1,
        3,
    )
    (policy,) = scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    metric = policy["TargetTrackingScalingPolicyConfiguration"]["CustomizedMetricSpecification"]
    assert metric["MetricName"] == "ApproximateBacklogSizePerInstance"
    sr.delete(config)
    assert scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"] == []


@pytest.mark.parametrize(
    ("given", "metric", "value"),
    [
        ({"mode": "realtime", "autoscaling": {"target": 300}}, "SageMakerVariantInvocationsPerInstance", 300),
        (
            {"mode": "serverless", "instance": "", "serverless": {"provisioned": 2}},
            "SageMakerVariantProvisionedConcurrencyUtilization",
            0.7,
        ),
    ],
)
def test_the_fleet_follows_the_metric_that_the_mode_emits(
    aws: Aws, given: dict[str, Any], metric: str, value: float
) -> None:
    config = aws.config(name=f"in-{given['mode']}", **given)
    assert sr.autoscale(config) == value
    client = boto3.client("application-autoscaling")
    known = client.meta.service_model.shape_for("MetricType").enum
    (policy,) = client.describe_scaling_policies(
        ServiceNamespace="sagemaker", ResourceId=f"endpoint/{config.name}/variant/AllTraffic"
    )["ScalingPolicies"]
    used = policy["TargetTrackingScalingPolicyConfiguration"]["PredefinedMetricSpecification"]
    assert used["PredefinedMetricType"] == metric
    assert metric in known
    sr.delete(config)


def test_a_named_key_encrypts_a_jobs_answers_and_volumes(aws: Aws) -> None:
    key = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/mine"
    config = aws.config(name="sealed", mode="batch", encryption={"key": key})
    sr.model(config, role=ROLE)
    boto3.client("s3").put_object(Bucket="ours", Key="sealed.jsonl", Body=json.dumps(BODY))
    job = sr.transform_job(config, "s3://ours/sealed.jsonl", "s3://ours/sealed")
    assert (job.transform_output.kms_key_id, job.transform_resources.volume_kms_key_id) == (key, key)
    sr.wait(job)
    sr.delete(config)
    with_disk = transform.Job(instance="ml.g5.xlarge")  # an NVMe disk, which takes no key
    wanted = transform.request(
        "a", "b", with_disk, mime="text/csv", source="s3://c", target="s3://d", key=key
    )
    assert wanted["TransformResources"] == {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1}


def test_the_page_runs_as_it_stands(aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs/sagemaker.md").read_text(encoding="utf-8")
    for name in ("passages.jsonl.gz", "queries.jsonl.gz"):
        shutil.copyfile(SAMPLE / name, tmp_path / name)
    archive("micro", tmp_path / "model.tar.gz")
    s3 = boto3.client("s3")
    s3.put_object(Bucket="ours", Key="requests/one.json", Body=json.dumps(BODY))
    lines = [json.dumps({**BODY, "query": query}) for query in ("rain", "cats")]
    s3.put_object(Bucket="ours", Key="requests.jsonl", Body="\n".join(lines))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"IMAGE": IMAGE, "ROLE": ROLE, "BUCKET": "ours", "PYTORCH": IMAGE}
    for block in re.findall(r"^```python\n(.*?)^```", page, re.M | re.S):
        exec(compile(block, "docs/sagemaker.md", "exec"), names)
    assert names["ranking"].results[0].document.startswith("Rain")
    assert [endpoint.get_name() for endpoint in Endpoint.get_all(region=REGION)] == ["queued"]
    scored = s3.get_object(Bucket="ours", Key="scored/requests.jsonl.out")["Body"].read().splitlines()
    assert [json.loads(line)["results"][0]["document"]["text"] for line in scored] == [
        DOCUMENTS[2],
        DOCUMENTS[0],
    ]
    training = names["job"]
    assert training.training_job_status == "Completed"  # at once, for nothing is trained here
    assert training.enable_managed_spot_training is True
    assert training.hyper_parameters["name"] == '"my-student"'
    code = json.loads(training.hyper_parameters["sagemaker_submit_directory"])
    assert s3.head_object(Bucket="ours", Key=code.removeprefix("s3://ours/"))
    for config in (names["queued"], names["batch"]):
        sr.delete(config)


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        ('{"index": 0, "relevance_score": NaN, "document": "a"}', "no number from 0 to 1"),
        ('{"index": true, "relevance_score": 0.5, "document": "a"}', "not that of a reranker"),
        ('{"index": 0, "relevance_score": 0.5}', "holds no documents"),
        ("[" * 100_000, "not that of a reranker"),
    ],
)
def test_an_answer_that_is_no_ranking_is_refused(result: str, sentence: str) -> None:
    text = f'{{"model": "m", "usage": {{"total_tokens": 1}}, "results": [{result}]}}'
    with pytest.raises(BadAnswer, match=sentence):
        sr.RerankDeserializer().deserialize(io.BytesIO(text.encode()), "application/json")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"variants": []}, "variants is not an option here"),
        ({"mode": "scale-to-zero"}, "mode is 'scale-to-zero': give one of realtime"),
        ({"image": "dockerfile"}, "image is no address in ECR"),
        ({"mode": "async", "autoscaling": {"min": 0}}, "autoscaling.min of at least 1"),
        ({"mode": "serverless", "instance": "", "serverless": {"memory_mb": 1500}}, "memory_mb is 1500"),
        (
            {"autoscaling": {"schedules": [{"name": "night", "cron": "cron(0 20 * * ? *)"}]}},
            "autoscaling.schedules is for `sagerank deploy`",
        ),
        ({"network": "mine"}, "network is 'mine'"),
        ({"instance": "ml.c7i.lrge"}, "did you mean ml.c7i.large"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(aws: Aws, given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        aws.config(**given)


def test_what_is_missing_is_asked_for(aws: Aws, tmp_path: Path) -> None:
    archive("micro", tmp_path / "model.tar.gz")
    local = aws.config(artefact=str(tmp_path / "model.tar.gz"))
    with pytest.raises(ConfigError, match="tiny has 33.0M: give the model it was built from"):
        aws.config(model="tiny", artefact=local.artefact)
    with pytest.raises(ConfigError, match="bucket is empty"):
        sr.model(local, role=ROLE)
    with pytest.raises(ConfigError, match="role is 'me'"):
        sr.model(local, role="me")
    with pytest.raises(ConfigError, match="mode async needs an s3:// folder"):
        sr.deploy(aws.config(mode="async"), Model(model_name="any"))
    with pytest.raises(ConfigError, match=r"source is 'requests.jsonl': give an s3:// address\."):
        sr.transform_job(aws.config(mode="batch"), "requests.jsonl", "s3://ours/scored")
    recipe = Recipe(passages="./nowhere.jsonl", queries="./nowhere.jsonl", teachers=("micro",))
    with pytest.raises(DistillationError, match="does not exist"):
        sr.training_job(recipe, Job(role=ROLE, bucket="ours", image=IMAGE), "student")


def test_without_the_sdk_the_command_that_installs_it_is_named() -> None:
    done = run_python("import sys; sys.modules['sagemaker'] = None; import sagerank.sagemaker")
    assert done.stderr.splitlines()[-1].endswith(f"needs release 3 of AWS's SDK: {install('sagemaker')}")
