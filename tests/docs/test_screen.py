"""The terminal picture shows what the program prints."""

from __future__ import annotations

import html
import re

from docs import screen

from .. import golden
from ..conftest import ROOT


def test_the_picture_is_what_the_commands_print() -> None:
    drawn = screen.svg()
    text = html.unescape(re.sub(r"<[^>]+>", "", drawn))
    assert "The different stages of sleep" in text
    assert "USD a month" in text
    assert "http" not in drawn.replace("http://www.w3.org/2000/svg", "")
    golden.check(drawn, ROOT / "docs/images/demo.svg")
