"""What SageMaker starts for a model: the image that CreateModel resolved, under the instance's limits, with the artefact at
/opt/ml/model. Where images cannot be run or this one was not built: our server as a process of this source, on CPU.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from containers.engine import Engine, podman
from sagerank.models.local_server import ServerError
from sagerank.models.local_server import running as process
from sagerank_cost import CostError

from ..containers import running
from . import artefact, logs
from .artefact import ContainerFailed
from .docker import PROCESS
from .images import Image
from .launch import free_port
from .place import Place
from .registry import PASSWORD, USER, given

_PULLS = threading.Lock()
# A user that no image knows, and no devices of the host: what is known of serverless endpoints.
_SERVERLESS = ("--user", "993:990", "--security-opt", "mask=/sys")


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    content_type: str
    body: bytes


class Container:
    """Start one of a model that moto keeps; it is ready, or ContainerFailed was raised."""

    def __init__(self, backend: Any, model: str, place: Place) -> None:
        kept = backend._models[model]
        primary, image = kept.primary_container, getattr(kept, "image", None)
        if "Image" not in primary:
            raise ContainerFailed("A model package holds its seller's container, which only AWS can run.")
        environ = {name: str(text) for name, text in primary.get("Environment", {}).items()}
        registry = given()
        with ExitStack() as stack:
            # In the registry's folder it goes even where nothing here is left to remove it.
            scratch = TemporaryDirectory(prefix="local-aws-", dir=registry.folder if registry else None)
            model_dir = Path(stack.enter_context(scratch)) / "model"
            model_dir.mkdir()
            artefact.fetch(primary, backend.region_name, model_dir)
            self.output = logs.Stream(backend.region_name, place)
            try:
                if image is not None and PROCESS not in image.labels:
                    self.url = self._image(stack, image, environ, model_dir, place)
                else:
                    if registry:
                        why = image.labels[PROCESS] if image else "it is another account's"
                        self.output.write(
                            f"[local AWS] no container of the image runs, but this source: {why}"
                        )
                    self.url = self._process(stack, environ, model_dir, place)
            except (CostError, subprocess.SubprocessError) as error:
                raise ContainerFailed(f"Request to service failed. [{error}]") from None
            self._stack = stack.pop_all()
        if not registry:  # which ends what it runs
            atexit.register(self.stop)

    def _process(self, stack: ExitStack, environ: Mapping[str, str], model_dir: Path, place: Place) -> str:
        bare = ("PATH", "HOME", "PYTHONPATH", "LD_LIBRARY_PATH")
        port = free_port()
        own = {
            "SAGERANK_MODEL_DIR": str(model_dir),
            "SAGERANK_HOST": "127.0.0.1",
            "SAGERANK_PORT": str(port),
            "SAGERANK_THREADS": "1",
        }
        if "SAGERANK_DEVICE" in environ:
            own["SAGERANK_DEVICE"] = "cpu"
        kept = {name: os.environ[name] for name in bare if name in os.environ}
        command = [sys.executable, "-P", "-m", "sagerank_inference.server"]
        try:
            stack.enter_context(process("The server", command, {**kept, **environ, **own}, port=port))
        except ServerError as error:
            raise _unhealthy(place, str(error)) from None
        return f"http://127.0.0.1:{port}"

    def _image(
        self, stack: ExitStack, image: Image, environ: Mapping[str, str], model_dir: Path, place: Place
    ) -> str:
        engine = podman()
        _pull(engine, image, place)
        if image.architecture != place.architecture:
            self.output.write("exec format error")
            raise _unhealthy(
                place,
                f"the image is for {image.architecture}, and {place.instance or 'serverless'} is {place.architecture}",
            )
        try:
            started = stack.enter_context(
                running.running(
                    image.local,
                    limits=place.limits,
                    environ=environ,
                    mounts={model_dir: "/opt/ml/model"},
                    read_only=place.serverless,
                    more=_SERVERLESS if place.serverless else (),
                )
            )
        except RuntimeError as error:
            self.output.write(*str(error).splitlines())
            raise ContainerFailed(
                f"CannotStartContainerError. Please ensure the model container for variant {place.name} starts correctly "
                "when invoked with 'docker run <image> serve'"
            ) from None
        stack.callback(self.output.follow(engine, started.id))
        stack.callback(started.stop)
        try:
            started.ready(120)
        except RuntimeError:
            state, said = started.state(), started.logs().strip().splitlines()
            why = "no answer to /ping" if state["Running"] else f"exit status {state['ExitCode']}"
            last = said[-1][:300] if said else "it said nothing"
            raise _unhealthy(place, f"{why}: {last}") from None
        return started.url

    def stop(self) -> None:
        """SIGTERM, and SIGKILL 30 s later where that did not help."""
        self._stack.close()

    def invoke(self, body: bytes, content_type: str, accept: str = "", seconds: float = 60) -> Answer:
        headers = {"Content-Type": content_type, **({"Accept": accept} if accept else {})}
        request = urllib.request.Request(f"{self.url}/invocations", data=body, method="POST", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                return Answer(answer.status, answer.headers.get("Content-Type", ""), answer.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.headers.get("Content-Type", ""), error.read())
        except OSError as error:
            return Answer(
                500, "application/json", json.dumps({"message": f"the container died: {error}"}).encode()
            )


def _unhealthy(place: Place, why: str) -> ContainerFailed:
    """SageMaker's sentence, and in brackets what it leaves to be found in the log."""
    return ContainerFailed(
        f"The primary container for production variant {place.name} did not pass the ping health check. "
        f"Please check CloudWatch logs for this endpoint. [{why}]"
    )


def _pull(engine: Engine, image: Image, place: Place) -> None:
    with _PULLS:
        if engine.has(image.local):
            return
        try:
            engine.run("pull", "--quiet", "--tls-verify=false", "--creds", f"{USER}:{PASSWORD}", image.local)
        except subprocess.CalledProcessError as error:
            sys.stderr.write(error.stderr.decode(errors="replace"))
            raise ContainerFailed(
                f"Please make sure all images included in the model for the production variant {place.name} exist, "
                "and that the execution role used to create the model has permissions to access them."
            ) from None
