"""A cascade as one artefact: its files, its refusals, and scores as those of the evaluation's cascade."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from sagerank.cli import main
from sagerank.evaluation.scorer import Cascade, EngineScorer, open_scorer
from sagerank.models.build import MICRO, archive, build, resolve
from sagerank.models.cascade import Spec
from sagerank_inference import jina_bert
from sagerank_inference.artefact import MANIFEST, ArtefactError, Manifest, sha256
from sagerank_inference.cache import ScoreCache
from sagerank_inference.checkpoint import CheckpointError
from sagerank_inference.contract import (
    best_first,
)
from sagerank_inference.dialects import parse
from sagerank_inference.engine import Engine, Forward, load_forward, load_stages
from sagerank_inference.handler import model_fn, output_fn, predict_fn
from sagerank_inference.settings import Settings

from ...conftest import random_model
from ..conftest import DOCUMENTS, QUERY
from .conftest import Alone, engine


@pytest.mark.parametrize("keep", [1, 3, 6, 50])
def test_the_engine_ranks_as_the_evaluations_cascade(second: Path, tmp_path: Path, keep: int) -> None:
    both = engine(resolve(f"micro>{second}@{keep}", cache=tmp_path))
    apart = Cascade([Alone(engine(MICRO)), Alone(engine(second))], [keep])
    for documents in (DOCUMENTS, DOCUMENTS[:1]):
        found = both.score(QUERY, documents)
        assert found.values == pytest.approx(apart.score(QUERY, documents), abs=1e-4)
        assert len(found.timings.stages) == 2
        assert sum(found.timings.stages) == pytest.approx(found.timings.forward)
    alone = engine(MICRO).score(QUERY, DOCUMENTS)
    assert both.score(QUERY, DOCUMENTS).document_tokens == alone.document_tokens, "billed once"
    assert not alone.timings.stages
    assert both.score(QUERY, []).values == ()


def test_the_best_have_the_last_models_own_scores(folder: Path, second: Path) -> None:
    values = engine(folder).score(QUERY, DOCUMENTS).values
    first, last = (engine(each).score(QUERY, DOCUMENTS).values for each in (MICRO, second))
    best = best_first(first, 3)
    assert [values[index] for index in best] == pytest.approx([last[index] for index in best], abs=1e-4)
    assert set(best_first(values, 3)) == set(best)
    rest = [index for index in best_first(values, None) if index not in best]
    assert rest == [index for index in best_first(first, None) if index not in best]


def test_a_cache_keeps_the_scores_of_each_model_apart(folder: Path) -> None:
    plain, scored = engine(folder), list[int]()

    def counting(forward: Forward) -> Forward:
        class Counting:
            tolerance, lanes = forward.tolerance, forward.lanes

            def __call__(self, batch: Sequence[Sequence[int]]) -> list[float]:
                scored.append(len(batch))
                return forward(batch)

        return Counting()

    kept = Engine(
        plain.manifest,
        plain.stages,
        [*map(counting, plain.forwards)],
        batch_tokens=plain.batch_tokens,
        cache=ScoreCache(1),
    )
    first = kept.score(QUERY, DOCUMENTS, spans=True)
    assert (first.values, first.spans) == (
        plain.score(QUERY, DOCUMENTS).values,
        plain.score(QUERY, DOCUMENTS, spans=True).spans,
    )
    before = sum(scored)
    assert kept.score(QUERY, DOCUMENTS, spans=True).values == first.values
    assert sum(scored) == before
    # Others come second, which the first model knows and the second does not.
    some = DOCUMENTS[1:4]
    assert kept.score(QUERY, some).values == pytest.approx(plain.score(QUERY, some).values, abs=1e-4)
    assert sum(scored) > before


def test_the_same_text_has_the_same_score_on_both_sides_of_k(second: Path, tmp_path: Path) -> None:
    both = engine(resolve(f"micro>{second}@3", cache=tmp_path))
    documents = [DOCUMENTS[0], DOCUMENTS[1], *[DOCUMENTS[0]] * 4, DOCUMENTS[3]]
    values = both.score(QUERY, documents).values
    (alone,) = engine(second).score(QUERY, DOCUMENTS[:1]).values
    assert [values[index] for index in (0, 2, 3, 4, 5)] == [pytest.approx(alone, abs=1e-4)] * 5
    assert len({values[index] for index in (0, 2, 3, 4, 5)}) == 1
    assert values[1] < values[0] > values[6]
    apart = Cascade([Alone(engine(MICRO)), Alone(engine(second))], [3])
    assert values == pytest.approx(apart.score(QUERY, documents), abs=1e-4)
    assert len(set(both.score(QUERY, ["same"] * 9).values)) == 1
    assert len(set(both.score(QUERY, [""] * 5).values)) == 1


def test_three_stages_and_a_tokenizer_of_its_own(second: Path, tmp_path: Path) -> None:
    third = tmp_path / "third"
    third.mkdir()
    jina_bert.save(random_model(seed=1), third, torch.float32)
    (third / "tokenizer.json").write_text(json.dumps(json.loads((MICRO / "tokenizer.json").read_text())))
    build(str(third), third)
    found = engine(resolve(f"micro>{second}@5>{third}@2", cache=tmp_path))
    assert found.stages[1].tokeniser is found.stages[0].tokeniser
    assert found.stages[2].tokeniser is not found.stages[0].tokeniser
    apart = Cascade([Alone(engine(each)) for each in (MICRO, second, third)], [5, 2])
    assert found.score(QUERY, DOCUMENTS).values == pytest.approx(apart.score(QUERY, DOCUMENTS), abs=1e-4)
    assert found.manifest.model == f"sagerank-micro>{second.name}@5>third@2" or found.manifest.model.endswith(
        "@2"
    )


def test_equal_cascades_are_equal_bytes(second: Path, folder: Path, tmp_path: Path) -> None:
    for name in ("a.tar.gz", "b.tar.gz"):
        archive(f"micro>{second}@3", tmp_path / name, cache=tmp_path / name[0])
    assert (tmp_path / "a.tar.gz").read_bytes() == (tmp_path / "b.tar.gz").read_bytes()
    unpacked = resolve(str(tmp_path / "a.tar.gz"), cache=tmp_path / "c")
    manifest = Manifest.read(unpacked)
    assert manifest == Manifest.read(folder)
    assert manifest.keep == (3,)
    stages = [Manifest.read(stage) for stage in manifest.stages(unpacked)]
    assert manifest.parameters == sum(stage.parameters for stage in stages)
    assert manifest.golden == stages[1].golden
    for stage in manifest.stages(unpacked):
        Engine.load(stage, Settings(model_dir=stage))  # each is an artefact by itself
    assert "keep" not in json.loads((MICRO / "manifest.json").read_text())


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("micro>random:tiny@0", "written MODEL@K"),
        ("micro>random:tiny", "written MODEL@K"),
        ("micro>random:tiny@²", "written MODEL@K"),
        (">micro@3", "no first model"),
        ("micro>micro@3", "the same weights"),
        ("micro>tinny@3", "no model 'tinny'"),
        ("micro>random:tiny@3>random:turbo@3", "keep fewer from stage to stage"),
    ],
)
def test_what_makes_no_cascade_is_refused_in_a_sentence(
    spec: str, sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["build", "--model", spec, "--output", str(tmp_path / "model.tar.gz")]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert not (tmp_path / "model.tar.gz").exists()


def test_stages_of_another_length_and_cascades_as_stages_are_refused(
    second: Path, folder: Path, tmp_path: Path
) -> None:
    short = dataclasses.replace(Manifest.read(second), max_tokens=512)
    for name in short.files:
        (tmp_path / name).write_bytes((second / name).read_bytes())
    short.write(tmp_path)
    with pytest.raises(CheckpointError, match="takes 8192 tokens and .* 512"):
        resolve(f"micro>{tmp_path}@3", cache=tmp_path / "cache")
    with pytest.raises(CheckpointError, match="is a cascade itself"):
        resolve(f"micro>{folder}@3", cache=tmp_path / "cache")


def test_a_stages_manifest_is_the_roots_before_it_is_read(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "spoilt")
    (tmp_path / "spoilt" / "stages/1" / MANIFEST).write_text("no JSON")
    with pytest.raises(ArtefactError, match="stages/1/manifest.json is of another artefact"):
        load_stages(tmp_path / "spoilt", Settings(model_dir=tmp_path))


def test_a_cascade_inside_a_cascade_is_not_loaded(folder: Path, tmp_path: Path) -> None:
    manifest = Manifest.read(folder)
    for number in (0, 1):
        shutil.copytree(MICRO, tmp_path / f"stages/{number}")
    shutil.copyfile(folder / MANIFEST, tmp_path / "stages/1" / MANIFEST)
    hashes = {name: sha256(tmp_path / name) for name in manifest.files}
    dataclasses.replace(manifest, files=hashes).write(tmp_path)
    with pytest.raises(ArtefactError, match=r"stages/1 is a cascade inside a cascade"):
        Engine.load(tmp_path, Settings(model_dir=tmp_path))


def test_a_folder_is_what_its_manifest_says(folder: Path, second: Path, tmp_path: Path) -> None:
    """A cascade is copied; a folder that held one may hold a model next, which is not replaced by what it is part of."""
    archive(str(folder), tmp_path / "model.tar.gz")
    for source, name in ((folder, "again"), (tmp_path / "model.tar.gz", "unpacked")):
        assert build(str(source), tmp_path / name) == Manifest.read(folder)
        Manifest.read(folder).verify(tmp_path / name)
    again = tmp_path / "again"
    build("micro", again)
    assert (again / "stages").is_dir()
    assert engine(again).score(QUERY, DOCUMENTS).values == engine(MICRO).score(QUERY, DOCUMENTS).values
    with pytest.raises(CheckpointError, match="would replace its own model"):
        build(f"{second}>{again}@3", again)
    assert not Manifest.read(again).keep
    with pytest.raises(ArtefactError, match="give one of its models"):
        load_forward(folder, Settings(model_dir=folder))


def test_damage_is_named(folder: Path, tmp_path: Path) -> None:
    manifest = Manifest.read(folder)
    for name in (*manifest.files, "manifest.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    weights = tmp_path / "stages/1/model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + b"?")
    with pytest.raises(ArtefactError, match=r"stages/1/model\.safetensors does not have the SHA-256"):
        engine(tmp_path)
    weights.unlink()
    with pytest.raises(ArtefactError, match=r"stages/1/model\.safetensors is missing"):
        engine(tmp_path)
    weights.write_bytes(whole)
    (tmp_path / "stages/1/manifest.json").write_bytes((MICRO / "manifest.json").read_bytes())
    with pytest.raises(ArtefactError, match=r"stages/1/manifest\.json does not have the SHA-256"):
        engine(tmp_path)
    dataclasses.replace(manifest, keep=(0,)).write(tmp_path)
    with pytest.raises(ArtefactError, match="which are no counts"):
        engine(tmp_path)


def test_the_evaluation_scores_an_artefact_by_stage(folder: Path, second: Path) -> None:
    found = open_scorer(str(folder), threads=1)
    assert isinstance(found, Cascade)
    assert [stage.name for stage in found.stages] == [EngineScorer(each).name for each in (MICRO, second)]
    served = Engine.load(folder, Settings(model_dir=folder)).score(QUERY, DOCUMENTS).values
    assert found.score(QUERY, DOCUMENTS) == pytest.approx(served, abs=1e-4)


def test_the_toolkits_handler_and_the_doctor_take_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = parse(json.dumps({"query": QUERY, "documents": DOCUMENTS}).encode(), None)
    body, _ = output_fn(predict_fn(call, model_fn(str(folder))), "application/json")
    assert len(json.loads(body)["results"]) == len(DOCUMENTS)
    assert main(["doctor", "--model", str(folder)]) == 0
    assert capsys.readouterr().out.count("score as the reference does") == 2


def test_a_spec_is_read_once_for_all() -> None:
    spec = Spec.parse("endpoint:tiny@eu-west-1>onnx:/a/b@20>http://host:1/x@5")
    assert spec == Spec(("endpoint:tiny@eu-west-1", "onnx:/a/b", "http://host:1/x"), (20, 5))
    assert spec.name(["a", "b", "c"]) == "a>b@20>c@5"
