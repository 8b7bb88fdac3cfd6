"""The local AWS with a registry: what is pushed is in its ECR, what SageMaker refuses is refused, and an endpoint is a container under
its instance's limits.
"""

from __future__ import annotations

import io
import os
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sagerank.models.build import archive

from ..local_aws import registry
from ..local_aws.launch import ACCOUNT, running
from ..local_aws.registry import PASSWORD, USER
from .deployed import GOLDEN, HOST, REPOSITORY, Aws
from .running import built_image

pytestmark = [
    pytest.mark.container,
    pytest.mark.skipif(bool(registry.reason()), reason=registry.reason() or "it can"),
]


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    folder = tmp_path_factory.mktemp("aws")
    archive("micro", folder / "model.tar.gz")
    with running(folder / "log", containers=True) as environment:
        aws = Aws(environment, folder)
        s3 = aws.client("s3")
        s3.create_bucket(Bucket="artefacts")
        s3.upload_file(str(folder / "model.tar.gz"), "artefacts", "model.tar.gz")
        aws.client("ecr").create_repository(repositoryName=REPOSITORY)
        aws.push(built_image(), "cpu")
        yield aws
    assert not aws.registry.folder.exists()


def test_ecr_says_what_the_registry_has(aws: Aws) -> None:
    manifest = aws.registry.manifest(f"{HOST}/{REPOSITORY}", "cpu")
    assert manifest
    found = aws.client("ecr").describe_images(repositoryName=REPOSITORY, imageIds=[{"imageTag": "cpu"}])
    assert [each["imageDigest"] for each in found["imageDetails"]] == [manifest.digest]


def test_a_push_wants_the_login_and_has_the_media_types_that_the_asset_asks_for(
    aws: Aws, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    for name, output in (("oci", ()), ("docker", ("--output=type=docker",))):
        done = aws.docker("build", "--tag", f"asset-{name}", *output, str(tmp_path))
        assert done.returncode == 0, done.stderr
        aws.docker("tag", f"asset-{name}", f"{HOST}/{REPOSITORY}:{name}")
    refused = aws.docker("push", f"{HOST}/{REPOSITORY}:oci")
    assert refused.returncode != 0
    assert "authentication required" in refused.stderr
    assert aws.docker("login", "--username", USER, "--password-stdin", HOST, stdin="no").returncode != 0
    assert aws.docker("login", "--username", USER, "--password-stdin", HOST, stdin=PASSWORD).returncode == 0
    for name, kind in (("oci", "vnd.oci.image"), ("docker", "vnd.docker.distribution")):
        done = aws.docker("push", f"{HOST}/{REPOSITORY}:{name}")
        assert done.returncode == 0, done.stderr
        manifest = aws.registry.manifest(f"{HOST}/{REPOSITORY}", name)
        assert manifest
        assert f"application/{kind}." in manifest.media_type
    assert aws.docker("inspect", "asset-none").returncode in (
        1,
        125,
    )  # of which the CDK knows that there is none


def test_an_endpoint_is_a_container_of_the_digest_under_its_instances_limits(aws: Aws) -> None:
    first = aws.registry.manifest(f"{HOST}/{REPOSITORY}", "cpu")
    assert first
    aws.push("localhost/sagerank:cpu-amd64", "moving")
    aws.create_model("digest", f"{HOST}/{REPOSITORY}:moving")
    aws.push_tiny("moving")  # later, under the same tag
    found = aws.create_endpoint("digest", "digest")
    assert found["EndpointStatus"] == "InService", found
    (deployed,) = found["ProductionVariants"][0]["DeployedImages"]
    assert deployed["SpecifiedImage"] == f"{HOST}/{REPOSITORY}:moving"
    assert deployed["ResolvedImage"] == f"{HOST}/{REPOSITORY}@{first.digest}"
    assert aws.rerank("digest") == pytest.approx(GOLDEN.logit, abs=1e-3)

    (container,) = aws.containers()
    assert container["ImageDigest"] == first.digest
    limits = container["HostConfig"]
    assert (limits["Memory"], limits["MemorySwap"]) == (4 << 30, 4 << 30)
    assert limits["NanoCpus"] == min(2, len(os.sched_getaffinity(0))) * 10**9
    assert limits["NetworkMode"] == "none"
    assert container["Args"][-1] == "serve"
    (mount,) = (each for each in container["Mounts"] if each["Destination"] == "/opt/ml/model")
    assert mount["RW"] is False

    logs = aws.client("logs").filter_log_events(logGroupName="/aws/sagemaker/Endpoints/digest")["events"]
    assert logs
    assert logs[0]["logStreamName"].startswith("All/i-")
    aws.client("sagemaker").delete_endpoint(EndpointName="digest")
    assert aws.containers() == []


def test_serverless_has_its_memory_its_share_of_a_processor_and_no_privileges(aws: Aws) -> None:
    aws.create_model("serverless", f"{HOST}/{REPOSITORY}:cpu")
    found = aws.create_endpoint(
        "serverless", "serverless", ServerlessConfig={"MemorySizeInMB": 1024, "MaxConcurrency": 1}
    )
    assert found["EndpointStatus"] == "InService", found
    assert aws.rerank("serverless") == pytest.approx(GOLDEN.logit, abs=1e-3)
    (container,) = aws.containers()
    limits = container["HostConfig"]
    assert (limits["Memory"], limits["NanoCpus"], limits["ReadonlyRootfs"]) == (1 << 30, 5 * 10**8, True)
    status = Path(f"/proc/{container['State']['Pid']}/status").read_text()
    assert "Uid:\t993\t" in status
    assert not any(Path(f"/proc/{container['State']['Pid']}/root/sys").iterdir())
    aws.client("sagemaker").delete_endpoint(EndpointName="serverless")


def test_a_component_has_copies_and_can_have_none(aws: Aws) -> None:
    sagemaker = aws.client("sagemaker")
    aws.create_model("part", f"{HOST}/{REPOSITORY}:cpu")
    aws.create_endpoint("parts")
    asked = {
        "InferenceComponentName": "part",
        "EndpointName": "parts",
        "VariantName": "All",
        "Specification": {
            "ModelName": "part",
            "ComputeResourceRequirements": {
                "MinMemoryRequiredInMb": 512,
                "MaxMemoryRequiredInMb": 1024,
                "NumberOfCpuCoresRequired": 1,
            },
        },
    }
    with pytest.raises(ClientError, match="larger than 0"):
        sagemaker.create_inference_component(**asked, RuntimeConfig={"CopyCount": 0})
    sagemaker.create_inference_component(**asked, RuntimeConfig={"CopyCount": 2})
    assert _settled(sagemaker)["RuntimeConfig"]["CurrentCopyCount"] == 2
    assert [each["HostConfig"]["Memory"] for each in aws.containers()] == [1 << 30, 1 << 30]
    assert aws.rerank("parts", InferenceComponentName="part") == pytest.approx(GOLDEN.logit, abs=1e-3)

    for copies in (0, 1):
        sagemaker.update_inference_component_runtime_config(
            InferenceComponentName="part", DesiredRuntimeConfig={"CopyCount": copies}
        )
        assert _settled(sagemaker)["RuntimeConfig"]["CurrentCopyCount"] == copies
        assert len(aws.containers()) == copies
        if not copies:
            with pytest.raises(ClientError, match="has no capacity to process this request"):
                aws.rerank("parts", InferenceComponentName="part")
    assert aws.rerank("parts", InferenceComponentName="part") == pytest.approx(GOLDEN.logit, abs=1e-3)
    with pytest.raises(ClientError, match="it has inference components"):
        sagemaker.delete_endpoint(EndpointName="parts")
    sagemaker.delete_inference_component(InferenceComponentName="part")
    sagemaker.delete_endpoint(EndpointName="parts")


def _settled(sagemaker: Any) -> dict[str, Any]:
    while True:
        found: dict[str, Any] = sagemaker.describe_inference_component(InferenceComponentName="part")
        if found["InferenceComponentStatus"] not in ("Creating", "Updating"):
            assert found["InferenceComponentStatus"] == "InService", found
            return found
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        ("docker.io/library/python:3", 'Using non-ECR image "docker.io/library/python:3" without Vpc'),
        (f"{HOST}/{REPOSITORY}:none", f"Requested image {HOST}/{REPOSITORY}:none not found."),
        (f"{HOST}/{REPOSITORY}", f"Requested image {HOST}/{REPOSITORY} not found."),
        (f"{HOST}/other:1", f"Cannot find repository: other in registry ID: {ACCOUNT} "),
        (
            f"{HOST}/{REPOSITORY}:manifest",
            f"Unsupported manifest media type application/vnd.oci.image.manifest.v1+json for image {HOST}/{REPOSITORY}:manifest. ",
        ),
        (
            f"{HOST}/{REPOSITORY}:index",
            f"Unsupported manifest media type application/vnd.oci.image.index.v1+json for image {HOST}/{REPOSITORY}:index. ",
        ),
        (
            f"{HOST}/{REPOSITORY}:list",
            f"Unsupported manifest media type application/vnd.docker.distribution.manifest.list.v2+json for image {HOST}/{REPOSITORY}:list. ",
        ),
    ],
    ids=["elsewhere", "tag", "latest", "repository", "oci", "index", "list"],
)
def test_create_model_refuses_an_image(aws: Aws, image: str, sentence: str) -> None:
    aws.push_tiny("manifest", "--format", "oci")
    for tag, kind in (
        ("index", "application/vnd.oci.image.index.v1+json"),
        ("list", "application/vnd.docker.distribution.manifest.list.v2+json"),
    ):
        aws.push_many(tag, kind)
    with pytest.raises(ClientError) as raised:
        aws.create_model("refused", image)
    assert sentence in str(raised.value)
    assert raised.value.response["Error"]["Code"] == "ValidationException"


def test_an_endpoint_fails_where_its_container_does(aws: Aws) -> None:
    """The reasons, in SageMaker's words where they are known; what the container said is in its log."""
    healthy, extracted = (
        "did not pass the ping health check. Please check CloudWatch logs",
        "Failed to extract",
    )
    s3 = aws.client("s3")
    s3.put_object(Bucket="artefacts", Key="text.tar.gz", Body=b"no archive")
    s3.upload_file(str(aws.folder / "model.tar.gz"), "artefacts", "model.tgz")
    s3.put_object(Bucket="artefacts", Key="other.tar.gz", Body=_tar("unrelated.txt"))
    aws.push_tiny("tiny")
    aws.push_tiny("arm", platform="linux/arm64")
    cases = {
        "unpacked": ("cpu", {"artefact": "s3://artefacts/text.tar.gz"}, extracted),
        "suffix": ("cpu", {"artefact": "s3://artefacts/model.tgz"}, extracted),
        "no-model": ("cpu", {"artefact": "s3://artefacts/other.tar.gz"}, f"{healthy}*[exit status"),
        "setting": ("cpu", {"SAGERANK_MAX_TOKENS": "many"}, f"{healthy}*[exit status"),
        "architecture": ("arm", {}, f"{healthy}*[the image is for arm64, and ml.c7i.large is amd64]"),
        "no-command": (
            "tiny",
            {},
            "CannotStartContainerError. Please ensure the model container for variant All",
        ),
    }
    for name, (tag, more, reason) in cases.items():
        aws.create_model(name, f"{HOST}/{REPOSITORY}:{tag}", **more)
        found = aws.create_endpoint(name, name)
        assert found["EndpointStatus"] == "Failed", name
        for part in reason.split("*"):
            assert part in found["FailureReason"], name
    said = aws.client("logs").filter_log_events(logGroupName="/aws/sagemaker/Endpoints/setting")["events"]
    assert any("SAGERANK_MAX_TOKENS" in event["message"] for event in said)
    assert aws.containers() == []


def _tar(name: str) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as opened:
        opened.addfile(tarfile.TarInfo(name))
    return written.getvalue()


def test_create_model_refuses_an_artefact_that_is_not_there(aws: Aws) -> None:
    with pytest.raises(ClientError, match=r"Could not find model data at s3://artefacts/none.tar.gz\."):
        aws.create_model("none", f"{HOST}/{REPOSITORY}:cpu", artefact="s3://artefacts/none.tar.gz")


def test_a_container_that_needs_more_memory_than_it_may_have_is_killed(aws: Aws) -> None:
    archive("random:tiny", aws.folder / "large.tar.gz", cache=aws.folder / "cache")
    aws.client("s3").upload_file(str(aws.folder / "large.tar.gz"), "artefacts", "large.tar.gz")
    aws.create_model("large", f"{HOST}/{REPOSITORY}:cpu", artefact="s3://artefacts/large.tar.gz")
    aws.create_endpoint("narrow")
    sagemaker = aws.client("sagemaker")
    sagemaker.create_inference_component(
        InferenceComponentName="large",
        EndpointName="narrow",
        VariantName="All",
        Specification={
            "ModelName": "large",
            "ComputeResourceRequirements": {"MinMemoryRequiredInMb": 128, "MaxMemoryRequiredInMb": 128},
        },
        RuntimeConfig={"CopyCount": 1},
    )
    while True:
        found = sagemaker.describe_inference_component(InferenceComponentName="large")
        if found["InferenceComponentStatus"] != "Creating":
            break
        time.sleep(0.2)
    assert found["InferenceComponentStatus"] == "Failed"
    assert "signal SIGKILL" in found["FailureReason"]  # the server's own last words
    sagemaker.delete_inference_component(InferenceComponentName="large")
    sagemaker.delete_endpoint(EndpointName="narrow")
