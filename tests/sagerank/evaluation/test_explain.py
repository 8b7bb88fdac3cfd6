"""Where one ranker loses to another: the kinds by their rules, the arithmetic by hand, and the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagerank.cli import main
from sagerank.evaluation import SAMPLE
from sagerank.evaluation.collection import Collection
from sagerank.evaluation.evaluate import first_stage
from sagerank.evaluation.explain import Part, explain, holm, pool
from sagerank.evaluation.kinds import dividing, form, has_name, kinds
from sagerank.evaluation.metrics import compare
from sagerank.evaluation.scorer import EngineScorer
from sagerank.models.build import MICRO

HELDOUT = SAMPLE / "heldout"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("what causes rain", "question"),
        ("Is the earth flat", "question"),
        ("rain in Spain?", "question"),
        ("can't the deflection be used", "question"),
        ("Isn’t it late", "question"),
        ("what is the drag of a wing .", "question"),
        ("Zero-dimensional biomaterials lack inductive properties in vivo.", "claim"),
        ("vitamin D can prevent some cancers", "claim"),
        ("rain forms.", "keywords"),
        ("cost of concrete flooring", "keywords"),
        ("Why Deep Fried Foods May Cause Cancer", "question"),
        ("", "keywords"),
        ("?", "question"),
    ],
)
def test_the_form_of_a_query(text: str, expected: str) -> None:
    assert form(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("who founded the Red Cross", True),
        ("effects of DNA damage", True),
        ("Paris weather", False),
        ("Why Deep Fried Foods May Cause Cancer", False),
        ("Living Longer by Reducing Leucine Intake", False),
        ("weather", False),
        ("Breast Cancer", False),
        ("Who met Robert", True),
        ("Who is Robert?", True),
        ("", False),
    ],
)
def test_a_name_is_a_capital_inside(text: str, expected: bool) -> None:
    assert has_name(text) is expected


def collection() -> Collection:
    documents = {
        "exact": "red apple pie",
        "other": "a green fruit",
        "long": "apple " + "word " * 300,
        "none": "nothing at all",
    }
    queries = {"q1": "red apple pie", "q2": "what grows in 1999", "q3": "who met the Xylophonist Bob"}
    qrels = {"q1": {"exact": 2, "none": 0}, "q2": {"other": 1, "long": 1}, "q3": {"missing": 1}}
    return Collection(name="small", documents=documents, queries=queries, qrels=qrels)


RUN = {
    "q1": [("none", 2.0), ("exact", 1.0)],
    "q2": [("other", 3.0), ("long", 2.0), ("none", 1.0)],
    "q3": [("none", 1.0), ("other", 0.5)],
}


def test_every_kind_by_hand() -> None:
    found = {
        (kind.group, kind.name): kind.queries
        for kind in dividing(kinds(collection(), RUN, lambda words: [4 if len(w) > 8 else 1 for w in words]))
    }
    assert found == {
        ("form", "question"): ("q2", "q3"),
        ("form", "keywords"): ("q1",),
        ("digits", "yes"): ("q2",),
        ("digits", "no"): ("q1", "q3"),
        ("names", "yes"): ("q3",),
        ("names", "no"): ("q1", "q2"),
        ("rare words", "yes"): ("q3",),
        ("rare words", "no"): ("q1", "q2"),
        ("words", "1 to 3"): ("q1",),
        ("words", "4 to 7"): ("q2", "q3"),
        ("words of relevant passages", "1 to 100"): ("q1",),
        ("words of relevant passages", "101 to 250"): ("q2",),
        ("query's words in relevant passages", "all"): ("q1",),
        ("query's words in relevant passages", "under half"): ("q2",),
        ("relevant candidates", "none"): ("q3",),
        ("relevant candidates", "1"): ("q1",),
        ("relevant candidates", "2 to 9"): ("q2",),
    }
    groups = {kind.group for kind in dividing(kinds(collection(), RUN, None, relevant_from=2))}
    assert "rare words" not in groups, "there is no vocabulary to ask"
    assert "words of relevant passages" not in groups, (
        "one query has a passage of grade 2: that divides nothing"
    )


def test_kinds_differences_and_examples_by_hand() -> None:
    small = collection()
    base = first_stage("bm25", small, RUN)
    better = first_stage(
        "model",
        small,
        {**RUN, "q1": [("exact", 2.0), ("none", 1.0)], "q2": [("none", 3.0), ("other", 2.0), ("long", 1.0)]},
    )
    found = explain(Part(small, better, base, kinds(small, RUN, None)), examples=5)
    ndcg = base.values["ndcg@10"]
    assert (ndcg["q2"], ndcg["q3"]) == (1.0, 0.0)
    assert found.queries == 3
    assert found.difference == compare(better.values["ndcg@10"], ndcg)
    rows = {(row.group, row.name): row for row in found.rows}
    keywords = rows["form", "keywords"]
    assert (keywords.queries, keywords.first, keywords.second) == (1, 1.0, ndcg["q1"])
    assert keywords.adds == pytest.approx((1.0 - ndcg["q1"]) / 3)
    assert rows["form", "question"].adds + keywords.adds == pytest.approx(found.difference.mean)
    (lost,), (won,) = found.lost, found.won
    assert (lost.query, lost.first_place, lost.second_place) == ("q2", 2, 1)
    assert (won.query, won.first_place, won.second_place) == ("q1", 1, 2)
    assert "digits: yes" in lost.kinds
    reverse = explain(Part(small, base, better, kinds(small, RUN, None)), examples=0)
    assert reverse.difference.mean == pytest.approx(-found.difference.mean)
    assert reverse.lost == reverse.won == ()


def test_collections_together_are_their_queries_together() -> None:
    small = collection()
    base = first_stage("bm25", small, RUN)
    better = first_stage("model", small, {**RUN, "q1": [("exact", 2.0), ("none", 1.0)]})
    parts = [
        Part(replace(small, name=name), better, second, kinds(small, RUN, None))
        for name, second in (("one", base), ("two", better))
    ]
    found = explain(pool(parts))
    assert found.queries == 6
    assert found.difference.mean == pytest.approx((better.mean() - base.mean()) / 2)
    rows = {(row.group, row.name): row for row in found.rows}
    assert rows["form", "question"].queries == 4
    assert [row.name for row in found.rows if row.group == "words"] == ["1 to 3", "4 to 7"]
    assert [(one.query, one.second_place) for one in found.won] == [("one/q1", 2)]


def test_the_rarest_word_is_counted_in_documents() -> None:
    documents = {f"d{number}": "common words" + " seldom" * (number < 12) for number in range(120)}
    documents["one"] = "common unique"
    queries = {"a": "common things", "b": "seldom common", "c": "unique seldom", "d": "nowhere"}
    judged = Collection(
        name="n", documents=documents, queries=queries, qrels={q: {"one": 1} for q in queries}
    )
    found = {kind.name: kind.queries for kind in kinds(judged, {}, None) if kind.group == "rarest word"}
    assert found == {"in 1 to 9": ("c",), "in 10 to 99": ("b",), "in 100 or more": ("a",)}


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_as_its_definition(values: list[float]) -> None:
    adjusted = holm(values)
    order = sorted(range(len(values)), key=lambda index: values[index])
    for rank, index in enumerate(order):
        steps = [min(1.0, (len(values) - r) * values[order[r]]) for r in range(rank + 1)]
        assert adjusted[index] == max(steps)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_pieces_are_those_of_the_vocabulary() -> None:
    from tokenizers import Tokenizer

    words = ["cat", "thermodynamics", "hypercholesterolemia", "the"]
    tokenizer = Tokenizer.from_file(str(MICRO / "tokenizer.json"))
    expected = [len(tokenizer.encode(word, add_special_tokens=False).ids) for word in words]
    assert EngineScorer(MICRO).pieces(words) == expected
    assert expected[2] >= 3 > expected[0]


def test_the_command_against_the_first_stage_and_against_another_model(
    tmp_path: Path, second: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["eval", "explain", "--data", str(HELDOUT), "--top-k", "10", "--queries", "25"]
    arguments += ["--threads", "2", "--cache", str(tmp_path / "scores.jsonl"), "--examples", "2"]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["second"] == "bm25"
    assert found["difference"]["mean"] == pytest.approx(found["mean"]["first"] - found["mean"]["second"])
    forms = [row for row in found["rows"] if row["group"] == "form"]
    assert sum(row["queries"] for row in forms) == 25
    assert sum(row["adds"] for row in forms) == pytest.approx(found["difference"]["mean"])
    assert {row["group"] for row in found["rows"]} >= {"rare words", "words"}
    assert all(one["first"] < one["second"] for one in found["lost"])
    assert len(found["lost"]) <= 2
    monkeypatch.setenv("COLUMNS", "79")
    assert main([*arguments, "--model", "micro", "--model", str(second)]) == 0
    shown = capsys.readouterr().out
    assert "Where micro wins most" in shown
    assert max(map(len, shown.splitlines())) <= 79


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "--data is missing"),
        (["--data", "x", "--model", "a", "--model", "b", "--model", "c"], "explain compares two"),
        (["--data", "x", "--examples", "-1"], "--examples is -1"),
        (["--data", "x", "--store"], "--store goes with"),
    ],
)
def test_options_that_do_not_go_together(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", "explain", *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_what_a_query_holds_is_no_command_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "mine"
    (data / "qrels").mkdir(parents=True)
    texts = {f"d{number}": "Rain falls. " * (1 + number % 3) for number in range(9)}
    rows = [json.dumps({"_id": key, "title": "", "text": text}) for key, text in texts.items()]
    (data / "corpus.jsonl").write_text("\n".join(rows) + "\n")
    queries = [
        json.dumps({"_id": f"q{number}", "text": f"rain\n\x1b[2J\u202e number {number}"})
        for number in range(4)
    ]
    (data / "queries.jsonl").write_text("\n".join(queries) + "\n")
    judged = "".join(f"q{number}\td{2 * number}\t1\n" for number in range(4))
    (data / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")
    assert main(["eval", "explain", "--data", str(data)]) == 0
    shown = capsys.readouterr().out
    assert "rain [2J number" in shown
    assert all(mark.isprintable() or mark == "\n" for mark in shown)
