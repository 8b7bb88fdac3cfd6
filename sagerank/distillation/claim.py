"""Whose a work folder is: one run's at a time, of one recipe, over the same texts and models.

A copy of it on another machine goes on there: what it holds names no file outside, inputs are known by their content,
and a step that lost something on the way is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from sagerank.evaluation.scorer import public_address
from sagerank_inference.artefact import sha256

from . import DistillationError
from .corpus import text_files
from .recipe import Recipe, parse_teachers

try:
    import fcntl
except ImportError:  # a system without such locks goes on
    fcntl = None  # type: ignore[assignment]

# What may change between two runs: nothing that was made depends on it.
_FREE = ("gate_queries", "retention", "first_stage_margin", "dtype", "keep_start")
_INPUTS = ("passages", "queries", "teachers", "start", "student", "embedder")
# What is there before anything was made.
_BARE = {"lock", "recipe.json", "inputs.json"}


@contextmanager
def claimed(work: Path) -> Iterator[None]:
    """Have the folder for this process, which the system ends with it. Raises DistillationError where another has it."""
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("a+", encoding="utf-8") as lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise DistillationError(
                    f"{work} is in use by another run ({lock.read().strip()}): wait for it, or give another --work."
                ) from None
            except OSError:  # a file system without locks
                pass
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        lock.flush()
        yield


def begun(work: Path) -> bool:
    """Whether a run has made anything in the folder, which one that found an input missing has not."""
    return (work / "recipe.json").exists() and any(path.name not in _BARE for path in work.iterdir())


def settle(work: Path, recipe: Recipe) -> None:
    """Write down whose the folder is. Raises DistillationError where it was begun with other settings, texts or models."""
    settings = json.loads(json.dumps(recipe.to_json()))
    settings["teachers"] = [public_address(teacher) for teacher in recipe.teachers]
    settings = {name: value for name, value in settings.items() if name not in (*_FREE, "gate")}
    # A gate of one's own may change; what is held out where there is none must not.
    content = {name: _content(getattr(recipe, name)) for name in _INPUTS}
    content["heldout"] = recipe.gate_made
    path, inputs = work / "recipe.json", work / "inputs.json"
    if begun(work):
        own, found = settings | content, {each.name: each.default for each in fields(Recipe)} | _read(path)
        if inputs.exists():
            found |= _read(inputs)
        else:  # of a version that knew inputs by their paths
            own, found = own | {name: settings[name] for name in _INPUTS}, found | {"heldout": 0}
        changed = sorted(name for name in own if json.dumps(own[name]) != json.dumps(found.get(name)))
        if changed:
            raise DistillationError(
                f"{work} was begun with another {', '.join(changed)}: go on with those settings, texts and models, or give another --work."
            )
    write_json(path, settings)  # with this machine's paths
    write_json(inputs, content)


def seal(path: Path) -> None:
    """Remember a finished file of the folder by its content."""
    sums = path.with_name("stages.json")
    known = _read(sums) if sums.exists() else {}
    write_json(sums, known | {path.name: sha256(path)})


def whole(path: Path) -> bool:
    """Whether a finished file is there. Raises DistillationError where it is not as it was written."""
    if not path.exists():
        return False
    sums = path.with_name("stages.json")
    known = _read(sums) if sums.exists() else {}
    if path.name in known and known[path.name] != sha256(path):
        raise DistillationError(
            f"{path} is not as it was written: copy the folder again, or remove the file, and it is made again."
        )
    return True


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a file: a reader, or a run that is killed here, sees the old text or the new."""
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise DistillationError(
            f"{path} is not as it was written: copy the folder again, or give another --work."
        )
    return values


def _content(spec: str | tuple[str, ...]) -> Any:
    """What an input is, wherever it lies: the SHA-256 of the file or folder that it names, or its text where it names none."""
    if not isinstance(spec, str):
        return [[_content(teacher), share] for teacher, share in parse_teachers(spec).items()]
    scheme, colon, where = spec.rpartition(":")
    path = Path(where)
    if not where or not path.exists():
        return public_address(spec)
    if path.is_file():
        return f"{scheme}{colon}{sha256(path)}"
    texts = text_files(path)
    files = texts or sorted(each for each in path.rglob("*") if each.is_file() and each.suffix != ".md")
    sums = [(each.relative_to(path).as_posix(), sha256(each)) for each in files]
    return f"{scheme}{colon}{hashlib.sha256(json.dumps(sums).encode()).hexdigest()}"
