"""CSV files: read with line numbers, as Excel and others write them; written at once or not at all."""

from __future__ import annotations

import csv
import io
import itertools
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from . import CostError

DATA = Path(__file__).parent / "data"

# Where cells are parted by semicolons, as Excel does in many languages, numbers have a comma for their point.
_DECIMAL_COMMA = re.compile(r"([-+]?\d+),(\d+)", re.ASCII)


def rows(path: Path, *needed: str) -> list[tuple[int, dict[str, str]]]:
    """Rows with line numbers; lines without a value are left out. Cells may be parted by commas, semicolons or tabs.

    Raises CostError for a file that cannot be read or is no text, a column that is missing or twice, and another number of cells.
    """
    try:
        with path.open("rb") as binary:
            if b"\0" in binary.peek(1024)[:1024]:
                raise CostError(
                    f"{path} is not UTF-8 text: where it is UTF-16 (Excel's Unicode text), save it as CSV UTF-8."
                )
            with io.TextIOWrapper(binary, encoding="utf-8-sig", newline="") as text:
                return _rows(path, text, needed)
    except UnicodeDecodeError:
        raise CostError(f"{path} cannot be read: it is not UTF-8 text. Save it as CSV UTF-8.") from None
    except csv.Error as error:
        raise CostError(f"{path} is not a table of cells: {error}.") from None
    except OSError as error:
        raise CostError(f"{path} cannot be read: {error.strerror}.") from None


def _rows(path: Path, text: Iterator[str], needed: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    above, first = next(
        ((above, line) for above, line in enumerate(text) if line.strip(" ,;\t\r\n")), (0, "")
    )
    mark = max(",;\t", key=first.count)
    reader = csv.reader(itertools.chain([first], text), delimiter=mark, strict=True)
    names = [name.strip() for name in next(reader, [])]
    while names and not names[-1]:
        names.pop()
    lacking = [name for name in needed if name not in names]
    if lacking:
        raise CostError(f"{path} lacks the column {', '.join(lacking)}: its first line must name it.")
    if len(set(names)) < len(names) or "" in names:
        raise CostError(
            f"{path} has a column twice, or one without a name: its first line must name each once."
        )
    numbered = []
    for cells in reader:
        line = above + reader.line_num
        if len(cells) < len(names) and any(cells) or any(cells[len(names) :]):
            raise CostError(f"{path}:{line}: the row has another number of cells than the header.")
        if mark == ";":
            cells = [
                _DECIMAL_COMMA.sub(r"\1.\2", cell) if _DECIMAL_COMMA.fullmatch(cell) else cell
                for cell in cells
            ]
        if any(cell.strip() for cell in cells):
            numbered.append((line, dict(zip(names, cells, strict=False))))
    return numbered


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """No other process that asks for the folder has it until this one is done, or killed. Systems without such locks go on."""
    try:
        import fcntl

        number = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    try:
        with suppress(OSError):
            fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)


def write(path: Path, columns: Sequence[str], values: Iterable[Sequence[object]]) -> None:
    """Replace the CSV file. Raises CostError where its folder does not let us, and then nothing has changed."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows((columns, *values))
    write_text(path, buffer.getvalue())


def write_text(path: Path, text: str) -> None:
    """Replace the file with UTF-8 text, atomically: a reader sees the old text or the new. Raises CostError where it cannot.

    What a link names is replaced, and not the link; a device or a pipe is written to, as it cannot be replaced.
    """
    # A name of a file that is not UTF-8 (of a log, in a title) stays the bytes that it was.
    content = text.encode("utf-8", "surrogateescape")
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)
        else:
            _replace(path.resolve(), content)
    except OSError as error:
        raise CostError(f"{path} cannot be written: {error.strerror}. Name another place.") from None


def _replace(path: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        temporary.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
