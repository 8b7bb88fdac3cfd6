"""The terminal picture of the README: what real commands print, as an SVG that fetches nothing.

`python -m docs.screen` prints it; tests/docs/test_screen.py holds docs/images/demo.svg to it.
"""

from __future__ import annotations

import html
import os
import shlex
import subprocess
import sys
import tempfile

COLUMNS = 80
# Of a long output the first paragraph that has these words is shown; without words, all.
COMMANDS = (
    ('sagerank rerank "what are the stages of sleep" --sample --top-n 3', ""),
    ("sagerank cost --rate 0.2 --p95 2 --min-ndcg 49", "USD a month"),
)
# Of a character; the text is stretched to it, whatever font the reader has.
WIDTH, HEIGHT, EDGE = 9, 20, 18
STYLE = (
    "text{font:15px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;fill:#d7dce2;white-space:pre}"
    ".asked{fill:#fff;font-weight:bold}"
)


def svg() -> str:
    """Run the commands in an empty folder, and draw the terminal after them."""
    lines: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        for command, words in COMMANDS:
            printed = _run(command, folder)
            if words:
                part = next(part for part in printed.split("\n\n") if words in part)
                printed = f"{part}\n..."
            lines += [("asked", f"$ {command}"), *(("", line) for line in _wrapped(printed)), ("", "")]
    lines = lines[:-1]
    width, height = COLUMNS * WIDTH + 2 * EDGE, len(lines) * HEIGHT + 2 * EDGE
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<title>{html.escape(COMMANDS[0][0])}</title><style>{STYLE}</style>",
        f'<rect width="{width}" height="{height}" rx="8" fill="#1b1f27"/>',
        *(
            f'<text class="{kind}" x="{EDGE}" y="{EDGE + HEIGHT * row + 15}" textLength="{WIDTH * len(line)}" '
            f'xml:space="preserve">{html.escape(line, quote=False)}</text>'
            for row, (kind, line) in enumerate(lines)
            if line
        ),
        "</svg>\n",
    ]
    return "\n".join(drawn)


def _run(command: str, folder: str) -> str:
    """What a shell prints for it, with `sagerank` of this checkout and 80 columns."""
    program = f'sagerank() {{ {shlex.quote(sys.executable)} -P -m sagerank.cli "$@"; }}; '
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        ["sh", "-c", program + command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def _wrapped(text: str) -> list[str]:
    """Lines as a terminal breaks them."""
    whole = [line.expandtabs(8) for line in text.splitlines()]
    return [line[at : at + COLUMNS] for line in whole for at in range(0, max(1, len(line)), COLUMNS)]


if __name__ == "__main__":
    sys.stdout.write(svg())
