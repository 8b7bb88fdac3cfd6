"""CSV files of the data folder: read with line numbers, written at once or not at all."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from . import CostError

DATA = Path(__file__).parent / "data"


def rows(path: Path, *needed: str) -> list[tuple[int, Mapping[str, str]]]:
    """Rows with line numbers. Raises CostError for a missing file or column, or another number of cells."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            lacking = [name for name in needed if name not in (reader.fieldnames or [])]
            if lacking:
                raise CostError(f"{path} lacks the column {', '.join(lacking)}: its first line must name it.")
            numbered = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise CostError(f"{path} cannot be read: {reason}.") from None
    for line, row in numbered:
        if None in row or None in row.values():
            raise CostError(f"{path}:{line}: the row has another number of cells than the header.")
    return list(numbered)


def write(path: Path, columns: Sequence[str], values: Iterable[Sequence[object]]) -> None:
    """Replace the CSV file. Raises CostError where its folder does not let us, and then nothing has changed."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows((columns, *values))
    write_text(path, buffer.getvalue())


def write_text(path: Path, text: str) -> None:
    """Replace the file with UTF-8 text, atomically: a reader sees the old text or the new. Raises CostError where it cannot."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    except OSError as error:
        raise CostError(f"{path} cannot be written: {error.strerror}. Name another place.") from None
    temporary = Path(name)
    try:
        # A name of a file that is not UTF-8 (of a log, in a title) stays the bytes that it was.
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            file.write(text)
        temporary.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CostError(f"{path} cannot be written: {error.strerror}.") from None
