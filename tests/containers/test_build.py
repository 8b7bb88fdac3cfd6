"""How an image is built: from a checkout and from the wheel alike, with an index, a password and certificates that it does not keep."""

from __future__ import annotations

import base64
import configparser
import json
import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import threading
import uuid
import zipfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from containers import build, emulation, engine, sbom, standin
from containers.build import BuildError
from containers.engine import Engine, EngineError, docker, podman, podman_environment
from containers.settings import secrets

from ..conftest import ROOT
from ..local_aws.registry import Registry
from ..servers import wait_for
from .running import built_image, reason

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
    files: dict[str, Callable[[], object]] = {
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


def test_the_revision_says_whether_the_folder_is_of_that_commit(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "server.py").touch()
    assert build.revision(package) == "", "outside of a checkout"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=any", "-c", "user.email=any@example"]
    for words in (["init", "--quiet"], ["commit", "--quiet", "--allow-empty", "--message=another's"]):
        subprocess.run([*git, *words], check=True)
    assert build.revision(package) == "", "in another's checkout"
    for words in (["add", "."], ["commit", "--quiet", "--message=ours"]):
        subprocess.run([*git, *words], check=True)
    clean = build.revision(package)
    assert re.fullmatch("[0-9a-f]{40}", clean)
    (tmp_path / "elsewhere").touch()
    assert build.revision(package) == clean, "what is no part of the image"
    (package / "new.py").touch()
    assert build.revision(package) == f"{clean}-dirty"
    (package / "new.py").unlink()
    (package / "server.py").write_text("changed")
    assert build.revision(package) == f"{clean}-dirty"


@pytest.mark.parametrize(
    ("root", "registered", "said"),
    [
        (True, True, ""),
        (False, True, "run this as root, or start Docker"),
        (True, False, "install qemu-user-static"),
    ],
)
def test_what_an_emulated_build_needs_is_said_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: bool, registered: bool, said: str
) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("os.geteuid", lambda: 0 if root else 1000)
    monkeypatch.setattr(emulation, "_FORMATS", tmp_path)
    if registered:
        (tmp_path / "qemu-aarch64").touch()
    assert emulation.reason("amd64") == ""
    assert said in emulation.reason("arm64")
    if said:
        with pytest.raises(BuildError, match=said):
            build.build(arch="arm64", stand_in=True, engine=Engine("podman"))


def test_whoever_is_asked_for_an_image_is_asked_for_its_base_and_its_contents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `docker` that notes what it is asked for, beside whatever else can build here: the base is made elsewhere, and no real one."""
    asked, base = tmp_path / "asked", tmp_path / "mmdebstrap"
    (tmp_path / "docker").write_text(f'#!/bin/sh\necho "$@" >> {asked}\n! [ "$1 $2" = \'image inspect\' ]\n')
    base.write_text("#!/bin/sh\n")
    for file in (tmp_path / "docker", base):
        file.chmod(0o755)
    monkeypatch.setattr(standin, "_KEYRING", str(base))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    build.build(stand_in=True, engine=docker())
    lines = asked.read_text().splitlines()
    assert lines[:2] == [
        f"image inspect {standin.name('amd64')}",
        *(line for line in lines if "import" in line),
    ]
    assert f"BASE={standin.name('amd64')}" in lines[-1]
    with pytest.raises(EngineError):
        sbom.write("any", tmp_path / "any.json", docker())


@container
def test_an_image_that_is_not_there_is_said_in_the_engines_words(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="^podman: .*nothing-of-that-name: image not known"):
        sbom.write("localhost/nothing-of-that-name", tmp_path / "any.json", podman())


@container
def test_what_the_wheel_brings_makes_the_same_image(image: str, tmp_path: Path) -> None:
    """Built again from scratch, from the package as it is installed, with what its owner keeps there: layer for layer the same."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--wheel-dir",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(command, check=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    package = tmp_path / PACKAGE.name
    for name in ("keys.txt", ".env", "data/notes.csv", "dialects/.aws/credentials", "certificate.pem"):
        (package / name).parent.mkdir(exist_ok=True)
        (package / name).write_text("secret", encoding="utf-8")
    (package / "gone.py").symlink_to("nowhere")
    again = built_image(tag="localhost/sagerank:wheel-test", package=package)
    try:
        assert layers(again) == layers(image)
    finally:
        podman().run("rmi", again)


@container
def test_another_commit_and_version_are_on_the_image_whatever_is_kept_of_the_last(
    image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for revision, version in (("one", "1.0.0"), ("two", "2.0.0")):
        monkeypatch.setattr(build, "revision", lambda _folder, revision=revision: revision)
        monkeypatch.setattr(build, "_version", lambda version=version: version)
        name = built_image(tag="localhost/sagerank:labels-test")
        (about,) = json.loads(podman().run("image", "inspect", name).stdout)
        labels = about["Config"]["Labels"]
        assert labels["org.opencontainers.image.revision"] == revision
        assert labels["org.opencontainers.image.version"] == version
        assert labels["org.opencontainers.image.base.name"] == standin.name("amd64")
        assert layers(name) == layers(image)
    podman().run("rmi", name)


def test_a_build_that_is_ended_leaves_no_password_on_the_disk(tmp_path: Path) -> None:
    """With a `docker` that begins and goes on."""
    docker, scratch, begun = tmp_path / "docker", tmp_path / "scratch", tmp_path / "begun"
    docker.write_text(f"#!/bin/sh\n[ $1 = build ] || exit 0\ntouch {begun}\nexec sleep 60\n")
    docker.chmod(0o755)
    scratch.mkdir()
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "TMPDIR": str(scratch),
        "PIP_EXTRA_INDEX_URL": "http://reader:gR8-pass-word@index.example/simple",
    }
    building = subprocess.Popen([sys.executable, "-m", "containers.build"], cwd=ROOT, env=environment)
    try:
        wait_for(begun.exists)
        assert "gR8-pass-word" in next(scratch.rglob("pip.conf")).read_text(encoding="utf-8")
        building.terminate()
        assert building.wait(30) == 128 + 15
    finally:
        building.kill()
        building.wait()
    assert list(scratch.iterdir()) == []


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
        name = built_image(tag="localhost/sagerank:secret-test", package=package)
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
        built_image(tag="localhost/sagerank:failed-test", package=package)
    said = str(failed.value).splitlines()
    assert len(said) <= 40
    assert any("No module named 'nothing_of_that_name'" in line for line in said)
