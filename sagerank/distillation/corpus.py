"""A person's documents as passages: JSON Lines, or a folder of text files that is cut into them."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import DistillationError

# Words of a passage at most; below MIN there is nothing to ask about.
MAX_WORDS, MIN_WORDS = 160, 5
ENDINGS = (".md", ".txt")
UNSTATED = "not stated"  # licence of a person's own documents

_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_FENCE = re.compile(r"^(```|~~~)")
# All in time linear in the text, whatever that holds: nothing is looked for across what begins it again.
_HEADING = re.compile(r"^#{1,6}\s+(\S.*)$")
_CLOSING = re.compile(r"(?<!\S)#+\s*$")  # of a heading
_MARKS = (
    (re.compile(r"<!--.*?(?:-->|\Z)", re.S), " "),
    (re.compile(r"!?\[([^\[\]]*)\]\([^)\[]*\)"), r"\1"),  # a link or a picture leaves its words
    (re.compile(r"\*\*|__|`|^\s*\|[\s|:-]*$|\|"), ""),  # of emphasis, code and tables
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A passage of a document. title: the heading it stands under first, or nothing."""

    key: str
    text: str
    source: str
    licence: str
    title: str = ""


def read_passages(path: Path, *, stated: bool = False) -> Iterator[Passage]:
    """Yield the passages of JSON Lines (.gz) or of a folder.

    JSON Lines have id, text and, where they like, title, source and licence; with `stated`, the last two have to be
    there. Of a folder's .md and .txt files, nested ones too, each becomes passages of at most 160 words. Raises
    DistillationError with file and line of what cannot be read.
    """
    if path.is_dir():
        yield from _folder(path)
        return
    seen: set[str] = set()
    for number, row in enumerate(read_jsonl(path), 1):
        key = field(row, "id", path, number)
        if key in seen:
            raise DistillationError(f"{path}:{number}: the id {key!r} occurs twice.")
        seen.add(key)
        if not stated and "license" in row and "licence" not in row:
            raise DistillationError(f"{path}:{number}: there is a license: write it licence.")
        default = {} if stated else {"licence": UNSTATED, "source": path.name.partition(".")[0]}
        yield Passage(
            key=key,
            text=field(row, "text", path, number),
            source=field(default | row, "source", path, number),
            licence=field(default | row, "licence", path, number),
            title=field(row, "title", path, number) if row.get("title") else "",
        )


def share_alike(licence: str) -> bool:
    """Whether text under this licence is left out: whether weights inherit share-alike is unsettled."""
    return "BY-SA" in licence.upper()


def text_files(folder: Path) -> list[Path]:
    """The files of a folder that are read: those with one of ENDINGS, hidden files and folders aside, in order of their names."""
    found = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in ENDINGS
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _folder(folder: Path) -> Iterator[Passage]:
    """Each text once: a licence or a footer that all files repeat is no passage of its own in each."""
    files = text_files(folder)
    if not files:
        raise DistillationError(f"{folder} holds no {' or '.join(ENDINGS)} file: give a folder that does.")
    seen: set[str] = set()
    for path in files:
        name = path.relative_to(folder).as_posix()
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DistillationError(
                f"{path} is not UTF-8 from byte {error.start} on: convert it, for instance with iconv."
            ) from None
        if "\0" in text:
            raise DistillationError(f"{path} is binary: give text in UTF-8, or rename the file.")
        numbered = enumerate(_cut(text, marked=path.suffix.lower() == ".md"), 1)
        for number, (title, passage) in numbered:
            if passage not in seen:
                seen.add(passage)
                yield Passage(
                    key=f"{name}#{number}",
                    text=passage,
                    source=folder.resolve().name,
                    licence=UNSTATED,
                    title=title,
                )


def _cut(text: str, *, marked: bool) -> Iterator[tuple[str, str]]:
    """Passages of a file with the heading that each is the first one under. marked: it is Markdown."""
    for title, section in _sections(text, marked=marked):
        waiting: list[str] = []
        for part in (piece for paragraph in section for piece in _pieces(paragraph)):
            if waiting and len(waiting) + len(part) > MAX_WORDS:
                yield title, " ".join(waiting)
                title, waiting = "", []
            waiting += part
        if len(waiting) >= MIN_WORDS:
            yield title, " ".join(waiting)


def _sections(text: str, *, marked: bool) -> Iterator[tuple[str, list[str]]]:
    """A file's headings, each with the paragraphs below it; "" for what stands below none.

    Text without marks has a heading where its first paragraph is a line that is no sentence.
    """
    lines = text.replace("\r\n", "\n").strip()
    if not marked:
        paragraphs = [part for part in re.split(r"\n\s*\n", lines) if part.strip()]
        first = paragraphs[0].strip() if paragraphs else ""
        headed = len(paragraphs) > 1 and "\n" not in first and not first.endswith((".", "!", ",", ";"))
        title = first if headed and len(first.split()) <= 12 else ""
        yield title, paragraphs[1:] if title else paragraphs
        return
    lines = re.sub(r"\A---\n.*?\n---\n", "", lines, flags=re.S)  # front matter
    for mark, words in _MARKS[:-1]:
        lines = mark.sub(words, lines)
    title, body, fenced = "", [[""]], False  # the lines of each paragraph
    for line in lines.split("\n"):
        if _FENCE.match(line.strip()):
            fenced = not fenced
        elif not fenced and (heading := _HEADING.match(line)):
            yield title, [" ".join(paragraph) for paragraph in body]
            title, body = _plain(_CLOSING.sub("", heading[1])), [[""]]
        elif not line.strip():
            body.append([""])
        else:
            body[-1].append(line if fenced else _plain(line))
    yield title, [" ".join(paragraph) for paragraph in body]


def _plain(line: str) -> str:
    mark, words = _MARKS[-1]
    return mark.sub(words, line).strip()


def _pieces(paragraph: str) -> Iterator[list[str]]:
    """The words of a paragraph, whole where it is short, else sentence by sentence, of at most MAX_WORDS each."""
    words = paragraph.split()
    if len(words) <= MAX_WORDS:
        yield words
        return
    for sentence in sentences(paragraph):
        words = sentence.split()
        yield from (words[start : start + MAX_WORDS] for start in range(0, len(words), MAX_WORDS))


def sentences(text: str) -> list[str]:
    return _SENTENCE.split(text)


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Objects of a .jsonl or .jsonl.gz file. A last line that a killed writer left incomplete is dropped.

    Raises DistillationError with the line number of what is not an object.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    row = json.loads(line)
                except RecursionError:
                    raise DistillationError(f"{path}:{number}: nested too deeply.") from None
                except ValueError as error:
                    if not line.endswith("\n"):
                        return
                    raise DistillationError(f"{path}:{number}: not JSON ({error}).") from None
                if not isinstance(row, dict):
                    raise DistillationError(f"{path}:{number}: expected an object.")
                yield row
    except UnicodeDecodeError:
        raise DistillationError(f"{path} is not UTF-8: convert it, for instance with iconv.") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DistillationError(f"{path} is not a whole gzip file: {error}") from None


def field(row: Mapping[str, Any], name: str, path: Path, number: int) -> str:
    """A row's text of that name. Raises DistillationError where there is none."""
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise DistillationError(f"{path}:{number}: {name} must be a string that is not empty.")
    if value.encode(errors="replace").decode() != value:
        raise DistillationError(f"{path}:{number}: {name} has half of a surrogate pair: write it anew.")
    return value
