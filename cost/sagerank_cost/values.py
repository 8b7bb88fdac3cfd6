"""What an option's text means: each reader gives a value, or raises ValueError with what to give in its place."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path

from . import unknown

# Python also reads 1_000, nan, inf and digits of other scripts.
_WHOLE = re.compile(r"[-+]?[0-9]{1,20}")
_NUMBER = re.compile(r"[-+]?([0-9]{1,20}\.?[0-9]{0,20}|\.[0-9]{1,20})([eE][-+]?[0-9]{1,3})?")


def whole(low: int, high: int) -> Callable[[str], int]:
    """A reader of whole numbers from `low` to `high`."""

    def read(given: str) -> int:
        value = int(given) if _WHOLE.fullmatch(given) else low - 1
        if not low <= value <= high:
            raise ValueError(f"give a whole number from {low:,} to {high:,}")
        return value

    return read


def number(low: float, high: float) -> Callable[[str], float]:
    """A reader of numbers from `low` to `high`."""

    def read(given: str) -> float:
        value = float(given) if _NUMBER.fullmatch(given) else math.nan
        if not low <= value <= high:
            raise ValueError(f"give a number from {low:g} to {high:g}")
        return value

    return read


def limit(given: str) -> float:
    """Seconds above 0, or inf."""
    if given == "inf":
        return math.inf
    try:
        return number(1e-6, 86_400)(given)
    except ValueError:
        raise ValueError("give seconds above 0 and up to 86,400, or inf for any latency") from None


def budget(given: str) -> Decimal:
    return _decimal(given, "0", "1e12", "give US dollars as a number from 0 to 1e12")


def price(given: str) -> tuple[str, Decimal]:
    """NAME=USD, an amount above 0."""
    which, _, usd = given.partition("=")
    what = "give NAME=USD, US dollars as a number above 0 and up to 1e6, as in ml.c7i.large=0.09"
    if not which:
        raise ValueError(what)
    return name(which), _decimal(usd, "1e-12", "1e6", what)


def discount(given: str) -> tuple[str, Decimal]:
    """A percent off every line, or NAME=PERCENT."""
    which, equals, percent = given.rpartition("=")
    what = "give a percent from 0 to 99: 10 is off every line, savings-plan=30 off instance hours"
    return (name(which) if equals else "edp"), _decimal(percent, "0", "99", what)


def name(given: str) -> str:
    _check_letters(given, "name")
    return given.strip()


def path(given: str) -> Path:
    _check_letters(given, "path")
    return Path(given)


def url(given: str) -> str:
    if not re.fullmatch(r"https?://([a-zA-Z0-9.-]+|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?(/[\w./-]*)?", given):
        raise ValueError("give a URL that begins with http:// or https://")
    return given


def one_of(what: str, known: Sequence[str]) -> Callable[[str], str]:
    """A reader of one of the names; CostError, with the nearest, for another."""

    def read(given: str) -> str:
        if given not in known:
            raise unknown(what, given, known)
        return given

    return read


def _check_letters(given: str, what: str) -> None:
    if any(ord(letter) < 32 for letter in given):
        raise ValueError(f"give a {what} without line ends and control characters")


def _decimal(given: str, low: str, high: str, what: str) -> Decimal:
    value = Decimal(given) if _NUMBER.fullmatch(given) else Decimal("nan")
    if not (value.is_finite() and Decimal(low) <= value <= Decimal(high)):
        raise ValueError(what)
    return value
