"""What a query and a document keep, with whatever limits: in windows, in one, or refused."""

from __future__ import annotations

import random
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from sagerank_inference.contract import InvalidRequest, TokenLimitExceeded, Truncation
from sagerank_inference.tokenise import Tokeniser
from sagerank_inference.windows import Windows

from .conftest import PIPELINES, document_ids, packed


def words(count: int) -> str:
    return " ".join(map(str, range(10, 10 + count)))  # each is one token, unlike its neighbours


def test_a_document_as_long_as_the_room_is_one_window(tokeniser: Tokeniser) -> None:
    assert [len(ids) for ids in tokeniser("a", ["a " * 36]).ids] == [40]
    assert [len(ids) for ids in tokeniser("a", ["a " * 37]).ids] == [40, 40]


@given(st.integers(0, 300), st.integers(1, 30))
def test_windows_cover_every_token_and_the_last_is_full(
    tokeniser: Tokeniser, roomy: Tokeniser, length: int, query: int
) -> None:
    text = " ".join(f"{number}" for number in range(length))
    windows = tokeniser("a " * query, [text])
    head = min(query, 8)
    parts = [list(ids[head + 2 : -1]) for ids in windows.ids]
    whole = document_ids(roomy, text)
    room = 40 - 3 - head
    assert all(len(ids) <= 40 for ids in windows.ids)
    assert parts[0] == whole[:room]
    if len(whole) > room:
        assert parts[-1] == whole[-room:]
    covered: list[int] = []
    for piece in parts:
        overlap = next(
            size for size in range(len(piece), -1, -1) if covered[len(covered) - size :] == piece[:size]
        )
        assert not covered or overlap >= min(6, room // 4)
        covered += piece[overlap:]
    assert covered == whole


def test_the_query_keeps_its_first_tokens(tokeniser: Tokeniser) -> None:
    long, cut = tokeniser("a b c d e f g h i j", ["x"]), tokeniser("a b c d e f g h", ["x"])
    assert long.ids == cut.ids
    assert (
        tokeniser("a b c d e f g h i j", ["x"], Truncation(left=True)).ids
        == tokeniser("c d e f g h i j", ["x"]).ids
    )


def test_max_document_tokens_clips_either_end(tokeniser: Tokeniser) -> None:
    first = tokeniser("q", ["a b c d"], Truncation(max_document_tokens=2)).ids
    last = tokeniser("q", ["a b c d"], Truncation(max_document_tokens=2, left=True)).ids
    assert first == tokeniser("q", ["a b"]).ids
    assert last == tokeniser("q", ["c d"]).ids


def test_counts_are_as_the_dialects_bill_them(tokeniser: Tokeniser) -> None:
    windows = tokeniser("where is the dog", ["the red dog", "", "x " * 100])
    assert (windows.query_tokens, windows.document_tokens) == (6, [5, 2, 40])


def test_scatter_takes_the_maximum_over_windows(tokeniser: Tokeniser) -> None:
    windows = tokeniser("q", ["x", "y " * 60, ""])
    assert windows.document == [0, 1, 1, 2]
    assert windows.scatter([1.0, -5.0, -2.0, 0.5]) == [1.0, -2.0, 0.5]


def test_truncate_false_is_judged_by_the_pair(tokeniser: Tokeniser, roomy: Tokeniser) -> None:
    """A query beyond its own limit is whole, where it and each document fit together."""
    refusing = Truncation(allowed=False)
    query, documents = words(30), [words(7), "", words(2)]
    assert tokeniser(query, documents, refusing) == roomy(query, documents)
    with pytest.raises(
        TokenLimitExceeded, match=r"query and documents\[1\] have 54 tokens together, and 40 fit: shorten it"
    ):
        tokeniser("a", ["x", "y " * 50], refusing)
    with pytest.raises(TokenLimitExceeded, match="query has 38 tokens, and 37 fit with no document beside"):
        tokeniser(words(38), [""], refusing)
    assert len(tokeniser(words(37), [""], refusing).ids[0]) == 40
    for error in (words(38), words(37)):
        with pytest.raises(TokenLimitExceeded) as caught:
            tokeniser(error, ["a"], refusing)
        assert str(caught.value).endswith(TokenLimitExceeded.REMEDY)


@given(st.integers(1, 45), st.lists(st.integers(0, 45), max_size=3), st.booleans())
def test_what_is_not_refused_is_whole(
    tokeniser: Tokeniser, roomy: Tokeniser, query: int, documents: list[int], left: bool
) -> None:
    asked = words(query), list(map(words, documents)), Truncation(allowed=False, left=left)
    if query + max(documents, default=0) + 3 <= 40:
        assert tokeniser(*asked) == roomy(*asked)
    else:
        with pytest.raises(TokenLimitExceeded, match=r"and 3[0-9] fit|and 40 fit"):
            tokeniser(*asked)


def test_a_document_that_is_cut_to_its_own_limit_fits(tokeniser: Tokeniser) -> None:
    kept = tokeniser("a", ["y " * 50], Truncation(allowed=False, max_document_tokens=20))
    assert kept.ids == tokeniser("a", ["y " * 20]).ids
    with pytest.raises(TokenLimitExceeded, match="have 24 tokens together, and 12 fit"):
        tokeniser("a", ["y " * 50], Truncation(allowed=False, max_document_tokens=20, max_pair_tokens=12))


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_limit_of_the_pair_cuts_as_the_library_does(
    pipelines: dict[str, Tokenizer], pipeline: str, left: bool
) -> None:
    """Which transformers' truncation=True asks, and with it vLLM's truncate_prompt_tokens."""
    library = Tokenizer.from_str(pipelines[pipeline].to_str())
    library.no_padding()
    own = Tokeniser(
        Tokenizer.from_str(library.to_str()), query_tokens=512, max_tokens=8192, overlap_tokens=80
    )
    chance, cut = random.Random(0), 0
    for limit in [*range(6, 40)] * 6:
        query, document = "what is " * chance.randrange(1, 12), "Panda, a. " * chance.randrange(12)
        library.enable_truncation(limit, strategy="longest_first", direction="left" if left else "right")
        expected = library.encode(query, document)
        windows = own(query, [document], Truncation(max_pair_tokens=limit, left=left))
        assert windows.ids == packed(expected.ids)
        library.no_truncation()
        cut += len(library.encode(query, document).ids) > limit
    assert cut > 80


@given(st.integers(1, 20), st.integers(0, 60), st.integers(5, 50), st.booleans())
def test_a_limit_of_the_pair_counts_beside_the_others(
    tokeniser: Tokeniser, query: int, document: int, limit: int, left: bool
) -> None:
    """The query's own comes first, then the document's, and no pair has more than the model takes."""
    asked, texts = words(query), ["", words(document), words(3)]
    found = tokeniser(asked, texts, Truncation(max_pair_tokens=limit, left=left))
    assert max(map(len, found.ids)) <= min(limit, 40)
    assert found.document == [0, 1, 2], "no second window"
    assert found == tokeniser(asked, texts, Truncation(max_pair_tokens=min(limit, 40), left=left))
    shorter = (
        words(query) if query <= 8 else " ".join(words(query).split()[-8:] if left else words(8).split())
    )
    assert found == tokeniser(shorter, texts, Truncation(max_pair_tokens=limit, left=left))
    both = Truncation(max_pair_tokens=limit, max_document_tokens=9, left=left)
    kept = words(document).split()[-9:] if left else words(document).split()[:9]
    cut = tokeniser(asked, ["", " ".join(kept), words(3)], Truncation(max_pair_tokens=limit, left=left))
    assert tokeniser(asked, texts, both).ids == cut.ids
    if min(query, 8) + max(document, 3) + 3 <= min(limit, 40):
        assert found == tokeniser(asked, texts, Truncation(left=left))


def test_a_pair_that_keeps_next_to_nothing_is_refused(tokeniser: Tokeniser) -> None:
    assert tokeniser("a b", ["c d", ""], Truncation(max_pair_tokens=5)).ids == [
        *tokeniser("a", ["c"]).ids,
        *tokeniser("a b", [""]).ids,
    ]
    for limit in (-1, 0, 1, 4):
        with pytest.raises(
            InvalidRequest, match=f"cut to {limit} tokens, 3 of which are .*: allow at least 5"
        ):
            tokeniser("a", ["b"], Truncation(max_pair_tokens=limit))


def test_what_a_limit_of_the_pair_cuts_off_is_not_read_nor_billed(tokeniser: Tokeniser) -> None:
    long, limited = "a " * 500_000, Truncation(max_pair_tokens=20)
    steps = list(tokeniser.steps(long, [long, long], limited))
    assert len(steps) < 8
    assert tokeniser(long, [long, long], limited) == tokeniser("a " * 9, ["a " * 19] * 2, limited)
    windows = tokeniser("a b", ["a " * 50, "a"], limited)
    assert (windows.query_tokens, windows.document_tokens) == (4, [17, 3])


@given(
    st.integers(0, 12),
    st.lists(st.integers(0, 99), max_size=4),
    st.sampled_from([None, 7, 30]),
    st.sampled_from([None, 5, 9, 33, 90]),
    st.booleans(),
)
def test_the_sizes_on_the_way_are_those_of_the_windows(
    tokeniser: Tokeniser,
    query: int,
    documents: list[int],
    most: int | None,
    both: int | None,
    left: bool,
) -> None:
    truncation = Truncation(max_document_tokens=most, max_pair_tokens=both, left=left)
    steps = tokeniser.steps(words(query), list(map(words, documents)), truncation)
    sizes = []
    while True:
        try:
            sizes.append(next(steps))
        except StopIteration as end:
            windows: Windows = end.value
            break
    assert sizes == sorted(sizes)
    assert sizes[-1] == sum(map(len, windows.ids))
    assert all(isinstance(ids, array) for ids in windows.ids)
