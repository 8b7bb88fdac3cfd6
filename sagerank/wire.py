"""What goes over the wire: bodies in Jina's dialect that fit a request each, and answers that are believed only when whole."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from .errors import BadAnswer, InvalidRequest, PayloadTooLarge
from .transport import REAL_TIME_BYTES

Document = str | Mapping[str, Any]
Span = tuple[int, int]
_Error = TypeVar("_Error", bound=InvalidRequest)
_NAMED = re.compile(r"\bdocuments\[([0-9]{1,18})\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How documents are scored, and what is told of them. What is left out here is left out of the request too.

    raw_scores and return_spans raise BadAnswer with a server that does not know them, as other makes and older ones do not.
    """

    raw_scores: bool = False  # logits instead of probabilities
    return_spans: bool = False  # where in its text a document's score is from
    max_tokens_per_doc: int | None = None  # a document keeps at most so many
    truncate_prompt_tokens: int | None = None  # query and document together keep at most so many
    truncation_direction: Literal["left", "right"] = "right"  # the end of a text that a limit cuts

    def __post_init__(self) -> None:
        for name in ("max_tokens_per_doc", "truncate_prompt_tokens"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise InvalidRequest(f"{name} is {value!r}: give a whole number from 1 on, or leave it out.")
        if self.truncation_direction not in ("left", "right"):
            raise InvalidRequest(
                f'truncation_direction is {self.truncation_direction!r}: give "left" or "right".'
            )

    def fields(self) -> dict[str, Any]:
        """Return the fields of a body that ask for it."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in values.items() if value not in (False, None, "right")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """What one request may carry. Tokens are estimated as characters / 4, English text's average.

    A serverless endpoint takes smaller bodies: Split(max_bytes=sagerank.transport.SERVERLESS_BYTES).
    """

    max_bytes: int = REAL_TIME_BYTES
    max_documents: int = 1_000
    max_tokens: int = 300_000  # about what a small CPU instance scores within SageMaker's 60 s

    def __post_init__(self) -> None:
        if min(self.max_bytes, self.max_documents, self.max_tokens) < 1:
            raise InvalidRequest(f"{self} lets nothing through: give at least 1 of each.")


def check_texts(query: str, documents: Sequence[Document], top_n: int | None) -> list[str]:
    """Return the documents' texts. Raises InvalidRequest for what would be refused after it was sent."""
    if not isinstance(query, str) or not query.strip():
        raise InvalidRequest("query is blank: give the words to rank the documents for.")
    if isinstance(documents, str | bytes) or not isinstance(documents, Sequence):
        raise InvalidRequest('documents is no list: give one of strings, or of objects with "text".')
    if not documents:
        raise InvalidRequest("documents is empty: give at least one.")
    if top_n is not None and (type(top_n) is not int or top_n < 1):
        raise InvalidRequest(f"top_n is {top_n!r}: give a whole number from 1 on, or leave it out for all.")
    return [_text(document, index) for index, document in enumerate(documents)]


def _text(document: Document, index: int) -> str:
    text = document.get("text") if isinstance(document, Mapping) else document
    if not isinstance(text, str):
        raise InvalidRequest(f'documents[{index}] must be a string or an object with "text".')
    return text


def parts_of(
    query: str, texts: Sequence[str], truncate: bool, options: Options, split: Split
) -> Iterator[tuple[range, bytes]]:
    """Yield consecutive documents that fit one request together, and its body. Raises InvalidRequest."""
    fields = {"query": query, "return_documents": False, "truncate": truncate} | options.fields()
    head = _json(fields)[:-1] + b',"documents":['
    written: list[bytes] = []
    start, size, tokens = 0, len(head) + 2, 0.0
    for index, text in enumerate(texts):
        document = _json(text)
        length = len(document) + 1
        if len(head) + 2 + length > split.max_bytes:
            raise PayloadTooLarge(
                f"documents[{index}] makes a request of {len(head) + 2 + length} bytes, and {split.max_bytes} are allowed: cut it into passages."
            )
        estimate = (len(query) + len(text)) / 4
        full = (
            size + length > split.max_bytes
            or len(written) == split.max_documents
            or tokens + estimate > split.max_tokens
        )
        if full and written:
            yield range(start, index), head + b",".join(written) + b"]}"
            start, size, tokens, written = index, len(head) + 2, 0.0, []
        size, tokens = size + length, tokens + estimate
        written.append(document)
    yield range(start, len(texts)), head + b",".join(written) + b"]}"


def _json(value: object) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise InvalidRequest(
            "A text holds half of a surrogate pair, which is no Unicode: clean it."
        ) from None


def named_as_given(error: _Error, start: int) -> _Error:
    """Return an error of the request whose first document is that of number `start`, with the caller's own numbers."""
    error.args = (_NAMED.sub(lambda found: f"documents[{start + int(found[1])}]", str(error)),)
    return error


def read_answer(answer: bytes, *, raw_scores: bool = False) -> tuple[list[dict[str, Any]], int, str]:
    """Return results, tokens and model of a Jina answer: each result has an index of its own and a score from 0 to 1.

    raw_scores: logits were asked for, and finite numbers are scores. Raises BadAnswer.
    """
    try:
        payload = json.loads(answer)
        results, tokens, model = payload["results"], payload["usage"]["total_tokens"], payload["model"]
        indices = {item["index"] for item in results if type(item["index"]) is int and item["index"] >= 0}
        scores = [item["relevance_score"] for item in results]
        confirmed = payload.get("raw_scores") is True
    except (
        ValueError,
        KeyError,
        TypeError,
        RecursionError,
    ):  # no JSON, too deep, a number too long, or other JSON
        indices, scores, tokens, model, results, confirmed = set(), [], None, None, None, False
    known = type(tokens) is int and 0 <= tokens < 2**53 and isinstance(model, str) and model.isprintable()
    if not known or not isinstance(results, list) or len(indices) != len(results):
        raise BadAnswer("The answer is not that of a reranker: check the endpoint or URL.")
    if raw_scores and not confirmed:
        raise BadAnswer(
            "The server does not confirm that its scores are logits: take a newer one, or leave raw_scores out."
        )
    if not raw_scores and not all(type(score) in (int, float) and 0 <= score <= 1 for score in scores):
        raise BadAnswer(
            "A score is no number from 0 to 1: take a server that answers with those, not with logits."
        )
    if not all(type(score) in (int, float) and abs(score) < math.inf for score in scores):  # nor NaN
        raise BadAnswer("A score is no finite number: check the endpoint or URL.")
    return results, tokens, model


def read_scores(
    answer: bytes, texts: Sequence[str], options: Options
) -> tuple[list[float], list[Span | None], int, str]:
    """Return scores and spans in the order of the texts that were sent, tokens and model. Raises BadAnswer."""
    results, tokens, model = read_answer(answer, raw_scores=options.raw_scores)
    found = {item["index"]: item for item in results}
    if found.keys() != set(range(len(texts))):
        raise BadAnswer(
            f"The answer ranks other documents than the {len(texts)} that were sent: check the endpoint or URL."
        )
    items = [found[index] for index in range(len(texts))]
    spans = [
        _read_span(item, text) if options.return_spans else None
        for item, text in zip(items, texts, strict=True)
    ]
    return [_float(item["relevance_score"]) for item in items], spans, tokens, model


def _float(score: float) -> float:
    try:
        return float(score)
    except OverflowError:  # a whole number of 309 digits
        raise BadAnswer("A score is no finite number: check the endpoint or URL.") from None


def _read_span(item: Mapping[str, Any], text: str) -> Span:
    try:
        start, end = (item["relevant_spans"][0][name] for name in ("start", "end"))
        if type(start) is type(end) is int and 0 <= start <= end <= len(text):
            return start, end
    except (KeyError, IndexError, TypeError):
        pass
    raise BadAnswer(
        "The server does not say where in a text its score is from: take a newer one, or leave return_spans out."
    )
