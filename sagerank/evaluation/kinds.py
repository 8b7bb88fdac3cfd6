"""Kinds of query, told by rules that anybody can check by eye: what a comparison of two rankers is divided by.

A query may be of several kinds, of different groups. Rules are English, as the models are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .collection import Collection
from .first_stage import Run, stems

RARE_PIECES = 3  # a word that the vocabulary cuts into so many is rare
_CLAIM_WORDS = 5  # a claim has at least so many
_WORDS = ((1, 3), (4, 7), (8, 15), (16, None))  # of a query
_DOCUMENTS = ((1, 9), (10, 99), (100, None))  # of the collection
_PASSAGES = ((1, 100), (101, 250), (251, None))  # words of the relevant candidates, on average

_VERBS = frozenset(
    ("is", "are", "was", "were", "has", "have", "had", "do", "does", "did")
    + ("can", "could", "may", "might", "must", "should", "will", "would")
)
_QUESTION = _VERBS | {"what", "why", "how", "when", "where", "which", "who", "whom", "whose"}
# Which a title leaves small.
_SMALL = frozenset(
    ("a", "an", "and", "are", "as", "at", "by", "for", "from")
    + ("in", "is", "of", "on", "or", "so", "the", "to", "vs", "with")
)
_WORD = re.compile(r"[^\W_]+(?:[-'’][^\W_]+)*")
_NOT = re.compile(r"(?<!ca)n['’]t$|['’]t$")  # of "isn't" and "can't"

# How many pieces a model's vocabulary cuts each word into.
Pieces = Callable[[Sequence[str]], list[int]]


@dataclass(frozen=True, slots=True)
class Kind:
    """Queries that have something in common. group: what the kinds that exclude each other have in common."""

    group: str
    name: str
    queries: tuple[str, ...]  # by id


def kinds(
    collection: Collection, candidates: Run, pieces: Pieces | None, *, relevant_from: int = 1
) -> list[Kind]:
    """Divide the collection's queries, group by group.

    candidates: of both rankers. pieces: of the model in question; without it no word is called rare. relevant_from: the
    lowest relevant grade.
    """
    texts = collection.queries
    relevant = {
        query: [
            document
            for document, _ in candidates.get(query, [])
            if collection.qrels[query].get(document, 0) >= relevant_from
        ]
        for query in texts
    }
    groups: dict[str, dict[str, str]] = {
        "form": {query: form(text) for query, text in texts.items()},
        "digits": _yes(texts, lambda query: any(map(str.isdigit, texts[query]))),
        "names": _yes(texts, lambda query: has_name(texts[query])),
    }
    if pieces:
        rare = _rare(texts.values(), pieces)
        groups["rare words"] = _yes(texts, lambda query: bool(rare & set(words(texts[query]))))
    groups["rarest word"] = _rarest(collection)
    groups["words"] = {query: _range(len(words(text)), _WORDS) for query, text in texts.items()}
    groups["words of relevant passages"] = {
        query: _range(round(sum(len(collection.documents[d].split()) for d in found) / len(found)), _PASSAGES)
        for query, found in relevant.items()
        if found
    }
    groups["query's words in relevant passages"] = _shared(collection, relevant)
    groups["relevant candidates"] = {query: _count(len(found)) for query, found in relevant.items()}
    return _kinds(groups)


def pooled(parts: Mapping[str, Sequence[Kind]]) -> list[Kind]:
    """Put the kinds of several collections together. parts: by the collection's name, which goes before each query's id."""
    groups: dict[str, dict[str, str]] = {}
    for collection, own in parts.items():
        for kind in own:
            groups.setdefault(kind.group, {}).update(
                {f"{collection}/{query}": kind.name for query in kind.queries}
            )
    return _kinds(groups)


def dividing(every: Sequence[Kind]) -> list[Kind]:
    """Leave out groups of a single kind: they say nothing of what differs."""
    counts = Counter(kind.group for kind in every)
    return [kind for kind in every if counts[kind.group] > 1]


def _kinds(groups: Mapping[str, Mapping[str, str]]) -> list[Kind]:
    return [
        Kind(group, name, tuple(query for query, own in of.items() if own == name))
        for group, of in groups.items()
        for name in sorted(set(of.values()), key=_place)
    ]


def words(text: str) -> list[str]:
    """The words of a text, without punctuation."""
    return _WORD.findall(text)


def form(text: str) -> str:
    """Say whether a query is a "question", a "claim" or "keywords".

    A question ends with a question mark or begins with one of its words; a claim has five words or more and ends
    with a full stop or holds a finite verb; the rest are keywords.
    """
    found = [_NOT.sub("", word.lower()) for word in words(text)]
    if text.rstrip().endswith("?") or (found and found[0] in _QUESTION):
        return "question"
    long = len(found) >= _CLAIM_WORDS
    return "claim" if long and (text.rstrip().endswith(".") or _VERBS & set(found)) else "keywords"


def has_name(text: str) -> bool:
    """Whether a word after the first begins with a capital letter, names and abbreviations alike, and the text is no title."""
    first, *inside = words(text) or [""]
    capitals = sum(word[0].isupper() for word in inside)
    title = first[:1].isupper() and all(word[0].isupper() or word in _SMALL for word in inside)
    # "Who Is Robert" has one capital inside however it is meant, and asks for a name.
    return capitals > 0 and not (title and (capitals > 1 or first.lower() not in _QUESTION))


def _yes(queries: Iterable[str], rule: Callable[[str], bool]) -> dict[str, str]:
    return {query: "yes" if rule(query) else "no" for query in queries}


def _rare(texts: Iterable[str], pieces: Pieces) -> set[str]:
    distinct = sorted({word for text in texts for word in words(text)})
    return {
        word
        for word, count in zip(distinct, pieces(distinct), strict=True)
        if count >= RARE_PIECES and not any(map(str.isdigit, word))
    }


def _rarest(collection: Collection) -> dict[str, str]:
    """In how many documents of the collection the query's rarest stem is, of those that are in any."""
    counts = Counter(stem for own in stems(list(collection.documents.values())) for stem in set(own))
    found = {
        query: [counts[stem] for stem in own if counts[stem]]
        for query, own in zip(collection.queries, stems(list(collection.queries.values())), strict=True)
    }
    return {query: f"in {_range(min(of), _DOCUMENTS)}" for query, of in found.items() if of}


def _shared(collection: Collection, relevant: dict[str, list[str]]) -> dict[str, str]:
    """How many of the query's stems the relevant candidate with most of them has: what BM25 goes by."""
    queries = [query for query, found in relevant.items() if found]
    own = dict(zip(queries, map(set, stems([collection.queries[query] for query in queries])), strict=True))
    documents = sorted({document for found in relevant.values() for document in found})
    held = dict(zip(documents, map(set, stems([collection.documents[d] for d in documents])), strict=True))
    shares = {
        query: max(len(own[query] & held[document]) / len(own[query]) for document in relevant[query])
        for query in queries
        if own[query]
    }
    return {
        query: "all" if share == 1 else "half or more" if share >= 0.5 else "under half"
        for query, share in shares.items()
    }


def _range(count: int, ranges: Sequence[tuple[int, int | None]]) -> str:
    low, high = next((low, high) for low, high in ranges if high is None or count <= high)
    return f"{low} to {high}" if high else f"{low} or more"


def _count(count: int) -> str:
    return "none" if not count else "1" if count == 1 else "2 to 9" if count < 10 else "10 or more"


def _place(name: str) -> tuple[int, str]:
    """Where a kind stands in its group: numbers rise, "yes" comes before "no", "all" before less."""
    order = ("none", "question", "claim", "keywords", "yes", "no", "all", "half or more", "under half")
    first = name.removeprefix("in ").split()[0]
    return (100 + int(first) if first.isdigit() else order.index(name), name)
