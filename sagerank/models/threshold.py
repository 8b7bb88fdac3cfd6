"""Keep a cut-off in an artefact that is already built."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from sagerank_inference.archive import pack, scratch, unpack
from sagerank_inference.artefact import MANIFEST, Manifest, Threshold


def store(path: Path, threshold: Threshold) -> None:
    """Write a cut-off into the manifest of a folder or a model.tar.gz, in one step. Raises ArtefactError.

    Versions before 0.4.0 refuse the artefact then, as they do every field that they do not know.
    """
    if path.is_dir():
        manifest = replace(Manifest.read(path), threshold=threshold)
        with scratch(path) as folder:
            manifest.write(folder)
            os.replace(folder / MANIFEST, path / MANIFEST)
        return
    with scratch(path.resolve().parent) as folder:
        inside = folder / "artefact"
        manifest = unpack(path, inside, code=True)
        replace(manifest, threshold=threshold).write(inside)
        pack(
            {found.relative_to(inside).as_posix(): found for found in inside.rglob("*") if found.is_file()},
            path,
        )
