"""CSV files of the data folder: read with line numbers, written at once or not at all."""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from . import CostError

DATA = Path(__file__).parent / "data"


def rows(path: Path, *needed: str) -> list[tuple[int, Mapping[str, str]]]:
    """(line, row). Raises CostError where the file is missing, lacks a column, or a row has another number of cells."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            lacking = [name for name in needed if name not in (reader.fieldnames or [])]
            if lacking:
                raise CostError(f"{path} lacks the column {', '.join(lacking)}: its first line must name it.")
            found = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise CostError(f"{path} cannot be read: {reason}.") from None
    for line, row in found:
        if None in row or None in row.values():
            raise CostError(f"{path}:{line}: the row has another number of cells than the header.")
    return list(found)


def write(path: Path, columns: Sequence[str], values: Iterable[Sequence[object]]) -> None:
    """Replace the file. Raises CostError where its folder does not let us, and then nothing has changed."""
    write_text(path, "".join(_line(row) for row in (columns, *values)))


def write_text(path: Path, text: str) -> None:
    """Atomically: a reader sees the old text or the new."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    except OSError as error:
        raise CostError(f"{path} cannot be written: {error.strerror}. Name another place.") from None
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        temporary.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CostError(f"{path} cannot be written: {error.strerror}.") from None


def _line(row: Sequence[object]) -> str:
    import io

    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(row)
    return buffer.getvalue()
