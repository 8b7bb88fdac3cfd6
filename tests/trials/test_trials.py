"""The trials themselves: the generator reaches what it should, and the oracle notices each kind of wrong answer."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sagerank_inference.dialects import DIALECTS

from . import attacks, bodies, chaos, client, fuzz, monitor, oracle, soak
from .bodies import Case, Maker

JINA = Case(
    body=json.dumps(
        {
            "query": "what causes rain",
            "documents": ["a cat", {"text": "clouds", "id": True}, "a cat", "the river"],
            "top_n": 3,
        }
    ).encode()
)


def changed(case: Case, change: Callable[[Any], object]) -> bytes:
    """The right answer to a case, with something changed."""
    status, answer = fuzz.in_process(case)
    assert status == 200
    value = json.loads(answer)
    change(value)
    return json.dumps(value).encode()


def check(case: Case, answer: bytes) -> bool:
    return oracle.check(case, oracle.read(case), answer, fuzz._logits, tolerance=0)


def test_what_the_server_answers_to_some_thousand_bodies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzz, "BUILD", tmp_path)
    tally = fuzz.Tally()
    for index in range(4000):
        fuzz.check_in_process(Maker(15, index).case(), tally, ("test", 15, index))
    assert tally.kinds == {}
    assert tally.bodies == 4000
    assert tally.verdicts["answered, all checked"] > 1500
    assert tally.verdicts["to be refused"] > 800


def test_every_dialect_is_made_and_read_as_itself() -> None:
    assert bodies.REQUESTS.keys() == DIALECTS.keys() - {"csv"}
    for name, make in bodies.REQUESTS.items():
        payload, path = make(Maker(0, 0, spoil=False))
        case = Case(body=json.dumps(payload).encode(), path=path)
        assert [one.dialect for one in oracle.read(case)] == [name]


def test_a_body_depends_on_its_seed_and_index_alone() -> None:
    assert Maker(3, 77).case() == Maker(3, 77).case()
    assert len({Maker(seed, index).case().body for seed in range(2) for index in range(50)}) == 100


def test_requests_that_are_not_spoilt_have_to_be_answered() -> None:
    kinds: Counter[str | None] = Counter()
    for index in range(300):
        case = Maker(1, index, spoil=False).case()
        assert oracle.read(case)
        kinds[case.content_type] += 1
    assert kinds.keys() == {bodies.JSON, bodies.LINES, "application/x-ndjson", bodies.CSV}


@pytest.mark.parametrize("name", bodies.GIANTS)
def test_giants_have_the_size_that_was_asked_for(name: str) -> None:
    assert len(bodies.GIANTS[name](10_000).body) == 10_000


def swap(value: Any) -> None:
    value["results"][:2] = value["results"][1::-1]


def echo_a_number_for_true(value: Any) -> None:
    for result in value["results"]:
        if isinstance(result["document"], dict):
            result["document"]["id"] = 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda value: value["results"][0].update(relevance_score=0.123), "a score of 0.123"),
        (lambda value: value["results"][0].update(relevance_score=float("nan")), "NaN in an answer"),
        (lambda value: value["results"][0].update(relevance_score="0.5"), "no score"),
        (
            lambda value: value["results"][0].update(index=value["results"][1]["index"]),
            "an index twice|not the one sent",
        ),
        (lambda value: value["results"][0].update(index=4), "another form"),
        (lambda value: value["results"].pop(), "2 results"),
        (lambda value: value["results"].append(value["results"][0]), "4 results"),
        (lambda value: value["results"][0].update(document="qzxv"), "a document that is not the one sent"),
        (lambda value: value["results"][0].pop("document"), "document missing"),
        (echo_a_number_for_true, "a document that is not the one sent"),
        (swap, "not best first|not in order"),
        (lambda value: value.pop("results"), "another form"),
    ],
)
def test_a_planted_error_is_noticed(change: Callable[[Any], object], sentence: str) -> None:
    assert check(JINA, fuzz.in_process(JINA)[1])
    with pytest.raises(oracle.Wrong, match=sentence):
        check(JINA, changed(JINA, change))


def test_a_better_document_left_out_and_ties_out_of_order_are_noticed() -> None:
    logits = {"a": 1.0, "b": 0.0, "c": 0.0}

    def answer(*indices: int) -> bytes:
        scores = [oracle.sigmoid(list(logits.values())[index]) for index in indices]
        return json.dumps(
            [{"index": index, "score": score} for index, score in zip(indices, scores, strict=True)]
        ).encode()

    def found(case: oracle.Expected, given: bytes) -> bool:
        body = Case(body=b"{}")
        return oracle.check(
            body, [case], given, lambda _q, texts, *_: [logits[t] for t in texts], tolerance=0
        )

    group = oracle.Group(query="q", texts=["a", "b", "c"], originals=["a", "b", "c"])
    whole = oracle.Expected(dialect="tei", groups=[group])
    assert found(whole, answer(0, 1, 2))
    with pytest.raises(oracle.Wrong, match="not in order"):
        found(whole, answer(0, 2, 1))
    two = oracle.Expected(dialect="tei", groups=[replace(group, top_n=2)])
    with pytest.raises(oracle.Wrong, match="not in order|left out"):
        found(two, answer(1, 2))


@pytest.mark.parametrize("name", [name for name in bodies.REQUESTS if name != "jina"])
def test_a_wrong_score_is_noticed_in_every_dialect(name: str) -> None:
    payload, path = bodies.REQUESTS[name](Maker(2, 2, spoil=False))
    case = Case(body=json.dumps(payload).encode(), path=path)

    def plant(value: Any) -> bool:
        """Add to the first score that is found."""
        if isinstance(value, dict):
            for key in ("relevance_score", "relevanceScore", "logit", "score"):
                if key in value:
                    value[key] = value[key] * 0.9 + 0.001
                    return True
        if isinstance(value, list) and value and isinstance(value[0], float):
            value[0] = value[0] * 0.9 + 0.001
            return True
        inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return any(map(plant, inside))

    assert check(case, changed(case, lambda _value: None))
    with pytest.raises(oracle.Wrong):
        check(case, changed(case, plant))


@pytest.mark.parametrize(
    ("body", "raised"),
    [
        (b'{"query":" ","documents":["a"]}', oracle.Refused),
        (b'{"query":"a","documents":[]}', oracle.Refused),
        (b'{"query":"a","documents":["a"],"top_n":-2}', oracle.Refused),
        (b'{"query":"a","documents":["a",null]}', oracle.Refused),
        (b'{"query":"a","documents":["a"],"top_n":"1"}', oracle.Open),
        (b'{"query":"a","documents":["a"],"top_n":NaN}', oracle.Refused),
        (b'{"query":"a","documents":["\xed\xa0\x80"]}', oracle.Refused),
        (b"{", oracle.Refused),
        (b'{"query":"a","query":"b","documents":["a"]}', oracle.Open),
        (b'{"query":"a","documents":[{"text":"a","x":1e999}]}', oracle.Open),
        (b'{"query":"a","documents":[{"text":"a","x":"\\ud800"}]}', oracle.Open),
        (b'{"query":"a","documents":["a"],"texts":["a"]}', oracle.Open),
        (b'{"query":"a","documents":[{"text":"a","x":' + b"[" * 400 + b"]" * 400 + b"}]}", oracle.Open),
    ],
)
def test_what_has_to_be_refused_and_what_is_left_open(body: bytes, raised: type[Exception]) -> None:
    with pytest.raises(raised):
        oracle.read(Case(body=body))


@pytest.mark.parametrize(
    ("status", "answer", "sentence"),
    [
        (500, b'{"error":"a","request_id":"r"}', "status 500"),
        (200, b"{}", "answered, where it has to be refused"),
        (400, b'{"error":"x qzxv","request_id":"r"}', "shows a text"),
        (400, b"oh no", "not JSON"),
        (400, b'{"oh":"no"}', "another form"),
        (0, b"no answer in time", "no answer in time"),
    ],
)
def test_a_bad_refusal_is_noticed(status: int, answer: bytes, sentence: str) -> None:
    case = Case(body=b'{"query":"qzxv"}')
    with pytest.raises(oracle.Wrong, match=sentence):
        fuzz.judge(case, (status, answer), fuzz.Tally(), fuzz._logits, tolerance=0)


def test_a_kept_body_is_read_as_it_was_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(body=b"a,b\n\xff\n", content_type=None, path="/rerank")
    path = client.save(case, tmp_path / "body", reason="any")
    assert client.load(path) == case
    assert fuzz.main(["--replay", str(path)]) == 0
    assert "right: to be refused" in capsys.readouterr().out
    monkeypatch.setattr(fuzz, "in_process", lambda _case: (500, b"{}"))
    assert fuzz.main(["--replay", str(path)]) == 1


def test_waits_are_not_hidden_by_the_calls_that_they_prevented() -> None:
    seen = monitor.Seen([0.001] * 98 + [1.0, 0.98])
    assert seen.at(50) == 0.001
    assert seen.at(99) == 1.0
    assert "max 1,000 ms" in str(seen)


def test_growth_is_noticed() -> None:
    def samples(last: float) -> list[monitor.Sample]:
        steps = [50.0] * 30 + [last] * 10
        return [
            monitor.Sample(second=s, front=front, child=100, files=10, threads=5)
            for s, front in enumerate(steps)
        ]

    assert all(kept for *_, kept in soak.growth(samples(60)).values())
    assert [name for name, (*_, kept) in soak.growth(samples(80)).items() if not kept] == ["front"]


def test_tracebacks_and_texts_in_a_log_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "BUILD", tmp_path)
    log = tmp_path / "any.log"
    log.write_text('{"event": "request", "level": "info", "status": 200}\n')
    assert client.log_faults("any") == []
    log.write_text(
        'Traceback (most recent call last):\n{"event": "asyncio", "level": "error", "message": "never retrieved"}\n'
        '{"event": "request", "level": "info", "status": 500, "exception": "ValueError"}\n'
        '{"event": "request", "level": "info", "query": "qzxv"}\n'
    )
    assert len(client.log_faults("any")) == 4


def test_a_killed_process_under_load_and_an_attack_are_run_to_their_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All parts once, over HTTP, for a second or two: what holds is for the long runs to say."""
    monkeypatch.setattr(client, "BUILD", tmp_path)
    table = client.EngineTable()
    ledger = chaos.Ledger(table)
    with client.launched("trial") as server:
        with monitor.Monitor(server, small=True) as watch:
            chosen = chaos.requests(0, 20, table)

            async def load() -> list[float]:
                async with chaos.killing(server, ledger, 0.5) as ready:
                    await chaos.open_loop(server, chosen, ledger, rate=20, seconds=1)
                return ready

            killed = asyncio.run(load())
        server.wait_until_ready()
        findings = asyncio.run(attacks._bodies(JINA, JINA)(server, 20))
    assert killed
    assert ledger.statuses.total() > 5
    assert ledger.wrong == []
    assert [finding.measured for finding in findings] == ["answers: 2 x 200"]
    assert 200 in watch.report.ping.statuses
    assert watch.report.front_peak > 10
    assert watch.report.child_peak > 10
    assert (tmp_path / "trial.log").stat().st_size
