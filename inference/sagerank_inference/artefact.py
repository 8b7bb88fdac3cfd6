"""What is deployed: a folder whose manifest.json vouches for every other file and carries the golden pairs.

A cascade is such a folder whose models are artefacts too, in `stages/0`, `stages/1` and so on. `archive` packs it
as `model.tar.gz`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from .scale import Scale

FORMAT = 2  # 1 recorded no sizes, and is still read
MANIFEST = "manifest.json"
STAGES = "stages"
ARTEFACT_FILES = ("config.json", "model.onnx", "model.safetensors", "tokenizer.json")
MOST_BYTES = 4 << 20  # of a manifest
ANY = "any"  # in place of a manifest's SHA-256: nobody said which artefact it has to be
TEMPERATURES = (1e-3, 1e3)  # of a calibration: beyond them every score is 0, 0.5 or 1

# A golden logit that may be farther away checks nothing. Rounding in int8 moves one by a few tenths.
_MOST_TOLERANCE = {"fp32": 0.1, "bf16": 1.0, "int8": 5.0}
_MOST_PARAMETERS = 10**11
_MOST_TOKENS = 1 << 20
_MOST_STAGES = 16
_MOST_GOLDEN = 64
_MOST_FLOAT32 = 3.4e38
_MOST_OTHER = 64 << 20  # bytes of a file other than the weights, where no sizes are recorded


class ArtefactError(ValueError):
    """An artefact that must not be served; the text says which file is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class GoldenPair:
    """A pair and its logit by the PyTorch reference in float32."""

    query: str
    document: str
    logit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """The logit from which on a result is relevant often enough, as `sagerank eval threshold` found it."""

    logit: float
    low: float  # of its 95 % interval
    high: float
    precision: float  # that was wanted
    pairs: int  # that were labelled
    queries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How a logit becomes a probability, as `sagerank eval calibrate` fitted it: sigmoid((logit - shift) / temperature)."""

    temperature: float
    shift: float
    target: str  # what the scores were fitted to: "judgements", or the teacher by name
    data: str  # by name
    pairs: int
    queries: int


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
    precision: str = "fp32"  # of the arithmetic on CPU: fp32, bf16 or int8; fp32>int8 of stages that differ
    # Of a golden logit, where the arithmetic misses the reference by more than a backend's rounding.
    tolerance: float = 0.0
    # Name -> bytes, as `write` found them; none in format 1.
    sizes: dict[str, int] = field(default_factory=dict)
    threshold: Threshold | None = None  # of the last model's logits
    # Of the last model's logits too. Golden pairs, gates and raw scores are logits, and stay as they are.
    calibration: Calibration | None = None

    @classmethod
    def read(cls, folder: Path, pinned: str = ANY) -> Self:
        """Read the manifest of a folder; raises ArtefactError unless every field is what `sagerank build` could have written.

        pinned: the SHA-256 that the manifest must have, which is known before anything in it is believed.
        """
        path = folder / MANIFEST
        if not path.is_file():  # nor a pipe, which would never end
            raise ArtefactError(
                f"{folder} holds no {MANIFEST}: it is not a sagerank artefact. Make one with `sagerank build --model {folder}`."
            )
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
        check_pin(text, pinned, path)
        return cls.parse(text, path)

    @classmethod
    def parse(cls, text: bytes, path: Path | str) -> Self:
        """Read the text of a manifest; `path` is its name in messages. Raises ArtefactError as `read` does."""
        if len(text) > MOST_BYTES:
            raise ArtefactError(f"{path} has more than {MOST_BYTES:,} bytes: build the artefact again.")
        try:
            raw: dict[str, Any] = json.loads(text.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise ArtefactError(f"{path} is not JSON ({error}): build the artefact again.") from None
        version = raw.pop("format", None) if isinstance(raw, dict) else None
        if type(version) is not int or version not in (1, FORMAT):
            raise ArtefactError(
                f"{path} is not of format {FORMAT}, nor of 1: build the artefact with this version of sagerank."
            )
        try:
            golden = tuple(GoldenPair(**pair) for pair in raw["golden"])
            said = {
                name: kind(**raw[name])
                for name, kind in (("threshold", Threshold), ("calibration", Calibration))
                if raw.get(name) is not None
            }
            manifest = cls(**{**raw, "golden": golden, "keep": tuple(raw.get("keep", ())), **said})
        except (KeyError, TypeError) as error:
            raise ArtefactError(
                f"{path} has other fields than expected ({str(error)[:200]}): build the artefact again."
            ) from None
        if wrong := manifest._wrong(sized=version != 1):
            raise ArtefactError(f"{path}: {wrong}: build the artefact again.")
        return manifest

    def _wrong(self, *, sized: bool) -> str:
        """The first thing that `sagerank build` would not have written; empty where there is none."""
        if len(self.keep) >= _MOST_STAGES or not all(_whole(count, 10**9) for count in self.keep):
            return "keep has values which are no counts of documents, or too many"
        expected = _names(len(self.keep) + 1 if self.keep else 0)
        files, sizes = (value if isinstance(value, dict) else {} for value in (self.files, self.sizes))
        parts = self.precision.split(">") if isinstance(self.precision, str) else []
        most = max((_MOST_TOLERANCE.get(part, 0.0) for part in parts), default=0.0)
        rules = {
            "model is no name": _text(self.model, 1000),
            "revision is no name": self.revision is None or _text(self.revision, 200),
            "dtype is no name": _text(self.dtype, 200),
            f"parameters is no count up to {_MOST_PARAMETERS:,}": _whole(self.parameters, _MOST_PARAMETERS),
            f"max_tokens is no count up to {_MOST_TOKENS:,}": _whole(self.max_tokens, _MOST_TOKENS),
            f"files has to name {', '.join(ARTEFACT_FILES)}, of a cascade those of each stage and its manifest, and nothing else": files.keys()
            == expected,
            "files has values that are no SHA-256": all(map(_sha256, files.values())),
            "sizes has to give the bytes of each of the files": (not sized and not self.sizes)
            or (sizes.keys() == expected and all(_whole(size, 1 << 40) for size in sizes.values())),
            "precision is none of fp32, bf16 and int8": {*parts} <= _MOST_TOLERANCE.keys()
            and len(parts) in (1, len(self.keep) + 1),
            f"tolerance has to lie between 0 and {most:g}": _finite(self.tolerance)
            and 0 <= self.tolerance <= most,
            f"golden has to hold 1 to {_MOST_GOLDEN} pairs, which show that the model scores as it should": 1
            <= len(self.golden)
            <= _MOST_GOLDEN,
            "threshold has to have finite logits in order, a precision up to 1, and counts": self.threshold
            is None
            or _sound(self.threshold),
            f"calibration has to have a temperature between {TEMPERATURES[0]:g} and {TEMPERATURES[1]:g}, a finite shift, names and counts": self.calibration
            is None
            or _fitted(self.calibration),
            "the golden pairs have to be two texts and a finite logit each": all(
                _unicode(pair.query) and _unicode(pair.document) and _finite(pair.logit)
                for pair in self.golden
            ),
        }
        return next((sentence for sentence, holds in rules.items() if not holds), "")

    @property
    def scale(self) -> Scale:
        """Return how the logits become scores, and which is the cut-off, if there is one."""
        cutoff = self.threshold.logit if self.threshold else None
        if not self.calibration:
            return Scale(cutoff=cutoff)
        return Scale(self.calibration.temperature, self.calibration.shift, cutoff)

    def most_bytes(self, name: str) -> int:
        """How large a file may be: as large as recorded; in format 1, what the number of parameters allows."""
        if self.sizes:
            return self.sizes[name]
        return 8 * self.parameters + (1 << 20) if name.endswith("model.safetensors") else _MOST_OTHER

    def stages(self, folder: Path) -> list[Path]:
        """Return the folders of the models, all artefacts: `folder` itself, or the stages of its cascade."""
        if not self.keep:
            return [folder]
        return [folder / STAGES / str(number) for number in range(len(self.keep) + 1)]

    def write(self, folder: Path) -> None:
        """Write the manifest into `folder`, with the sizes that its files have there."""
        fields = {"format": FORMAT, **asdict(self)}
        if not self.keep:
            del fields["keep"]
        for name in ("threshold", "calibration"):
            if fields[name] is None:
                del fields[name]
        here = {name: folder / name for name in self.files}
        fields["sizes"] = self.sizes | {
            name: path.stat().st_size for name, path in here.items() if path.is_file()
        }
        text = json.dumps(fields, indent=2, ensure_ascii=False)
        (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")

    def verify(self, folder: Path) -> None:
        """Raise ArtefactError unless every file is there with the recorded size and SHA-256."""
        for name in self.files:
            self.verify_file(folder, name)

    def verify_file(self, folder: Path, name: str) -> None:
        """Raise ArtefactError unless that file is there with the recorded size and SHA-256."""
        path = folder / name
        if not path.is_file():
            raise ArtefactError(f"{path} is missing: build or fetch the artefact again.")
        if path.stat().st_size > self.most_bytes(name) or sha256(path) != self.files[name]:
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


def check_pin(text: bytes, pinned: str, path: Path | str) -> None:
    """Raise ArtefactError unless the text of a manifest has the SHA-256 that was asked for; `path` is its name in messages."""
    found = hashlib.sha256(text).hexdigest()
    if pinned not in (ANY, found):
        raise ArtefactError(
            f"{path} is of another artefact than the one that was deployed: its SHA-256 is {found}, and {pinned} was asked for; "
            "put that one back, or deploy this one."
        )


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _names(stages: int) -> set[str]:
    """The files of an artefact beside its manifest; of a cascade's with so many stages."""
    if not stages:
        return {*ARTEFACT_FILES}
    return {f"{STAGES}/{number}/{name}" for number in range(stages) for name in (*ARTEFACT_FILES, MANIFEST)}


def _text(value: object, most: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= most and value.isprintable()


def _whole(value: object, most: int) -> bool:
    return type(value) is int and 0 < value <= most


def _sha256(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _sound(threshold: Threshold) -> bool:
    logits = (threshold.low, threshold.logit, threshold.high, threshold.precision)
    counts = _whole(threshold.pairs, 10**12) and _whole(threshold.queries, 10**12)
    return (
        all(map(_finite, logits))
        and threshold.low <= threshold.high
        and 0 < threshold.precision <= 1
        and counts
    )


def _fitted(calibration: Calibration) -> bool:
    low, high = TEMPERATURES
    return (
        _finite(calibration.temperature)
        and low <= calibration.temperature <= high
        and _finite(calibration.shift)
        and _text(calibration.target, 1000)
        and _text(calibration.data, 1000)
        and _whole(calibration.pairs, 10**12)
        and _whole(calibration.queries, 10**12)
    )


def _unicode(value: object) -> bool:
    """Half a surrogate pair is no text, and no tokenizer takes it."""
    return isinstance(value, str) and value.encode(errors="replace").decode() == value


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MOST_FLOAT32
