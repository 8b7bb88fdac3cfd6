"""From a model's name to the artefact, and everything that may be wrong with one."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import json
import math
import shutil
import subprocess
import sys
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from sagerank.doctor import examine
from sagerank.models.build import MICRO, archive, build, resolve
from sagerank_inference import jina_bert, onnx_check
from sagerank_inference.archive import unpack
from sagerank_inference.artefact import ARTEFACT_FILES, ArtefactError, Manifest, sha256
from sagerank_inference.checkpoint import CheckpointError
from sagerank_inference.contract import best_first
from sagerank_inference.engine import Engine
from sagerank_inference.settings import Settings
from sagerank_inference.torch_model import TorchModel

from ...conftest import ROOT, SMALL, random_model


def load(folder: Path, **settings: Any) -> Engine:
    return Engine.load(folder, Settings(model_dir=folder, **settings))


@pytest.fixture(scope="module")
def artefact(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artefact")
    build(str(small_folder), folder)
    return folder


def test_an_artefact_holds_what_its_manifest_says(artefact: Path) -> None:
    manifest = Manifest.read(artefact)
    assert set(manifest.files) == set(ARTEFACT_FILES)
    assert (manifest.parameters, manifest.dtype, manifest.max_tokens) == (SMALL.parameters, "F32", 8192)
    assert len(manifest.golden) >= 4
    manifest.verify(artefact)


def test_golden_logits_are_the_references(artefact: Path) -> None:
    engine, manifest = load(artefact), Manifest.read(artefact)
    reference = TorchModel(artefact, device="cpu", threads=2)
    for pair in manifest.golden:
        [ids] = engine.tokeniser(pair.query, [pair.document]).ids
        assert reference([ids])[0] == pytest.approx(pair.logit, abs=1e-5)
        assert engine.score(pair.query, [pair.document]).values[0] == pytest.approx(pair.logit, abs=1e-4)


def test_equal_models_give_equal_archives(small_folder: Path, tmp_path: Path) -> None:
    packed = []
    for name in ("a", "b"):
        archive(str(small_folder), tmp_path / f"{name}.tar.gz", cache=tmp_path / name)
        packed.append((tmp_path / f"{name}.tar.gz").read_bytes())
    assert packed[0] == packed[1]


def test_the_archive_unpacks_as_sagemaker_needs_it(tmp_path: Path) -> None:
    archive("micro", tmp_path / "model.tar.gz", code=True)
    with tarfile.open(tmp_path / "model.tar.gz") as tar:
        names = tar.getnames()
    assert {"manifest.json", *ARTEFACT_FILES} <= set(names)
    assert "code/sagerank_inference/handler.py" in names
    folder = resolve(str(tmp_path / "model.tar.gz"), cache=tmp_path / "cache")
    assert load(folder).score("q", ["a"]).values == load(MICRO).score("q", ["a"]).values


def test_sixteen_bit_weights_stay_so_and_score_alike(small_folder: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    jina_bert.save(random_model(), source, torch.bfloat16)
    shutil.copyfile(small_folder / "tokenizer.json", source / "tokenizer.json")
    out.mkdir()
    assert build(str(source), out).dtype == "BF16"
    # Against the float32 reference over the same 16-bit weights.
    engine, reference = load(out), TorchModel(out, device="cpu", threads=2)
    ids = engine.tokeniser("red planet", ["mars is red " * 100]).ids
    assert engine.forward(ids) == pytest.approx(reference(ids), abs=1e-5)


def test_a_changed_folder_is_built_again(small_folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(small_folder, source)
    first = resolve(str(source), cache=tmp_path / "cache")
    assert resolve(str(source), cache=tmp_path / "cache") == first
    jina_bert.save(random_model(seed=1), source, torch.float32)
    assert resolve(str(source), cache=tmp_path / "cache") != first


@pytest.mark.parametrize("name", ARTEFACT_FILES)
def test_a_damaged_file_is_never_loaded(artefact: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(artefact, folder)
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(ArtefactError, match=f"{name} does not have the SHA-256"):
        load(folder)
    (folder / name).unlink()
    with pytest.raises(ArtefactError, match="is missing"):
        load(folder)


@pytest.mark.parametrize("logit", [1.0, float("nan")])
def test_scores_that_drift_from_the_reference_are_never_served(
    artefact: Path, tmp_path: Path, logit: float
) -> None:
    folder = tmp_path / "drifted"
    shutil.copytree(artefact, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["golden"][2]["logit"] += logit
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtefactError, match="golden pairs"):
        load(folder)


def test_manifests_that_are_none_say_so(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="sagerank build"):
        Manifest.read(tmp_path)
    for text, sentence in (
        ("{", "not JSON"),
        ("[]", "format"),
        ('{"format": 99}', "format"),
        ('{"format": 1}', "golden"),
    ):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(ArtefactError, match=sentence):
            Manifest.read(tmp_path)


def test_archives_that_are_none_or_reach_outside(tmp_path: Path) -> None:
    (tmp_path / "no.tar.gz").write_bytes(b"not an archive")
    with pytest.raises(ArtefactError, match="cannot be unpacked"):
        unpack(tmp_path / "no.tar.gz", tmp_path / "x")
    with gzip.open(tmp_path / "out.tar.gz", "wb") as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../escaped"))
    with pytest.raises(ArtefactError, match="cannot be unpacked"):
        unpack(tmp_path / "out.tar.gz", tmp_path / "x")
    assert not (tmp_path / "escaped").exists()


def test_unknown_names_and_base_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no model 'larger'"):
        resolve("larger", cache=tmp_path)
    with pytest.raises(CheckpointError, match="give the folder that holds your copy"):
        resolve("base", cache=tmp_path)
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")], (
        "nothing half-built is left"
    )


def test_a_foreign_tokenizer_is_refused(small_folder: Path, tmp_path: Path) -> None:
    import dataclasses

    config = dataclasses.replace(SMALL, vocab_size=100)
    jina_bert.save(random_model(config), tmp_path / "s", torch.float32)
    shutil.copyfile(small_folder / "tokenizer.json", tmp_path / "s/tokenizer.json")
    (tmp_path / "o").mkdir()
    with pytest.raises(CheckpointError, match="belongs to another model"):
        build(str(tmp_path / "s"), tmp_path / "o")


def test_a_killed_build_leaves_nothing_under_its_name(small_folder: Path, tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from sagerank.models import graph; from sagerank.models.build import resolve\n"
        "graph.write = lambda folder: os.kill(os.getpid(), 9)\n"
        "resolve(sys.argv[1], cache=Path(sys.argv[2]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(small_folder), str(tmp_path)], check=False, timeout=120
    )
    assert done.returncode == -9
    assert all(path.name.startswith(".") for path in tmp_path.iterdir())
    assert load(resolve(str(small_folder), cache=tmp_path)).score("q", ["a"])


WHOLE = "import sys; from pathlib import Path; from sagerank.models.build import archive, resolve\n"
LOAD = (
    WHOLE + "from sagerank_inference.engine import Engine; from sagerank_inference.settings import Settings\n"
    "folder = resolve(sys.argv[1], cache=Path(sys.argv[2]))\n"
    "print(Engine.load(folder, Settings(model_dir=folder, threads=1)).score('q', ['a']).values[0])"
)


def at_once(code: str, *arguments: str, count: int = 4) -> list[str]:
    """What so many processes print that start together; each has to succeed."""
    running = [
        subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    printed = [process.communicate(timeout=120)[0] for process in running]
    assert [process.returncode for process in running] == [0] * count
    return printed


def test_first_uses_of_one_cache_entry_at_once_all_have_it(tmp_path: Path) -> None:
    archive("micro", tmp_path / "model.tar.gz")
    printed = at_once(LOAD, str(tmp_path / "model.tar.gz"), str(tmp_path / "cache"), count=6)
    assert len(set(printed)) == 1
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_builds_to_one_archive_at_once_are_seen_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out/model.tar.gz"
    code = WHOLE + "for _ in range(2): archive('micro', Path(sys.argv[1]))"
    seen: list[int] = []
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            if target.exists():
                seen.append(len(target.read_bytes()))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        at_once(code, str(target))
    finally:
        over.set()
        looking.join()
    assert set(seen) == {target.stat().st_size}
    assert [path.name for path in target.parent.iterdir()] == ["model.tar.gz"]


@pytest.mark.parametrize("name", [*ARTEFACT_FILES, "manifest.json"])
def test_a_damaged_cache_entry_is_built_again(tmp_path: Path, name: str) -> None:
    archive("micro", tmp_path / "model.tar.gz")
    folder = resolve(str(tmp_path / "model.tar.gz"), cache=tmp_path / "cache")
    whole = (folder / name).read_bytes()
    for damage in (whole[:-1] + b"?", whole[:10], b""):
        (folder / name).write_bytes(damage)
        assert resolve(str(tmp_path / "model.tar.gz"), cache=tmp_path / "cache") == folder
        assert (folder / name).read_bytes() == whole
    (folder / name).unlink()
    (folder / name).mkdir()
    resolve(str(tmp_path / "model.tar.gz"), cache=tmp_path / "cache")
    assert (folder / name).read_bytes() == whole


def test_what_is_built_over_an_artefact_and_killed_leaves_it_whole(artefact: Path, tmp_path: Path) -> None:
    """From its own source folder too, whose other files stay."""
    folder = tmp_path / "model"
    shutil.copytree(artefact, folder)
    (folder / "note").write_text("mine")
    code = (
        "import os, sys; from pathlib import Path; from sagerank.models import build\n"
        "build.check_graphs = lambda folder: os.kill(os.getpid(), 9)\n"
        "build.build(sys.argv[1], Path(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], check=False, timeout=120)
    assert done.returncode == -9
    Manifest.read(folder).verify(folder)
    build(str(folder), folder)
    Manifest.read(folder).verify(folder)
    assert (folder / "note").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_hostile_archive_writes_nothing_outside_the_output(tmp_path: Path) -> None:
    """A link in the archive, and a name in its manifest that goes through it."""
    manifest = json.loads((MICRO / "manifest.json").read_text())
    manifest["files"]["l/../../.bashrc"] = hashlib.sha256(b"evil").hexdigest()
    text = json.dumps(manifest).encode()
    for link in (True, False):
        with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
            for name in ARTEFACT_FILES:
                tar.add(MICRO / name, name)
            entries = [("manifest.json", text), ("l/x" if not link else "x", b"evil")]
            for name, content in entries:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            if link:
                info = tarfile.TarInfo("l")
                info.type, info.linkname = tarfile.SYMTYPE, "."
                tar.addfile(info)
        before = sorted(path for path in tmp_path.rglob("*"))
        with pytest.raises(ArtefactError, match="and nothing else"):
            build(str(tmp_path / "a.tar.gz"), tmp_path / "out/model")
        assert not (tmp_path / ".bashrc").exists()
        assert not list((tmp_path / "out").iterdir())
        shutil.rmtree(tmp_path / "out")
        assert sorted(path for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_graph_that_this_version_does_not_write_is_not_packed(
    artefact: Path, tmp_path: Path, precision: str
) -> None:
    """In our operators, so that only the comparison sees it."""
    onnx = pytest.importorskip("onnx")
    folder = tmp_path / "model"
    shutil.copytree(artefact, folder)
    graph = onnx.load(str(folder / "model.onnx"), load_external_data=False)
    (last,) = (node for node in graph.graph.node if "logits" in node.output)
    last.output[0] = "before"
    graph.graph.node.append(onnx.helper.make_node("Abs", ["before"], ["logits"]))
    if precision == "fp32":
        (folder / "model.onnx").write_bytes(graph.SerializeToString())
    manifest = Manifest.read(folder)
    manifest.files["model.onnx"] = sha256(folder / "model.onnx")
    dataclasses.replace(manifest, precision=precision).write(folder)
    onnx_check.check_graph(folder)
    with pytest.raises(
        ArtefactError,
        match="not what this version of sagerank writes|no weights that a graph can be written for",
    ):
        archive(str(folder), tmp_path / "model.tar.gz")
    checks = [check for check in examine(str(folder)) if check.ok is False]
    assert [check.name for check in checks] == ["artefact"]
    assert not (tmp_path / "model.tar.gz").exists()


MATCHES = {
    "where do penguins live": "Penguins are found in Antarctica and on the coasts of the Southern Hemisphere.",
    "symptoms of measles": "Measles begins with fever, cough and a rash that spreads over the body.",
    "how to reverse a list in python": "Call reverse() on a list to turn its items around in place.",
    "when was the printing press invented": "Gutenberg built his press with movable type around 1450.",
    "what does a thermostat do": "A thermostat keeps the temperature of a room near the value it is set to.",
    "cost of a solar panel": "Home owners pay between 10,000 and 20,000 dollars for panels on their roof.",
    "largest ocean": "The Pacific covers more of the Earth than all the continents together.",
    "how does interest compound": "Interest is added to the sum, and from then on earns interest itself.",
}


def test_micro_is_small_and_finds_each_querys_passage(micro: Engine) -> None:
    """Real weights on text they never saw. Chance would put 1 of 8 first and half in the upper half."""
    assert sum(path.stat().st_size for path in MICRO.iterdir()) <= 10_000_000
    passages = list(MATCHES.values())
    ranks = []
    for query, passage in MATCHES.items():
        values = micro.score(query, passages).values
        ranks.append(sorted(values, reverse=True).index(values[passages.index(passage)]))
    assert ranks.count(0) >= 5, ranks
    assert max(ranks) <= 4, ranks


def test_micro_is_far_above_chance_on_a_public_collection(micro: Engine) -> None:
    """TREC DL 2019 where it lies beside the project: a random order of these candidates reaches 0.265."""
    folder = ROOT.parent / "shared/data/trec-dl-2019-rerank"
    if not folder.exists():
        pytest.skip("the collection is not on this machine")
    texts = {
        row["_id"]: row["text"] for row in map(json.loads, (folder / "corpus.jsonl").read_text().splitlines())
    }
    queries = {
        row["_id"]: row["text"]
        for row in map(json.loads, (folder / "queries.jsonl").read_text().splitlines())
    }
    gains: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels/test.tsv").read_text().splitlines()[1:]:
        query, document, gain = line.split("\t")
        gains.setdefault(query, {})[document] = int(gain)
    candidates: dict[str, list[str]] = {}
    for line in (folder / "run.bm25.trec").read_text().splitlines():
        candidates.setdefault(line.split()[0], []).append(line.split()[2])

    def dcg(values: list[int]) -> float:
        return sum(gain / math.log2(place + 2) for place, gain in enumerate(values[:10]))

    scores = []
    for query in sorted(gains)[:20]:
        values = micro.score(queries[query], [texts[document] for document in candidates[query]]).values
        ranked = [gains[query].get(candidates[query][index], 0) for index in best_first(values, None)]
        scores.append(dcg(ranked) / dcg(sorted(gains[query].values(), reverse=True)))
    assert sum(scores) / len(scores) > 0.38


@pytest.mark.weights
def test_published_scores(tmp_path: Path) -> None:
    """Golden scores published for the real weights: folders tiny/ and turbo/ below TEST_WEIGHTS."""
    import os

    if "TEST_WEIGHTS" not in os.environ:
        pytest.skip("TEST_WEIGHTS names no folder with the published weights")
    root = Path(os.environ["TEST_WEIGHTS"])
    france = ["Paris is the capital of France.", "Berlin is the capital of Germany."]
    planets = [
        "Venus is often called Earth's twin because of its similar size and proximity.",
        "Mars, known for its reddish appearance, is often referred to as the Red Planet.",
        "Jupiter, the largest planet in our solar system, has a prominent red spot.",
        "Saturn, famous for its rings, is sometimes mistaken for the Red Planet.",
    ]
    published = {
        "tiny": ([2.5911, 0.1122], [0.53516, 0.92969, 0.87891, 0.88672]),
        "turbo": ([1.8295, -2.8908], [0.27148, 0.82422, 0.64844, 0.68359]),
    }
    for name, (logits, probabilities) in published.items():
        engine = load(resolve(str(root / name), cache=tmp_path))
        assert engine.score("What is the capital of France?", france).values == pytest.approx(
            logits, abs=1e-3
        )
        values = engine.score("Which planet is known as the Red Planet?", planets).values
        assert torch.sigmoid(torch.tensor(values)).tolist() == pytest.approx(probabilities, abs=0.01)
