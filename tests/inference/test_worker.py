"""What the model's process sees, and what it says when it cannot load."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

import sagerank_inference
from sagerank.models.build import MICRO
from sagerank_inference import worker
from sagerank_inference.settings import Settings
from sagerank_inference.supervisor import LoadFailed, Worker

PACKAGE = Path(sagerank_inference.__file__).parent.parent


def test_the_import_path_is_the_parents_but_for_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "library"
    library.mkdir()
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), str(library), str(PACKAGE)])
    monkeypatch.chdir(tmp_path)
    assert worker._import_path() == [str(library), str(PACKAGE)]
    monkeypatch.chdir(PACKAGE)
    assert worker._import_path() == [str(tmp_path), str(library), str(PACKAGE)]


def test_a_model_that_cannot_be_loaded_says_so_whatever_its_folder_is_called(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"\xff-nothing")
    with pytest.raises(LoadFailed, match=r"manifest\.json"):
        asyncio.run(Worker(Settings(model_dir=folder)).start())


def test_a_child_that_was_started_before_is_taken_over_and_ended() -> None:
    settings = Settings(model_dir=MICRO, threads=1)

    async def served() -> int:
        child = worker.start(settings)
        it = Worker(settings, child)
        assert it.pid == child.process.pid
        loaded = await it.start()
        assert loaded.lanes == 1
        assert loaded.facts == {"threads": 1, "lanes": 1, "lanes_by": "threads"}
        assert len(await it.run([[101, 7, 102, 8, 102]])) == 1
        await it.stop()
        return child.process.returncode

    assert asyncio.run(served()) == -signal.SIGKILL

    async def unused() -> int:
        child = worker.start(settings)
        await Worker(settings, child).stop()
        assert child.connection.fileno() == -1
        return child.process.returncode

    assert asyncio.run(unused()) == -signal.SIGKILL
