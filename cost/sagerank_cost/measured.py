"""Measured seconds of requests: rows of throughput.csv, ours in the package and the user's in a file of their own."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path

from . import CostError, unknown
from .memory import SERVERLESS_SIZES
from .models import check_precision, choice
from .store import DATA, alone, rows, write

KINDS = ("measured", "vendor")
COLUMNS = ("model", "precision", "instance", "documents", "tokens", "seconds", "kind", "source", "date")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The seconds of one request of `documents` x `tokens`: a row, whose columns are the fields.

    `instance` is a hosting type, `serverless 4096` (its memory in MB), or a machine that is neither.
    """

    model: str
    precision: str
    instance: str
    documents: int
    tokens: float
    seconds: float
    kind: str  # measured or vendor
    source: str
    date: str

    @property
    def key(self) -> tuple[str, str, str, int, float]:
        """What a newer row takes the place of."""
        return (self.model, self.precision, self.instance, self.documents, self.tokens)


def own_file(folder: Path = DATA) -> Path:
    """Where the user's rows are: in a folder given with --data, or else sagerank/throughput.csv below XDG_DATA_HOME or ~/.local/share.

    The package's own folder may be read-only, and an upgrade replaces it.
    """
    if not _packaged(folder):
        return folder / "throughput.csv"
    home = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return Path(home) / "sagerank" / "throughput.csv"


def own(folder: Path = DATA) -> tuple[Measurement, ...]:
    """The user's rows. Raises CostError, with file and line, for one that is malformed."""
    path = own_file(folder)
    if _packaged(folder):
        return _read(path) if os.path.exists(path) else ()
    ours = set(_read(DATA / "throughput.csv"))
    return tuple(row for row in _read(path) if row not in ours)


def measurements(folder: Path = DATA) -> tuple[Measurement, ...]:
    """The user's rows, then ours. Raises CostError, with file and line, for one that is malformed."""
    theirs = own(folder)
    return (*theirs, *(row for row in _read(folder / "throughput.csv") if row not in theirs))


def nearest(
    model: str, precision: str, instance: str, *, documents: int, tokens: float, folder: Path = DATA
) -> Measurement | None:
    """The row of the shape nearest to `documents` x `tokens`, the user's before ours, the newest first; None without any."""

    def distance(row: Measurement) -> float:
        return abs(math.log(row.documents / documents)) + abs(math.log(row.tokens / tokens))

    for known in (own(folder), measurements(folder)):
        found = [row for row in known if row.key[:3] == (model, precision, instance)]
        if found:
            return min(sorted(found, key=lambda row: row.date, reverse=True), key=distance)
    return None


def append(measured: Iterable[Measurement], folder: Path = DATA) -> Path:
    """Add rows to the user's file, which is returned; one of the same model, precision, instance and shape is replaced.

    Raises CostError where it cannot be written.
    """
    path, added = own_file(folder), {row.key: row for row in measured}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CostError(
            f"{path} cannot be written: {error.strerror}. Set XDG_DATA_HOME, or name a folder with --data."
        ) from None
    with alone(path.parent):
        _read.cache_clear()  # another process may have added some
        before = own(folder) if _packaged(folder) else _read(path)
        kept = [row for row in before if row.key not in added]
        write(path, COLUMNS, map(astuple, (*kept, *added.values())))
    _read.cache_clear()
    return path


def serverless(memory_mb: int) -> str:
    """What rows call a serverless endpoint of so much memory. Raises CostError for a size that there is not."""
    if memory_mb not in SERVERLESS_SIZES:
        raise CostError(
            f"Serverless memory is one of {', '.join(map(str, SERVERLESS_SIZES))} MB, not {memory_mb}."
        )
    return f"serverless {memory_mb}"


def note(folder: Path = DATA) -> str | None:
    """How many rows are the user's, and where; None without any."""
    count = len(own(folder))
    return f"Speeds: {count} measured by you, in {own_file(folder)}, before all others." if count else None


@cache
def _packaged(folder: Path) -> bool:
    return folder.resolve() == DATA.resolve()


@cache
def _read(path: Path) -> tuple[Measurement, ...]:
    measured = []
    for line, row in rows(path, *COLUMNS):
        try:
            texts = {name: row[name] for name in ("instance", "kind", "source", "date")}
            if row["kind"] not in KINDS:
                raise unknown("kind of throughput", row["kind"], KINDS)
            measured.append(
                Measurement(
                    **texts,
                    model=choice(row["model"]).name,
                    precision=check_precision(row["precision"]),
                    documents=int(row["documents"]),
                    tokens=float(row["tokens"]),
                    seconds=float(row["seconds"]),
                )
            )
        except CostError as error:
            raise CostError(f"{path}:{line}: {error}") from None
        except ValueError as error:
            raise CostError(f"{path}:{line}: {error}: correct the row.") from None
        if not all(
            0 < number < 1e9 for number in (measured[-1].documents, measured[-1].tokens, measured[-1].seconds)
        ):
            raise CostError(f"{path}:{line}: documents, tokens and seconds are above 0.")
    return tuple(measured)
