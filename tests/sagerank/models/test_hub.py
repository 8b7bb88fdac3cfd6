"""The model hub: files of its cache, what it delivered, and what is said within seconds where it does not answer."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
from pathlib import Path

import pytest

from sagerank.models import hub
from sagerank.models.build import resolve
from sagerank.models.extras import install
from sagerank_inference.artefact import sha256
from sagerank_inference.checkpoint import CheckpointError

from ...conftest import free_port, needs, run_python

REVISION = "0" * 40


def cached(home: Path, small_folder: Path) -> Path:
    """A repository a/b in the hub's cache, as its own client lays one out."""
    base = home / "hub/models--a--b"
    snapshot = base / "snapshots" / REVISION
    for folder in (base / "blobs", base / "refs", snapshot):
        folder.mkdir(parents=True)
    (base / "refs/main").write_text(REVISION)
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        blob = base / "blobs" / sha256(small_folder / name)
        shutil.copyfile(small_folder / name, blob)
        (snapshot / name).symlink_to(blob)
    return snapshot


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


@needs("torch")
def test_without_the_hub_the_way_around_is_one_sentence_with_its_command(home: Path) -> None:
    with pytest.raises(CheckpointError) as error:
        resolve("tiny", cache=home)
    said = str(error.value)
    assert "HF_HUB_OFFLINE is set" in said
    assert (
        "hf download jinaai/jina-reranker-v1-tiny-en config.json tokenizer.json model.safetensors --revision aca45de"
        in said
    )


@needs("torch")
def test_nothing_heavy_is_loaded_before_the_hub_is_known_to_be_out_of_reach(tmp_path: Path) -> None:
    code = (
        "import sys; from sagerank.cli import main\n"
        "assert main(['build', '--model', 'tiny', '--output', sys.argv[1]]) == 2\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    own = {"HF_HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    done = run_python(code, str(tmp_path / "model.tar.gz"), env={**os.environ, **own})
    assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr


def test_a_hub_that_refuses_and_one_that_is_silent_are_told_from_one_that_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Real sockets: a port without a listener, and a listener that never answers."""
    assert hub.silence(f"http://127.0.0.1:{free_port()}") == "ConnectError"
    assert hub.silence("ftp://example") == "UnsupportedProtocol"
    monkeypatch.setattr(hub, "_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        reason = hub.silence(f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert reason == "ReadTimeout" or reason.startswith("no answer within")


def test_what_the_cache_holds_is_taken_without_the_hub(home: Path, small_folder: Path) -> None:
    snapshot = cached(home, small_folder)
    assert hub.download(hub.HubModel("a/b", REVISION, {})) == snapshot
    assert hub.local_only("a/b")
    with pytest.raises(CheckpointError, match=r"c/d is not on this machine.*`hf download c/d --local-dir d`"):
        hub.local_only("c/d")


def test_a_file_with_another_hash_is_refused(home: Path, small_folder: Path) -> None:
    snapshot = cached(home, small_folder)
    with pytest.raises(CheckpointError, match=r"config\.json does not have the expected SHA-256"):
        hub.download(hub.HubModel("a/b", REVISION, {"config.json": "0" * 64}))
    weights = (snapshot / "model.safetensors").resolve()
    weights.write_bytes(weights.read_bytes() + b"x")
    with pytest.raises(CheckpointError, match=r"model\.safetensors does not have the expected SHA-256"):
        hub.download(hub.HubModel("a/b", REVISION, {}))


def test_without_its_client_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CheckpointError, match=re.escape(f"asked by huggingface-hub: {install('build')}")):
        hub.unreachable()
