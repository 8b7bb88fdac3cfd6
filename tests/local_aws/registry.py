"""The registry behind the local ECR: Debian's docker-registry on loopback, which wants the login that ECR hands out.

    python -m tests.local_aws.registry FOLDER PORT     # until its standard input closes

An image's address there is its address in ECR, after this registry's own. The process of its own also removes what the local AWS
leaves behind, however that ended.
"""

from __future__ import annotations

import atexit
import base64
import ctypes
import ctypes.util
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from containers.engine import settled

from ..containers import running
from . import sweep

# Of moto's GetAuthorizationToken.
USER, PASSWORD = "AWS", "123456789012-auth-token"
_TYPES = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)
_ADDRESS, _FOLDER = "LOCAL_AWS_REGISTRY", "LOCAL_AWS_FOLDER"


def reason() -> str:
    """Why endpoints are processes of this source here; empty where they are containers of the image."""
    return running.reason() or (
        "" if shutil.which("docker-registry") else "there is no docker-registry: `.ci/containers` installs it"
    )


@dataclass(frozen=True, slots=True)
class Manifest:
    """media_type: as the registry has it; text: what the digest is of."""

    digest: str
    media_type: str
    text: str


@dataclass(frozen=True, slots=True)
class Registry:
    """Where it is, and the folder of it and of all that is built and pulled."""

    address: str  # HOST:PORT
    folder: Path

    def environment(self) -> dict[str, str]:
        """What the local AWS and the stand-in for Docker find it by."""
        return {
            _ADDRESS: self.address,
            _FOLDER: str(self.folder),
            "REGISTRY_AUTH_FILE": str(self.folder / "auth.json"),
        }

    def storage(self, name: str) -> dict[str, str]:
        """Make podman keep images and containers here: those that are built apart from those that an instance pulled."""
        place = self.folder / name
        written = settled(
            self.folder / f"{name}.conf",
            f'[storage]\ndriver = "overlay"\ngraphroot = "{place}"\nrunroot = "{place}-run"\n',
        )
        return {"CONTAINERS_STORAGE_CONF": str(written)}

    def manifest(self, repository: str, reference: str) -> Manifest | None:
        """A tag's or digest's manifest; None where there is none."""
        found = self._get(f"{repository}/manifests/{reference}", {"Accept": ", ".join(_TYPES)})
        if found is None:
            return None
        headers, body = found
        return Manifest(headers["Docker-Content-Digest"], headers["Content-Type"], body.decode())

    def config(self, repository: str, manifest: Manifest) -> dict[str, Any]:
        """An image's configuration: its architecture, labels, command."""
        found = self.blob(repository, json.loads(manifest.text)["config"]["digest"])
        assert found is not None  # the registry takes no manifest without it
        config: dict[str, Any] = json.loads(found)
        return config

    def blob(self, repository: str, digest: str) -> bytes | None:
        """A layer's or a configuration's bytes; None where there are none."""
        found = self._get(f"{repository}/blobs/{digest}")
        return found[1] if found else None

    def tags(self, repository: str) -> list[str]:
        found = self._get(f"{repository}/tags/list")
        return (json.loads(found[1])["tags"] or []) if found else []

    def _get(self, path: str, headers: Mapping[str, str] = {}) -> tuple[Mapping[str, str], bytes] | None:
        token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        request = urllib.request.Request(
            f"http://{self.address}/v2/{path}", headers={"Authorization": f"Basic {token}", **headers}
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def serve(self) -> None:
        """Start it, to end with this process, whose podman pulls and runs in its folder. Raises RuntimeError."""
        os.environ.update(self.storage("instances"))
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(self.folder), self.address.partition(":")[2]],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,  # it closes with this process, however that ends
            start_new_session=True,
        )
        held = process.stdin
        assert held is not None

        def end() -> None:
            held.close()
            # Its process goes on to remove the files, unless it never came so far.
            while self.folder.exists() and process.poll() is None:
                time.sleep(0.05)

        atexit.register(end)
        deadline = time.monotonic() + 30
        while not self._listens():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("The registry did not start; its log is above.")
            time.sleep(0.05)

    def _listens(self) -> bool:
        host, _, port = self.address.partition(":")
        with suppress(OSError), socket.create_connection((host, int(port)), 1):
            return True
        return False


def given() -> Registry | None:
    """The one that this process's environment names; None: images are not built, and endpoints are processes."""
    if _ADDRESS not in os.environ:
        return None
    return Registry(os.environ[_ADDRESS], Path(os.environ[_FOLDER]))


def _configuration(folder: Path, port: int) -> dict[str, Any]:
    (folder / "htpasswd").write_text(f"{USER}:{_hashed(PASSWORD)}\n", encoding="utf-8")
    return {
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
        "http": {"addr": f"127.0.0.1:{port}"},
        "auth": {"htpasswd": {"realm": "local", "path": str(folder / "htpasswd")}},
    }


def _hashed(password: str) -> str:
    """By bcrypt, which is all that the registry takes; Python's own module is gone in 3.13."""
    library = ctypes.CDLL(ctypes.util.find_library("crypt") or "libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    return bytes(library.crypt(password.encode(), b"$2b$04$" + b"." * 22)).decode()


def main() -> None:
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)  # they are for the local AWS, whose end this one waits for
    sweep.hold(folder)
    try:
        _serve(folder, port)
    finally:
        sweep.sweep(folder)


def _serve(folder: Path, port: int) -> None:
    written = folder / "registry.json"  # which is YAML too
    written.write_text(json.dumps(_configuration(folder, port)), encoding="utf-8")
    registry = subprocess.Popen(
        ["docker-registry", "serve", str(written)],
        # Those would be settings of it.
        env={name: text for name, text in os.environ.items() if not name.startswith("REGISTRY_")},
        stdin=subprocess.DEVNULL,
    )
    while registry.poll() is None:
        if select.select([0], [], [], 1)[0] and not os.read(0, 1024):
            break
    registry.kill()


if __name__ == "__main__":
    main()
