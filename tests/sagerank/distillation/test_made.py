"""Queries made from passages by rule."""

from __future__ import annotations

from collections import Counter

import pytest

from sagerank.distillation.corpus import Passage
from sagerank.distillation.made import KINDS, SHARE, make_queries, normalised


def passage(text: str, title: str = "", key: str = "p") -> Passage:
    return Passage(key=key, text=text, source="s", licence="l", title=title)


@pytest.fixture
def passages(texts: list[dict[str, str]]) -> list[Passage]:
    return [
        passage(row["text"], title=" ".join(row["text"].split()[3:6]), key=row["id"]) for row in texts[:100]
    ]


def test_every_kind_is_made_and_none_is_the_passage_or_occurs_twice(passages: list[Passage]) -> None:
    passages += [passages[0], passage("Short and sweet it is.", "Short and sweet it is")]
    made = make_queries(passages, 10_000, 1)
    assert {query.kind for query in made} == set(KINDS)
    assert len({normalised(query.query) for query in made}) == len(made)
    for query in made:
        words = passages[query.passage].text.split()
        assert len(query.query.split()) <= SHARE * len(words)
        assert normalised(query.query) != normalised(passages[query.passage].text)
    most = Counter((query.passage, query.kind) for query in made).most_common(1)
    assert most[0][1] == 1, "of a passage one of each kind"
    assert not any(query.query == passages[0].title for query in made), (
        "a heading of two passages asks for neither"
    )


def test_a_seed_gives_the_same_queries_and_fewer_are_the_first_of_them(passages: list[Passage]) -> None:
    made = make_queries(passages, 10_000, 1)
    assert made == make_queries(passages, 10_000, 1)
    assert made != make_queries(passages, 10_000, 2)
    assert make_queries(passages, 20, 1) == made[:20]
    assert len({query.kind for query in made[:5]}) == 5, "kinds take turns"


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("The glacier is a body of ice that moves.", "what is glacier"),
        ("Terminal moraines are the ridges at its end.", "what are terminal moraines"),
        ("DNA is the molecule of heredity.", "what is DNA"),
        ("We pay for each elastic cloud (EC2) hour.", "what does EC2 stand for"),
        ("To measure a glacier, drill a hole.", "how to measure a glacier"),
        ("Why does ice flow downhill at all?", "Why does ice flow downhill at all?"),
        ("This is the end of it all.", None),
        ("Since 1990 is the time of it.", None),
    ],
)
def test_questions_are_what_a_sentence_answers(text: str, question: str | None) -> None:
    rest = "Words of a passage go on for a while, so that there is enough of them in it to ask about."
    made = make_queries([passage(f"{text} {rest}")], 100, 1)
    assert [query.query for query in made if query.kind == "question"] == ([question] if question else [])


def test_keywords_are_frequent_here_and_rare_elsewhere() -> None:
    common = "people walk along roads near houses under trees beside rivers"
    others = [passage(f"{common} {number}", key=str(number)) for number in range(50)]
    own = passage(f"glacier moraine esker drumlin cirque glacier moraine esker drumlin {common}")
    made = [query for query in make_queries([own, *others], 1000, 1) if query.passage == 0]
    (keywords,) = [query.query.split() for query in made if query.kind == "keywords"]
    assert len({"glacier", "moraine", "esker", "drumlin", "cirque"} & set(keywords)) >= min(
        2, len(keywords) - 2
    )
    assert 2 <= len(keywords) <= 5
    assert keywords == sorted(keywords, key=own.text.split().index), "in the order of the text"
