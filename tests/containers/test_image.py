"""The image as it is pushed: its manifest, what it says of itself, what is in it and what is not, and what no layer keeps."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

import sagerank
from containers import sbom, standin
from containers.engine import podman

from ..conftest import ROOT, free_port
from .running import built_image, reason, running

_REASON = reason("skopeo", "docker-registry")
pytestmark = [pytest.mark.container, pytest.mark.skipif(bool(_REASON), reason=_REASON)]

PACKAGE = ROOT / "inference/sagerank_inference"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
# Of the CPU image: each is imported by the server. Who adds one says here why the image needs it.
PACKAGES = "anyio click h11 httptools idna numpy onnxruntime prometheus-client starlette tokenizers typing-extensions uvicorn"
TOOLS = re.compile(
    r"(^|/)(pip|setuptools|wheel|ensurepip/_bundled/.+\.whl|bin/(pip|cc|gcc|g\+\+|make|ld)[\d.]*)$"
)


@pytest.fixture(scope="module")
def saved(image: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest, configuration and layers, a file each, as a registry gets them."""
    folder = tmp_path_factory.mktemp("saved")
    engine = podman()
    subprocess.run(
        ["skopeo", "copy", "--quiet", f"containers-storage:{image}", f"dir:{folder}"],
        env={**os.environ, **engine.environ},
        check=True,
    )
    return folder


@pytest.fixture(scope="module")
def own(image: str, saved: Path) -> dict[str, tarfile.TarInfo]:
    """What our layers hold: the base's are not ours."""
    (base,) = json.loads(podman().run("image", "inspect", standin.name("amd64")).stdout)
    layers = json.loads((saved / "manifest.json").read_text())["layers"][len(base["RootFS"]["Layers"]) :]
    found: dict[str, tarfile.TarInfo] = {}
    for layer in layers:
        with tarfile.open(saved / layer["digest"].partition(":")[2]) as archive:
            found.update((member.name, member) for member in archive)
    return found


@pytest.fixture(scope="module")
def bill(image: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    written = sbom.write(image, tmp_path_factory.mktemp("sbom") / "image.cdx.json", podman()).read_text(
        encoding="utf-8"
    )
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(written) is None
    found: dict[str, Any] = json.loads(written)
    return found


def configuration(image: str) -> dict[str, Any]:
    """As a registry has it."""
    found: dict[str, Any] = json.loads(
        subprocess.check_output(["skopeo", "inspect", "--config", "--raw", f"containers-storage:{image}"])
    )
    return dict(found["config"])


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("registry"), free_port()
    settings = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    (folder / "registry.yml").write_text(json.dumps(settings))
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            ["docker-registry", "serve", str(folder / "registry.yml")], stdout=log, stderr=log
        ) as server,
    ):
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.terminate()


def test_what_is_pushed_has_the_manifest_that_sagemaker_takes(image: str, registry: str) -> None:
    pushed = f"docker://{registry}/sagerank:cpu"
    podman().run("push", "--tls-verify=false", image, pushed)
    inspect = ["skopeo", "inspect", "--tls-verify=false", pushed]
    manifest = json.loads(subprocess.check_output([*inspect, "--raw"]))
    assert manifest["mediaType"] == MANIFEST
    assert manifest["config"]["mediaType"] == "application/vnd.docker.container.image.v1+json"
    assert {each["mediaType"] for each in manifest["layers"]} == {
        "application/vnd.docker.image.rootfs.diff.tar.gzip"
    }
    described = json.loads(subprocess.check_output([*inspect, "--config"]))
    assert (described["os"], described["architecture"]) == ("linux", "amd64")


def test_it_says_what_it_is_and_runs_as_aws_asks(image: str) -> None:
    found = configuration(image)
    labels = {name.rpartition("image.")[2]: text for name, text in found["Labels"].items()}
    assert labels["title"] == "sagerank"
    assert labels["version"] == sagerank.__version__
    assert labels["licenses"] == "Apache-2.0"
    assert labels["base.name"] == standin.name("amd64")
    assert re.fullmatch("[0-9a-f]{40}(-dirty)?", labels["revision"])
    assert labels["com.amazonaws.sagemaker.capabilities.accept-bind-to-port"] == "true"
    assert found.get("User", "") in ("", "root")
    environ = dict(each.split("=", 1) for each in found["Env"])
    assert {name: environ[name] for name in ("ORT_DISABLE_TELEMETRY", "HF_HUB_OFFLINE", "HOME")} == {
        "ORT_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
        "HOME": "/home/sagerank",
    }
    assert list(found["ExposedPorts"]) == ["8080/tcp"]


def test_it_is_small(saved: Path, own: dict[str, tarfile.TarInfo]) -> None:
    """113 MB when this was written, without the base; libraries grow a little."""
    assert sum(member.size for member in own.values()) < 125e6


def test_it_holds_what_the_server_imports_and_neither_tools_nor_tests(
    image: str, own: dict[str, tarfile.TarInfo], bill: dict[str, Any]
) -> None:
    installed = [each["name"] for each in bill["components"] if each["purl"].startswith("pkg:pypi/")]
    assert installed == PACKAGES.split()
    assert not [name for name in own if re.search(r"/(tests?|\.git|image)(/|$)", name)]
    # Whatever the base has of these is hidden by a layer of ours.
    exported = subprocess.run(
        [podman().name, "image", "mount", image], env={**os.environ, **podman().environ}, capture_output=True
    )
    root = Path(exported.stdout.decode().strip())
    try:
        everything = [path.relative_to(root).as_posix() for path in root.rglob("*")]
    finally:
        podman().run("image", "unmount", image)
    assert len(everything) > 10_000
    assert not [path for path in everything if TOOLS.search(path)]


def test_whatever_licences_packages_bring_are_kept(image: str) -> None:
    with running(image, mounts={PACKAGE / "micro": "/opt/ml/model"}) as container:
        listed = container.execute(
            "python",
            "-P",
            "-c",
            "import importlib.metadata as m, re; "
            "print(*[f'{d.name} {f.locate().exists()}' for d in m.distributions() for f in d.files "
            "if re.match('(LICEN[CS]E|COPYING|NOTICE|ThirdParty)', f.name)], sep='\\n')",
        ).splitlines()
    assert len(listed) > 25
    assert not [line for line in listed if line.endswith("False")]
    # tokenizers' archive has none.
    assert {line.split()[0].replace("_", "-") for line in listed} == {*PACKAGES.split()} - {"tokenizers"}


def test_all_may_read_it_and_none_but_root_may_write(own: dict[str, tarfile.TarInfo]) -> None:
    ours = [member for name, member in own.items() if name.startswith("opt/") and not member.issym()]
    assert len(ours) > 1000
    for member in ours:
        assert member.uid == member.gid == 0
        assert member.mode & 0o022 == 0
        assert member.mode & (0o555 if member.isdir() else 0o444) == (0o555 if member.isdir() else 0o444)


def test_nothing_is_compiled_at_a_start(image: str) -> None:
    """Python's own modules too: where nothing can be written, each start would do it again."""
    with running(image, mounts={PACKAGE / "micro": "/opt/ml/model"}, user="54321") as container:
        container.ready()
        missing = container.execute(
            "python",
            "-P",
            "-c",
            "import os, sys, sagerank_inference.server, sagerank_inference.service, sagerank_inference.onnx_model as m; "
            "print(*[each.__name__ for each in sys.modules.values() "
            "if getattr(each, '__cached__', None) and not os.path.exists(each.__cached__)])",
        )
    assert missing.split() == []


def test_its_health_is_asked_where_it_listens(image: str) -> None:
    kind, *probe = configuration(image)["Healthcheck"]["Test"]
    assert kind == "CMD"
    for variable in ("SAGERANK_PORT", "SAGEMAKER_BIND_TO_PORT"):
        mounts = {PACKAGE / "micro": "/opt/ml/model"}
        with running(image, mounts=mounts, environ={variable: "9001"}, port=9001) as container:
            container.ready()
            container.execute(*probe)
            with pytest.raises(subprocess.CalledProcessError):
                container.execute("env", f"{variable}=9002", *probe)


def test_its_bill_of_materials_lists_python_and_debian_packages(bill: dict[str, Any]) -> None:
    assert bill["metadata"]["component"]["version"] == sagerank.__version__
    components = {each["name"]: each for each in bill["components"]}
    numpy = components["numpy"]
    assert numpy["purl"] == f"pkg:pypi/numpy@{numpy['version']}"
    assert "BSD-3-Clause" in json.dumps(numpy["licenses"])
    pins = (PACKAGE / "image/requirements-cpu.txt").read_text()
    (reference,) = numpy["externalReferences"]
    assert len(reference["hashes"]) > 10
    assert all(f"sha256:{each['content']}" in pins for each in reference["hashes"])
    assert re.fullmatch(
        r"pkg:deb/debian/zlib1g@1:[\w.%+-]+\?arch=amd64&distro=debian-12", components["zlib1g"]["purl"]
    )
    assert {
        each["license"].get("id", each["license"].get("name")) for each in components["zlib1g"]["licenses"]
    } == {"Zlib"}


def test_python_is_listed_where_it_is_no_package_of_debians() -> None:
    """As in python:3.11-slim, which has it in /usr/local."""
    (found,) = sbom.python({"usr/local/include/python3.11/patchlevel.h": '#define PY_VERSION   "3.11.14"\n'})
    assert (found.name, found.version) == ("python", "3.11.14")


def test_the_same_image_again_has_the_same_bill(image: str, bill: dict[str, Any], tmp_path: Path) -> None:
    assert json.loads(sbom.write(image, tmp_path / "again.json", podman()).read_text()) == bill


def test_the_proxys_image_answers_as_a_user_of_its_own() -> None:
    name = built_image("proxy", tag="localhost/sagerank:proxy-test")
    found = configuration(name)
    assert found["User"] == "1000"
    kind, *probe = found["Healthcheck"]["Test"]
    told = {"SAGERANK_PROXY_KEY": "k" * 32, "AWS_REGION": "eu-west-1"}
    with running(name, environ=told, command=["--url", "http://127.0.0.1:9"]) as container:
        container.ready()
        container.execute(*probe, user="1000")
        assert container.execute("id", "-un", user="1000").strip() == "sagerank"
