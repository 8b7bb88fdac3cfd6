"""The terminal picture of the README: what real commands print, as an SVG that fetches nothing.

`python -m docs.screen` prints it; tests/docs/test_screen.py holds docs/images/demo.svg to it.
"""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

WIDTH = 80
PASSAGES = (
    "Cats sleep all day.",
    "Our rain jackets come in six colours.",
    "Rain forms when moist air rises and cools.",
    "Historians still argue about the causes of the war.",
)
# Each with how many lines of its output are shown.
COMMANDS = (
    ("cat passages.txt", 99),
    ('sagerank rerank "what causes rain" passages.txt --top-n 2', 99),
    ("sagerank cost --rate 0.33 --p95 2 --min-ndcg 49 | grep 'USD a month'", 99),
)
# rich's own template names fonts on a public host.
FRAME = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def svg() -> str:
    """Run the commands in an empty folder, and draw the terminal after them."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "passages.txt").write_text("\n".join(PASSAGES) + "\n", encoding="utf-8")
        for command, lines in COMMANDS:
            console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
            for line in _run(command, folder).splitlines()[:lines]:
                console.print(Text(line), soft_wrap=False)
            console.print()
    return console.export_svg(title="sagerank", theme=DIMMED_MONOKAI, code_format=FRAME, unique_id="sagerank")


def _run(command: str, folder: str) -> str:
    """What a shell prints for it, with `sagerank` of this checkout and 80 columns."""
    program = f'sagerank() {{ {shlex.quote(sys.executable)} -P -m sagerank.cli "$@"; }}; '
    environment = {**os.environ, "COLUMNS": str(WIDTH), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        ["sh", "-c", program + command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


if __name__ == "__main__":
    sys.stdout.write(svg())
