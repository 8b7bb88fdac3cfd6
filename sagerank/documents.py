"""The documents that a person gives `sagerank rerank`: lines of a file or a pipe, JSON Lines, or those that come with sagerank."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from .evaluation import DEMO

_WAYS = "give a file with one document a line, pipe one in, or take --sample"


class DocumentsError(ValueError):
    """Documents that cannot be read as what they are meant to be; the message says what to change."""


def sample() -> list[str]:
    """The 36 passages of textbooks that come with sagerank."""
    return [passage["text"] for passage in json.loads(DEMO.read_text(encoding="utf-8"))["passages"]]


def read(path: str) -> list[Any]:
    """A string for each line of a file, or an object for each line of JSON Lines. path: - is standard input.

    Raises DocumentsError.
    """
    raw = _standard_input() if path == "-" else _file(Path(path))
    name = "standard input" if path == "-" else path
    if b"\0" in raw:
        raise DocumentsError(f"{name} is binary, or UTF-16: give text in UTF-8, one document a line.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentsError(
            f"{name} is not UTF-8 from byte {error.start} on: convert it, for instance with iconv."
        ) from None
    # Not splitlines(), which takes characters inside a text for ends of lines.
    lines = {number: line for number, line in enumerate(re.split(r"\r?\n", text), 1) if line.strip()}
    if not lines:
        raise DocumentsError(f"There are no documents in {name}: {_WAYS}.")
    first = _json(next(iter(lines.values())))
    if isinstance(first, dict):
        return [_object(line, f"{name}, line {number}") for number, line in lines.items()]
    if isinstance(first, list) or (text.lstrip()[0] in "[{" and _json(text) is not None):
        raise DocumentsError(
            f"{name} is one JSON value: give JSON Lines, an object with \"text\" on each line, such as `jq -c '.[]'` writes."
        )
    return list(lines.values())


def _standard_input() -> bytes:
    if sys.stdin is None:  # closed
        return b""
    if sys.stdin.isatty():
        raise DocumentsError(f"There are no documents: {_WAYS}.")
    return sys.stdin.buffer.read()


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DocumentsError(f"There is no file {path}: {_WAYS}.") from None
    except IsADirectoryError:
        raise DocumentsError(f"{path} is a folder: give a file in it, one document a line.") from None
    except OSError as error:
        raise DocumentsError(f"{path} cannot be read: {error.strerror}.") from None


def _object(line: str, where: str) -> dict[str, Any]:
    value = _json(line)
    if not isinstance(value, dict):
        raise DocumentsError(f"{where}: not a JSON object, and the first line is one.")
    if not isinstance(value.get("text"), str):
        raise DocumentsError(
            f'{where}: the object has no "text" that is a string: rename the field that holds the document.'
        )
    try:
        # As `rerank --json` prints it, in its list of results.
        json.dumps([[{"document": value}]], indent=2, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise DocumentsError(
            f"{where}: the object holds what JSON cannot carry: take out NaN, Infinity, numbers above 1e308, halves of surrogate pairs, and hundreds of levels."
        ) from None
    return value


def _json(text: str) -> Any:
    """The value that JSON stands for, or None for what is no JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
