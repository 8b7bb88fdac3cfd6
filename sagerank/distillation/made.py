"""Queries made from passages by rule, so that nobody has to have asked any."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sagerank.evaluation.lexical import bm25s

from .corpus import Passage, sentences

# In the order in which they take turns.
KINDS = ("title", "question", "keywords", "first sentence", "sentence")
# Of a passage's words, how many a query may have: more of them is the passage itself.
SHARE = 0.6

_STOP = {"also", "although", "however", "since", "therefore", "thus", *bm25s.stopwords.STOPWORDS_EN_PLUS}
# "A glacier is a ..." and "Moraines are ..." define what stands before; so does "elastic compute cloud (EC2)".
_DEFINED = re.compile(
    r"^(?:(?:An?|The) )?(?P<term>[\w-]+(?: [\w-]+){0,4}?) (?P<verb>is|are) (?:an?|the|any|used|when|where)\b"
)
_SHORT_FOR = re.compile(r"\b[a-z][\w-]{0,60} \((?P<term>[A-Z][A-Z0-9]{1,6})\)")
_NUMBER = re.compile(r"^[\d.]+\s+")  # of a section
_TO_DO = re.compile(r"^To (?P<deed>[a-z]+(?: [\w'-]+){1,9}), ")


@dataclass(frozen=True, slots=True)
class Made:
    """A query, the index of the passage it was made of, and which of KINDS it is."""

    query: str
    passage: int
    kind: str


def make_queries(passages: Sequence[Passage], count: int, seed: int) -> list[Made]:
    """At most `count` queries, of every passage at most one of each kind; the kinds take turns as long as there are any.

    None occurs twice, whatever its case and punctuation, and none says more than SHARE of its passage. A heading that
    several passages have asks for none of them, and is left out.
    """
    generator = random.Random(f"{seed} made")
    order = generator.sample(range(len(passages)), len(passages))
    headings = Counter(normalised(passage.title) for passage in passages)
    rare = _Keywords(passages)
    made: dict[str, list[Made]] = {kind: [] for kind in KINDS}
    seen: set[str] = set()
    for index in order:
        passage = passages[index]
        words = len(passage.text.split())
        for kind, query in _queries(passage, headings, rare, generator):
            form = normalised(query)
            if form and form not in seen and len(query.split()) <= SHARE * words:
                seen.add(form)
                made[kind].append(Made(query, index, kind))
    result: list[Made] = []
    for turn in range(max(map(len, made.values()))):
        result += [queries[turn] for queries in made.values() if turn < len(queries)]
    return result[:count]


def normalised(text: str) -> str:
    """The words of a text, by which two queries are the same."""
    return " ".join(re.findall(r"\w+", text.lower()))


def _queries(
    passage: Passage, headings: Counter[str], rare: _Keywords, generator: random.Random
) -> Iterator[tuple[str, str]]:
    """(kind, query) of one passage."""
    title, parts = (
        _NUMBER.sub("", passage.title).strip(" :."),
        [part.strip() for part in sentences(passage.text)],
    )
    asked = title.endswith("?")
    if title and len(title.split()) <= 12 and headings[normalised(title)] == 1:
        yield "question" if asked else "title", title
    questions = [question for part in parts if (question := _question(part))]
    if questions and not asked:
        yield "question", generator.choice(questions)
    if words := rare.of(passage.text, generator):
        yield "keywords", " ".join(words)
    first, *rest = parts
    if 4 <= len(first.split()) <= 22:
        yield "first sentence", first
    if claims := [part for part in rest if 6 <= len(part.split()) <= 22]:
        yield "sentence", generator.choice(claims)


def _question(sentence: str) -> str:
    """The question that a sentence is or answers, or nothing."""
    if sentence.endswith("?") and 3 <= len(sentence.split()) <= 20:
        return sentence
    if found := _TO_DO.match(sentence):
        return f"how to {found['deed']}"
    # What begins with a word like "this" or "since" names nothing.
    if (found := _DEFINED.match(sentence)) and not _STOP & {*found["term"].lower().split()}:
        name = found["term"]  # in lower case unless it is written otherwise than a sentence begins
        return f"what {found['verb']} {name.lower() if name[1:].islower() else name}"
    if found := _SHORT_FOR.search(sentence):
        return f"what does {found['term']} stand for"
    return ""


class _Keywords:
    """Which words of a passage are telling: frequent in it and rare in the others (tf-idf, Spärck Jones 1972)."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._found_in = Counter(word for passage in passages for word in set(_words(passage.text)))
        self._of = len(passages)

    def of(self, text: str, generator: random.Random) -> list[str]:
        """2 to 5 of the eight most telling words, in their order in the text; none where it has fewer than four."""
        counts = Counter(_words(text))
        weights = {
            word: count * math.log(1 + self._of / self._found_in[word]) for word, count in counts.items()
        }
        best = sorted(weights, key=lambda word: (-weights[word], word))[:8]
        if len(best) < 4:
            return []
        drawn = set(generator.sample(best, generator.randint(2, 5 if len(best) > 5 else len(best) - 1)))
        return [word for word in counts if word in drawn]


def _words(text: str) -> list[str]:
    """The words of a text that can be telling, in order: no stop words, and nothing of fewer than three letters or digits."""
    return [word for word in re.findall(r"\w[\w-]+\w", text.lower()) if word not in _STOP]


def claims_and_keywords(
    texts: Sequence[str], count: int, generator: random.Random
) -> Iterator[tuple[str, int]]:
    """Queries beside those of people: claims (sentences of 6 to 22 words) and keywords (2 to 5 of the 14 rarest words), in turn.

    Recipes with queries of their own have these, and the scores that are kept of them.
    """
    words = [set(re.findall(r"[a-z]{3,}", text.lower())) for text in texts]
    frequency = Counter(word for found in words for word in found)
    for number, index in enumerate(generator.sample(range(len(texts)), min(count, len(texts)))):
        if number % 2:
            claims = [part for part in sentences(texts[index]) if 6 <= len(part.split()) <= 22]
            if claims:
                yield generator.choice(claims), index
        else:
            rare = sorted(
                (word for word in words[index] if frequency[word] >= 3), key=lambda w: (frequency[w], w)
            )[:14]
            if len(rare) >= 4:
                yield " ".join(generator.sample(rare, generator.randint(2, min(5, len(rare))))), index
