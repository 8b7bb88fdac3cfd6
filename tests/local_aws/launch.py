"""Start and stop the local AWS, and what a process needs in its environment to take it for AWS."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from containers import standin

from . import sweep
from .registry import Registry, reason

ACCOUNT, REGION = "123456789012", "us-east-1"
ROOT = Path(__file__).parent.parent.parent
# Stands in for Docker: podman where there is a registry, else it builds nothing.
DOCKER = Path(__file__).with_name("docker.py")


def free_port() -> int:
    """A loopback port that nobody listens on; tests.conftest has torch with it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def new_registry() -> Iterator[Registry]:
    """A place for one, which the local AWS starts and removes; with the base image, which is made once in a minute.

    Raises RuntimeError where images cannot be built and run.
    """
    if why := reason():
        raise RuntimeError(f"Endpoints cannot be containers: {why}")
    standin.ensure()
    with sweep.folder() as folder:
        yield Registry(f"127.0.0.1:{free_port()}", folder)


def environment(port: int, registry: Registry | None = None) -> dict[str, str]:
    return {
        **(registry.environment() if registry else {}),
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        # Not 127.0.0.1: moto reads a template's address as its own only under this name.
        "AWS_ENDPOINT_URL": f"http://localhost:{port}",
        # A change set gets no outputs from moto.
        "CDK_METHOD": "direct",
        "CDK_DOCKER": str(DOCKER),
        "CDK_DISABLE_VERSION_CHECK": "1",
        "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "20",
    }


@contextmanager
def running(log: Path, *, containers: bool = False) -> Iterator[dict[str, str]]:
    """A local AWS on a free port: the environment of its clients. What it started ends with it.

    containers: images are built, pushed, pulled and run; otherwise an endpoint is a process of this source.
    """
    port = free_port()
    with ExitStack() as stack, log.open("wb") as output:
        own = environment(port, stack.enter_context(new_registry()) if containers else None)
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.local_aws", "--port", str(port), "--attached"],
            cwd=ROOT,
            # The user's own profile and the like are for the real one.
            env={**{name: text for name, text in os.environ.items() if not name.startswith("AWS_")}, **own},
            stdin=subprocess.PIPE,  # it closes with this process, however that ends
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + 120
            while not answers(port):
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(
                        f"The local AWS did not start:\n{log.read_text(encoding='utf-8', errors='replace')[-2000:]}"
                    )
                time.sleep(0.1)
            yield own
        finally:
            with suppress(ProcessLookupError):  # it did not start
                os.killpg(server.pid, signal.SIGTERM)
            try:
                server.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.communicate()


def answers(port: int) -> bool:
    """Whether a local AWS is up."""
    try:
        with urllib.request.urlopen(f"http://localhost:{port}/moto-api/", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
