"""JSON read field by field: a value of the type that is wanted, or an InvalidRequest that names the field.

As lenient as the servers that clients are written for: "true", "3" and 3.0 are what they look like, null is absence.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..contract import Group, InvalidRequest, Limits, PayloadTooLarge, RerankRequest, Truncation
from ..scale import AS_IT_IS, Scale

_RANK_FIELDS = 64  # each is looked for in every document
_DIGITS = 100  # of a number in a string: no count has more
_TEXTS = ("text", "content", "page_content")  # the fields that hold an object's text, in this order
# A document for models that see has nothing else but `type`.
_IMAGES = {"image", "image_url", "video", "video_url"}
_WHOLE = 2**31 - 1  # tokens: more than any model takes
_TRUE, _FALSE = ("true", "1", "yes", "on", "y", "t"), ("false", "0", "no", "off", "n", "f")
_compact = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
).encode

_TYPE_NAMES = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    type(None): "null",
}


def type_name(value: object) -> str:
    """Return the type of a decoded value in JSON's words, with its article."""
    return _TYPE_NAMES.get(type(value), "something else")


def invalid(name: str, what: str) -> InvalidRequest:
    """Return the error of one field: a sentence that begins with its name."""
    return InvalidRequest(f"{name} {what}", field=name)


def read_text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise invalid(name, f"must be a string, not {type_name(value)}.")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise invalid(
                name, "holds half of a surrogate pair, which is no text: send valid Unicode."
            ) from None
    return value


def read_query(value: object, name: str = "query") -> str:
    if isinstance(value, dict):
        if value.get("image") is not None:
            raise invalid(name, "is an image, and these models read text: send a string.")
        value = value.get("text")
    text = read_text(value, name)
    if not text.strip():
        raise invalid(name, "is blank: send the words to rank the documents for.")
    return text


def read_list(value: object, name: str, *, empty: bool = False) -> list[Any]:
    """empty: a list without entries will do."""
    if not isinstance(value, list):
        raise invalid(name, f"must be a list, not {type_name(value)}.")
    if not value and not empty:
        raise EmptyList(f"{name} is empty: send at least one document.", field=name)
    return value


class EmptyList(InvalidRequest):
    """Nothing to rank: some APIs have an error of its own for it."""


def read_flag(value: object, name: str) -> bool:
    if isinstance(value, str) and value.lower() in _TRUE + _FALSE:
        return value.lower() in _TRUE
    if isinstance(value, bool) or (isinstance(value, int | float) and value in (0, 1)):
        return bool(value)
    raise invalid(
        name,
        f"must be true or false, not {type_name(value) if not isinstance(value, str) else 'another string'}.",
    )


def read_count(value: object, name: str) -> int | None:
    """Return a whole number of at least 1; None for 0 and -1, by which many clients mean: no limit."""
    if isinstance(value, str) and len(value) <= _DIGITS and value.strip().removeprefix("-").isdecimal():
        value = float(value) if len(value) > 15 else int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < -1:
        raise invalid(name, "must be a whole number of at least 1, or 0 for all.")
    return value if value > 0 else None


def read_number(value: object, name: str) -> float:
    """Return a finite number."""
    try:
        number = float(value) if isinstance(value, int | float | str) and value is not True else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or isinstance(value, bool):
        raise invalid(name, "must be a finite number.")
    return number


def read_document(value: object, name: str, rank_fields: Sequence[str] = ()) -> str:
    """Return a string, or the text of an object: its `rank_fields` in lines, else its text, else all its fields.

    An empty text is a document like any other.
    """
    if value is None:
        raise invalid(name, "is null: leave it out, or send an empty string.")
    if not isinstance(value, dict):
        if not isinstance(value, str):
            raise invalid(name, f"must be a string or an object with text, not {type_name(value)}.")
        return read_text(value, name)
    present = [field for field in rank_fields or _TEXTS if value.get(field) is not None]
    if rank_fields:
        if not present:
            fields = " or ".join(repr(_short(field)) for field in rank_fields[:3])
            raise invalid(name, f"has no field {fields}: name the text to rank.")
        return "\n".join(_line(value[field], f"{name}.{_short(field)}") for field in present)
    if present:
        return read_text(value[present[0]], f"{name}.{present[0]}")
    if value.keys() & _IMAGES and value.keys() <= _IMAGES | {"type"}:
        raise invalid(name, "is an image, and these models read text: leave it out.")
    lines = [
        f"{read_text(key, name)}: {_line(entry, name)}" for key, entry in value.items() if entry is not None
    ]
    if not lines:
        raise invalid(name, "is an object without text: name the text to rank.")
    return "\n".join(lines)


def _line(value: object, name: str) -> str:
    return read_text(value, name) if isinstance(value, str) else written(value, name)


def _short(field: str) -> str:
    return field if len(field) <= 40 else f"{field[:40]}..."


def written(value: object, name: str) -> str:
    """Return the JSON of a decoded value, which can be sent back as it is. Raises InvalidRequest."""
    try:
        return read_text(_compact(value), name)
    except RecursionError:
        raise invalid(name, "is nested too deeply: send a flat object.") from None
    except ValueError:  # an infinity: 1e999
        raise invalid(name, "holds a number too large to be sent back: send a smaller one.") from None


@dataclass(slots=True)
class Allowance:
    """What one body may ask for: how many documents it may bring, and has brought so far, and what the artefact says of its scores."""

    limit: int = Limits().max_documents
    scale: Scale = AS_IT_IS
    # Of a document that stands in the body once and is ranked often.
    characters: int = Limits().max_body_bytes
    used: int = 0

    def take(self, count: int) -> None:
        self.used += count
        if self.used > self.limit:
            raise PayloadTooLarge(
                f"The request has at least {self.used} documents, more than {self.limit}: split it."
            )

    def repeat(self, text: str, times: int) -> None:
        """Raise PayloadTooLarge where a text for so many queries is more than a body could bring without repeating it."""
        if len(text) * times > self.characters:
            raise PayloadTooLarge(
                f"The request has {times} times a document of {len(text)} characters, more than {self.characters} together: split it."
            )


@dataclass(frozen=True, slots=True)
class Fields:
    """A JSON object, whose options are read under the first of several names that is present and not null."""

    payload: Mapping[str, Any]
    allowance: Allowance = field(default_factory=Allowance)

    def get(self, *names: str) -> tuple[str, Any]:
        """Return the name that was used and its value, or the first name and None."""
        return next(
            ((name, self.payload[name]) for name in names if self.payload.get(name) is not None),
            (names[0], None),
        )

    def within(self, *names: str) -> Fields:
        """Return these fields with those of the objects that have these names, which come first."""
        inner = [self.payload[name] for name in names if isinstance(self.payload.get(name), dict)]
        merged = dict(self.payload)
        for one in inner:
            merged |= one
        return Fields(merged, self.allowance)

    def flag(self, *names: str, default: bool) -> bool:
        name, value = self.get(*names)
        return default if value is None else read_flag(value, name)

    def count(self, *names: str) -> int | None:
        """Return a whole number of at least 1; None where there is none, or no limit is wanted."""
        name, value = self.get(*names)
        return None if value is None else read_count(value, name)

    def refuse(self, *names: str) -> None:
        """Raise InvalidRequest where one of the fields asks for something."""
        for name in names:
            if self.payload.get(name):
                raise invalid(name, "is not offered by these models: leave it out.")

    def documents(self, *names: str, empty: bool = False) -> tuple[str, list[Any]]:
        """Read a list whose every entry brings a document, and none more than are allowed. Also return its name."""
        name, value = self.get(*names)
        values = read_list(value, name, empty=empty)
        self.allowance.take(len(values))
        return name, values

    def texts(self, *names: str) -> tuple[str, ...]:
        """Read a list of documents."""
        name, values = self.documents(*names)
        return tuple(read_document(value, f"{name}[{index}]") for index, value in enumerate(values))

    def rank_fields(self) -> Sequence[str]:
        """Read the different fields of an object that are its text, of a list or one; none where they are not named."""
        name, value = self.get("rank_fields")
        if value is None or value == []:
            return ()
        values = [value] if isinstance(value, str) else read_list(value, name)
        names = dict.fromkeys(read_text(entry, f"{name}[{index}]") for index, entry in enumerate(values))
        if len(names) > _RANK_FIELDS:
            raise invalid(name, f"has {len(names)} different names: send at most {_RANK_FIELDS}.")
        return tuple(names)

    def group(
        self,
        documents: str = "documents",
        *,
        rank_fields: Sequence[str] = (),
        identity: str | None = None,
        echo: bool = False,
    ) -> Group:
        """Read `query`, the documents of that name and how many are wanted. Raises InvalidRequest.

        echo: documents that are objects will be sent back.
        """
        texts: list[str] = []
        originals: list[str | None] = []
        query = read_query(self.payload.get("query"))
        list_name, values = self.documents(documents)
        for index, value in enumerate(values):
            name = f"{list_name}[{index}]"
            texts.append(read_document(value, name, rank_fields))
            originals.append(written(value, name) if echo and isinstance(value, dict) else None)
        return Group(
            query,
            tuple(texts),
            top_n=self.count("top_n", "top_k"),
            originals=tuple(originals) if any(originals) else None,
            identity=identity,
        )

    def request(
        self,
        dialect: str,
        groups: Iterable[Group],
        *,
        echo: bool = False,
        in_order: bool = False,
        alone: bool = False,
    ) -> RerankRequest:
        """Make a request of groups and the options that every dialect has.

        echo: documents are sent back. in_order: the answer has a score for every document, so none can be left out.
        alone: one pair is in no list, and nor is its answer.
        """
        raw = self.raw_scores()
        lowest = self._min_score(raw=raw)
        if lowest is not None and in_order:
            raise invalid(
                "min_score",
                "would leave out scores of an answer that has one for each document: take another shape.",
            )
        spans = None if in_order else self._spans()
        return RerankRequest(
            dialect,
            tuple(groups),
            return_documents=echo,
            alone=alone,
            raw_scores=raw,
            return_spans=spans is not None,
            min_span_score=-math.inf if spans is None else spans,
            min_score=lowest,
            truncation=self.truncation(),
        )

    def raw_scores(self) -> bool:
        """Say whether logits are wanted, under any of the names that servers have for it."""
        name, function = self.within("parameters").get("function_to_apply", "activation")
        if isinstance(function, str) and function.lower() not in _TRUE + _FALSE:
            if function.lower() not in ("none", "identity", "sigmoid", "default"):
                raise invalid(name, "is not offered for one score a document: send sigmoid or none.")
            return function.lower() in ("none", "identity")
        if function is not None:
            return not read_flag(function, name)
        if self.payload.get("use_activation") is not None:
            return not self.flag("use_activation", default=True)
        return self.flag("raw_scores", default=False)

    def _min_score(self, *, raw: bool) -> float | None:
        value = self.payload.get("min_score")
        if value != "calibrated":
            return None if value is None else read_number(value, "min_score")
        scale = self.allowance.scale
        if scale.cutoff is None:
            raise invalid(
                "min_score",
                "is calibrated, and there is no cut-off here: send a number, or serve a model in which `sagerank eval threshold --store` kept one.",
            )
        return scale.cutoff if raw else scale.score(scale.cutoff)

    def _spans(self) -> float | None:
        """Return the lowest score whose span is wanted; None where none are."""
        if self.flag("return_spans", default=False):
            return -math.inf
        cohere = self.payload.get("relevant_spans")
        if not isinstance(cohere, dict) or cohere.get("mode") != "enabled":
            return None
        threshold = cohere.get("threshold")
        return 0.1 if threshold is None else read_number(threshold, "relevant_spans.threshold")

    def truncation(self) -> Truncation:
        """Read what happens to texts that do not fit: false or "NONE" refuses them, "START" cuts their beginning."""
        name, value = self.get("truncate", "truncation")
        ends = {"none": False, "end": True, "start": True}
        end = value.lower() if isinstance(value, str) else ""
        allowed = True if value is None else ends[end] if end in ends else read_flag(value, name)
        whole = self.payload.get("truncate_prompt_tokens") in (-1, "-1")  # as vLLM: what the model takes
        name, side = self.get("truncation_direction", "truncation_side")
        if side is not None and (not isinstance(side, str) or side.lower() not in ("left", "right")):
            raise invalid(name, 'must be "Left" or "Right".')
        return Truncation(
            allowed=allowed,
            max_document_tokens=self.count("max_tokens_per_doc", "max_doc_length"),
            max_pair_tokens=_WHOLE if whole else self.count("truncate_prompt_tokens"),
            left=end == "start" or (side or "").lower() == "left",
        )
