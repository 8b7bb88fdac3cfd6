"""Run the groups' scripts against `sagerank serve`, compare their scores with the engine's and the table with docs/api.md.

python -m tests.clients                # all
python -m tests.clients sdk aws        # these groups
python -m tests.clients --write        # and put what came out into the table
python -m tests.clients --proxied      # with `sagerank proxy` before it
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

from sagerank.models.build import MICRO
from sagerank_inference.engine import Engine
from sagerank_inference.settings import Settings

from ..servers import proxied, running
from . import table
from .compare import fault
from .groups import Group, GroupError, Row, groups

# Each text once went wrong in a client or a server: an accent, quotes, a line break, a separator of lines that JSON has not,
# an equal neighbour, a list's brackets.
QUERY = 'How do "clouds" become rain — ¿cuándo llueve?'
DOCUMENTS = [
    "Clouds cool, water condenses and rain falls.",
    'The cat said "miaow", then slept.\nIt woke at noon.',
    "La pluie naît quand la vapeur d’eau se condense\u2028en gouttes: 雨が降る。",
    "Clouds cool, water condenses and rain falls.",
    "Stock prices, [0, 1], fell; umbrellas {sold} well \\o/.",
    "Rain",
]
# Clients that cannot work whatever a server does, by client and call: why.
IMPOSSIBLE: dict[tuple[str, str], str] = {}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.clients", description="Run clients of others.")
    parser.add_argument("names", nargs="*", metavar="group", help=f"default: all of {', '.join(groups())}")
    parser.add_argument("--write", action="store_true", help="write the table in docs/api.md")
    parser.add_argument("--proxied", action="store_true", help="ask a `sagerank proxy` before the server")
    options = parser.parse_args()
    if unknown := set(options.names) - set(groups()):
        parser.error(f"no such group: {', '.join(sorted(unknown))}; there are {', '.join(groups())}")
    chosen = [Group(name) for name in options.names or groups()]
    began = time.monotonic()
    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(Group.install, chosen))
    except GroupError as error:
        sys.exit(str(error))
    installed = time.monotonic() - began
    rows, requests = _run(chosen, behind=options.proxied)
    expected = Engine.load(MICRO, Settings()).score(QUERY, DOCUMENTS).values
    lines: table.Lines = {}
    failed = 0
    for row in rows:
        wrong = fault(row, expected)
        impossible = IMPOSSIBLE.get((row.client, row.asked), "")
        route, dialect = _answered(row, requests)
        if not wrong or impossible:
            lines[row.client, row.asked] = table.line(
                client=row.client,
                version=row.version,
                asked=row.asked,
                route=route,
                dialect=dialect,
                scores=impossible if wrong else "equal logits" if row.raw else "equal",
            )
        failed += bool(wrong) != bool(impossible)
        verdict = wrong or "equal"
        sys.stdout.write(f"{row.client:<24} {row.version:<10} {row.asked:<44} {dialect:<14} {verdict}\n")
    sys.stdout.write(
        f"{len(rows) - failed} of {len(rows)} rows as they should be, "
        f"{installed:.0f} s of installing, {time.monotonic() - began:.0f} s in all\n"
    )
    if options.write:
        kept = table.read() if options.names else {}
        table.write((kept | lines).values())
    elif differing := _differing(lines, whole=not options.names):
        sys.stdout.write(f"docs/api.md differs: make clients WRITE=1, then read the diff of {differing}\n")
        failed += 1
    return 1 if failed else 0


def _run(chosen: list[Group], *, behind: bool) -> tuple[list[Row], list[dict[str, str]]]:
    """The rows of all groups, and what the log of who is asked says of each request. behind: a proxy is."""
    with tempfile.TemporaryDirectory(prefix="sagerank-clients-") as folder:
        request, log = Path(folder, "request.json"), Path(folder, "log")
        request.write_text(json.dumps({"query": QUERY, "documents": DOCUMENTS}), encoding="utf-8")
        with log.open("w") as stream, ExitStack() as stack:
            own = {"stdout": subprocess.DEVNULL if behind else stream}
            door = stack.enter_context(running(process=own))
            door.wait_until_ready()
            if behind:
                shown = {"stdout": stream, "stderr": subprocess.DEVNULL}
                url = f"http://127.0.0.1:{door.port}"
                door = stack.enter_context(proxied("--url", url, process=shown, SAGERANK_PROXY_KEY=""))
            rows = [row for group in chosen for row in group.run(f"http://127.0.0.1:{door.port}", request)]
            door.process.terminate()
            door.process.wait(60)
        entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return rows, [entry for entry in entries if entry["event"] == "request"]


def _answered(row: Row, requests: list[dict[str, str]]) -> tuple[str, str]:
    """Path and dialect of the last request that was taken while the row's call was under way; the log has milliseconds."""
    for entry in reversed(requests):
        at = datetime.fromisoformat(entry["time"]).timestamp()
        if row.began - 0.001 <= at <= row.ended:
            return entry["path"], entry["dialect"]
    return "", ""


def _differing(lines: table.Lines, *, whole: bool) -> str:
    """The first line that the page has otherwise, or lacks; where all groups ran, also one that it has alone."""
    page = table.read()
    mine = set(lines.values())
    theirs = set(page.values()) if whole else {page[key] for key in lines if key in page}
    return next(iter(sorted(mine ^ theirs)), "").strip()


if __name__ == "__main__":
    sys.exit(main())
