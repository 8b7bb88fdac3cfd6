"""`sagerank build`: a model by name or folder -> the artefact that is deployed.

Every command takes the same model names; `resolve` turns any of them into an artefact folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import sagerank_inference
from sagerank_cost import nearest
from sagerank_inference.archive import copy, pack, replaced, unpack
from sagerank_inference.artefact import ARTEFACT_FILES, FORMAT, MANIFEST, ArtefactError, Manifest, sha256
from sagerank_inference.checkpoint import CheckpointError, JinaBertConfig

from . import hub
from .cascade import Spec, compose
from .extras import install
from .hub import HUB

MICRO = Path(sagerank_inference.__file__).parent / "micro"


# Shapes of the family. Base's is inferred: the published 137M parameters fit this vocabulary and no other of
# the family.
SHAPES = {
    name: JinaBertConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=12,
        intermediate_size=4 * hidden,
    )
    for name, vocabulary, hidden, layers in (
        ("tiny", 61056, 384, 4),
        ("turbo", 61056, 384, 6),
        ("base", 30528, 768, 12),
    )
}
# Multi-model-server, which AWS's toolkit runs, takes a manifest.json at the root for its own of years ago and dies of it, unless it
# finds a current one here.
_MODEL_SERVER_MANIFEST = b'{"runtime":"python","model":{"modelName":"model"}}\n'
NAMES = ("micro", *HUB, "base", *(f"random:{name}" for name in SHAPES))


def resolve(model: str, *, cache: Path | None = None) -> Path:
    """The artefact folder of a model, built where need be.

    model: a name, an artefact (folder or .tar.gz), a Hugging Face folder or a cascade FIRST>SECOND@K of them.
    Raises CheckpointError or ArtefactError with what to do.
    """
    if model == "micro":
        return MICRO
    cache = cache or default_cache()
    if ">" in model:
        return _resolve_cascade(Spec.parse(model), cache)
    path = Path(model)
    if (path / MANIFEST).is_file():
        return path
    if model not in NAMES and not path.exists():
        raise CheckpointError(
            f"There is no model {model!r}, and no folder or file of that name: {nearest(model, NAMES)}"
        )
    if path.is_file():
        return _cached(lambda folder: unpack(path, folder), cache / sha256(path)[:16])
    key = hashlib.sha256(f"{_identity(model)} {_writers()}".encode()).hexdigest()[:16]
    name = model.replace(":", "-") if model in NAMES else path.resolve().name
    return _cached(lambda folder: _write(model, folder), cache / f"{name}-{key}")


def _resolve_cascade(spec: Spec, cache: Path) -> Path:
    stages = [resolve(model, cache=cache) for model in spec.models]
    writer = sha256(Path(__file__).with_name("cascade.py"))
    identity = json.dumps([FORMAT, writer, spec.keep, [sha256(stage / MANIFEST) for stage in stages]])
    key = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return _cached(lambda folder: compose(spec, stages, folder), cache / f"cascade-{key}")


def default_cache() -> Path:
    """The folder for what is built and scored: sagerank/ below XDG_CACHE_HOME or ~/.cache.

    Where that cannot be written, or there is no home, it is this user's own folder below the system's temporary one.
    Raises CheckpointError with what to set where that cannot be had either.
    """
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sagerank"
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):  # RuntimeError: HOME is unset, and the system knows no such user
        pass
    user = os.getuid() if hasattr(os, "getuid") else None
    try:
        folder = Path(tempfile.gettempdir()) / ("sagerank" if user is None else f"sagerank-{user}")
        folder.mkdir(mode=0o700, exist_ok=True)
        # Another user may have made it first, and models are loaded from it.
        if user in (None, folder.lstat().st_uid) and not folder.is_symlink() and os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    raise CheckpointError(
        "There is no folder to keep models and scores in: set XDG_CACHE_HOME to one that can be written."
    )


def _identity(model: str) -> str:
    """The facts that a cached build depends on: a folder's file sizes and times, a hub model's revision."""
    if model in HUB:
        return f"{FORMAT} {HUB[model].revision}"
    if model in NAMES:
        return f"{FORMAT} {model}"
    stats = ((path.name, path.stat()) for path in sorted(Path(model).resolve().iterdir()) if path.is_file())
    return json.dumps(
        [FORMAT, str(Path(model).resolve()), [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]]
    )


def _writers() -> str:
    """The code that writes graph and weights: a cached build by another version is not this one's."""
    ours = sorted(Path(__file__).parent.glob("graph*.py"))
    theirs = map(
        Path(sagerank_inference.__file__).with_name, ("checkpoint.py", "jina_bert.py", "segments.py")
    )
    return " ".join(map(sha256, [*ours, *theirs]))


def _cached(make: Callable[[Path], object], target: Path) -> Path:
    """`target`, made by `make` where it is not there whole; killed, it leaves nothing there.

    Of several that make it at once each makes its own, and all take the first.
    """
    if not _whole(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with replaced(target, unless=_whole) as folder:
            make(folder)
    return target


def _whole(folder: Path) -> bool:
    try:
        Manifest.read(folder).verify(folder)
    except (ArtefactError, OSError):
        return False
    return True


def build(model: str, folder: Path) -> Manifest:
    """Make `folder` a model's artefact, in one step, and return its manifest; it may be the model's own source folder.

    Other files in `folder` stay. The PyTorch reference scores the golden pairs in float32; weights keep the precision they are stored in.
    What is whole already is copied: micro, an archive, a cascade.
    """
    with replaced(folder) as new:
        manifest = _write(model, new, instead_of=folder)
        check_graphs(new)
    return manifest


def _write(model: str, folder: Path, *, instead_of: Path | None = None) -> Manifest:
    if ">" in model:
        spec = Spec.parse(model)
        stages = [resolve(name) for name in spec.models]
        for name, stage in zip(spec.models, stages, strict=True):
            if instead_of and stage.resolve() == instead_of.resolve():
                raise CheckpointError(
                    f"The cascade would replace its own model {name!r}: give another --output."
                )
        return compose(spec, stages, folder)
    known = _manifest(Path(model))
    if model == "micro" or Path(model).is_file() or (known and known.keep):
        return copy(resolve(model), folder)
    if model == "base":
        raise CheckpointError(
            "jina-reranker-v1-base-en cannot be downloaded publicly: give the folder that holds your copy "
            "(config.json, model.safetensors, tokenizer.json), or subscribe to its AWS Marketplace package."
        )
    # Before PyTorch is loaded, which takes seconds: what is missing, and the hub.
    for needed in ("torch", "onnx", "safetensors"):
        if find_spec(needed) is None:
            raise CheckpointError(
                f"Building {model!r} needs PyTorch and onnx ({needed} is missing): {install('build')}"
            )
    stored = None if model.startswith("random:") else source(model)
    from . import export

    if stored is None:
        # The published vocabularies are not ours to ship. Micro's is smaller, so every id has a row.
        export.write_random(SHAPES[model.removeprefix("random:")], MICRO / "tokenizer.json", folder)
    else:
        export.write_stored(stored, folder)
    golden = export.write_graph(folder, model)
    config = JinaBertConfig.read(folder)
    # The same weights give the same logits, and what was found out about those holds.
    same = known and stored and known.files["model.safetensors"] == sha256(stored / "model.safetensors")
    Manifest(
        model=_published_name(model),
        revision=HUB[model].revision if model in HUB else None,
        dtype=export.stored_dtype(folder),
        parameters=config.parameters,
        max_tokens=config.max_position_embeddings,
        files={name: sha256(folder / name) for name in ARTEFACT_FILES},
        golden=golden,
        threshold=known.threshold if known and same else None,
        calibration=known.calibration if known and same else None,
    ).write(folder)
    return Manifest.read(folder)


def _manifest(folder: Path) -> Manifest | None:
    try:
        return Manifest.read(folder)
    except ArtefactError:
        return None  # no artefact, or one that is built again because its manifest is outdated


def archive(model: str, output: Path, *, code: bool = False, cache: Path | None = None) -> Manifest:
    """Write model.tar.gz as SageMaker unpacks it into /opt/ml/model: the artefact's files at the root.

    With `code`, the inference package lies under code/ as well, for containers that run the SageMaker
    inference toolkit (SAGEMAKER_PROGRAM=sagerank_inference.handler); our own image carries it already.
    """
    folder = resolve(model, cache=cache)
    manifest = Manifest.read(folder)
    manifest.verify(folder)
    check_graphs(folder)
    members: dict[str, Path | bytes] = {name: folder / name for name in (*manifest.files, MANIFEST)}
    if code:
        package = Path(sagerank_inference.__file__).parent
        members |= {
            f"code/{path.relative_to(package.parent).as_posix()}": path
            for path in sorted(package.rglob("*.py"))
        }
        members["MAR-INF/MANIFEST.json"] = _MODEL_SERVER_MANIFEST
    output.parent.mkdir(parents=True, exist_ok=True)
    pack(members, output)
    return manifest


def check_graphs(folder: Path) -> bool:
    """Raise ArtefactError unless each model.onnx of an artefact is, byte for byte, what this version writes for its weights.

    False where onnx, which writes it, is not installed: nothing was compared.
    """
    if find_spec("onnx") is None:
        return False
    from . import graph, graph_bf16, graph_int8

    written_by = {"fp32": graph.Graph, "bf16": graph_bf16.Bf16Graph, "int8": graph_int8.Int8Graph}
    for stage in Manifest.read(folder).stages(folder):
        manifest = Manifest.read(stage)
        with tempfile.TemporaryDirectory() as written:
            for name in ("config.json", "model.safetensors"):
                (Path(written) / name).symlink_to((stage / name).resolve())
            try:
                graph.write(Path(written), written_by[manifest.precision])
            except (LookupError, TypeError, ValueError, OverflowError, MemoryError, RecursionError) as error:
                raise ArtefactError(
                    f"{stage} holds no weights that a graph can be written for ({error}): build the artefact again."
                ) from None
            same = sha256(Path(written) / "model.onnx") == sha256(stage / "model.onnx")
        if not same:
            raise ArtefactError(
                f"{stage / 'model.onnx'} is not what this version of sagerank writes for these weights: "
                "build the artefact again, from the model that it was built from."
            )
    return True


def _published_name(model: str) -> str:
    if model in HUB:
        return HUB[model].repository.removeprefix("jinaai/")
    if model in NAMES and model != "micro":
        return model
    path = Path(model).resolve()
    if path == MICRO.resolve():
        return "sagerank-micro"
    return "".join(sign if sign.isprintable() else "_" for sign in path.name) or "model"


def source(model: str) -> Path:
    """The folder of one model's config.json, weights and tokenizer.json: downloaded, unpacked or made where it has to be.

    Raises CheckpointError for a cascade, and for an int8 artefact.
    """
    if model in HUB:
        return hub.download(HUB[model])
    folder = Path(model) if Path(model).is_dir() else resolve(model)
    known = _manifest(folder)
    if known and known.keep:
        raise CheckpointError(f"{model} is a cascade of several models: give one of them.")
    if known and known.precision == "int8":
        raise CheckpointError(
            f"{model} is an int8 artefact, whose weights have lost what float32 needs: give the model it was built from."
        )
    return folder
