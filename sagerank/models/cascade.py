"""A cascade as one artefact: FIRST>SECOND@K[>THIRD@K]. The first model scores all documents, the next the best K.

Each stage is an ordinary artefact in a folder of its own, so that whatever loads one still does; the manifest at the
root vouches for all their files. Its golden pairs are the last stage's: a lone document goes through every model, and
keeps the last one's logit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sagerank_inference.archive import copy
from sagerank_inference.artefact import MANIFEST, STAGES, Manifest, sha256
from sagerank_inference.checkpoint import CheckpointError


@dataclass(frozen=True, slots=True)
class Spec:
    """The models in order, and how many documents each after the first scores."""

    models: tuple[str, ...]
    keep: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read FIRST>SECOND@K[>THIRD@K]; raise CheckpointError with what is wrong in `text`."""
        first, *rest = text.split(">")
        models, keep = [first], []
        for part in rest:
            name, _, count = part.rpartition("@")
            if not name or not (count.isascii() and count.isdigit()) or int(count) < 1:
                raise CheckpointError(
                    f"The stage {part!r} of a cascade is written MODEL@K, with K documents kept."
                )
            models.append(name)
            keep.append(int(count))
        if not first:
            raise CheckpointError(f"The cascade {text!r} has no first model: write FIRST>SECOND@K.")
        for before, after in zip(keep, keep[1:], strict=False):
            if after >= before:
                raise CheckpointError(
                    f"The cascade {text!r} keeps {after} documents after {before}, so the stage between decides nothing: keep fewer from stage to stage."
                )
        return cls(tuple(models), tuple(keep))

    def name(self, names: Sequence[str]) -> str:
        """Write the cascade with other names for its models."""
        later = (f"{name}@{count}" for name, count in zip(names[1:], self.keep, strict=True))
        return ">".join((names[0], *later))


def compose(spec: Spec, stages: Sequence[Path], folder: Path) -> Manifest:
    """Write the cascade of these artefacts into an existing, empty folder and return its manifest.

    Raises CheckpointError for models that make no cascade, ArtefactError for a damaged one.
    """
    manifests = [Manifest.read(stage) for stage in stages]
    _check(spec, manifests)
    files: dict[str, str] = {}
    for number, (source, stage) in enumerate(zip(stages, manifests, strict=True)):
        place = f"{STAGES}/{number}"
        copy(source, folder / place)
        files |= {f"{place}/{name}": sha256(folder / place / name) for name in (*stage.files, MANIFEST)}
    precisions = [stage.precision for stage in manifests]
    Manifest(
        model=spec.name([stage.model for stage in manifests]),
        revision=None,  # the stages' manifests have theirs
        dtype=">".join(stage.dtype for stage in manifests),
        parameters=sum(stage.parameters for stage in manifests),
        max_tokens=manifests[0].max_tokens,
        files=files,
        golden=manifests[-1].golden,
        keep=spec.keep,
        precision=precisions[0] if len(set(precisions)) == 1 else ">".join(precisions),
        tolerance=manifests[-1].tolerance,
        calibration=manifests[-1].calibration,  # whose logits stay as they are
    ).write(folder)
    return Manifest.read(folder)


def _check(spec: Spec, stages: Sequence[Manifest]) -> None:
    first = stages[0]
    for number, (model, stage) in enumerate(zip(spec.models, stages, strict=True)):
        if stage.keep:
            raise CheckpointError(
                f"{model!r} is a cascade itself: write all stages in one, FIRST>SECOND@K>THIRD@K."
            )
        for before, other in zip(spec.models[:number], stages, strict=False):
            if other.files["model.safetensors"] == stage.files["model.safetensors"]:
                raise CheckpointError(
                    f"{before!r} and {model!r} have the same weights: a later stage is another model."
                )
        if stage.max_tokens != first.max_tokens:
            raise CheckpointError(
                f"{spec.models[0]!r} takes {first.max_tokens} tokens and {model!r} {stage.max_tokens}: "
                "one request would be cut in two ways; give models of one length."
            )
