"""How an image is built: from a checkout and from the wheel alike, with an index, a password and certificates that it does not keep."""

from __future__ import annotations

import base64
import configparser
import json
import os
import platform
import shutil
import ssl
import subprocess
import sys
import threading
import uuid
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from containers import emulation, engine, standin
from containers.build import BuildError, build
from containers.engine import podman, podman_environment
from containers.settings import secrets

from ..conftest import ROOT
from ..local_aws.registry import Registry
from .running import reason

PACKAGE = ROOT / "inference/sagerank_inference"


def container(test: Any) -> Any:
    """Mark a test that builds."""
    return pytest.mark.container(pytest.mark.skipif(bool(reason()), reason=reason())(test))


def layers(image: str) -> list[str]:
    (about,) = json.loads(podman().run("image", "inspect", image).stdout)
    return list(about["RootFS"]["Layers"])


def test_secrets_are_how_pip_reaches_an_index_and_nothing_of_this_machines_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [each for each in os.environ if each.startswith("PIP_")]:
        monkeypatch.delenv(name)
    file, trusted = tmp_path / "mine.conf", tmp_path / "ca.pem"
    trusted.touch()
    file.write_text(
        f"[global]\nindex-url = https://index.example/simple\ncert = {trusted}\ncache-dir = /nowhere\n"
        "[install]\nextra-index-url =\n  file:///here/simple\n  https://more.example/simple\n"
        "[list]\nformat = columns\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    monkeypatch.setenv("PIP_DEFAULT_TIMEOUT", "7")
    found = secrets(tmp_path)
    assert found == {"pip": tmp_path / "pip.conf", "ca": trusted}
    written = configparser.RawConfigParser()
    written.read(found["pip"])
    told = dict(written["global"])
    assert told.pop("timeout") == "7"
    assert told.pop("index-url") == "https://index.example/simple"
    assert told.pop("extra-index-url").split() == ["https://more.example/simple"]
    assert "cache-dir" not in told
    assert "cert" not in told


def test_settings_that_another_start_reads_meanwhile_are_whole(tmp_path: Path) -> None:
    files = {
        "containers.conf": podman_environment,
        "storage.conf": lambda: Registry("127.0.0.1:5000", tmp_path).storage("storage"),
        "cpuinfo-arm64": lambda: emulation.mounts("arm64"),
    }
    for name, write in files.items():
        with pytest.MonkeyPatch.context() as patch:
            for module in (engine, emulation):
                patch.setattr(module, "FOLDER", tmp_path)
            patch.delenv("CONTAINERS_CONF", raising=False)
            patch.setattr(platform, "machine", lambda: "x86_64")
            patch.setattr(os, "geteuid", lambda: 0)
            patch.setattr(shutil, "which", lambda command: command)
            (tmp_path / name).write_text("as it was", encoding="utf-8")
            with (tmp_path / name).open(encoding="utf-8") as reader:
                write()
                assert reader.read() == "as it was", name
            assert (tmp_path / name).read_text(encoding="utf-8") not in ("", "as it was")
    assert {each.name for each in tmp_path.iterdir()} == files.keys()


@container
def test_what_the_wheel_brings_makes_the_same_image(image: str, tmp_path: Path) -> None:
    """Built again from scratch, from the package as it is installed: layer for layer the same."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(command, check=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    again = build(base=standin.ensure(), tag="localhost/sagerank:wheel-test", package=tmp_path / PACKAGE.name)
    try:
        assert layers(again) == layers(image)
    finally:
        podman().run("rmi", again)


@container
def test_an_indexs_password_and_certificates_stay_out_of_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    class Index(BaseHTTPRequestHandler):
        """Asks who is there, and has no package."""

        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization", ""))
            self.send_response(404)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            pass

    trusted = tmp_path / "ca.pem"
    bundle = os.environ.get("PIP_CERT") or ssl.get_default_verify_paths().cafile
    assert bundle
    trusted.write_bytes(Path(bundle).read_bytes() + b"# certificates-of-this-test\n")
    monkeypatch.setenv("PIP_CERT", str(trusted))
    package = tmp_path / "package"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    with (package / "image/requirements-cpu.txt").open("a") as pins:
        pins.write(f"# {uuid.uuid4()}: no step of another build is taken over.\n")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_address[1]}"
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"http://reader:gR8-pass-word@{address}/simple")
        name = build(base=standin.ensure(), tag="localhost/sagerank:secret-test", package=package)
        server.shutdown()
    try:
        assert base64.b64encode(b"reader:gR8-pass-word").decode() in "".join(seen)
        archive = tmp_path / "saved.tar"
        podman().run("save", "--format", "docker-archive", "--output", str(archive), name)
        held = archive.read_bytes()  # layers are not compressed in it
        assert b"sagerank_inference.server" in held
        for secret in (b"gR8-pass-word", address.encode(), b"certificates-of-this-test"):
            assert secret not in held
    finally:
        podman().run("rmi", name)


@container
def test_a_build_that_fails_says_why_in_its_last_lines(tmp_path: Path) -> None:
    package = tmp_path / "package"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "server.py").write_text("import nothing_of_that_name\n")
    with pytest.raises(BuildError) as failed:
        build(base=standin.ensure(), tag="localhost/sagerank:failed-test", package=package)
    said = str(failed.value).splitlines()
    assert len(said) <= 40
    assert any("No module named 'nothing_of_that_name'" in line for line in said)
