"""The model hub: published models at a pinned revision, and whether their files can be had at all, known within seconds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from threading import Thread

from sagerank_inference.artefact import sha256
from sagerank_inference.checkpoint import CheckpointError
from sagerank_inference.segments import PUBLISHED

from .extras import install

_SECONDS = 6.0  # for the hub to answer at all; its own client tries for minutes
_FILES = ["config.json", "tokenizer.json", "model.safetensors"]


@dataclass(frozen=True, slots=True)
class HubModel:
    """A published model at a pinned revision, and the SHA-256 of its files as far as known beforehand."""

    repository: str
    revision: str
    known: dict[str, str]


HUB = {
    "tiny": HubModel(
        "jinaai/jina-reranker-v1-tiny-en",
        "aca45de6945b5dc6399abcd2a9c55ded5dc9111f",
        {
            "config.json": "dc70646aa6c9e75e3c513cc9c037f35ad54308001c3961d45c0f69749bcfb022",
            "tokenizer.json": PUBLISHED,
        },
    ),
    "turbo": HubModel(
        "jinaai/jina-reranker-v1-turbo-en",
        "b8c14f4e723d9e0aab4732a7b7b93741eeeb77c2",
        {
            "config.json": "e050ff6a15ae9295e84882fa0e98051bd8754856cd5201395ebf00ce9f2d609b",
            "tokenizer.json": PUBLISHED,
        },
    ),
}


def download(model: HubModel) -> Path:
    """The folder with the pinned revision's files, safetensors only, every known SHA-256 checked.

    What the hub's own cache holds already is taken from there, and nothing is asked. Raises CheckpointError.
    """
    folder = _kept(model.repository, model.revision) or _fetched(model)
    # The cache names a large file by the SHA-256 that the hub gave for this revision.
    stored = {name: (folder / name).resolve().name for name in _FILES}
    known = {name: text for name, text in stored.items() if re.fullmatch("[0-9a-f]{64}", text)} | model.known
    for name in _FILES:
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{model.repository} at {model.revision} has no {name}: the download is incomplete; try again."
            )
        if name in known and sha256(folder / name) != known[name]:
            raise CheckpointError(
                f"{folder / name} does not have the expected SHA-256: remove it and download again."
            )
    return folder


def local_only(name: str) -> bool:
    """Whether what is on this machine has to do: the name is a path, or the hub is out of reach and its cache has a snapshot.

    Raises CheckpointError, with the way around, where the hub is needed and out of reach.
    """
    if Path(name).is_dir() or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        return True
    reason = unreachable()
    if reason and _kept(name, None, wanted=()) is None:
        raise CheckpointError(_way_around(name, reason))
    return bool(reason)


def unreachable() -> str:
    """Why the hub cannot be asked; empty where it can."""
    if find_spec("huggingface_hub") is None:
        raise CheckpointError(f"The model hub is asked by huggingface-hub: {install('build')}")
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    reason = silence(constants.ENDPOINT)
    return reason and f"{constants.ENDPOINT} cannot be reached: {reason}"


_answered: set[str] = set()


def silence(url: str) -> str:
    """Why no answer comes from there; empty where one does, which is remembered."""
    import httpx2

    if url in _answered:
        return ""

    found = [f"no answer within {_SECONDS:.0f} s"]

    def ask() -> None:
        try:
            answer = httpx2.head(url, timeout=_SECONDS)
            found[0] = f"status {answer.status_code}" if answer.is_server_error else ""
        except (httpx2.HTTPError, httpx2.InvalidURL, ImportError, OSError, ValueError) as error:
            found[0] = type(error).__name__

    # In a thread that may be left behind: looking up a name has no limit of its own.
    asking = Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_SECONDS)
    if not found[0]:
        _answered.add(url)
    return found[0]


def _kept(repository: str, revision: str | None, wanted: tuple[str, ...] = tuple(_FILES)) -> Path | None:
    """The snapshot in the hub's cache, if it has all that is wanted."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(repository, revision=revision, local_files_only=True))
    except (OSError, ValueError):  # the hub's own errors are both: not there, or no name it may have
        return None
    except RuntimeError:  # of Path.home()
        raise CheckpointError("There is no home to download into: set HF_HOME to a folder.") from None
    return folder if all((folder / name).is_file() for name in wanted) else None


def _fetched(model: HubModel) -> Path:
    import httpx2
    from huggingface_hub import snapshot_download

    if reason := unreachable():
        raise CheckpointError(_way_around(model.repository, reason, model.revision))
    try:
        return Path(snapshot_download(model.repository, revision=model.revision, allow_patterns=_FILES))
    except (httpx2.HTTPError, OSError) as error:  # the hub's own errors are OSErrors
        raise CheckpointError(
            _way_around(model.repository, f"the download failed ({type(error).__name__})", model.revision)
        ) from None


def _way_around(repository: str, reason: str, revision: str = "") -> str:
    pinned = f"{' '.join(_FILES)} --revision {revision} " if revision else ""
    folder = repository.rpartition("/")[2]
    return (
        f"{repository} is not on this machine, and {reason}. Set HF_ENDPOINT to a mirror, or where there is a network run "
        f"`hf download {repository} {pinned}--local-dir {folder}`, and give that folder in place of the name."
    )
