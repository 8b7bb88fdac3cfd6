"""What is deployed becomes something else, on the local AWS, with the unmodified CDK command line, while a client keeps asking."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sagerank.models.build import archive
from sagerank.operate.unscaled import without

from .test_deploy_e2e import GOLDEN, Aws, aws, clean

__all__ = ["aws", "clean"]
pytestmark = pytest.mark.e2e
ENHANCED = ("-c", "metrics.enhanced=true", "-c", "metrics.seconds=10")
DEPLOY = ("deploy", "--model", "micro", "--yes", "--json")


@contextmanager
def asking(aws: Aws, *, within: float = 1e-3, component: str = "") -> Iterator[list[float]]:
    """Scores of a pair that is asked for again and again; an error is raised at the end.

    within: of the golden logit, where they have to be. component: the inference component that is asked; empty: there is none.
    """
    arguments = {"InferenceComponentName": component} if component else {}
    scores: list[float] = []
    errors: list[Exception] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                scores.append(aws.rerank("sagerank", **arguments)[0]["score"])
            except Exception as error:  # whatever a caller would see
                errors.append(error)
            time.sleep(0.05)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield scores
    finally:
        done.set()
        thread.join()
    assert errors == [], errors
    assert len(scores) > 10
    assert scores == pytest.approx([GOLDEN[0].logit] * len(scores), abs=within), scores


def instance(aws: Aws) -> str:
    return str(json.loads(aws.sagerank("status", "--json"))["endpoint"]["variants"][0]["instance"])


def enhanced(aws: Aws) -> bool:
    sagemaker = aws.client("sagemaker")
    config = sagemaker.describe_endpoint(EndpointName="sagerank")["EndpointConfigName"]
    wanted = sagemaker.describe_endpoint_config(EndpointConfigName=config)["MetricsConfig"]
    assert wanted["EnableDetailedObservability"] is False
    assert wanted["MetricPublishFrequencyInSeconds"] == (10 if wanted["EnableEnhancedMetrics"] else 60)
    return bool(wanted["EnableEnhancedMetrics"])


def scaled(aws: Aws) -> list[dict[str, Any]]:
    """What is scaled, perhaps in the midst of a change, in which policies go before their target."""
    scaling = aws.client("application-autoscaling")
    return list(scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"])


def targets(aws: Aws) -> list[dict[str, Any]]:
    found = scaled(aws)
    scaling = aws.client("application-autoscaling")
    policies = scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    assert {each["ResourceId"] for each in policies} == {each["ResourceId"] for each in found}
    return found


def stack(aws: Aws, part: str) -> dict[str, Any]:
    (found,) = aws.client("cloudformation").describe_stacks(StackName=f"sagerank-{part}")["Stacks"]
    return dict(found)


def destroyed(aws: Aws) -> None:
    assert json.loads(aws.sagerank("destroy", "--yes", "--json"))["ok"] is True


def test_no_answer_is_lost_from_one_configuration_to_the_next(aws: Aws) -> None:
    aws.sagerank(*DEPLOY, "--instance", "ml.c7i.large", "-c", "capture.percent=10")
    steps = [
        ("ml.c7i.xlarge", ("-c", "capture.percent=10")),  # while nothing scales it
        ("ml.c7i.xlarge", ("-c", "log_days=60")),  # and capture is off
        ("ml.c7i.xlarge", ("-c", "network.vpc=none")),  # and the network goes
        ("ml.c7i.xlarge", ("-c", "network.vpc=none", *ENHANCED)),
        ("ml.g5.xlarge", ("-c", "network.vpc=none", "-c", "autoscaling.min=2", "-c", "autoscaling.max=2")),
        ("ml.g5.xlarge", ("-c", "network.vpc=none", "-c", "autoscaling.min=3", "-c", "autoscaling.max=3")),
    ]
    for wanted, more in steps:
        with asking(aws):
            verdict = json.loads(aws.sagerank(*DEPLOY, "--instance", wanted, *more))
        assert verdict["ok"] is True
        assert instance(aws) == wanted
        assert enhanced(aws) == ("metrics.enhanced=true" in more)
        assert len(targets(aws)) == ("autoscaling.max=2" not in more and "autoscaling.max=3" not in more)
    (variant,) = aws.client("sagemaker").describe_endpoint(EndpointName="sagerank")["ProductionVariants"]
    assert variant["DesiredInstanceCount"] == 3
    stacks = {each["StackName"] for each in aws.client("cloudformation").describe_stacks()["Stacks"]}
    assert "sagerank-network" not in stacks

    with asking(aws):
        aws.sagerank("deploy", "--model", "micro", "--mode", "serverless", "--yes", expect=2)
        aws.sagerank(*DEPLOY, "--instance", "ml.g5.xlarge", "-c", "encryption.key=aws", expect=2)
    assert instance(aws) == "ml.g5.xlarge"
    destroyed(aws)


def test_scaling_is_back_after_an_update_that_failed_was_stopped_or_killed(aws: Aws) -> None:
    small = (*DEPLOY, "--instance", "ml.c7i.large", "-c", "network.vpc=none")
    large = (*DEPLOY, "--instance", "ml.c7i.xlarge", "-c", "network.vpc=none")
    aws.sagerank(*small)
    before = targets(aws)
    with asking(aws):
        _failed_half_way(aws, *large)
    assert stack(aws, "endpoint")["StackStatus"] == "UPDATE_COMPLETE"  # of the scaling
    assert [each["ResourceId"] for each in targets(aws)] == [each["ResourceId"] for each in before]
    assert instance(aws) == "ml.c7i.large"

    with asking(aws):
        _stopped_half_way(aws, *large)
    assert len(targets(aws)) == 1
    assert json.loads(aws.sagerank("status", "--json"))["unscaled"] is False

    # What a kill leaves, of whatever CloudFormation was given before.
    formation = aws.client("cloudformation")
    template = formation.get_template(StackName="sagerank-endpoint")["TemplateBody"]
    off = without(template, {})
    formation.update_stack(StackName="sagerank-endpoint", TemplateBody=json.dumps(off))
    assert targets(aws) == []
    assert "OFF since an update that was cut short" in aws.sagerank("status")
    aws.sagerank(*small)
    assert len(targets(aws)) == 1
    assert instance(aws) == "ml.c7i.large"
    destroyed(aws)


def _failed_half_way(aws: Aws, *words: str) -> None:
    """The artefact goes as soon as the scaling is off."""
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="going")
    s3.upload_file(str(aws.folder / "model.tar.gz"), "going", "model.tar.gz")
    artefact = ("-c", "artefact=s3://going/model.tar.gz")
    process = aws.start(sys.executable, "-m", "sagerank.cli", *words, *artefact, cwd=aws.folder)
    try:
        while scaled(aws):
            assert process.poll() is None
            time.sleep(0.1)
        s3.delete_object(Bucket="going", Key="model.tar.gz")
        _, err = process.communicate(timeout=300)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 2, err
    assert "The scaling is back." in err
    s3.delete_bucket(Bucket="going")


def _stopped_half_way(aws: Aws, *words: str) -> None:
    """Ctrl-C as soon as the scaling is off."""
    process = aws.start(sys.executable, "-m", "sagerank.cli", *words, cwd=aws.folder)
    try:
        while scaled(aws):
            assert process.poll() is None
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=300)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 130, err


def test_the_count_of_a_variant_beside_a_scaled_one_is_what_was_asked(aws: Aws) -> None:
    def deploy(count: int) -> None:
        beside = json.dumps([{"name": "B", "weight": 1, "count": count}])
        more = ("-c", "network.vpc=none", "-c", f"variants={beside}")
        assert json.loads(aws.sagerank(*DEPLOY, "--instance", "ml.c7i.large", *more))["ok"] is True

    deploy(1)
    aws.client("sagemaker").update_endpoint_weights_and_capacities(
        EndpointName="sagerank",
        DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": 3}],
    )
    deploy(2)
    found = aws.client("sagemaker").describe_endpoint(EndpointName="sagerank")["ProductionVariants"]
    counts = {variant["VariantName"]: variant["DesiredInstanceCount"] for variant in found}
    assert counts == {"AllTraffic": 3, "B": 2}
    destroyed(aws)


def test_a_model_comes_to_a_fleet_and_goes_while_the_first_answers(aws: Aws) -> None:
    archive("random:tiny", aws.folder / "second.tar.gz", cache=aws.folder / "cache")
    beside = json.dumps([{"name": "second", "model": "tiny", "artefact": "second.tar.gz", "min": 1}])
    fleet = (*DEPLOY, "--mode", "scale-to-zero", "--instance", "ml.c7i.xlarge", "-c", "network.vpc=none")
    aws.sagerank(*fleet)
    with asking(aws, component="sagerank-component"):
        verdict = json.loads(aws.sagerank(*fleet, "-c", f"components={beside}"))
    judged = {each["target"]: each["model"] for each in verdict["judged"]}
    assert verdict["ok"] is True
    assert judged == {"sagerank-component": "sagerank-micro", "sagerank-second": "random:tiny"}
    pins = {each["target"]: each["pinned"] for each in verdict["pins"]}
    assert len(set(pins.values())) == 2
    assert {each["ResourceId"] for each in targets(aws)} == {
        "inference-component/sagerank-component",
        "inference-component/sagerank-second",
    }
    found = json.loads(aws.sagerank("status", "--json"))["endpoint"]["components"]
    assert {each["name"]: each["copies"] for each in found} == {"sagerank-component": 1, "sagerank-second": 1}
    asked = ("rerank", "ice", "--sample", "--endpoint", "sagerank", "--json", "--component")
    answers = [aws.sagerank(*asked, name) for name in judged]
    assert answers[0] != answers[1]

    with asking(aws, component="sagerank-component"):
        assert json.loads(aws.sagerank(*fleet))["ok"] is True
    assert "The inference component sagerank-second goes" in aws.said
    with pytest.raises(Exception, match="unknown for endpoint sagerank"):
        aws.rerank("sagerank", InferenceComponentName="sagerank-second")
    destroyed(aws)
