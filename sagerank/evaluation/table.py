"""Tables on a terminal, or in a file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any


def show(table: Any) -> None:
    """Print a table, 200 columns wide where the output is no terminal, so that nothing is cut in a file."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(table)


def table_of(title: str, cells: Sequence[tuple[str, ...]], *, left: int) -> Any:
    """A table of head and rows; the first `left` columns are words."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column, name in enumerate(cells[0]):
        if column < left:
            table.add_column(name, overflow="fold")
        else:
            table.add_column(name, justify="right", no_wrap=True)
    for row in cells[1:]:
        table.add_row(*row)
    return table
