"""deploy, verify, status, idle, transform and destroy against moto's server and the real model server, through real sockets. Where SageMaker
does what moto cannot (take its time, fail, roll back), the socket answers with SageMaker's own words.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import http.client
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.cloudformation.models import cloudformation_backends
from moto.sagemaker.models import sagemaker_backends
from moto.server import ThreadedMotoServer

from sagerank import operate
from sagerank.cli import main
from sagerank.models.build import MICRO, archive
from sagerank.models.local_server import serving
from sagerank.operate import OperateError, endpoint, key_policy, quotas, tools, transform, updating
from sagerank.operate.account import Account, sentences
from sagerank.operate.cdk import Assembly
from sagerank.operate.destroy import Doomed, left, survey
from sagerank.operate.stacks import Resource
from sagerank_inference.archive import pack
from sagerank_inference.artefact import Manifest
from sagerank_infra import rules

ACCOUNT, REGION = "123456789012", "us-east-1"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/model"
Answer = Callable[[dict[str, Any]], tuple[int, dict[str, Any]]]


class Stage(ThreadingHTTPServer):
    """All of AWS at one address: the runtime is the model server, the rest moto, but for operations in `answers`."""

    daemon_threads = True

    def __init__(self, moto: str, model: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.moto, self.model, self.answers = moto, model, dict[str, Answer]()
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Stage

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
        if operation in self.server.answers:
            status, payload = self.server.answers[operation](json.loads(body))
            self._send(status, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(payload).encode())
            return
        upstream = urllib.parse.urlsplit(
            self.server.model if self.path.startswith("/endpoints/") else self.server.moto
        )
        connection = http.client.HTTPConnection(upstream.hostname or "", upstream.port, timeout=60)
        connection.request(self.command, self.path, body, dict(self.headers))
        answer = connection.getresponse()
        self._send(answer.status, dict(answer.headers), answer.read())
        connection.close()

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = _serve

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[str, str]]:
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    with serving(MICRO) as server:
        yield f"http://{host}:{port}", server.url
    moto.stop()


@pytest.fixture
def stage(servers: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    own = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
    }
    for name, text in own.items():
        monkeypatch.setenv(name, text)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setattr(endpoint, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(transform, "_POLL_SECONDS", 0.01)
    stage = Stage(*servers)
    threading.Thread(target=stage.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", stage.url)
    yield stage
    stage.shutdown()
    stage.server_close()
    reset = http.client.HTTPConnection(urllib.parse.urlsplit(servers[0]).netloc, timeout=60)
    reset.request("POST", "/moto-api/reset")
    reset.getresponse().read()
    reset.close()


def client(service: str) -> Any:
    return boto3.client(service, region_name=REGION)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("packed") / "model.tar.gz"
    archive("micro", file)
    return file.read_bytes()


CALLER = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "sagemaker:InvokeEndpoint", "Resource": "*"}],
}
CONTAINER = {
    "Image": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/sagerank:1",
    "ModelDataUrl": "s3://models/micro/model.tar.gz",
}


def make_endpoint(
    name: str = "sagerank", instance: str = "ml.m5.large", count: int = 2, **variant: Any
) -> str:
    """An endpoint in moto; the name of its configuration."""
    sagemaker = client("sagemaker")
    sagemaker.create_model(ModelName=f"{name}-model", ExecutionRoleArn=ROLE, PrimaryContainer=CONTAINER)
    own = variant or {"InstanceType": instance, "InitialInstanceCount": count}
    variants = [
        {"VariantName": "AllTraffic", "ModelName": f"{name}-model", "InitialVariantWeight": 1.0, **own}
    ]
    sagemaker.create_endpoint_config(EndpointConfigName=f"{name}-config", ProductionVariants=variants)
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=f"{name}-config")
    return f"{name}-config"


def make_stack(name: str = "sagerank", *, retain: bool = False, batch: bool = False) -> str:
    """The deployment's endpoint stack, without the endpoint: the name of the configuration it made."""
    encrypted = {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    data = {"BucketEncryption": {"ServerSideEncryptionConfiguration": [encrypted]}}
    paths = {
        f"{kind}Path": {"Fn::Join": ["/", ["s3:/", {"Ref": "Data"}, kind.lower()]]}
        for kind in ("Input", "Output")
    }
    outputs = {"ModelName": {"Fn::GetAtt": ["Model", "ModelName"]}, **paths} if batch else {}
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": {"Fn::GetAtt": ["Model", "ModelName"]},
        "InitialInstanceCount": 1,
        "InstanceType": "ml.m5.large",
        "InitialVariantWeight": 1.0,
    }
    resources: dict[str, Any] = {
        "Model": {
            "Type": "AWS::SageMaker::Model",
            "Properties": {"ExecutionRoleArn": ROLE, "PrimaryContainer": CONTAINER},
        },
        "Config": {"Type": "AWS::SageMaker::EndpointConfig", "Properties": {"ProductionVariants": [variant]}},
        "Data": {
            "Type": "AWS::S3::Bucket",
            "Properties": data,
            **({"DeletionPolicy": "Retain"} if retain else {}),
        },
        "Name": {
            "Type": "AWS::SSM::Parameter",
            "Properties": {"Name": f"/sagerank/{name}/endpoint-name", "Type": "String", "Value": name},
        },
        "Caller": {"Type": "AWS::IAM::ManagedPolicy", "Properties": {"PolicyDocument": CALLER}},
    }
    template = {"Resources": resources, "Outputs": {id: {"Value": value} for id, value in outputs.items()}}
    formation = client("cloudformation")
    formation.create_stack(StackName=f"{name}-endpoint", TemplateBody=json.dumps(template))
    listed = formation.list_stack_resources(StackName=f"{name}-endpoint")["StackResourceSummaries"]
    config = next(each for each in listed if each["LogicalResourceId"] == "Config")
    return str(config["PhysicalResourceId"]).rpartition("/")[2]


def store(packed: bytes) -> None:
    client("s3").create_bucket(Bucket="models")
    client("s3").put_object(Bucket="models", Key="micro/model.tar.gz", Body=packed)


def described(stage: Stage, *states: dict[str, Any]) -> list[str]:
    """Let DescribeEndpoint answer as moto does, changed by `states` one after another; the last one stays."""
    seen: list[str] = []

    def answer(asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        change = states[min(len(seen), len(states) - 1)]
        seen.append(change.get("EndpointStatus", "InService"))
        found = sagemaker_backends[ACCOUNT][REGION].describe_endpoint(asked["EndpointName"])
        plain = {
            key: value.timestamp() if isinstance(value, datetime.datetime) else value
            for key, value in found.items()
            if key != "Tags"
        }
        return 200, plain | change

    stage.answers["DescribeEndpoint"] = answer
    return seen


def test_verify_asks_the_endpoint_for_the_deployed_artefacts_own_golden_pairs(
    stage: Stage, packed: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    store(packed)
    config = make_endpoint()
    assert main(["verify", "sagerank", "--json"]) == 0
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["config"] == config
    assert verdict["wanted"] == ""
    golden = Manifest.read(MICRO).golden
    (judged,) = verdict["judged"]
    assert judged["tolerance"] == 1e-3
    assert [score["logit"] for score in judged["scores"]] == pytest.approx(
        [pair.logit for pair in golden], abs=1e-3
    )
    assert main(["verify"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "ok    sagerank runs what was deployed: 4 golden pairs score as the reference did"


def test_an_update_that_was_rolled_back_in_silence_is_found(
    stage: Stage, packed: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """SageMaker's answers during such an update: Updating, RollingBack, and InService again with the old configuration."""
    store(packed)
    old, new = make_endpoint(), make_stack()
    seen = described(
        stage,
        {"EndpointStatus": "Updating"},
        {"EndpointStatus": "RollingBack"},
        {"EndpointStatus": "InService", "EndpointConfigName": old},
    )
    assert main(["verify"]) == 1
    out = capsys.readouterr().out
    assert seen[:3] == ["Updating", "RollingBack", "InService"]
    assert f"it runs {old}; its stack (CREATE_COMPLETE) wants {new}" in out
    assert "4 golden pairs" in out
    assert main(["status"]) == 0
    assert "ROLLED BACK" in capsys.readouterr().out.splitlines()[0]


def test_an_update_that_stayed_is_accepted(
    stage: Stage, packed: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    store(packed)
    make_endpoint()
    new = make_stack()
    described(
        stage, {"EndpointStatus": "Updating"}, {"EndpointStatus": "InService", "EndpointConfigName": new}
    )
    assert main(["verify", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["wanted"] == new
    assert main(["verify", "--expect-config", "another"]) == 1


def test_a_stack_that_was_rolled_back_is_a_failure_even_where_configurations_agree(
    stage: Stage, packed: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    store(packed)
    make_endpoint()
    described(stage, {"EndpointConfigName": make_stack()})
    (stack,) = cloudformation_backends[ACCOUNT][REGION].stacks.values()
    stack.status = "UPDATE_ROLLBACK_COMPLETE"
    assert main(["verify"]) == 1
    assert "UPDATE_ROLLBACK_COMPLETE" in capsys.readouterr().out


def test_other_weights_are_found(
    stage: Stage, packed: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(packed)
    make_endpoint()
    other = tmp_path / "other"
    shutil.copytree(MICRO, other)
    manifest = Manifest.read(MICRO)
    golden = tuple(dataclasses.replace(pair, logit=pair.logit + 0.01) for pair in manifest.golden)
    dataclasses.replace(manifest, golden=golden).write(other)
    assert main(["verify", "--model", str(other)]) == 1
    out = capsys.readouterr().out
    assert "FAIL  AllTraffic" in out
    assert "the reference has" in out
    assert main(["verify", "--model", str(other), "--tolerance", "0.1"]) == 0


def test_the_artefact_is_told_by_its_manifest_and_one_that_was_replaced_is_a_failure(
    stage: Stage, packed: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = hashlib.sha256((MICRO / "manifest.json").read_bytes()).hexdigest()
    store(packed)
    make_endpoint()
    assert main(["verify"]) == 0
    assert f"manifest {own}, not pinned" in " ".join(capsys.readouterr().out.split())
    monkeypatch.setitem(CONTAINER, "Environment", {"SAGERANK_MANIFEST_SHA256": own})
    make_endpoint("pinned")
    assert main(["verify", "pinned"]) == 0
    assert f"manifest {own}, pinned" in " ".join(capsys.readouterr().out.split())
    monkeypatch.setitem(CONTAINER, "Environment", {"SAGERANK_MANIFEST_SHA256": "0" * 64})
    make_endpoint("replaced")
    assert main(["verify", "replaced"]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert out.startswith(
        "FAIL the artefact of replaced was replaced in S3: instances that start now refuse it"
    )
    assert f"s3://models/micro/model.tar.gz has the manifest {own} now" in out
    assert main(["verify", "replaced", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], found["judged"], found["pins"][0]["pinned"]) == (False, [], "0" * 64)


def test_a_gpu_may_be_as_far_off_as_bfloat16_is(
    stage: Stage, packed: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store(packed)
    monkeypatch.setitem(CONTAINER, "Environment", {"SAGERANK_DEVICE": "cuda"})
    make_endpoint()
    assert main(["verify", "--json"]) == 0
    tolerance = json.loads(capsys.readouterr().out)["judged"][0]["tolerance"]
    assert 0.1 < tolerance == Manifest.read(MICRO).bfloat16_tolerance


def test_int8_may_be_as_far_off_as_its_manifest_says(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = Manifest.read(MICRO)
    golden = tuple(dataclasses.replace(pair, logit=pair.logit + 0.01) for pair in manifest.golden)
    for tolerance, code in ((0.02, 0), (0.005, 1)):
        dataclasses.replace(manifest, golden=golden, tolerance=tolerance).write(tmp_path)
        pack({"manifest.json": tmp_path / "manifest.json"}, tmp_path / "model.tar.gz")
        store((tmp_path / "model.tar.gz").read_bytes())
        if not code:
            make_endpoint()
        assert main(["verify", "--json"]) == code
        assert json.loads(capsys.readouterr().out)["judged"][0]["tolerance"] == tolerance


def test_a_golden_pair_that_the_servers_settings_cut_is_not_compared(
    stage: Stage, packed: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    store(packed)
    make_endpoint()
    with serving(MICRO, {"SAGERANK_MAX_TOKENS": "512", "SAGERANK_QUERY_TOKENS": "64"}) as server:
        stage.model = server.url
        assert main(["verify", "--json"]) == 0
    (judged,) = json.loads(capsys.readouterr().out)["judged"]
    assert [score["error"] for score in judged["scores"]] == [""] * (len(Manifest.read(MICRO).golden) - 1)


def test_an_endpoint_that_answers_with_errors_is_a_failure(
    stage: Stage, packed: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    store(packed)
    make_endpoint()
    stage.model = stage.moto.rstrip("/") + "/nowhere"  # moto's canned answer is no reranker's
    assert main(["verify", "--json"]) == 1
    verdict = json.loads(capsys.readouterr().out)
    assert all(score["logit"] is None and score["error"] for score in verdict["judged"][0]["scores"])


def test_creation_is_watched_until_it_fails_with_sagemakers_reason(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    make_endpoint()
    reason = "The primary container for production variant AllTraffic did not pass the ping health check."
    described(
        stage,
        {"EndpointStatus": "Creating"},
        {"EndpointStatus": "Creating"},
        {"EndpointStatus": "Failed", "FailureReason": reason},
    )
    assert main(["verify"]) == 2
    err = capsys.readouterr().err
    assert err.count("sagerank: Creating") == 1
    assert reason in err
    assert "/aws/sagemaker/Endpoints/sagerank" in err


def test_ctrl_c_while_waiting_says_that_aws_goes_on(stage: Stage) -> None:
    make_endpoint()
    asked = threading.Event()

    def creating(_: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        asked.set()
        return 200, {
            "EndpointName": "sagerank",
            "EndpointArn": "arn:x",
            "EndpointConfigName": "sagerank-config",
            "EndpointStatus": "Creating",
            "CreationTime": 0,
            "LastModifiedTime": 0,
        }

    stage.answers["DescribeEndpoint"] = creating
    waiting = subprocess.Popen(
        [sys.executable, "-m", "sagerank.cli", "status", "--wait"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert asked.wait(120)
        # The lines are printed after the answer came, and before the pause.
        assert waiting.stderr is not None
        assert waiting.stderr.readline().startswith("Waiting for sagerank: an endpoint usually takes")
        assert waiting.stderr.readline() == "sagerank: Creating\n"
        os.killpg(waiting.pid, signal.SIGINT)
        out, err = waiting.communicate(timeout=120)
    finally:
        waiting.kill()
        waiting.wait()
    assert waiting.returncode == 130
    assert (out, "Traceback" in err) == ("", False)
    assert "AWS goes on" in err


def test_an_endpoint_that_does_not_exist(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "nope"]) == 2
    assert "There is no endpoint nope in us-east-1, nor any other" in capsys.readouterr().err
    make_endpoint("mine")
    assert main(["verify", "nope"]) == 2
    assert "there are mine." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("ExpiredTokenException", "sign in again"),
        (
            "AccessDeniedException",
            "AWS refused DescribeEndpoint (AccessDeniedException): User: arn:aws:iam::1:user/u is not authorized",
        ),
        ("ResourceLimitExceeded", "AWS answered DescribeEndpoint with ResourceLimitExceeded"),
    ],
)
def test_what_aws_refuses_is_one_sentence(
    stage: Stage, code: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.answers["DescribeEndpoint"] = lambda _: (
        400,
        {"__type": code, "message": "User: arn:aws:iam::1:user/u is not authorized"},
    )
    assert main(["verify"]) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "command",
    [
        ["verify"],
        ["status"],
        ["idle"],
        ["destroy", "--yes"],
        ["transform", "--instance", "ml.m5.large", "--input", "x.jsonl"],
    ],
)
def test_without_credentials_or_region_there_is_one_sentence(
    command: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_PROFILE",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
    ):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    assert main([*command, "--region", REGION]) == 2
    err = capsys.readouterr().err
    assert err.startswith(
        "sagerank: No AWS credentials were found: run `aws configure` or `aws sso login`, set AWS_PROFILE"
    )
    assert err.count("\n") == 1
    assert main(command) == 2
    assert "No AWS region is set: give --region" in capsys.readouterr().err


def test_errors_of_the_way_to_aws_are_sentences() -> None:
    from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError

    for error in (
        EndpointConnectionError(endpoint_url="https://x"),
        ConnectTimeoutError(endpoint_url="https://x"),
    ):
        with pytest.raises(OperateError, match=r"reached at x \(.*: check network"), sentences():
            raise error


def age(name: str, days: int) -> None:
    sagemaker_backends[ACCOUNT][REGION].endpoints[name].creation_time = datetime.datetime.now(
        datetime.UTC
    ) - datetime.timedelta(days=days)


def test_idle_finds_what_nobody_calls_and_its_price(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    from sagerank_cost.catalogue import Catalogue

    for name, instance in (
        ("busy", "ml.m5.large"),
        ("old", "ml.m5.large"),
        ("young", "ml.m5.large"),
        ("odd", "ml.p2.xlarge"),
    ):
        make_endpoint(name, instance)
        age(name, 1 if name == "young" else 30)
    make_endpoint("lambda-like", ServerlessConfig={"MemorySizeInMB": 2048, "MaxConcurrency": 5})
    age("lambda-like", 30)
    now = datetime.datetime.now(datetime.UTC)
    for name, when in (
        ("busy", now - datetime.timedelta(days=2)),
        ("old", now - datetime.timedelta(days=12)),
    ):
        where = [{"Name": "EndpointName", "Value": name}, {"Name": "VariantName", "Value": "AllTraffic"}]
        datum = {
            "MetricName": "Invocations",
            "Dimensions": where,
            "Timestamp": when,
            "Value": 3.0,
            "Unit": "Count",
        }
        client("cloudwatch").put_metric_data(Namespace="AWS/SageMaker", MetricData=[datum])

    assert main(["idle", "--json", "--fail"]) == 1
    found = {each["endpoint"]: each for each in json.loads(capsys.readouterr().out)}
    assert found.keys() == {"old", "odd", "lambda-like"}
    price = 2 * Catalogue().hosting(REGION, "ml.m5.large").usd
    assert found["old"]["usd_per_hour"] == pytest.approx(float(price))
    assert found["old"]["usd_per_month"] == pytest.approx(float(price * 730))
    assert found["odd"]["usd_per_hour"] is None  # not known is not free
    assert found["odd"]["notes"]
    assert Decimal(str(found["lambda-like"]["usd_per_hour"])) == 0

    assert main(["idle", "--days", "14"]) == 0
    out = capsys.readouterr().out
    assert "4 of 5" not in out
    assert "price not known" in out
    assert main(["idle", "--days", "0"]) == 2


def test_an_endpoint_whose_configuration_was_deleted_is_judged_by_what_runs(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.answers["ListInferenceComponents"] = lambda _: (200, {"InferenceComponents": []})  # moto has none
    for name in ("busy", "quiet"):
        config = make_endpoint(name)
        age(name, 30)
        client("sagemaker").delete_endpoint_config(EndpointConfigName=config)
    where = [{"Name": "EndpointName", "Value": "busy"}, {"Name": "VariantName", "Value": "AllTraffic"}]
    when = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=2)
    datum = {"MetricName": "ModelLatency", "Dimensions": where, "Timestamp": when, "Value": 9e3}
    client("cloudwatch").put_metric_data(Namespace="AWS/SageMaker", MetricData=[datum])
    assert main(["idle", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["endpoint"], found["usd_per_hour"]) == ("quiet", None)
    assert found["notes"] == [
        "The configuration of quiet was deleted: nothing says on which instances AllTraffic runs."
    ]


def test_idle_says_when_everything_is_used(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["idle", "--fail"]) == 0
    assert "None of 0 endpoints" in capsys.readouterr().out


def test_status_is_one_screen(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    make_endpoint()
    scaling, resource = client("application-autoscaling"), "endpoint/sagerank/variant/AllTraffic"
    where = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": resource,
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    scaling.register_scalable_target(**where, MinCapacity=2, MaxCapacity=8)
    tracking = {
        "TargetValue": 27.0,
        "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
    }
    scaling.put_scaling_policy(
        **where,
        PolicyName="p",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration=tracking,
    )
    assert main(["status"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "sagerank: InService, realtime, USD 0.23 an hour"
    assert "2 of 2 x ml.m5.large" in out
    assert "2 to 8, SageMakerVariantInvocationsPerInstance at 27" in out
    assert len(out.splitlines()) < 24


def test_status_of_a_stack_without_its_endpoint_says_so(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    make_stack()
    assert main(["status"]) == 2
    assert "sagerank-endpoint CREATE_COMPLETE" in capsys.readouterr().err


def test_what_destroy_leaves_behind_is_named(stage: Stage) -> None:
    """Nothing is destroyed here, so all of it is left: except what was to be kept, which is no failure."""
    make_stack(retain=True)
    account = Account(REGION)
    doomed = survey(account, "sagerank")
    assert not doomed.objects  # a bucket that stays is not emptied
    client("logs").create_log_group(logGroupName="/aws/sagemaker/Endpoints/sagerank")
    rest = left(account, doomed)
    assert [line.split(" ")[0] for line in rest.kept] == ["AWS::S3::Bucket"]
    assert {line.split(" ")[0] for line in rest.left} == {
        "AWS::SageMaker::Model",
        "AWS::SageMaker::EndpointConfig",
        "AWS::SSM::Parameter",
        "AWS::IAM::ManagedPolicy",
        "stack",
        "log",
    }
    client("cloudformation").delete_stack(StackName="sagerank-endpoint")
    (policy,) = client("iam").list_policies(Scope="Local")["Policies"]
    client("iam").delete_policy(PolicyArn=policy["Arn"])  # which moto leaves, and CloudFormation does not
    client("logs").delete_log_group(logGroupName="/aws/sagemaker/Endpoints/sagerank")
    rest = left(account, doomed)
    assert (len(rest.kept), rest.left, rest.unchecked) == (1, (), ())


def test_scaling_alarms_of_an_inference_component_are_looked_for(stage: Stage) -> None:
    """Application Auto Scaling makes them, and they go with the policy, or stay behind with a name of theirs."""
    component = Resource(
        "AWS::SageMaker::InferenceComponent",
        f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:inference-component/sagerank-component",
        kept=False,
    )
    name = "TargetTracking-inference-component/sagerank-component/AlarmHigh-1"
    client("cloudwatch").put_metric_alarm(
        AlarmName=name,
        Namespace="AWS/SageMaker",
        MetricName="InvocationsPerCopy",
        Period=60,
        Statistic="Average",
        Threshold=1,
        EvaluationPeriods=1,
        ComparisonOperator="GreaterThanThreshold",
    )
    stage.answers["DescribeInferenceComponent"] = lambda _: (
        400,
        {"__type": "ValidationException", "message": "Could not find it."},
    )
    assert left(Account(REGION), Doomed("sagerank", {}, (component,), {})).left == (f"alarm {name}",)


def test_what_is_left_is_told_where_the_cdk_fails(
    stage: Stage,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    make_stack()
    failing = tmp_path / "cdk"
    failing.write_text("#!/bin/sh\nexit 7\n", encoding="utf-8")
    failing.chmod(0o755)
    monkeypatch.setattr(tools, "cdk", lambda: (str(failing), tmp_path))
    assert main(["destroy", "--yes", "--json"]) == 1
    out, err = capfd.readouterr()
    assert "`cdk destroy` failed with exit code 7" in err
    told = json.loads(out)
    assert told["ok"] is False
    assert "stack sagerank-endpoint (CREATE_COMPLETE)" in told["left"]


def test_a_stack_with_nothing_but_a_change_set_is_not_at_work(stage: Stage) -> None:
    """So a Ctrl-C, or a change set that failed, leaves it: it can be deployed over, and destroyed."""
    account = Account(REGION)
    make_stack()
    (stack,) = cloudformation_backends[ACCOUNT][REGION].stacks.values()
    stack.status = "REVIEW_IN_PROGRESS"
    doomed = survey(account, "sagerank")
    assert (list(doomed.stacks), doomed.resources) == (["endpoint"], ())
    planned = Assembly(Path(), {}, {"sagerank-endpoint": json.loads(stack.template)}, "", "")
    assert updating.outlook(account, "sagerank", planned) == []


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        ("UPDATE_IN_PROGRESS", "CloudFormation is still at work on sagerank-endpoint (UPDATE_IN_PROGRESS)"),
        (
            "UPDATE_ROLLBACK_FAILED",
            "`aws cloudformation continue-update-rollback --stack-name sagerank-endpoint",
        ),
        ("DELETE_FAILED", "sagerank-endpoint is DELETE_FAILED: `sagerank destroy sagerank` first."),
    ],
)
def test_a_stack_that_cannot_be_updated_is_named_before_anything_changes(
    stage: Stage, status: str, sentence: str
) -> None:
    make_stack()
    (stack,) = cloudformation_backends[ACCOUNT][REGION].stacks.values()
    stack.status = status
    planned = Assembly(Path(), {}, {"sagerank-endpoint": {"Resources": {}}}, "", "")
    with pytest.raises(OperateError) as refused:
        updating.outlook(Account(REGION), "sagerank", planned)
    assert sentence in str(refused.value)


def test_destroy_asks_first_and_knows_what_there_is(
    stage: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["destroy", "nope", "--yes"]) == 2
    assert "There is no deployment nope in us-east-1" in capsys.readouterr().err
    make_stack()
    bucket = client("s3").list_buckets()["Buckets"][0]["Name"]
    client("s3").put_object(Bucket=bucket, Key="input/x", Body=b"x")
    with open(os.devnull) as nobody:
        monkeypatch.setattr(sys, "stdin", nobody)
        assert main(["destroy"]) == 2
    err = capsys.readouterr().err
    assert f"The bucket {bucket} goes with its 1 objects." in err
    assert "give --yes" in err
    terminal = io.StringIO("no\n")
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdin", terminal)
    assert main(["destroy"]) == 1
    assert "Nothing was deleted." in capsys.readouterr().err
    (stack,) = cloudformation_backends[ACCOUNT][REGION].stacks.values()
    stack.status = "UPDATE_IN_PROGRESS"
    assert main(["destroy", "--yes"]) == 2
    assert "still at work on sagerank-endpoint (UPDATE_IN_PROGRESS)" in capsys.readouterr().err
    assert client("s3").list_objects_v2(Bucket=bucket)["KeyCount"] == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["transform", "--instance", "ml.m5.large", "--input", "x.txt"],
            "give --content-type, one of application/jsonlines",
        ),
        (
            ["transform", "--instance", "ml.m5.large", "--input", "x.jsonl", "--output", "s3://b/o"],
            "x.jsonl is no file",
        ),
        (["transform", "--instance", "ml.m5.large", "--input", "x.jsonl", "--count", "0"], "--count is 0"),
        (
            ["transform", "nope", "--instance", "ml.m5.large", "--input", "x.jsonl"],
            "There is no deployment nope",
        ),
        (["deploy", "-c", "max=8,", "--yes"], "max is not an option"),
        (["deploy", "-c", "autoscaling"], "give OPTION=VALUE"),
        (["deploy", "--name", "a", "-c", "name=b"], "--name is 'a' and -c name is 'b'"),
        (["deploy", "--model", "micro", "--mode", "serverles"], "mode is 'serverles'"),
        (["deploy", "--model", "micro"], "instance is empty"),
        (["deploy", "--model", "micro", "--instance", "ml.c7i.lrge"], "did you mean ml.c7i.large?"),
        (
            ["deploy", "--model", "micro", "--instance", "ml.c7i.large", "-c", "artefact=none.tar.gz"],
            "no file here",
        ),
        (
            ["deploy", "--model", "micro", "--instance", "ml.c7i.large", "-c", "account=999999999999"],
            "the credentials are of 123456789012",
        ),
        (["deploy", "--config", "none.yaml"], "none.yaml cannot be read"),
    ],
)
def test_bad_input_is_one_sentence_and_creates_nothing(
    arguments: list[str],
    sentence: str,
    stage: Stage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if arguments[0] == "transform" and "nope" not in arguments:
        make_stack(batch=True)
    before = len(client("cloudformation").list_stacks()["StackSummaries"])
    assert main(arguments) == 2
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("sagerank: ")]
    assert sentence in said
    assert len(client("cloudformation").list_stacks()["StackSummaries"]) == before
    assert not client("sagemaker").list_transform_jobs()["TransformJobSummaries"]


def test_what_a_deployment_needs_is_looked_for_before_anything_is_built(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No hub is asked for the model, and its cache is empty: what is built fails, and says so."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    command = ["deploy", "--model", "tiny", "--instance", "ml.c7i.large", "--yes"]

    def said() -> str:
        assert main(command) == 2
        return capsys.readouterr().err

    assert "The CDK is not set up in account 123456789012, us-east-1: give --bootstrap once." in said()
    client("ssm").put_parameter(Name="/cdk-bootstrap/hnb659fds/version", Value="30", Type="String")
    monkeypatch.setenv("CDK_DOCKER", "no-such-docker")
    assert "there is no no-such-docker: install it" in said()
    monkeypatch.setenv("CDK_DOCKER", "false")
    assert "`false version` finds no daemon: start it" in said()
    (tmp_path / "docker").write_text("#!/bin/sh\necho Client: Podman Engine\n")
    (tmp_path / "docker").chmod(0o755)
    with monkeypatch.context() as shim:
        shim.delenv("CDK_DOCKER")
        shim.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        assert "docker is podman here: set CDK_DOCKER=podman." in said()
    (tmp_path / "docker").write_text("#!/bin/sh\n[ $1 = version ]\n")
    monkeypatch.setenv("CDK_DOCKER", str(tmp_path / "docker"))
    assert "has no buildx: install docker-buildx-plugin" in said()
    with monkeypatch.context() as without:
        without.setenv("DOCKER_BUILDKIT", "0")
        assert "DOCKER_BUILDKIT=0 turns it off: unset it" in said()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "The CDK needs Node.js 20 or newer" in said()


def test_a_dry_run_with_credentials_says_whose_account_it_is(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["deploy", "--model", "tiny", "--instance", "ml.c7i.large", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert f"Account {ACCOUNT}: the CDK is not set up there yet" in out


def test_a_batch_job_that_fails_says_why(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_stack(batch=True)
    (tmp_path / "in.jsonl").write_text("{}\n", encoding="utf-8")
    asked = []

    def failed(request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        asked.append(request["TransformJobName"])
        return 200, {
            "TransformJobStatus": "Failed",
            "FailureReason": "ClientError: See job logs for more information",
        }

    stage.answers["DescribeTransformJob"] = failed
    assert (
        main(
            [
                "transform",
                "--instance",
                "ml.m5.large",
                "--input",
                str(tmp_path / "in.jsonl"),
            ]
        )
        == 2
    )
    err = capsys.readouterr().err
    assert "is Failed: ClientError" in err
    assert asked[0].startswith("sagerank-")


def test_a_key_policy_that_may_not_be_read_is_said_to_be_unchecked(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    denied = {"__type": "AccessDeniedException", "message": "not authorized to perform: kms:GetKeyPolicy"}
    for operation in ("DescribeKey", "GetKeyPolicy"):
        stage.answers[operation] = lambda asked: (400, denied)
    key_policy.check(Account(REGION), f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1", [])
    assert "may not be read by you (kms:GetKeyPolicy), and is not checked" in capsys.readouterr().err


def test_quotas_that_may_not_be_listed_or_are_not_there_are_said_to_be_unchecked(stage: Stage) -> None:
    options = {"model": "micro", "instance": "ml.c7i.large", "artefact": "s3://b/m.tar.gz", "region": REGION}
    config = rules.read(None, options)
    denied = {"__type": "AccessDeniedException", "message": "no servicequotas:ListServiceQuotas"}
    stage.answers["ListServiceQuotas"] = lambda asked: (400, denied)
    (said,) = quotas.check(config, Account(REGION))
    assert said.startswith(
        "The account's quotas for SageMaker are not checked: AWS refused ListServiceQuotas (AccessDeniedException)"
    )
    for operation in ("ListServiceQuotas", "ListAWSDefaultServiceQuotas"):
        stage.answers[operation] = lambda asked: (200, {"Quotas": []})
    (said,) = quotas.check(config, Account(REGION))
    assert (
        said
        == "Service Quotas lists no quota 'ml.c7i.large for endpoint usage' in us-east-1, and it is not checked."
    )


def test_the_configuration_on_the_page_is_valid_and_the_errors_in_its_table_are_ours(tmp_path: Path) -> None:
    from sagerank_infra.config import DeployConfig

    page = (Path(__file__).parents[2] / "docs/deploy.md").read_text(encoding="utf-8")
    shown = re.search(r"```yaml\n(# deploy.yaml.*?)```", page, re.S)
    assert shown
    (tmp_path / "deploy.yaml").write_text(shown[1])
    config = DeployConfig.read(tmp_path / "deploy.yaml", {"artefact": "s3://models/model.tar.gz"})
    assert (config.preset, config.autoscaling.max) == ("prod", 6)
    source = "".join(file.read_text() for file in Path(operate.__file__).parent.glob("*.py"))
    for sentence in (
        "No AWS credentials were found",
        "The CDK is not set up in account",
        "SageMaker rolled the update back",
    ):
        assert sentence in page
        assert sentence in source
    for option in ("startup_seconds", "image_architecture", "pools", "ami", "model_package"):
        assert f"`{option}`" in page or f"{option}=" in page
        assert hasattr(config, option)
