"""The gate before an artefact is written: labelled text, figures, and a refusal that names each that falls short.

A student has to rank nearly as its teacher does. int8 weights have a gate of their own, `int8`, on the same text and
with the same refusal.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sagerank.evaluation.collection import Collection, load
from sagerank.evaluation.evaluate import Ranking, first_stage, rerank
from sagerank.evaluation.first_stage import Run, bm25, read_run
from sagerank.evaluation.metrics import Difference
from sagerank.evaluation.progress import Progress
from sagerank.evaluation.scorer import EngineScorer, scale_of
from sagerank.evaluation.scores import ScoreStore
from sagerank.models.build import archive, build
from sagerank_inference.archive import replaced
from sagerank_inference.artefact import Calibration, Manifest
from sagerank_inference.scale import Scale

from . import DistillationError
from .claim import claimed
from .heldout import CANDIDATES, divided, graded
from .recipe import Recipe
from .teacher import GATE_TOKENS, open_teacher

# What is measured, by field, and what a person sees it called.
_SYSTEMS = {
    "first_stage": "first stage",
    "start": "before training",
    "student": "student",
    "teacher": "teacher",
}


class GateFailed(DistillationError):
    """A model ranks too badly; nothing was written."""


def check(refusal: str, shortfalls: Sequence[str], advice: str = "") -> None:
    """Raise GateFailed with the refusal, every figure that falls short, if any does, and what to do about it."""
    if shortfalls:
        raise GateFailed(f"{refusal}: {'; '.join(shortfalls)}.{advice and ' '}{advice}")


def labelled(sources: Sequence[str], queries: int | None, top_k: int) -> Iterator[tuple[Collection, Run]]:
    """Yield each collection, cut to its first so many queries, with the candidates of its folder's run.*.trec, or BM25's."""
    for source in sources:
        collection = load(source).first(queries)
        runs = sorted(Path(source).glob("run.*.trec"))
        yield collection, read_run(runs[0], collection, top_k) if runs else bm25(collection, top_k)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentQuality:
    """Mean NDCG@10 over the same queries of one collection."""

    data: str
    queries: int
    first_stage: float
    start: float  # the student before training
    student: float
    teacher: float
    over_first_stage: Difference

    @property
    def retention(self) -> float:
        return self.student / self.teacher if self.teacher else 0.0

    @property
    def means(self) -> dict[str, float]:
        """NDCG@10 of each system, by the name that a person sees."""
        return {shown: getattr(self, name) for name, shown in _SYSTEMS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rankings:
    """Everything that the gate measured on one collection: every candidate of every query with the score of each.

    A ranking's `run` has the scores: logits of start, student and teacher, BM25's or a run file's of the first stage.
    """

    collection: Collection
    first_stage: Ranking
    start: Ranking  # the student before training
    student: Ranking
    teacher: Ranking
    teacher_scale: Scale  # of the teacher's logits

    @property
    def systems(self) -> dict[str, Ranking]:
        """The four rankings, by the name that a person sees."""
        return {shown: getattr(self, name) for name, shown in _SYSTEMS.items()}

    @property
    def quality(self) -> StudentQuality:
        return StudentQuality(
            data=self.collection.name,
            queries=len(self.collection.queries),
            first_stage=self.first_stage.mean(),
            start=self.start.mean(),
            student=self.student.mean(),
            teacher=self.teacher.mean(),
            over_first_stage=self.student.versus(self.first_stage),
        )


def judge(
    recipe: Recipe, work: Path, *, threads: int = 0, progress: Progress = lambda *_: None
) -> list[Rankings]:
    """Rank the recipe's collections with work/student, the first teacher and the student's own start, beside their first stage.

    A recipe without collections is judged on its held-out queries, by the teacher's grades. Scores are kept in `work`. Raises
    DistillationError where there is neither, or another process is at work there.
    """
    with claimed(work):
        return list(_rankings(recipe, work, threads, progress))


def _rankings(recipe: Recipe, work: Path, threads: int, progress: Progress) -> Iterator[Rankings]:
    teacher = open_teacher(recipe.first_teacher, threads=threads or 1, max_tokens=GATE_TOKENS)
    scorers = {
        "teacher": teacher,
        "start": EngineScorer(_built(work / "start", work / "start.artefact"), threads=threads),
        "student": EngineScorer(_built(work / "student", work / "student.artefact"), threads=threads),
    }
    with ScoreStore(work / "gate.jsonl") as store:
        if recipe.gate:
            collections = labelled(recipe.gate, recipe.gate_queries, CANDIDATES)
        elif held := divided(recipe)[1]:
            collections = iter([graded(held, teacher, store, progress=progress)])
        else:
            raise DistillationError(
                "gate is empty: give at least one BEIR folder with --gate, or leave --queries out, so that queries are made and held out."
            )
        for collection, candidates in collections:
            rankings = {"first_stage": first_stage("first stage", collection, candidates)}
            progress(f"gate, {collection.name}", 0, len(scorers))
            for number, (name, scorer) in enumerate(scorers.items(), 1):
                rankings[name] = rerank(collection, candidates, scorer, store)
                progress(f"gate, {collection.name}", number, len(scorers))
            yield Rankings(collection=collection, teacher_scale=scale_of(teacher), **rankings)


def student_shortfalls(recipe: Recipe, judged: Sequence[StudentQuality]) -> list[str]:
    """Return a sentence with the figures for each of the recipe's demands that the student does not meet."""
    student = sum(row.student for row in judged) / len(judged)
    teacher = sum(row.teacher for row in judged) / len(judged)
    problems = []
    if student < recipe.retention * teacher:
        problems.append(
            f"mean NDCG@10 {student:.3f} is {student / teacher:.1%} of the teacher's {teacher:.3f}, below {recipe.retention:.1%}"
        )
    return problems + [
        f"on {row.data} NDCG@10 {row.student:.3f} is more than {recipe.first_stage_margin:g} below the first stage's {row.first_stage:.3f}"
        for row in judged
        if row.student < row.first_stage - recipe.first_stage_margin
    ]


def below_first_stage(judged: Sequence[StudentQuality]) -> list[str]:
    """Return a sentence for each collection on which the student is worse than no reranker by more than chance: the gate allows it."""
    return [
        f"On {row.data} the first stage alone ranks better than the student: NDCG@10 {row.first_stage:.3f}, and {row.student:.3f} "
        "with it."
        for row in judged
        if row.over_first_stage.high < 0
    ]


def publish(
    work: Path, card: str, output: Path, name: str, calibration: Calibration | None = None
) -> Manifest:
    """Write the student's artefact: a folder with its model card as README.md, or a file ending in .tar.gz."""
    packed = output.name.endswith(".tar.gz")
    built = work / "artefact" if packed else output
    with replaced(built) as folder:
        replace(build(str(work / "student"), folder), model=name, calibration=calibration).write(folder)
        (folder / "README.md").write_text(card, encoding="utf-8")
    return archive(str(built), output) if packed else Manifest.read(built)


def _built(source: Path, target: Path) -> Path:
    """An artefact of the weights in `source`, made afresh: training may have gone on."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    build(str(source), target)
    return target
