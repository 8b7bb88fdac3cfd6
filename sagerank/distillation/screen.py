"""What a person sees of a gate's figures: tables, head first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .gate import StudentQuality
    from .precision import Comparison


def comparison_cells(judged: Sequence[Comparison]) -> list[tuple[str, ...]]:
    """A faster arithmetic beside float32 on each collection, and of each stage where there are several."""
    several = len({row.model for row in judged}) > 1
    quality = ("NDCG@10 fp32", judged[0].precision, "difference", "95 %", "first ten agree")
    cells: list[tuple[str, ...]] = [
        ("gate", "queries", "pairs", *quality, "mean logit error", "largest", "mean / spread")
    ]
    for row in judged:
        cells.append(
            (
                f"{row.data}, {row.model}" if several else row.data,
                f"{row.queries:,}",
                f"{row.pairs:,}",
                f"{row.fp32:.4f}",
                f"{row.fast:.4f}",
                f"{row.difference.mean:+.4f}",
                f"{row.difference.low:+.4f} to {row.difference.high:+.4f}",
                f"{row.agreement:.1%}",
                f"{row.mean_error:.4f}",
                f"{row.max_error:.3f}",
                f"{row.error:.1%}",
            )
        )
    return cells


def student_cells(judged: Sequence[StudentQuality]) -> list[tuple[str, ...]]:
    """The student's NDCG@10 on each collection, beside what it is held against."""
    cells: list[tuple[str, ...]] = [("NDCG@10", "queries", *judged[0].means, "of teacher's")]
    for row in judged:
        means = (f"{mean:.3f}" for mean in row.means.values())
        cells.append((row.data, f"{row.queries:,}", *means, f"{row.retention:.0%}"))
    return cells
