"""How measurements are asked for and printed: models and threads in, rows and conditions out."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sagerank_cost.text import fit

from ..evaluation import EvaluationError

if TYPE_CHECKING:
    from .conditions import Sample


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """The models (name -> artefact folder) and threads of a command, the machine as it began, and how results are printed."""

    models: dict[str, Path]
    threads: int
    start: Sample
    as_json: bool

    def show(
        self,
        rows: Sequence[Any],
        lines: Sequence[str],
        cells: Sequence[tuple[str, ...]],
        *,
        answer: Sequence[str] = (),
        single: bool = False,
    ) -> None:
        """Print what the rows come to, the rows, what was measured, and under which conditions.

        Rows are a table of `cells`, or JSON (with `single`, one row alone is an object), each with its date, instruction set, threads and
        conditions, and no answer.
        """
        from .conditions import conditions, sample

        found = conditions(self.threads, self.models, self.start, sample())
        under = found.lines()
        if self.as_json:
            where = {
                "date": datetime.date.today().isoformat(),
                "instruction_set": found.instruction_set,
                "threads": found.threads,
                "conditions": dataclasses.asdict(found),
            }
            values = [dataclasses.asdict(row) | where for row in rows]
            print(json.dumps(values[0] if single and len(values) == 1 else values, indent=2))
            print(*lines, *under, sep="\n", file=sys.stderr)
        else:
            print(fit(*answer, "", cells, "", *lines, *under) if answer else fit(cells, "", *lines, *under))


def begin(options: argparse.Namespace, *positive: str, plot: Path | None = None) -> Report:
    """Build the models and look at the machine. Refuses what cannot work before the measurement rather than after.

    positive: options that have to be above 0.
    """
    from sagerank.models.build import resolve
    from sagerank_inference.settings import Settings

    from ..evaluation.draw import check_ending
    from .conditions import sample

    for name in positive:
        if not getattr(options, name) > 0:
            flag = name.replace("_", "-")
            raise EvaluationError(f"--{flag} is {getattr(options, name)}: give more than 0.")
    if plot:
        check_ending(plot)
        plot.parent.mkdir(parents=True, exist_ok=True)
    names = [options.model] if isinstance(options.model, str) else options.model or ["micro"]
    models = {name: resolve(name) for name in names}
    return Report(models, Settings(threads=options.threads).threads, sample(), options.json)


def ceiling_lines(what: str, rows: Sequence[Any]) -> list[str]:
    """A line that names the ceiling with its median, where there are rows."""
    if not rows:
        return []
    reached = sorted(row.ceiling_gflops for row in rows)[len(rows) // 2]
    return [f"ceiling: {reached:.1f} GFLOP/s, matrix product ({what})"]
