"""The fenced blocks of a page, each with the mark before it that says why it is not run, or where."""

from __future__ import annotations

import re
from dataclasses import dataclass

_BLOCK = re.compile(r"(?:<!-- ((?:not run: |run by )[^>]+?) -->\n+)?^```(\w*)\n(.*?)^```$", re.M | re.S)


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code: its language, its text, and the reason that its mark gives."""

    language: str
    text: str
    mark: str

    @property
    def commands(self) -> list[str]:
        """Lines of a shell block, without comments and prompts, continued lines joined."""
        joined = re.sub(r"\\\n\s*", "", self.text)
        lines = [re.sub(r"(^|\s)#.*", "", line).strip().removeprefix("$ ") for line in joined.splitlines()]
        return [line for line in lines if line]


def blocks(page: str) -> list[Block]:
    return [Block(language, text, mark) for mark, language, text in _BLOCK.findall(page)]
