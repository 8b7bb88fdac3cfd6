"""Where in a document its score is from: spans against what the library says of the whole text, and against the text itself."""

from __future__ import annotations

import random
from collections.abc import Sequence
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Encoding, Tokenizer, models, processors

from sagerank.models.build import MICRO
from sagerank_inference import pieces
from sagerank_inference.artefact import Manifest
from sagerank_inference.cascade import Rounds, Stage
from sagerank_inference.contract import Truncation
from sagerank_inference.engine import Engine
from sagerank_inference.settings import Settings
from sagerank_inference.spans import Span
from sagerank_inference.steps import finish
from sagerank_inference.tokenise import Tokeniser
from sagerank_inference.windows import Place, Windows

from .conftest import PIPELINES, document_ids, own, spans_of, texts


def narrow(roomy: Tokeniser, *, room: int, overlap: int) -> Tokeniser:
    """With room for so many tokens of a document beside the query "a"."""
    frame = len(roomy("a", [""]).ids[0])
    return Tokeniser(
        roomy._tokenizer,
        query_tokens=frame - roomy.special_tokens,
        max_tokens=frame + room,
        overlap_tokens=overlap,
    )


def positions(windows: Windows, tokeniser: Tokeniser, whole: Sequence[int]) -> list[Span]:
    """Which tokens of the whole document each window has: their number where it begins, and after it ends."""
    after = len(tokeniser._frame.after)
    before = len(tokeniser("a", [""]).ids[0]) - after
    parts = [list(ids[before : len(ids) - after]) for ids in windows.ids]
    room = tokeniser.max_tokens - before - after
    step = room - min(tokeniser.overlap_tokens, room // 4)
    found = []
    for number, part in enumerate(parts):
        start = number * step if number < len(parts) - 1 else len(whole) - len(part)
        assert part == list(whole[start : start + len(part)])
        found.append((start, start + len(part)))
    return found


def apart(text: str, encoding: Encoding, at: int, place: int, *, spaces: bool) -> bool:
    """Whether a text falls in two before its token `at`, at a character: words, and no accent that moves across.

    spaces: they are parts of words, and more than one is too.
    """
    words, offsets = encoding.word_ids, encoding.offsets
    if at in (0, len(words)):
        return True
    if words[at - 1] == words[at] or offsets[at - 1][1] > offsets[at][0]:
        return False
    halves = text[:place], text[place:]
    for form in ("NFC", "NFD"):
        if "".join(normalize(form, half) for half in halves) != normalize(form, text):
            return False
    gap = text[len(halves[0].rstrip()) : len(text) - len(halves[1].lstrip())]
    return not spaces or (gap in ("", " ") and all(start < end for start, end in offsets[at - 1 : at + 1]))


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_the_text_of_a_span_has_the_tokens_of_its_window(
    pipelines: dict[str, Tokenizer], pipeline: str
) -> None:
    """Alone, where both ends are between words. Elsewhere a word or a character is in the span that is there in part."""
    chance, exact, several = random.Random(0), 0, 0
    roomy, bytes_ = own(pipelines[pipeline]), pipeline.startswith("bytes")
    for text in texts(3, 400):
        tokeniser = narrow(roomy, room=chance.randrange(3, 9), overlap=chance.randrange(3))
        windows = tokeniser("a", [text])
        spans = spans_of(tokeniser, windows, [text])
        encoding = roomy._tokenizer.encode(text, add_special_tokens=False)
        whole = document_ids(roomy, text)
        covered = set()
        several += len(windows.ids) > 1
        for (first, last), (start, end) in zip(positions(windows, tokeniser, whole), spans, strict=True):
            assert 0 <= start <= end <= len(text)
            covered |= set(range(start, end))
            begins = apart(text, encoding, first, start, spaces=bytes_)
            if whole != encoding.ids or not begins or not apart(text, encoding, last, end, spaces=bytes_):
                continue
            # A word of bytes has the space before it, which is no part of the span.
            before = len(text[:start].rstrip()) if bytes_ else start
            if pipeline == "bytes, prefix" and 0 < before == start:
                continue
            assert document_ids(roomy, text[before:end]) == whole[first:last], repr(text)
            exact += 1
        assert not "".join(letter for at, letter in enumerate(text) if at not in covered).strip()
    assert several > 200
    assert exact > 400


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_what_a_limit_keeps_is_the_span(pipelines: dict[str, Tokenizer], pipeline: str, left: bool) -> None:
    """Of the document or of the pair: from the beginning, or up to the end, and whole where it fits."""
    chance, tokeniser, cut = random.Random(1), own(pipelines[pipeline]), 0
    frame = len(tokeniser("a", [""]).ids[0])
    for text in texts(4, 200):
        most = chance.randrange(1, 9)
        encoding = tokeniser._tokenizer.encode(text, add_special_tokens=False)
        count = len(document_ids(tokeniser, text))
        limits = [Truncation(max_document_tokens=most, left=left)]
        if most >= frame - tokeniser.special_tokens:  # else the query is cut as well
            limits.append(Truncation(max_pair_tokens=frame + most, left=left))
        for truncation in limits:
            ((start, end),) = spans_of(tokeniser, tokeniser("a", [text], truncation), [text])
            if count <= most:
                assert (start, end) == (0, len(text))
            elif count == len(encoding.ids):
                kept = encoding.offsets[-most:] if left else encoding.offsets[:most]
                read = [place for begin, stop in kept for place in range(begin, stop) if text[place].strip()]
                assert set(read) <= set(range(start, end))
                assert end == len(text) if left else start == 0
                assert left or end <= max(kept[-1][1], encoding.offsets[most][0])
                assert not left or start >= kept[0][0]
                cut += 1
    assert cut > 100


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_text_in_pieces_has_the_spans_of_the_whole(
    pipelines: dict[str, Tokenizer], pipeline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokeniser, equal = narrow(own(pipelines[pipeline]), room=6, overlap=1), 0
    for seed in range(100):
        document = " ".join(texts(seed, 12))
        whole = tokeniser("a", [document])
        with monkeypatch.context() as patch:
            patch.setattr(pieces, "_PIECE", 30)
            cut = tokeniser("a", [document])
            # Where a piece ends within a word its tokens are others: see the tests of pieces.
            same = cut.ids == whole.ids
            spans = spans_of(tokeniser, cut, [document])
            assert len(list(pieces.pieces(document, tokeniser._cuts))) > 3
        assert not same or spans == spans_of(tokeniser, whole, [document])
        assert (spans[0][0], spans[-1][1]) == (0, len(document))
        equal += same
        if equal == 25:  # of one pipeline there are three
            break
    assert equal > 2


def test_a_token_that_is_dropped_has_no_place() -> None:
    """A special token that the words of a text make up, in a model that knows no unknown one."""
    vocabulary = {
        token: number for number, token in enumerate(["<s>", "</s>", "a", "b", "<", "s", ">", "<s"])
    }
    model = models.BPE(vocabulary, [("<", "s"), ("<s", ">")])
    tokenizer = Tokenizer(model)
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), trim_offsets=False)
    tokeniser = Tokeniser(tokenizer, query_tokens=1, max_tokens=8, overlap_tokens=0)
    document = "ab<s>ba<s>aab"
    windows = tokeniser("a", [document])
    assert [list(ids[4:-1]) for ids in windows.ids] == [[2, 3, 3], [2, 2, 2], [2, 2, 3]]
    assert spans_of(tokeniser, windows, [document]) == [(0, 6), (6, 12), (10, 13)]


def test_a_document_that_is_whole_has_no_place(tokeniser: Tokeniser) -> None:
    """So its span costs nothing: all of it. Where just as much is read as is kept, there might be more."""
    windows = tokeniser("a", ["a", "", "a b " * 40, "b " * 36])
    assert windows.place == [None, None, (0, 36), (30, 66), (44, 80), None]
    assert windows.select([3, 2]).place == [None, *windows.place[2:5]]
    limited = Truncation(max_document_tokens=3)
    windows = tokeniser("a", ["a", "a b c", "a b c d"], limited)
    assert windows.place == [None, (0, 3), (0, 3)]
    assert spans_of(tokeniser, windows, ["a", "a b c", "a b c d"]) == [(0, 1), (0, 5), (0, 5)]
    assert spans_of(tokeniser, windows, ["a", "a b c ", "a b c d"])[1] == (0, 6)


def test_a_span_is_sought_no_further_than_it_is(roomy: Tokeniser) -> None:
    text = "word " * 200_000
    assert len(list(roomy.characters(text, (0, 1000)))) < 2
    assert len(list(roomy.characters(text, (199_000, 200_000)))) > 20
    assert finish(roomy.characters(text, (150_000, 150_002))) == (750_000, 750_009)


def brute(windows: Windows, logits: Sequence[float]) -> list[Place]:
    """The places of the best windows, by trying every one."""
    found = []
    for document in range(len(windows.document_tokens)):
        own = [number for number, of in enumerate(windows.document) if of == document]
        best = max(logits[number] for number in own)
        found.append(next(windows.place[number] for number in own if logits[number] == best))
    return found


@given(st.lists(st.integers(0, 120), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_the_best_window_is_the_first_of_the_highest(
    tokeniser: Tokeniser, lengths: list[int], chance: random.Random
) -> None:
    windows = tokeniser("a", ["b " * length for length in lengths])
    logits = [chance.choice([-2.0, 0.5, 3.0, float("-inf")]) for _ in windows.ids]
    assert windows.best(logits) == brute(windows, logits)


FACT = "Rain forms when water vapour in clouds cools and condenses into drops."
FILLER = [
    "The library opens at nine on weekdays 😀 and is closed on Sunday.",
    "Le café de la gare — très cher — a de\u0301licieux croissants.",
    "図書館は日曜日に休みです。",
    "Prices are in pounds; children under five travel free.",
]


@pytest.fixture(scope="module")
def engine() -> Engine:
    """Micro with windows of some sixty tokens."""
    return Engine.load(MICRO, Settings(model_dir=MICRO, query_tokens=16, max_tokens=64, overlap_tokens=16))


@pytest.mark.parametrize("place", range(0, 40, 3))
def test_a_planted_passage_is_found(engine: Engine, place: int) -> None:
    """And every window's text, scored as a document of its own, scores no higher than the one that was found."""
    chance = random.Random(place)
    sentences = [chance.choice(FILLER) for _ in range(40)]
    document = " ".join([*sentences[:place], FACT, *sentences[place:]])
    query, documents = "what causes rain", [document, FACT, ""]
    scores = engine.score(query, documents, spans=True)
    assert scores.values == engine.score(query, documents).values
    assert scores.spans is not None
    (start, end), *others = scores.spans
    assert others == [(0, len(FACT)), (0, 0)]
    found = document.index(FACT)
    assert start <= found + len(FACT) // 2 <= end
    assert end - start < len(document) / 4
    assert engine.score(query, documents).spans is None
    every = spans_of(engine.tokeniser, engine.tokeniser(query, [document]), [document])
    alone = engine.score(query, [document[begin:stop] for begin, stop in every]).values
    assert every[max(range(len(alone)), key=alone.__getitem__)] == (start, end)
    assert max(alone) == pytest.approx(scores.values[0], abs=0.05)


def test_the_span_is_of_the_model_that_scored_last() -> None:
    manifest = Manifest.read(MICRO)
    wide = Tokeniser.load(MICRO, query_tokens=8, max_tokens=200)
    narrower = Tokeniser.load(MICRO, query_tokens=8, max_tokens=32, overlap_tokens=4)
    long, other = "a b c d " * 20, "short"
    documents = [long, other, "neither", long]
    for tokenisers in ([wide, narrower], [narrower, narrower]):
        stages = [Stage(manifest, tokenisers[0], None), Stage(manifest, tokenisers[1], 2)]
        rounds = Rounds(stages, "q", documents, Truncation(), spans=True)
        first = rounds.read()
        rounds.take([float(document == 0) for document in first.document])
        second = rounds.read()
        assert len(second.document_tokens) == 2
        logits = [0.0] * len(second.ids)
        logits[2] = 1.0  # the third window of the long one
        rounds.take(logits)
        finish(rounds.find_spans())
        spans = rounds.scores().spans
        assert spans is not None
        assert spans[0] == spans_of(narrower, narrower("q", [long]), [long])[2] != (0, len(long))
        assert spans[1:] == ((0, len(other)), (0, len("neither")), spans[0]), (
            "an equal text has an equal span"
        )
