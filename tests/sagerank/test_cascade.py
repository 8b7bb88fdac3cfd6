"""Cascades: one artefact, one rule for the scores, the same ranking in the engine, the server and the evaluation."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import json
import math
import os
import shutil
import signal
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import aws_cdk as cdk
import pytest
import torch
from aws_cdk.assertions import Template
from hypothesis import given
from hypothesis import strategies as st
from sagerank_cost.memory import copy_mb
from sagerank_cost.models import choice
from sagerank_inference import jina_bert
from sagerank_inference import service as service_module
from sagerank_inference.artefact import MANIFEST, ArtefactError, Manifest, pack, sha256
from sagerank_inference.batcher import Account
from sagerank_inference.cascade import Rounds, Stage, merge
from sagerank_inference.checkpoint import CheckpointError
from sagerank_inference.contract import (
    Group,
    RerankRequest,
    TokenLimitExceeded,
    Truncation,
    best_first,
)
from sagerank_inference.dialects import parse, sigmoid
from sagerank_inference.engine import Engine, load_forward, load_stages
from sagerank_inference.handler import model_fn, predict_fn
from sagerank_inference.metrics import Metrics
from sagerank_inference.service import Service
from sagerank_inference.settings import Settings
from sagerank_inference.tokenise import Tokeniser, Windows
from sagerank_infra import rules
from sagerank_infra.app import build as build_stacks
from sagerank_infra.config import ConfigError

from sagerank.cli import main
from sagerank.evaluation import EvaluationError
from sagerank.evaluation.cascade import Pace, arithmetic, curve, measured
from sagerank.evaluation.collection import Collection
from sagerank.evaluation.evaluate import rerank
from sagerank.evaluation.scorer import Cascade, EngineScorer, open_scorer
from sagerank.evaluation.scores import ScoreStore
from sagerank.models.build import MICRO, archive, build, resolve
from sagerank.models.cascade import Spec

from ..conftest import random_model
from ..inference.test_batcher import ScriptedWorker, batcher, windows
from ..inference.test_batcher import run as run_test
from ..inference.test_server import running, wait_for

QUERY = "how do glaciers shape valleys"
DOCUMENTS = [
    "Ice carves valleys and leaves moraines.",
    "A cat sleeps on the mat.",
    "Glaciers pluck rock from the bed. " * 30,
    "Rivers make valleys, too.",
    "",
    "The piston moves in the cylinder.",
    "Valley glaciers flow downhill under their own weight.",
]


@pytest.fixture(scope="session")
def second(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artefact of another model than micro, with micro's tokenizer."""
    folder = tmp_path_factory.mktemp("second")
    build(str(small_folder), folder)
    return folder


@pytest.fixture(scope="session")
def folder(second: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return resolve(f"micro>{second}@3", cache=tmp_path_factory.mktemp("cache"))


def engine(folder: Path) -> Engine:
    """Checked on its golden pairs, and then with little room."""
    whole = Engine.load(folder, Settings(model_dir=folder, threads=1))
    stages = load_stages(folder, Settings(model_dir=folder, max_tokens=96, query_tokens=24, overlap_tokens=8))
    return Engine(whole.manifest, stages, whole.forwards, batch_tokens=256)


class Alone:
    """An engine as evaluation's scorer."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.name = engine, engine.manifest.model

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        return list(self.engine.score(query, documents).values)


# -- scores ------------------------------------------------------------------------------------------------------


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


logits = st.floats(-12, 12, width=32)


def distinct(values: Sequence[float]) -> list[str]:
    return [f"document {place}" for place in range(len(values))]


@given(st.lists(logits, min_size=1, max_size=60), st.lists(logits, min_size=1, max_size=20))
def test_merging_keeps_order_and_the_last_models_scores(values: list[float], again: list[float]) -> None:
    best = best_first(values, len(again))
    again = again[: len(best)]
    merged = merge(values, best, again, distinct(values))
    assert [merged[index] for index in best] == again
    rest = [index for index in range(len(values)) if index not in best]
    assert all(merged[index] < min(again) for index in rest)
    for one in rest:
        for other in rest:
            assert (values[one] < values[other]) <= (merged[one] <= merged[other])
            assert (values[one] == values[other]) <= (merged[one] == merged[other])


def test_what_an_answer_shows_is_distinct_after_sigmoid_and_rounding() -> None:
    """80 documents below a best one that the last model finds irrelevant: a shift would round most of them to 0."""
    values = [9.0, *(-0.2 * place for place in range(80))]
    merged = merge(values, [0], [-10.5], distinct(values))
    shown = [round(sigmoid(value), 8) for value in merged]
    assert shown[0] == round(sigmoid(-10.5), 8)
    assert len(set(shown)) == len(shown)
    assert shown == sorted(shown, reverse=True)
    assert merge([5.0, -3.0], [0], [-2.0], ["a", "b"]) == [-2.0, -3.0], "what is below already stays as it is"
    assert all(map(math.isfinite, merge([1e4, 9e3, -9e3], [0], [-1e4], ["a", "b", "c"])))


def test_a_text_too_long_for_any_stage_is_refused_wherever_it_ranks() -> None:
    manifest = Manifest.read(MICRO)
    wide, narrow = (Tokeniser.load(MICRO, query_tokens=8, max_tokens=length) for length in (512, 32))
    stages = [Stage(manifest, wide, None), Stage(manifest, narrow, 1)]
    documents = ["short", "word " * 50]
    with pytest.raises(TokenLimitExceeded, match=r"documents\[1\] has"):
        Rounds(stages, "a query", documents, Truncation(allowed=False)).read()
    assert len(Rounds(stages, "a query", documents, Truncation()).read().ids) == 2


# -- artefact ----------------------------------------------------------------------------------------------------


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


def test_a_cascade_inside_a_cascade_is_not_loaded(folder: Path, tmp_path: Path) -> None:
    inner = tmp_path / "stages/1"
    for place in (tmp_path / "stages/0", inner):
        shutil.copytree(folder, place)
    shutil.rmtree(tmp_path / "stages/0")
    shutil.copytree(MICRO, tmp_path / "stages/0")
    hashes = {
        f"stages/{number}/{MANIFEST}": sha256(tmp_path / f"stages/{number}/{MANIFEST}") for number in (0, 1)
    }
    dataclasses.replace(Manifest.read(folder), files=hashes).write(tmp_path)
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
    body, _ = predict_fn(call, model_fn(str(folder)))
    assert len(json.loads(body)["results"]) == len(DOCUMENTS)
    assert main(["doctor", "--model", str(folder)]) == 0
    assert capsys.readouterr().out.count("score as the reference does") == 2


# -- server ------------------------------------------------------------------------------------------------------


def test_the_server_ranks_as_the_engine_and_counts_by_model(folder: Path) -> None:
    # So few tokens that most documents are several windows, and one golden pair is, which cannot be compared.
    settings = {"SAGERANK_MODEL_DIR": str(folder), "SAGERANK_GOLDEN_SECONDS": "0.2"}
    settings |= {"SAGERANK_MAX_TOKENS": "56", "SAGERANK_QUERY_TOKENS": "24", "SAGERANK_OVERLAP_TOKENS": "8"}
    expected = Engine.load(folder, Settings.from_env(settings))
    assert [len(stage.manifest.golden) for stage in expected.stages] == [3, 3]
    with running(**settings) as server:
        wait_for(lambda: server.ping() == 200)

        def ask(number: int) -> tuple[list[str], list[dict[str, float]]]:
            documents = DOCUMENTS[number % 5 :]
            body = json.dumps({"query": QUERY, "texts": documents, "raw_scores": True})
            code, answer = server.post(body.encode())
            assert code == 200
            return documents, answer

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ask, range(24)))
        for documents, answer in answers:
            values = expected.score(QUERY, documents).values
            assert [item["index"] for item in answer] == best_first(values, None)
            assert [item["score"] for item in answer] == pytest.approx(sorted(values, reverse=True), abs=1e-4)
        # What `sagerank verify` asks for: a lone document has the last model's score.
        pair = Manifest.read(folder).golden[0]
        body = json.dumps({"query": pair.query, "texts": [pair.document], "raw_scores": True}).encode()
        assert server.post(body)[1][0]["score"] == pytest.approx(pair.logit, abs=1e-3)
        metrics = server.call("GET", "/metrics")[1]
        scored = sum(len(documents) for documents, _ in answers) + 1
        again = sum(min(3, len(documents)) for documents, _ in answers) + 1
        assert f'sagerank_model_documents_total{{model="sagerank-micro",position="0"}} {scored}.0' in metrics
        assert f'position="1"}} {again}.0' in metrics
        assert server.ping() == 200, "the golden pairs of both models, again and again"
        entries = [entry for entry in server.stop() if entry["event"] == "request"]
        assert all(len(entry["stages"]) == 2 for entry in entries)


def test_a_worker_that_dies_between_two_stages_is_replaced_and_the_request_answered(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(model_dir=folder, threads=1)
    expected = Engine.load(folder, settings).score(QUERY, DOCUMENTS).values
    request = RerankRequest("tei", (Group(QUERY, tuple(DOCUMENTS)),))
    packed, read = service_module._packed, list[int]()

    def killing(rounds: Rounds) -> Windows:
        read.append(len(read))
        if len(read) == 2:  # what the second model has to score
            assert service._worker.pid is not None
            os.kill(service._worker.pid, signal.SIGKILL)
            while service.state != "restarting":  # in a thread: the loop goes on
                time.sleep(0.01)
        return packed(rounds)

    monkeypatch.setattr(service_module, "_packed", killing)
    service = Service(settings, Metrics())

    async def test() -> None:
        failures: list[str] = []
        running = asyncio.create_task(service.run(lambda: failures.append("failed")))
        while service.state != "ready":
            await asyncio.sleep(0.01)
        first = service._worker.pid
        (found,) = await service.score(request)
        assert found.values == pytest.approx(expected, abs=1e-4)
        assert service._worker.pid != first
        (again,) = await service.score(request)
        assert again.values == pytest.approx(expected, abs=1e-4)
        assert (len(read), failures) == (4, [])
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run_test(test)


def test_a_batch_is_of_one_model_and_a_request_is_admitted_once() -> None:
    async def test() -> None:
        own, other = ScriptedWorker(held=True), ScriptedWorker()
        it = batcher(own, max_queue_tokens=30)
        waiting = [asyncio.create_task(it.score(windows(10), timeout=9)) for _ in range(3)]
        await asyncio.sleep(0)
        # The queue is full, but this request is here already.
        account = Account(came=0, served=100)
        later = asyncio.create_task(it.score(windows(10, 20, 10), timeout=9, run=other, account=account))
        await asyncio.sleep(0)
        own.gate.set()
        assert (await later)[0] == [10.0, 20.0, 10.0]
        await asyncio.gather(*waiting)
        assert sorted(length for batch in own.batches for length in batch) == [10, 10, 10]
        assert sorted(length for batch in other.batches for length in batch) == [10, 10, 20]
        assert account.served == 100 + 40

    run_test(test)


# -- K from a quality target ---------------------------------------------------------------------------------------


class Table:
    """Scores by document, the same for every query."""

    def __init__(self, name: str, scores: dict[str, float]) -> None:
        self.name, self.scores = name, scores

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        return [self.scores[query + document] for document in documents]


def collection(queries: int) -> tuple[Collection, dict[str, list[tuple[str, float]]]]:
    documents = {f"d{n}": f"document {n}" for n in range(20)}
    asked = {f"q{n}": f"query {n} " for n in range(queries)}
    # The answer of query n stands at place n % 6 of the first model, and first with the last.
    qrels = {f"q{n}": {f"d{n % 6}": 1} for n in range(queries)}
    return Collection("made", documents, asked, qrels), {
        query: [(document, 0.0) for document in documents] for query in asked
    }


def models(made: Collection) -> tuple[Table, Table]:
    first, last = {}, {}
    for number, query in enumerate(made.queries.values()):
        for place, text in enumerate(made.documents.values()):
            first[query + text] = -float(place)
            last[query + text] = 5.0 if place == number % 6 else -float(place)
    return Table("first", first), Table("last", last)


PACES = [Pace("first", 1.0, 1.0, 1.0, "ms"), Pace("last", 10.0, 10.0, 10.0, "ms")]


def test_the_curve_is_every_cascades_own_quality_and_cost() -> None:
    made, run = collection(12)
    first, last = models(made)
    store = ScoreStore(None)
    found = curve(made, run, first, last, store, retain=1.0, paces=PACES)
    for keep in (1, 4, 20):
        ranking = rerank(made, run, Cascade([first, last], [keep]), store)
        assert found.steps[keep].ndcg == pytest.approx(ranking.mean())
        assert found.steps[keep].cost == 20 * 1 + keep * 10
    assert found.steps[0].ndcg == pytest.approx(rerank(made, run, first, store).mean())
    assert found.last_ndcg == found.steps[20].ndcg == 1.0
    assert found.last_cost == 200
    assert found.chosen == found.by_mean == 6, "the deepest answer stands at place 6"
    assert [step.share for step in found.steps] == sorted(step.share for step in found.steps)
    middle = Cascade([first, Table("middle", first.scores)], [9])
    three = curve(made, run, middle, last, store, retain=1.0, paces=[PACES[0], *PACES])
    assert [step.keep for step in three.steps] == list(range(9))
    assert three.steps[4].cost == 20 * 1 + 9 * 1 + 4 * 10


def test_noise_does_not_decide_for_a_smaller_k() -> None:
    """The mean over few queries just reaches the share; that another sample would is not sure."""
    made, run = collection(12)
    first, last = models(made)
    goal = 0.85
    found = curve(made, run, first, last, ScoreStore(None), retain=goal, paces=PACES)
    assert found.by_mean is not None
    assert found.chosen is not None
    assert found.steps[found.by_mean].share >= goal
    assert found.chosen > found.by_mean
    assert all(step.low >= 0 for step in found.steps[found.chosen :])
    assert found.steps[found.chosen - 1].low < 0
    good = curve(made, run, last, last, ScoreStore(None), retain=goal, paces=PACES)
    assert good.chosen == 0, "a first model that is as good needs no second"


def test_eval_cascade_prints_the_command_that_builds_it(
    second: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, _ = collection(4)
    (tmp_path / "qrels").mkdir()
    rows = [json.dumps({"_id": key, "text": f"{text} about ice"}) for key, text in made.documents.items()]
    (tmp_path / "corpus.jsonl").write_text("\n".join(rows))
    asked = [json.dumps({"_id": key, "text": f"{text} ice"}) for key, text in made.queries.items()]
    (tmp_path / "queries.jsonl").write_text("\n".join(asked))
    judged = [f"{query}\t{next(iter(grades))}\t1" for query, grades in made.qrels.items()]
    (tmp_path / "qrels/test.tsv").write_text("\n".join(judged))
    spec = f"micro>{second}"
    command = [
        "eval",
        "cascade",
        "--data",
        str(tmp_path),
        "--model",
        spec,
        "--retain",
        "0.01",
        "--threads",
        "1",
    ]
    assert main([*command, "--arithmetic", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [pace["unit"] for pace in facts["paces"]] == ["GFLOP", "GFLOP"]
    assert len(facts["steps"]) > 2
    assert facts["command"] is None or facts["command"].startswith(f"sagerank build --model '{spec}@")
    assert main([*command, "--plot", str(tmp_path / "curve.svg")]) == 0
    printed = capsys.readouterr().out
    assert "measured here" in printed
    assert "ms a query" in (tmp_path / "curve.svg").read_text()
    for wrong in ("micro", "micro>random:tiny@5"):
        assert main(["eval", "cascade", "--data", str(tmp_path), "--model", wrong]) == 2
        assert "without K" in capsys.readouterr().err


def test_paces_are_of_each_stage(second: Path) -> None:
    stages = [EngineScorer(MICRO, threads=1), EngineScorer(second, threads=1)]
    work = [(QUERY, DOCUMENTS)]
    timed = measured(stages, work)
    assert all(0 < pace.low <= pace.cost <= pace.high for pace in timed)
    shapes = arithmetic(stages, work)
    assert shapes[0].cost > 0
    assert shapes[1].cost > 0
    with pytest.raises(EvaluationError, match="leave --arithmetic out"):
        arithmetic([Table("elsewhere", {})], work)
    assert statistics.fmean(pace.cost for pace in shapes) != shapes[0].cost


# -- deployment --------------------------------------------------------------------------------------------------

DEPLOY = {
    "model": "tiny>base@20",
    "mode": "realtime",
    "instance": "ml.c7i.xlarge",
    "artefact": "s3://models/cascade/model.tar.gz",
}


def test_a_stack_of_a_cascade() -> None:
    config = rules.read(None, DEPLOY)
    stacks = build_stacks(cdk.App(), config)
    template = Template.from_stack(stacks.endpoint)
    template.has_resource_properties(
        "AWS::SageMaker::Model", {"Tags": _tagged("sagerank:model", "tiny/base@20")}
    )
    assert "USD" in str(stacks.observability.cost)


def _tagged(key: str, value: str) -> object:
    from aws_cdk.assertions import Match

    return Match.array_with([{"Key": key, "Value": value}])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"model": "tiny>base"}, "or a cascade of them such as tiny>base@20"),
        ({"model": "tiny>base@0"}, "or a cascade"),
        ({"model": "tiny>bse@5"}, "or a cascade"),
        ({"model": "tiny>tiny@5"}, "a model twice"),
        ({"model": "tiny>turbo@5>base@5"}, "keep fewer from stage to stage"),
        (
            {
                "mode": "marketplace",
                "model_package": "arn:aws:sagemaker:us-east-1:123456789012:model-package/x",
            },
            "give base",
        ),
    ],
)
def test_what_cannot_be_deployed_is_refused(options: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rules.read(None, {**DEPLOY, **options})
    assert sentence in str(caught.value)


def test_memory_is_of_all_weights_and_the_largest_activations() -> None:
    tiny, base, both = (copy_mb(choice(name), "fp32", 8192) for name in ("tiny", "base", "tiny>base@20"))
    weights = copy_mb(choice("tiny"), "fp32", 1) - copy_mb(choice("micro"), "fp32", 1)
    assert base + weights < both < base + tiny
    three = choice("tiny>turbo@40>base@10")
    assert three.name == "tiny>turbo@40>base@10"
    shapes = [choice(name) for name in ("tiny", "turbo", "base")]
    parts = [shape.flops(count, 150) for shape, count in zip(shapes, (100, 40, 10), strict=True)]
    assert three.flops(100, 150) == pytest.approx(sum(parts))


def test_a_local_artefact_has_to_be_the_cascade_that_is_named(tmp_path: Path) -> None:
    """Of the right number of parameters, which is all that is looked at: the manifest stands before the weights."""
    manifest = dataclasses.replace(
        Manifest.read(MICRO), parameters=choice("tiny>base@20").parameters, keep=(20,), files={}
    )
    manifest.write(tmp_path)
    pack({"manifest.json": tmp_path / "manifest.json"}, tmp_path / "model.tar.gz")
    local = {**DEPLOY, "artefact": str(tmp_path / "model.tar.gz")}
    rules.read(None, local)
    with pytest.raises(ConfigError, match="M parameters, and tiny has"):
        rules.read(None, {**local, "model": "tiny"})
    missing = {**DEPLOY, "artefact": str(tmp_path / "none.tar.gz")}
    with pytest.raises(ConfigError, match=r"build --model 'tiny>base@20' --output"):
        rules.read(None, missing)


def test_a_spec_is_read_once_for_all() -> None:
    spec = Spec.parse("endpoint:tiny@eu-west-1>onnx:/a/b@20>http://host:1/x@5")
    assert spec == Spec(("endpoint:tiny@eu-west-1", "onnx:/a/b", "http://host:1/x"), (20, 5))
    assert spec.name(["a", "b", "c"]) == "a>b@20>c@5"
