"""Write what was found out about a model into an artefact that is already built."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from sagerank_inference.archive import pack, scratch, unpack
from sagerank_inference.artefact import MANIFEST, Calibration, Manifest, Threshold


def amend(path: Path, found: Threshold | Calibration) -> Manifest:
    """Write a cut-off or a calibration into the manifest of a folder or a model.tar.gz, in one step, and return the manifest.

    The manifest's SHA-256 is another one then: a deployment that pins the artefact refuses it until it is deployed again.
    Versions that do not know the field refuse the artefact: of a cut-off those before 0.4.0, of a calibration those
    before 0.8.0. Raises ArtefactError.
    """
    if path.is_dir():
        manifest = _with(Manifest.read(path), found)
        with scratch(path) as folder:
            _write(manifest, folder)
            os.replace(folder / MANIFEST, path / MANIFEST)
        return manifest
    with scratch(path.resolve().parent) as folder:
        inside = folder / "artefact"
        manifest = _with(unpack(path, inside, code=True), found)
        _write(manifest, inside)
        pack(
            {file.relative_to(inside).as_posix(): file for file in inside.rglob("*") if file.is_file()},
            path,
        )
    return manifest


def _write(manifest: Manifest, folder: Path) -> None:
    """Write what can be read again: another manifest would take the place of one with which the artefact is whole."""
    manifest.write(folder)
    Manifest.read(folder)


def _with(manifest: Manifest, found: Threshold | Calibration) -> Manifest:
    if isinstance(found, Threshold):
        return replace(manifest, threshold=found)
    return replace(manifest, calibration=found)
