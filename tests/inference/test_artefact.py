"""Artefacts from anybody: manifests with fields that switch checks off, archives that reach outside, graphs that are not ours."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sagerank.models.build import MICRO
from sagerank_inference import archive
from sagerank_inference.archive import pack, unpack
from sagerank_inference.artefact import ARTEFACT_FILES, MANIFEST, ArtefactError, Manifest, sha256
from sagerank_inference.checkpoint import CheckpointError
from sagerank_inference.engine import Engine
from sagerank_inference.onnx_check import OPERATORS, check_graph
from sagerank_inference.settings import Settings

from ..conftest import run_python


def load(folder: Path, **settings: Any) -> Engine:
    return Engine.load(folder, Settings(model_dir=folder, threads=1, **settings))


def fields() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((MICRO / MANIFEST).read_text())
    return found


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of micro that a test may spoil."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in (*ARTEFACT_FILES, MANIFEST):
        shutil.copyfile(MICRO / name, folder / name)
    return folder


# Manifests


def test_an_artefact_of_before_sizes_were_recorded_is_loaded(model: Path) -> None:
    old = fields() | {"format": 1}
    del old["sizes"]
    (model / MANIFEST).write_text(json.dumps(old))
    assert load(model).score("q", ["a"]).values == load(MICRO).score("q", ["a"]).values


GOLDEN = fields()["golden"]
SHA = "0" * 64


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"golden": []}, "golden has to hold 1 to 64 pairs"),
        ({"golden": GOLDEN * 17}, "golden has to hold 1 to 64 pairs"),
        ({"golden": {"a": 1}}, "other fields"),
        ({"golden": [{"query": "q", "document": "d"}]}, "other fields"),
        *(
            ({"golden": [GOLDEN[0] | {"logit": logit}]}, "two texts and a finite logit")
            for logit in (float("nan"), float("inf"), "1", None, True, 10**400)
        ),
        ({"golden": [GOLDEN[0] | {"query": 3}]}, "two texts and a finite logit"),
        ({"golden": [GOLDEN[0] | {"document": "\ud800"}]}, "two texts and a finite logit"),
        ({"files": {}}, "and nothing else"),
        ({"files": []}, "and nothing else"),
        *(
            ({"files": fields()["files"] | {name: SHA}}, "and nothing else")
            for name in (
                "l/../../.bashrc",
                "/etc/x",
                "..",
                ".",
                "",
                "a\\b",
                "C:x",
                "a\0b",
                "Config.json",
                "code/x.py",
            )
        ),
        ({"files": fields()["files"] | {"config.json": "x"}}, "no SHA-256"),
        ({"files": fields()["files"] | {"config.json": None}}, "no SHA-256"),
        *(({"tolerance": value}, "tolerance") for value in (float("inf"), float("nan"), -1, 0.5, "0", True)),
        ({"tolerance": 6, "precision": "int8"}, "tolerance has to lie between 0 and 5"),
        ({"tolerance": 2, "precision": "bf16"}, "tolerance has to lie between 0 and 1"),
        *(({"precision": value}, "precision") for value in ("fp16", "", None, 8, "fp32>int8")),
        *(({"parameters": value}, "parameters") for value in (0, -1, 1.5, True, "1", 10**12)),
        *(({"max_tokens": value}, "max_tokens") for value in (0, -1, 1e3, None, 10**9)),
        *(({"model": value}, "model is no name") for value in ("", "a\nb", 7, "\ud800", "x" * 2000)),
        ({"revision": 7}, "revision"),
        ({"dtype": ["F32"]}, "dtype"),
        ({"keep": [0]}, "no counts"),
        ({"keep": ["1"]}, "no counts"),
        ({"keep": list(range(99, 1, -1))}, "no counts"),
        ({"keep": 3}, "other fields"),
        ({"keep": [3]}, "and nothing else"),
        ({"sizes": {}}, "sizes"),
        ({"sizes": fields()["sizes"] | {"config.json": -1}}, "sizes"),
        ({"sizes": 3}, "sizes"),
        ({"surprise": 1}, "other fields"),
        ({"format": True}, "format"),
        ({"format": 3}, "format"),
    ],
)
def test_a_manifest_that_switches_a_check_off_is_refused(
    model: Path, change: dict[str, Any], sentence: str
) -> None:
    (model / MANIFEST).write_text(json.dumps(fields() | change))
    with pytest.raises(ArtefactError, match=sentence) as caught:
        load(model)
    assert str(caught.value).count("\n") == 0
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "[1" + "0" * 5000 + "]", "\xff", "[" + " " * (5 << 20) + "]"]
)
def test_a_manifest_that_is_no_json_is_refused(model: Path, text: str) -> None:
    (model / MANIFEST).write_bytes(text.encode("latin-1"))
    with pytest.raises(ArtefactError, match=r"not JSON|has more than"):
        load(model)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_deep_nesting_is_a_sentence(model: Path, name: str) -> None:
    (model / name).write_text("[" * 100_000)
    manifest = fields()
    manifest["files"][name] = sha256(model / name)
    (model / MANIFEST).write_text(json.dumps(manifest | {"sizes": {**manifest["sizes"], name: 100_000}}))
    with pytest.raises((ArtefactError, CheckpointError), match=name):
        load(model, backend="torch" if name == "config.json" else "onnx")


def test_another_manifest_than_the_pinned_one_is_refused_unread(model: Path) -> None:
    own = sha256(model / MANIFEST)
    assert Manifest.read(model, own) == Manifest.read(model, "any") == Manifest.read(model)
    for text in (b"no JSON", json.dumps(fields() | {"model": "other"}).encode()):
        (model / MANIFEST).write_bytes(text)
        with pytest.raises(ArtefactError, match=f"is of another artefact .*, and {own} was asked for"):
            load(model, manifest_sha256=own)


def test_a_pipe_in_place_of_a_file_is_no_file(model: Path) -> None:
    for name in (MANIFEST, "model.onnx"):
        (model / name).unlink()
        os.mkfifo(model / name)
        with pytest.raises(ArtefactError, match=r"is missing|holds no manifest"):
            load(model)
        (model / name).unlink()
        shutil.copyfile(MICRO / name, model / name)


def test_settings_that_cut_every_golden_pair_leave_none_unchecked(model: Path) -> None:
    load(model, max_tokens=12, query_tokens=3)
    wrong = fields()
    wrong["golden"][0]["logit"] += 1
    (model / MANIFEST).write_text(json.dumps(wrong))
    with pytest.raises(ArtefactError, match="away from the reference"):
        load(model, max_tokens=12, query_tokens=3)


# Archives

Edit = Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]


def member(name: str, content: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def written(
    path: Path, *extra: tuple[tarfile.TarInfo, bytes], first: bool = True, contents: Mapping[str, bytes] = {}
) -> Path:
    """Micro's archive with more members, before or after its own, and other contents of its own."""
    own = [member(name, (MICRO / name).read_bytes()) for name in (MANIFEST, *ARTEFACT_FILES)]
    own = [member(info.name, contents.get(info.name, content)) for info, content in own]
    with tarfile.open(path, "w:gz", compresslevel=0, format=tarfile.PAX_FORMAT) as tar:
        for info, content in [*extra, *own] if first else [*own, *extra]:
            tar.addfile(info, io.BytesIO(content))
    return path


def test_micro_packed_by_hand_is_unpacked(tmp_path: Path) -> None:
    """By plain tar too, with its own names, and with what is none of the artefact's, which stays in there."""
    written(tmp_path / "a.tar.gz", member("README.md", b"hello"), member("sub", type=tarfile.DIRTYPE))
    assert unpack(tmp_path / "a.tar.gz", tmp_path / "a") == Manifest.read(MICRO)
    assert {path.name for path in (tmp_path / "a").rglob("*")} == {MANIFEST, *ARTEFACT_FILES}
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    subprocess.run(["tar", "czf", tmp_path / "b.tar.gz", "-C", tmp_path / "b", "."], check=True)
    assert unpack(tmp_path / "b.tar.gz", tmp_path / "c") == Manifest.read(MICRO)


@pytest.mark.parametrize(
    "extra",
    [
        *(
            member("l", type=kind, linkname=to)
            for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE)
            for to in ("..", "config.json")
        ),
        *(
            member("d", type=kind)
            for kind in (tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.CONTTYPE)
        ),
        *(
            member(name, b"x")
            for name in (
                "/abs",
                "../up",
                "a/../../up",
                "a//b",
                "a/./b",
                "a\\b",
                "C:x",
                "a\nb",
                "a\x1bb",
                "\udcff",
                "x" * 300,
            )
        ),
        member("CONFIG.json", b"x"),
        member("config.json", b"x"),
        member("\uff43onfig.json", b"x"),
        member(
            "s",
            b"x",
            pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "config.json"},
        ),
        member("p", b"x", pax_headers={"path": "../up"}),
        member("p", b"x", pax_headers={"size": "-512"}),
        member("p", b"x", pax_headers={"comment": "x" * 100_000}),
    ],
    ids=lambda value: ascii(value[0].name)[:20],
)
@pytest.mark.parametrize("first", [True, False])
def test_what_no_archive_of_ours_holds_is_refused(
    tmp_path: Path, extra: tuple[tarfile.TarInfo, bytes], first: bool
) -> None:
    inside = tmp_path / "deep/er"
    inside.mkdir(parents=True)
    with pytest.raises(ArtefactError, match="cannot be unpacked") as caught:
        unpack(written(tmp_path / "a.tar.gz", extra, first=first), inside / "model")
    assert str(caught.value).isprintable()
    assert {path.name for path in tmp_path.iterdir()} == {"a.tar.gz", "deep"}
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


def test_a_chain_of_links_and_its_file_write_nowhere_else(tmp_path: Path) -> None:
    """CVE-2025-4517: past the length of a path, tarfile's own filter resolves no more."""
    long, chain, step = "d" * 247, [], ""
    for letter in "abcdefghijklmnop":
        chain += [
            member(f"{step}{long}", type=tarfile.DIRTYPE),
            member(f"{step}{letter}", type=tarfile.SYMTYPE, linkname=long),
        ]
        step += f"{letter}/"
    chain += [
        member(f"{step}{'l' * 254}", type=tarfile.SYMTYPE, linkname="../" * 16),
        member("escape", type=tarfile.SYMTYPE, linkname=f"{step}{'l' * 254}/../../out"),
        member("escape/file", b"x"),
    ]
    with pytest.raises(ArtefactError, match="is a link"):
        unpack(written(tmp_path / "a.tar.gz", *chain), tmp_path / "in/model")
    assert not (tmp_path / "out").exists()


def test_what_unpacks_to_far_more_is_refused_before_it_is_written(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "zeros.gz", "wb", compresslevel=1) as zipped:
        info, _ = member("README.md")
        info.size = 100 << 20
        zipped.write(info.tobuf())
        for _ in range(100):
            zipped.write(bytes(1 << 20))
    with pytest.raises(ArtefactError, match="far more than its own size"):
        unpack(tmp_path / "zeros.gz", tmp_path / "model")
    # A size that its manifest does not have, and a manifest that says so.
    weights = bytes(30 << 20)
    with pytest.raises(ArtefactError, match=r"model\.safetensors has 31,457,280 bytes"):
        unpack(written(tmp_path / "a.tar.gz", contents={"model.safetensors": weights}), tmp_path / "model")
    assert sum(path.stat().st_size for path in (tmp_path / "model").iterdir()) < 1 << 20
    old = fields() | {"format": 1, "parameters": 1000}
    del old["sizes"]
    with pytest.raises(ArtefactError, match=r"model\.safetensors has 4,600,432 bytes"):
        unpack(
            written(tmp_path / "b.tar.gz", contents={MANIFEST: json.dumps(old).encode()}), tmp_path / "old"
        )


@pytest.mark.parametrize(
    "spoil", [lambda data: data[: len(data) // 2], lambda data: data[:400] + bytes(200) + data[600:]]
)
def test_a_damaged_archive_is_refused(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    whole = written(tmp_path / "a.tar.gz").read_bytes()
    (tmp_path / "a.tar.gz").write_bytes(spoil(whole))
    with pytest.raises(ArtefactError, match="cannot be unpacked|is not JSON"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "model")


def test_headers_without_end_are_refused(tmp_path: Path) -> None:
    def header(kind: bytes, size: bytes) -> bytes:
        info = tarfile.TarInfo("x")
        info.type = kind
        block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
        block[124:136] = size
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        return bytes(block)

    huge, negative = b"\x80" + (3 << 30).to_bytes(11, "big"), b"\xff" * 10 + b"\xfe\x00"
    for kind, size in (
        (b"x", huge),
        (b"L", huge),
        (b"g", huge),
        (b"0", negative),
        (b"x", negative),
        (b"L", negative),
    ):
        (tmp_path / "a.tar.gz").write_bytes(gzip.compress(header(kind, size) + bytes(2048)))
        with pytest.raises(ArtefactError, match="cannot be unpacked"):
            unpack(tmp_path / "a.tar.gz", tmp_path / "model")
    many = header(b"g", b"00000000000\0") * 5000
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(many))
    with pytest.raises(ArtefactError, match="cannot be unpacked"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "model")
    files = [member(f"f{number}") for number in range(1100)]
    with pytest.raises(ArtefactError, match="more than 1,000 files"):
        unpack(written(tmp_path / "b.tar.gz", *files), tmp_path / "model")


def test_a_folder_with_files_is_not_unpacked_into(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").symlink_to(tmp_path / "out")
    with pytest.raises(ArtefactError, match="holds other files"):
        unpack(written(tmp_path / "a.tar.gz"), tmp_path / "model")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("mask", [0o077, 0o000])
def test_files_are_readable_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        pack({name: MICRO / name for name in (*ARTEFACT_FILES, MANIFEST)}, tmp_path / "a.tar.gz")
        unpack(written(tmp_path / "b.tar.gz", member("x", mode=0o777)), tmp_path / "model")
        with archive.replaced(tmp_path / "copy") as folder:
            archive.copy(MICRO, folder)
    finally:
        os.umask(before)
    assert (tmp_path / "a.tar.gz").stat().st_mode & 0o7777 == 0o644
    for folder in (tmp_path / "model", tmp_path / "copy"):
        assert folder.stat().st_mode & 0o7777 == 0o755
        assert {path.stat().st_mode & 0o7777 for path in folder.iterdir()} == {0o644}


# Written whole or not at all


def test_a_folder_is_exchanged_with_what_else_is_in_it(tmp_path: Path) -> None:
    target = tmp_path / "target"
    (target / "sub/deep").mkdir(parents=True)
    (target / "sub/deep/note").write_text("mine")
    (target / "link").symlink_to("sub")
    (target / "config.json").write_text("old")
    with archive.replaced(target) as new:
        archive.copy(MICRO, new)
    Manifest.read(target).verify(target)
    assert (target / "link/deep/note").read_text() == "mine"
    assert (target / "link").is_symlink()
    with suppress(KeyError), archive.replaced(target) as new:
        (new / "config.json").write_text("half")
        raise KeyError
    Manifest.read(target).verify(target)
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_the_working_folder_keeps_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "note").write_text("mine")
    before = tmp_path.stat().st_ino
    with archive.replaced(Path()) as new:
        archive.copy(MICRO, new)
    assert (tmp_path.stat().st_ino, Path.cwd()) == (before, tmp_path)
    Manifest.read(tmp_path).verify(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"note", MANIFEST, *ARTEFACT_FILES}


KILLED = """
import os, sys; from pathlib import Path; from sagerank.models.build import MICRO
from sagerank_inference import archive
with archive.replaced(Path(sys.argv[1])) as new:
    archive.copy(Path(sys.argv[2]), new)
    if sys.argv[3] == "swap":
        archive._exchange = lambda one, other: os.kill(os.getpid(), 9)
    else:
        os.kill(os.getpid(), 9)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signal")
@pytest.mark.parametrize("when", ["copy", "swap"])
def test_a_killed_run_leaves_what_was_there_and_the_next_one_cleans_up(tmp_path: Path, when: str) -> None:
    target = tmp_path / "target"
    with archive.replaced(target) as new:
        archive.copy(MICRO, new)
    assert run_python(KILLED, str(target), str(MICRO), when).returncode == -9
    Manifest.read(target).verify(target)
    assert len(list(tmp_path.iterdir())) == 2, "what the killed run had begun"
    with archive.scratch(tmp_path) as running, archive.replaced(target) as new:
        archive.copy(MICRO, new)
        assert {path.name for path in tmp_path.iterdir()} == {"target", running.name, new.parent.name}
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


# Graphs


def spoiled(model: Path, change: Callable[[Any], None]) -> None:
    """Change micro's graph and have the manifest vouch for it."""
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(str(MICRO / "model.onnx"), load_external_data=False)
    change(graph)
    (model / "model.onnx").write_bytes(graph.SerializeToString())
    vouched(model)


def vouched(model: Path) -> None:
    manifest = Manifest.read(MICRO)
    manifest.files["model.onnx"] = sha256(model / "model.onnx")
    manifest.write(model)


def test_a_graph_that_is_not_ours_is_refused_before_it_is_loaded(model: Path) -> None:
    onnx = pytest.importorskip("onnx")
    node, tensor = onnx.helper.make_node, onnx.TensorProto

    def external(key: str, value: str) -> Callable[[Any], None]:
        def change(graph: Any) -> None:
            stored = next(each for each in graph.graph.initializer if each.external_data)
            next(entry for entry in stored.external_data if entry.key == key).value = value

        return change

    def inner(graph: Any) -> None:
        body = next(each for each in graph.graph.node if each.op_type == "If").attribute[0].g
        body.node.append(node("RandomNormal", [], ["x"], shape=[1]))

    changes: dict[str, Callable[[Any], None]] = {
        "the operator": lambda graph: graph.graph.node.append(node("RandomNormal", [], ["x"], shape=[1])),
        "operator 'evil": lambda graph: graph.graph.node.append(node("Custom", [], ["x"], domain="evil")),
        "operators of 'evil'": lambda graph: graph.opset_import.append(onnx.helper.make_opsetid("evil", 1)),
        "field 25": lambda graph: graph.functions.append(
            onnx.helper.make_function("", "F", [], [], [], [onnx.helper.make_opsetid("", 24)])
        ),
        "in another file": external("location", "../../etc/passwd"),
        "outside their file": external("offset", str(1 << 40)),
        "weights outside": external("offset", "-1"),
        "outside": external("length", "1"),
        "other inputs": lambda graph: graph.graph.input.append(
            onnx.helper.make_tensor_value_info("more", tensor.FLOAT, [1])
        ),
        "RandomNormal": inner,
        "field 15": lambda graph: graph.graph.sparse_initializer.add(),
    }
    for sentence, change in changes.items():
        spoiled(model, change)
        with pytest.raises(ArtefactError, match=sentence) as caught:
            load(model)
        assert "is not loaded" in str(caught.value)


@pytest.mark.parametrize("cut", [1, 100, 20_000])
def test_a_damaged_graph_is_a_sentence(model: Path, cut: int) -> None:
    """Even where the check of its form lets it through, which sees no meaning."""
    data = (MICRO / "model.onnx").read_bytes()
    for spoilt in (data[:-cut], data[cut:], bytes(cut), b"\xff" * cut):
        (model / "model.onnx").write_bytes(spoilt)
        vouched(model)
        with pytest.raises(ArtefactError, match=r"model\.onnx"):
            load(model)


def test_the_check_knows_every_operator_of_ours_and_no_other() -> None:
    source = "".join(
        path.read_text() for path in (Path(__file__).parents[2] / "sagerank/models").glob("graph*.py")
    )
    for names in OPERATORS.values():
        for name in names:
            assert f'"{name}"' in source, name
    check_graph(MICRO)


@pytest.mark.parametrize("linked", [ARTEFACT_FILES, ("model.safetensors",), ("model.onnx",)])
def test_a_folder_of_links_is_loaded(tmp_path: Path, linked: tuple[str, ...]) -> None:
    """As the hub's cache lays files out: snapshots/REVISION/NAME -> ../../blobs/HASH."""
    folder = tmp_path / "snapshots/abc"
    folder.mkdir(parents=True)
    for number, name in enumerate((*ARTEFACT_FILES, MANIFEST)):
        blob = tmp_path / f"blobs{number if len(linked) < 2 else ''}/{number}"
        blob.parent.mkdir(exist_ok=True)
        shutil.copyfile(MICRO / name, blob)
        if name in linked:
            (folder / name).symlink_to(f"../../{blob.parent.name}/{number}")
        else:
            shutil.copyfile(blob, folder / name)
    assert load(folder).score("q", ["a"]).values == load(MICRO).score("q", ["a"]).values
