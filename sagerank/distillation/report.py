"""The report of a distillation: one HTML page that needs nothing else, with what was learnt, what it is worth, and of what it was made.

It quotes documents and queries, for whoever owns them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean

from sagerank.evaluation.calibration import Fitted
from sagerank_cost.render import render
from sagerank_cost.sheet import Chart, Report, Series, Table

from .card import public
from .claim import write_text
from .corpus import read_jsonl, read_passages, share_alike
from .estimate import job, sizes
from .gate import Rankings, below_first_stage
from .heldout import agreement, divided
from .made import KINDS
from .recipe import Recipe
from .scale import sentence
from .train import read_log

_EXAMPLES, _CHARACTERS = 8, 240
_EXPLAINED = (
    "NDCG@10 is 1 where the first ten stand in the best order there is, with linear gains. Brackets are 95 % of the bootstrap over queries.",
    "On held-out queries the grades are the teacher's own: its NDCG@10 is 1, and the others' say how near they come to it, and not who is right.",
    "They were made of passages which are in no training pair; the candidates are the best 50 of all passages by BM25.",
    "Better and worse are by NDCG@10 against the first stage, which is what searchers get without a reranker.",
    "The curve's agreement is NDCG@10 by the teacher's grades on 16 of the held-out queries with 20 candidates each, without the stored type's rounding.",
)


def write_report(
    recipe: Recipe,
    work: Path,
    rankings: Sequence[Rankings],
    shortfalls: Sequence[str],
    scores: Fitted | str,
    *,
    name: str,
    instance: str,
    region: str,
) -> Path:
    """Write report.html in the work folder, and return its path.

    scores: as `scale.calibrated` has it. instance, region: of the training job whose price is told.
    """
    quality = [row.quality for row in rankings]
    student, teacher = (mean(getattr(row, of) for row in quality) for of in ("student", "teacher"))
    conclusion = [
        f"The student ranks with a mean NDCG@10 of {student:.3f}, {student / teacher:.1%} of its teacher's {teacher:.3f}; "
        f"the first stage has {mean(row.first_stage for row in quality):.3f}.",
        f"It does not pass the gate: {'; '.join(shortfalls)}."
        if shortfalls
        else f"It passes the gate, which asks for {recipe.retention:.0%} of the teacher's.",
        *below_first_stage(quality),
        sentence(scores),
    ]
    candidates = [len(row["documents"]) for row in read_jsonl(work / "candidates.jsonl")]
    scored = sum(candidates)
    if not recipe.gate:  # whose grades are the teacher's
        scored += sum(len(ranked) for row in rankings for ranked in row.teacher.run.values())
    report = Report(
        title=f"Distillation of {name}",
        conclusion=tuple(conclusion),
        charts=(*_charts(work, rankings), *_reliability(scores)),
        tables=(
            _gate(rankings),
            *_kinds(recipe, rankings),
            *(table for row in rankings for table in _examples(row)),
            _inputs(recipe, candidates),
            sizes(recipe),
            job(recipe, instance, region, scored=scored),
        ),
        notes=("This page quotes documents and queries: it goes where they may go.",),
        explained=_EXPLAINED,
    )
    path = work / "report.html"
    write_text(path, render(report, "html"))
    return path


def _charts(work: Path, rankings: Sequence[Rankings]) -> Iterator[Chart]:
    log = read_log(work)
    for value, title in {
        "loss": "Loss",
        "agreement": "Agreement with the teacher on held-out queries",
    }.items():
        points = [(float(row["step"]), float(row[value])) for row in log if value in row]
        if points:
            steps, values = zip(*points, strict=True)
            yield Chart(title=title, kind="lines", series=(Series(value, steps, values),), x="step", y=value)
    for row in rankings:
        bars = (Series(name, (), (round(ranking.mean(), 3),)) for name, ranking in row.systems.items())
        yield Chart(title=f"NDCG@10, {row.collection.name}", kind="bars", series=tuple(bars))


def _reliability(scores: Fitted | str) -> Iterator[Chart]:
    if isinstance(scores, str):
        return
    lines = [Series("as it should be", (0.0, 1.0), (0.0, 1.0))]
    for name, table in {"as they are": scores.before, "fitted": scores.after}.items():
        lines.append(Series(name, *table.curve()))
    title = "The teacher's mean score by the student's"
    yield Chart(title=title, kind="lines", series=tuple(lines), x="student's score", y="teacher's")


def _gate(rankings: Sequence[Rankings]) -> Table:
    rows = []
    for row in rankings:
        for shown, ranking in row.systems.items():
            interval = ranking.interval("ndcg@10")
            rows.append(
                (
                    row.collection.name,
                    len(row.collection.queries),
                    shown,
                    f"{interval.mean:.3f}",
                    f"{interval.low:.3f} to {interval.high:.3f}",
                    f"{agreement(ranking, row.teacher):.0%}",
                )
            )
    columns = ("collection", "queries", "ranking", "NDCG@10", "95 %", "of the teacher's first ten")
    notes = [
        f"{row.data}: student - first stage {row.over_first_stage.mean:+.3f} ({row.over_first_stage.low:+.3f} to "
        f"{row.over_first_stage.high:+.3f}), p = {row.over_first_stage.p:.4f}"
        for row in (each.quality for each in rankings)
    ]
    return Table(key="gate", title="The gate", columns=columns, rows=tuple(rows), notes=tuple(notes))


def _kinds(recipe: Recipe, rankings: Sequence[Rankings]) -> Iterator[Table]:
    """Of made queries: how many there are of each kind, and how well those held out are ranked."""
    if recipe.queries:
        return
    text, held = divided(recipe)
    trained, kinds = Counter(text.kinds), held.kinds if held else {}
    rows = []
    for kind in KINDS:
        asked = (
            [query for query in rankings[0].collection.queries if kinds.get(query) == kind] if held else []
        )
        figures = (
            round(mean(getattr(rankings[0], of).values["ndcg@10"][query] for query in asked), 3)
            if asked
            else None
            for of in ("first_stage", "student")
        )
        rows.append((kind, trained[kind], len(asked), *figures))
    columns = ("kind", "to train on", "held out", "first stage, NDCG@10", "student, NDCG@10")
    yield Table(key="kinds", title="Queries that were made", columns=columns, rows=tuple(rows))


def _examples(row: Rankings) -> Iterator[Table]:
    """The queries that the student changed most against the first stage, for the better and for the worse."""
    first, student = (ranking.values["ndcg@10"] for ranking in (row.first_stage, row.student))
    order = sorted(row.collection.queries, key=lambda query: student[query] - first[query])
    better = [query for query in order[::-1] if student[query] > first[query]]
    worse = [query for query in order if student[query] < first[query]]
    columns = (
        "query",
        "first stage",
        "student",
        "teacher",
        "first by the first stage",
        "first by the student",
        "first by the teacher",
    )
    for title, queries in {"better": better, "worse": worse}.items():
        rows = tuple(
            (
                _excerpt(row.collection.queries[query]),
                *(
                    round(ranking.values["ndcg@10"][query], 3)
                    for ranking in (row.first_stage, row.student, row.teacher)
                ),
                *(
                    _excerpt(row.collection.documents[ranking.run[query][0][0]])
                    for ranking in (row.first_stage, row.student, row.teacher)
                ),
            )
            for query in queries[:_EXAMPLES]
        )
        heading = (
            f"Ranked {title} than by the first stage: {len(queries)} of {len(order)}, {row.collection.name}"
        )
        cut = (f"The {_EXAMPLES} that changed most.",) if len(queries) > _EXAMPLES else ()
        yield Table(
            key=f"{title} {row.collection.name}", title=heading, columns=columns, rows=rows, notes=cut
        )


def _excerpt(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS].rsplit(' ', 1)[0]} ..."


def _inputs(recipe: Recipe, candidates: Sequence[int]) -> Table:
    """Of what the student was made. candidates: how many each query has."""
    passages, words = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for passage in read_passages(Path(recipe.passages), stated=bool(recipe.queries)):
        origin = (passage.source, passage.licence)
        passages[origin] += 1
        words[origin] += len(passage.text.split())
    rows: list[tuple[object, ...]] = [
        (
            f"passages of {source}",
            count,
            words[source, licence],
            licence + (", left out" if share_alike(licence) else ""),
        )
        for (source, licence), count in sorted(passages.items())
    ]
    if recipe.queries:
        rows.append(
            (
                f"queries of {Path(recipe.queries).name}",
                sum(1 for _ in read_jsonl(Path(recipe.queries))),
                None,
                "",
            )
        )
    rows.append(("queries trained on", len(candidates), None, ""))
    rows.append(("pairs that a teacher scored to train on", sum(candidates), None, ""))
    models = [*(("teacher", teacher) for teacher in recipe.teachers), ("first weights", recipe.start)]
    rows += [(f"{role} {public(spec)}", None, None, "") for role, spec in models if spec]
    return Table(
        key="inputs",
        title="Of what it was made",
        columns=("what", "number", "words", "licence"),
        rows=tuple(rows),
    )
