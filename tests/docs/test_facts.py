"""Tables and sentences of the pages that something in the repository decides."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from sagerank_infra.modes import MEGABYTE, MODES

from .. import golden
from ..conftest import ROOT

DOCS = ROOT / "docs"
PACKAGES = ("sagerank", "inference/sagerank_inference", "cost/sagerank_cost", "infra/sagerank_infra")
SOURCES = "\n".join(
    path.read_text(encoding="utf-8")
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Packages that bring PyTorch with them.
_TORCH = {"sentence-transformers", "torch"}


def between(page: Path, name: str) -> re.Match[str]:
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", page.read_text(encoding="utf-8"), re.S)
    assert found
    return found


def packages(extra: str) -> set[str]:
    """What an extra names, through the extras that it names."""
    names: set[str] = set()
    for need in PROJECT["optional-dependencies"][extra]:
        if own := re.fullmatch(r"sagerank\[(.+)\]", need):
            names |= {name for part in own[1].split(",") for name in packages(part)}
        else:
            names.add(re.split(r"[\[<>=]", need)[0])
    return names


def test_every_extra_is_explained_and_pytorch_is_where_the_page_says() -> None:
    rows = re.findall(
        r"^\| `([\w-]+)` \| .+ \| ([\d,]+) \| \d+ \| (yes|no) \|$",
        between(DOCS / "install.md", "extras")[1],
        re.M,
    )
    assert {name: torch for name, _, torch in rows} == {
        extra: "yes" if packages(extra) & _TORCH else "no" for extra in PROJECT["optional-dependencies"]
    }


def test_the_table_of_modes_is_that_of_the_stacks() -> None:
    page = DOCS / "modes.md"

    def yes(fact: bool) -> str:
        return "yes" if fact else "no"

    rows = [
        f"| `{name}` | {mode.max_bytes // MEGABYTE:,} MB | {mode.max_seconds:,} | {yes(mode.instances)} | "
        f"{yes(mode.scales_to_zero or not mode.instances)} | {yes(mode.variants)} |"
        for name, mode in MODES.items()
    ]
    found = between(page, "modes")
    head = "\n".join(found[1].splitlines()[:2])
    text = page.read_text(encoding="utf-8")
    golden.check(text[: found.start(1)] + "\n".join([head, *rows, ""]) + text[found.end(1) :], page)


# What the first cells of the tables quote, but for words too short to be searched for.
QUOTED = [
    quote
    for cell in re.findall(r"^\| ([^|]+) \|", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), re.M)
    for quote in re.findall(r"`([^`]+)`", cell)
    if len(quote) >= 12
]


@pytest.mark.parametrize("sentence", QUOTED)
def test_what_the_page_on_trouble_quotes_is_what_the_program_says(sentence: str) -> None:
    # A message may be broken over lines of the source, and a quoted key stands in it as it is written there.
    joined = re.sub(r'"\s*\n\s*f?"', "", SOURCES)
    assert sentence.replace('"', "") in joined.replace('"', "")
