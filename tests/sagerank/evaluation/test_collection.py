"""Collections and run files: what is read, and how what is wrong with them is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from sagerank.cli import main
from sagerank.evaluation.collection import CollectionError, load
from sagerank.evaluation.first_stage import read_run, write_run


def test_a_collection_keeps_judged_queries_and_all_judgements(folder: Path) -> None:
    collection = load(str(folder))
    assert collection.queries == {"q1": "red apple pie", "q2": "car"}
    assert collection.qrels["q2"] == {"d3": 1, "gone": 0}
    assert load(str(folder), relevant_from=2).queries.keys() == {"q1"}


@pytest.mark.parametrize(
    ("file", "line", "text", "reason"),
    [
        ("corpus.jsonl", 4, '{"_id": "d1", "text": "again"}', "'d1' occurs twice"),
        ("corpus.jsonl", 4, '{"_id": "d4", "text": ', "not JSON"),
        ("corpus.jsonl", 4, "[1]", "expected an object"),
        ("corpus.jsonl", 4, '{"_id": 7, "text": "x"}', "_id must be a string"),
        ("corpus.jsonl", 4, '{"_id": "d4", "text": 7}', "must be strings"),
        ("queries.jsonl", 4, '{"_id": "q4", "text": " "}', "'q4' has no text"),
        ("queries.jsonl", 4, '{"_id": "q1", "text": "again"}', "'q1' occurs twice"),
        ("qrels/test.tsv", 6, "q9\td1\t1", "'q9' is not in queries.jsonl"),
        ("qrels/test.tsv", 6, "q1\td1", "found 2 cells"),
        ("qrels/test.tsv", 6, "q1\td3\tgood", "'good' is not an integer"),
        ("qrels/test.tsv", 6, "q1\td1\t0", "judged twice"),
        ("qrels/test.tsv", 6, "q1\td1\t\udcff", "not UTF-8"),
    ],
)
def test_a_wrong_line_is_named(folder: Path, file: str, line: int, text: str, reason: str) -> None:
    with (folder / file).open("a", errors="surrogateescape") as end:
        end.write(text + "\n")
    with pytest.raises(CollectionError) as caught:
        load(str(folder))
    assert f"{file}:{line}: " in str(caught.value)
    assert reason in str(caught.value)


def test_missing_files_and_folders_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match=r"dev.tsv is missing: there is test"):
        load(str(folder), split="dev")
    (folder / "corpus.jsonl").unlink()
    with pytest.raises(CollectionError, match=r"corpus.jsonl is missing"):
        load(str(folder))
    with pytest.raises(CollectionError, match="is not a folder"):
        load(str(tmp_path / "none"))
    for name, split in [("scifacts", "test"), ("data/scifact", "test"), ("scifact", "tset")]:
        with pytest.raises(CollectionError, match=f"no BEIR data set '{name}' with {split}"):
            load(name, split=split)


def test_judgements_of_documents_the_corpus_lacks_are_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (notice,) = load(str(folder)).notices
    assert "test.tsv:5: the document 'gone' is not in corpus.jsonl; of 4 judged documents 1 are not" in notice
    assert main(["eval", "--data", str(folder), "--json"]) == 0
    assert notice in capsys.readouterr().err
    qrels = folder / "qrels" / "test.tsv"
    qrels.write_text("query-id\tcorpus-id\tscore\nq1\tx1\t2\nq2\tx2\t1\n")
    with pytest.raises(CollectionError, match=r"test.tsv:2: the document 'x1' .* belongs to another corpus"):
        load(str(folder))


def test_a_document_without_text_is_left_out_and_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (folder / "corpus.jsonl").open("a") as end:
        end.write('{"_id": "d4", "title": " ", "text": ""}\n')
    assert "d4" not in load(str(folder)).documents
    assert main(["eval", "--data", str(folder), "--json"]) == 0
    assert "corpus.jsonl:4: document 'd4' has neither title nor text" in capsys.readouterr().err
    run = tmp_path / "run.trec"
    run.write_text("q1 Q0 d4 1 2.0 x\nq1 Q0 d1 2 1.0 x\n")
    assert read_run(run, load(str(folder)), 10)["q1"] == [("d1", 1.0)], "it is not unknown, only empty"
    assert main(["eval", "--data", str(folder), "--run", str(run), "--json"]) == 0
    told = capsys.readouterr().err
    assert "run.trec has no candidate for 1 of 2 queries ('q2' the first): they count as 0" in told


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("q1 Q0 d1 1 2.0\n", ":1: expected"),
        ("q1 Q0 d1 1 2.0 x\nq1 Q0 d9 2 1.0 x\n", ":2: the document 'd9' is not in the corpus"),
        ("q1 Q0 d1 1 2.0 x\nq1 Q0 d1 2 1.0 x\n", ":2: the document 'd1' occurs twice"),
        ("q1 Q0 d1 1 two x\n", ":1: the score 'two' is not a finite number"),
        ("q1 Q0 d1 1 nan x\n", ":1: the score 'nan' is not a finite number"),
        ("q1 Q0 d1 1 2.0 x\nq1 Q0 d2 1 1.0 \udcff\n", ":2: not UTF-8"),
        ("q8 Q0 d1 1 2.0 x\n", "ranks none of the collection's judged queries"),
    ],
)
def test_a_wrong_run_is_named(folder: Path, tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "run.trec"
    path.write_text(text, errors="surrogateescape")
    with pytest.raises(CollectionError) as caught:
        read_run(path, load(str(folder)), 10)
    assert reason in str(caught.value)


def test_a_run_survives_writing_and_keeps_its_best(folder: Path, tmp_path: Path) -> None:
    collection = load(str(folder))
    path = tmp_path / "run.trec"
    path.write_text("q1 Q0 d3 1 0.5 x\nq1 Q0 d2 2 2.0 x\nq1 Q0 d1 3 1.0 x\n")
    run = read_run(path, collection, 2)
    assert run == {"q1": [("d2", 2.0), ("d1", 1.0)], "q2": []}
    write_run(run, path, "again")
    assert read_run(path, collection, 2) == run
