"""What is deployed: a folder whose manifest.json vouches for every other file and carries the golden pairs.

A cascade is such a folder whose models are artefacts too, in `stages/0`, `stages/1` and so on. As
`model.tar.gz` the same folder has deterministic bytes: equal contents give an equal archive, so a redeploy of
the same model is no change.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

FORMAT = 1
MANIFEST = "manifest.json"
STAGES = "stages"


class ArtefactError(ValueError):
    """An artefact that must not be served; the text says which file is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class GoldenPair:
    """A pair and its logit by the PyTorch reference in float32."""

    query: str
    document: str
    logit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    model: str
    revision: str | None  # of the source on the hub; None for a local folder or random weights
    dtype: str  # of the stored weights, in safetensors' words
    parameters: int
    max_tokens: int
    files: dict[str, str]  # name -> SHA-256
    golden: tuple[GoldenPair, ...]
    keep: tuple[int, ...] = ()  # of a cascade: how many documents each stage after the first scores
    precision: str = "fp32"  # of the arithmetic on CPU: fp32 or int8; fp32>int8 of stages that differ
    # Of a golden logit, where the arithmetic misses the reference by more than a backend's rounding.
    tolerance: float = 0.0

    @classmethod
    def read(cls, folder: Path) -> Self:
        path = folder / MANIFEST
        try:
            raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ArtefactError(
                f"{folder} holds no {MANIFEST}: it is not a sagerank artefact. Make one with `sagerank build --model {folder}`."
            ) from None
        except ValueError as error:
            raise ArtefactError(f"{path} is not JSON ({error}): build the artefact again.") from None
        if not isinstance(raw, dict) or raw.pop("format", None) != FORMAT:
            raise ArtefactError(
                f"{path} is not of format {FORMAT}: build the artefact with this version of sagerank."
            )
        try:
            golden = tuple(GoldenPair(**pair) for pair in raw["golden"])
            manifest = cls(**{**raw, "golden": golden, "keep": tuple(raw.get("keep", ()))})
        except (KeyError, TypeError) as error:
            raise ArtefactError(
                f"{path} has other fields than expected ({error}): build the artefact again."
            ) from None
        if not all(type(count) is int and count > 0 for count in manifest.keep):
            raise ArtefactError(
                f"{path} keeps {list(manifest.keep)} documents, which are no counts: build the artefact again."
            )
        return manifest

    def stages(self, folder: Path) -> list[Path]:
        """Return the folders of the models, all artefacts: `folder` itself, or the stages of its cascade."""
        if not self.keep:
            return [folder]
        return [folder / STAGES / str(number) for number in range(len(self.keep) + 1)]

    def write(self, folder: Path) -> None:
        fields = {"format": FORMAT, **asdict(self)}
        if not self.keep:
            del fields["keep"]
        text = json.dumps(fields, indent=2, ensure_ascii=False)
        (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")

    def verify(self, folder: Path) -> None:
        """Raise ArtefactError unless every file is there with the recorded SHA-256."""
        for name, recorded in self.files.items():
            path = folder / name
            if not path.is_file():
                raise ArtefactError(f"{path} is missing: build or fetch the artefact again.")
            if sha256(path) != recorded:
                raise ArtefactError(
                    f"{path} does not have the SHA-256 of the manifest: build or fetch the artefact again."
                )

    @property
    def bfloat16_tolerance(self) -> float:
        """How far a golden logit may be from the reference in bfloat16.

        Rounding grows with a model's sharpness, as the spread of its logits does: 0.15 of the golden logits' own, and at least 0.1
        (docs/benchmarks.md, "16-bit arithmetic"). Swapped halves of the feed-forward or foreign weights move them by more than all of it.
        """
        logits = [pair.logit for pair in self.golden]
        return max(0.1, 0.15 * (max(logits, default=0.0) - min(logits, default=0.0)))

    def check_golden(self, logits: Sequence[float], tolerance: float) -> None:
        """Raise ArtefactError unless `logits`, one for each golden pair in order, agree with the reference.

        tolerance: of the backend; the manifest's own counts where it is wider.
        """
        tolerance = max(tolerance, self.tolerance)
        drifts = [abs(logit - pair.logit) for logit, pair in zip(logits, self.golden, strict=True)]
        if not all(drift <= tolerance for drift in drifts):  # so that a NaN is a mismatch too
            far = ", ".join(f"{drift:.2g}" for drift in drifts)
            raise ArtefactError(
                f"The golden pairs of {self.model} score {far} away from the reference, more than {tolerance:g}: "
                "the weights, the graph or this machine's arithmetic are wrong; build the artefact again and run `sagerank doctor`."
            )


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy(source: Path, folder: Path) -> Manifest:
    """Copy the artefact in `source` into `folder`, which is made where need be. Raises ArtefactError for a damaged one."""
    manifest = Manifest.read(source)
    manifest.verify(source)
    for name in (*manifest.files, MANIFEST):  # the manifest last: it vouches for the others
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, folder / name)
    return manifest


def pack(members: Mapping[str, Path | bytes], archive: Path) -> None:
    """Write `members` (name in the archive -> file or bytes) as a .tar.gz: equal bytes for equal contents."""
    if archive.exists() and not archive.is_file():
        raise ArtefactError(f"{archive} is no regular file: give another name for the archive.")
    archive = archive.resolve()  # what a link points to, and not the link, is replaced
    part = archive.with_name(archive.name + ".part")
    try:
        # Names, times and owners would be the only differences between two builds: none is recorded.
        with (
            part.open("wb") as raw,
            gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as zipped,
            tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for name, content in sorted(members.items()):
                member = tarfile.TarInfo(name)
                member.size = len(content) if isinstance(content, bytes) else content.stat().st_size
                member.mode = 0o644
                with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
                    tar.addfile(member, file)
        part.replace(archive)  # a build that is killed leaves no half archive under the name
    finally:
        part.unlink(missing_ok=True)


def unpack(archive: Path, folder: Path) -> None:
    """Extract a model.tar.gz; members that would leave the folder are refused."""
    try:
        with tarfile.open(archive, "r:gz") as tar:
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ArtefactError(f"{archive} cannot be unpacked ({error}): build or fetch it again.") from None
