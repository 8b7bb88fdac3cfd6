"""Speeds that somebody measured take the place of the estimate: an endpoint's, a benchmark's, and by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sagerank.cli import main
from sagerank.models.build import MICRO
from sagerank.models.local_server import serving
from sagerank_cost import CostError
from sagerank_cost.measure import UNITS, rows_from_bench
from sagerank_cost.measured import measurements, own

from .conftest import CATALOGUE

COMPARED = ["compare", "--model", "micro", "--p95", "inf", "--rate", "0.001"]


def test_an_endpoint_is_timed_and_its_speed_kept(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    # As deployed: a server that keeps scores is asked for pairs that it has not seen.
    with serving(MICRO, {"SAGERANK_CACHE_MB": "4"}) as server:
        for instance in ("ml.c7i.large", "4096"):
            command = ["cost", "measure", "--endpoint", "reranker", "--endpoint-url", server.url]
            command += ["--instance", instance, "--model", "micro", "--documents", "5", "--tokens", "60"]
            assert main([*command, "--data", str(folder)]) == 0
            assert "documents/s" in capsys.readouterr().out
        assert "sagerank_cache_hits_total 0.0" in server.read("/metrics")
        assert "sagerank_cache_misses_total 80.0" in server.read("/metrics")
    assert [row.instance for row in own(folder)] == ["ml.c7i.large", "serverless 4096"]
    for row in own(folder):
        assert (row.model, row.precision, row.documents, row.kind) == ("micro", "fp32", 5, "measured")
        assert 40 < row.tokens < 90
    for instance in ("ml.c7i.large", "4096"):
        mode = "serverless" if instance.isdecimal() else "realtime"
        command = ["cost", *COMPARED, "--mode", mode, "--instance", instance, "--data", str(folder)]
        assert main(command) == 0
        shown = capsys.readouterr().out
        assert "measured" in shown
        assert f"2 measured by you, in {folder}" in shown


def test_a_row_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    command = ["cost", "measure", "--seconds", "0.25", "--instance", "ml.g4dn.xlarge", "--model", "tiny"]
    assert main([*command, "--documents", "40", "--tokens", "200"]) == 0
    kept = tmp_path / "sagerank" / "throughput.csv"
    assert f"Kept in {kept}." in capsys.readouterr().out
    (row,) = own()
    assert (row.precision, row.documents, row.tokens, row.seconds) == ("fp32", 40, 200.0, 0.25)
    assert row.source == "given by hand"


def test_the_benchmarks_json_becomes_rows(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the real benchmark, on this machine."""
    texts = tmp_path / "texts.txt"
    texts.write_text("Glaciers carve valleys.\nRivers carry sediment to the sea.\n", encoding="utf-8")
    run = ["bench", "throughput", "--documents", str(texts), "--query", "ice", "--rounds", "1", "--json"]
    assert main(run) == 0
    bench = tmp_path / "bench.json"
    bench.write_text(capsys.readouterr().out, encoding="utf-8")
    (printed,) = json.loads(bench.read_text())
    conditions = printed["conditions"]
    like_this = [
        each.name
        for each in CATALOGUE.instances.values()
        if each.cores == printed["threads"]
        and not each.gpu
        and all(UNITS[unit] in conditions["vector"] for unit in UNITS.keys() & each.isa)
    ]
    if not like_this:
        pytest.skip("no instance type has this machine's cores")
    command = ["cost", "measure", "--from", str(bench), "--instance", like_this[0]]
    assert main([*command, "--data", str(folder)]) == 0
    (row,) = own(folder)
    assert (row.model, row.precision, row.documents) == ("micro", "fp32", 2)
    assert (row.tokens, row.date) == (printed["tokens"], printed["date"])
    assert row.seconds == pytest.approx(printed["seconds"], abs=1e-5)
    assert conditions["onnxruntime"] in row.source
    assert row in measurements(folder)


def bench(**changes: Any) -> dict[str, Any]:
    """A row as the benchmark prints it, of a machine such as ml.c7i.xlarge."""
    conditions = {"cpu": "Intel", "vector": ["AVX2", "AVX-512", "AMX-INT8"], "onnxruntime": "1.32.0"}
    numbers = {"documents": 100, "tokens": 154.1, "seconds": 0.9, "threads": 2}
    names = {"name": "sagerank", "model": "random:tiny", "precision": "fp32", "date": "2026-11-27"}
    return names | numbers | {"conditions": conditions} | changes


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda _: [bench(threads=1)], "measured with 1 threads, and ml.c7i.xlarge has 2 cores"),
        (lambda row: [row | {"conditions": row["conditions"] | {"vector": ["AVX2"]}}], "has AMX-INT8"),
        (lambda _: [bench(model="/tmp/mine")], "say with --model what it is"),
        (lambda _: [bench(precision="fp32>int8")], "There is no precision"),
        (lambda _: [bench(seconds=0)], "give numbers above 0"),
        (lambda _: [bench(date="today")], "is not what"),
        (lambda row: [{key: row[key] for key in row if key != "tokens"}], "measure again with this version"),
        (lambda _: {"a": 1}, "is not what"),
        (lambda _: 3, "is not what"),
        (lambda _: [bench(documents=1e400)], "is not what"),
        (lambda _: [], "has no row of sagerank"),
        (lambda _: {}, "has no row of sagerank"),
    ],
)
def test_what_is_not_of_such_a_machine_is_a_sentence(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], sentence: str
) -> None:
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(change(bench())), encoding="utf-8")
    with pytest.raises(CostError, match=sentence):
        rows_from_bench(path, CATALOGUE.instance("ml.c7i.xlarge"))


def test_a_file_that_is_nested_without_end_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "bench.json").write_text("[" * 200_000, encoding="utf-8")
    with pytest.raises(CostError, match="is not what"):
        rows_from_bench(tmp_path / "bench.json", CATALOGUE.instance("ml.c7i.xlarge"))


def test_peers_are_no_rows_and_a_folder_has_the_name_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    path.write_text(json.dumps([bench(model="/tmp/mine", precision="int8"), bench(name="fastembed")]))
    (row,) = rows_from_bench(path, CATALOGUE.instance("ml.c7i.xlarge"), "tiny>base@20")
    assert (row.model, row.precision, row.instance) == ("tiny>base@20", "int8", "ml.c7i.xlarge")
    with pytest.raises(CostError, match="has one: give --endpoint"):
        rows_from_bench(path, CATALOGUE.instance("ml.g5.xlarge"), "tiny")
    with pytest.raises(CostError, match=r"cannot be read: No such file"):
        rows_from_bench(tmp_path / "none", CATALOGUE.instance("ml.c7i.xlarge"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--endpoint", "x"], "--instance TYPE and --model NAME once"),
        (["--seconds", "1", "--instance", "ml.c7i.large"], "--instance TYPE and --model NAME once"),
        (["--instance", "ml.c7i.large", "--model", "tiny"], "Give --endpoint NAME, --seconds S or --from"),
        (["--seconds", "-1", "--instance", "ml.c7i.large", "--model", "tiny"], "give a number from"),
        (["--seconds", "1", "--instance", "ml.c7i.lrge", "--model", "tiny"], "did you mean ml.c7i.large"),
        (["--seconds", "1", "--instance", "4000", "--model", "tiny"], "Serverless memory is one of 1024"),
        (["--seconds", "1", "--instance", "4096", "--model", "tini"], "did you mean tiny"),
        (["--seconds", "1", "--endpoint", "x"], "--seconds stands in place of --endpoint"),
        (["--from", "x", "--documents", "3"], "--from stands in place of --documents"),
    ],
)
def test_measuring_needs_to_know_what_it_measures(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert main(["cost", "measure", *arguments, "--data", str(folder)]) == 2
    assert sentence in capsys.readouterr().err
    assert own(folder) == ()
