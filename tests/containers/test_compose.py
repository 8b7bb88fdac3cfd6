"""examples/compose/compose.yaml, brought up with podman: the image, and Debian's Prometheus in place of the one that no registry gives."""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from containers import standin
from containers.engine import podman

from ..servers import BODY, wait_for
from ..test_compose import FOLDER, SERVICES
from .running import reason

NAME = "sagerank-example"


def _reason() -> str:
    for port in (8080, 9090):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return f"port {port} is in use"
    return reason("prometheus", "promtool", "iptables")


pytestmark = pytest.mark.container


@pytest.fixture(scope="module")
def compose(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """`podman-compose` with the two services up."""
    if why := _reason():
        pytest.skip(why)
    processes = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    # podman's default is beyond what some machines allow, even to root.
    limits = {
        "nproc": 8192 if processes == resource.RLIM_INFINITY else min(processes, 8192),
        "nofile": 16_384,
    }
    tools = [str(shutil.which(tool)) for tool in ("prometheus", "promtool")]
    other: dict[str, Any] = {
        "reranker": {"ulimits": limits},
        "prometheus": {
            "image": standin.ensure(engine=podman()),
            "entrypoint": [tools[0]],
            "volumes": [f"{tool}:{tool}:ro" for tool in tools],
            "ulimits": limits,
        },
    }
    file = tmp_path_factory.mktemp("compose") / "other.yaml"
    file.write_text(yaml.safe_dump({"services": other}), encoding="utf-8")
    command = [sys.executable, "-m", "podman_compose", "-p", NAME, "-f", str(FOLDER / "compose.yaml")]

    def run(*words: str) -> str:
        done = subprocess.run(
            [*command, "-f", str(file), *words],
            env={**os.environ, **podman().environ, "IMAGE": image},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    try:
        run("up", "--detach", "--no-build", *other)
        wait_for(lambda: _status("http://127.0.0.1:8080/ping") == 200)
        yield run
    finally:
        run("down", "--volumes", "--timeout", "30")


def _get(url: str, body: bytes | None = None) -> bytes:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return bytes(answer.read())


def _status(url: str) -> int:
    try:
        _get(url)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0
    return 200


def test_it_reranks_and_prometheus_finds_it_by_its_name(compose: Callable[..., str]) -> None:
    assert len(json.loads(_get("http://127.0.0.1:8080/v1/rerank", BODY))["results"]) == 2

    def up() -> bool:
        try:
            targets = json.loads(_get("http://127.0.0.1:9090/api/v1/targets"))["data"]["activeTargets"]
        except OSError:
            return False
        return [(each["labels"]["instance"], each["health"]) for each in targets] == [("reranker:8080", "up")]

    wait_for(up)


@pytest.mark.parametrize("service", ["reranker", "prometheus"])
def test_a_service_is_healthy_by_its_own_check_and_as_small_as_it_is_said_to_be(
    compose: Callable[..., str], service: str
) -> None:
    container, said = f"{NAME}_{service}_1", SERVICES[service]
    wait_for(lambda: _healthy(container))
    found = json.loads(podman().run("inspect", container).stdout)[0]
    assert found["HostConfig"]["ReadonlyRootfs"]
    assert found["EffectiveCaps"] in ([], None)
    assert found["Config"]["User"] == said["user"]
    assert found["HostConfig"]["Memory"] == {"reranker": 2**31, "prometheus": 2**29}[service]
    assert found["HostConfig"]["NanoCpus"] == {"reranker": 10**9, "prometheus": 5 * 10**8}[service]


def _healthy(container: str) -> bool:
    try:
        podman().run("healthcheck", "run", container)
    except subprocess.CalledProcessError:
        return False
    return True


def test_it_stops_when_it_is_told_to(compose: Callable[..., str]) -> None:
    compose("stop", "reranker")
    found = json.loads(podman().run("inspect", f"{NAME}_reranker_1").stdout)[0]
    assert found["State"]["ExitCode"] == 0
