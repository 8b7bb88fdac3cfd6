"""How measurements are asked for and printed: models and threads in, rows and conditions out."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..evaluation import EvaluationError
from ..evaluation.table import show as show_table
from ..evaluation.table import table_of

if TYPE_CHECKING:
    from .conditions import Sample


class Report:
    """The models and threads of a command, the machine as it began, and how results are printed."""

    def __init__(
        self, options: argparse.Namespace, models: dict[str, Path], threads: int, start: Sample
    ) -> None:
        self.models, self.threads, self._options, self._start = models, threads, options, start

    def show(
        self,
        rows: Sequence[Any],
        lines: Sequence[str],
        cells: Sequence[tuple[str, ...]],
        *,
        single: bool = False,
    ) -> None:
        """Rows as JSON (with `single`, one row alone is an object), or a table; and what was measured, under which
        conditions.
        """
        from .conditions import conditions, sample

        under = conditions(self.threads, self.models, self._start, sample()).lines()
        if self._options.json:
            values = [dataclasses.asdict(row) for row in rows]
            print(json.dumps(values[0] if single and len(values) == 1 else values, indent=2))
        else:
            show_table(table_of("", cells, left=1))
        for line in (*lines, *under):
            print(line, file=sys.stderr if self._options.json else sys.stdout)


def begin(options: argparse.Namespace, *positive: str) -> Report:
    """Look at the machine and build the models. Refuses what cannot work before the measurement rather than after.

    positive: options that have to be above 0.
    """
    from sagerank_inference.settings import Settings

    from sagerank.models.build import resolve

    from ..evaluation.draw import check_ending
    from .conditions import sample

    for name in positive:
        if not getattr(options, name) > 0:
            raise EvaluationError(f"--{name} is {getattr(options, name)}: give more than 0.")
    if options.plot:
        check_ending(options.plot)
        options.plot.parent.mkdir(parents=True, exist_ok=True)
    models = {name: resolve(name) for name in options.model or ["micro"]}
    return Report(options, models, Settings(threads=options.threads).threads, sample())


def ceiling_lines(what: str, rows: Sequence[Any]) -> list[str]:
    if not rows:
        return []
    reached = sorted(row.ceiling_gflops for row in rows)[len(rows) // 2]
    return [f"ceiling: {reached:.1f} GFLOP/s, float32 matrix product ({what})"]


def number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
