"""Answers as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import chain, zip_longest

from .dialect import Written

_WRITTEN = "\ud800"  # stands for a Written value: no text holds half of a surrogate pair

_SEPARATORS = (("\u2028", "\\u2028"), ("\u2029", "\\u2029"), ("\x85", "\\u0085"))


def _json(value: object, encoder: Callable[[object], str]) -> str:
    """Return JSON, made of pieces: other threads wait while one is encoded."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{encoder(name)}:{_json(one, encoder)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(encoder, value)) + "]"
    return encoder(value)


def encode(value: object) -> bytes:
    """Return JSON of a value of which parts may be Written."""
    written: list[str] = []

    def mark(value: object) -> str:
        if not isinstance(value, Written):
            raise TypeError(f"{type(value).__name__} is not for JSON")
        written.append(value.json)
        return _WRITTEN

    encoder = json.JSONEncoder(
        ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"), default=mark
    )
    text = _json(value, encoder.encode)
    if written:
        between = text.split(f'"{_WRITTEN}"')
        text = "".join(chain.from_iterable(zip_longest(between, written, fillvalue="")))
    # JSON allows these in strings, and many who read line by line end a line there.
    for separator, escaped in _SEPARATORS if not text.isascii() else ():
        text = text.replace(separator, escaped)
    return text.encode()
