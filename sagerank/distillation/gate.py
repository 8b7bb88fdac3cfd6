"""The gate: a student becomes an artefact only if it ranks nearly as its teacher does."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from sagerank_inference.artefact import Manifest

from sagerank.evaluation.collection import load
from sagerank.evaluation.evaluate import first_stage, rerank
from sagerank.evaluation.first_stage import bm25, read_run
from sagerank.evaluation.metrics import Difference
from sagerank.evaluation.progress import Progress
from sagerank.evaluation.scorer import EngineScorer, Scorer
from sagerank.evaluation.scores import ScoreStore
from sagerank.models.build import archive, build

from . import DistillationError
from .recipe import Recipe, parse_teachers
from .teacher import open_teacher


class GateFailed(DistillationError):
    """The student ranks too badly; nothing was written."""


@dataclass(frozen=True, slots=True)
class Judged:
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


def judge(
    recipe: Recipe, work: Path, *, threads: int = 0, progress: Progress = lambda step, done, total: None
) -> list[Judged]:
    """Measure work/student on the gate's collections beside BM25 (or the folder's run.*.trec), the first teacher and
    its own start. Scores are kept in `work`.
    """
    if not recipe.gate:
        raise DistillationError(
            "gate is empty: give at least one BEIR folder with --gate, or nothing can be promised."
        )
    scorers: dict[str, Callable[[], Scorer]] = {
        "teacher": lambda: open_teacher(
            next(iter(parse_teachers(recipe.teachers))), threads=threads or 1, max_tokens=512
        ),
        "start": lambda: EngineScorer(_built(work / "start", work / "start.artefact"), threads=threads),
        "student": lambda: EngineScorer(_built(work / "student", work / "student.artefact"), threads=threads),
    }
    opened = {name: make() for name, make in scorers.items()}
    result = []
    with ScoreStore(work / "gate.jsonl") as store:
        for source in recipe.gate:
            collection = load(source).first(recipe.gate_queries)
            runs = sorted(Path(source).glob("run.*.trec"))
            candidates = read_run(runs[0], collection, 50) if runs else bm25(collection, 50)
            base = first_stage("first stage", collection, candidates)
            found = {}
            for place, (name, scorer) in enumerate(opened.items(), 1):
                found[name] = rerank(collection, candidates, scorer, store)
                progress(f"gate, {collection.name}", place, len(opened))
            result.append(
                Judged(
                    collection.name,
                    len(collection.queries),
                    base.mean(),
                    found["start"].mean(),
                    found["student"].mean(),
                    found["teacher"].mean(),
                    found["student"].versus(base),
                )
            )
    return result


def check(recipe: Recipe, judged: list[Judged]) -> None:
    """Raise GateFailed with every figure that falls short."""
    student = sum(row.student for row in judged) / len(judged)
    teacher = sum(row.teacher for row in judged) / len(judged)
    problems = []
    if student < recipe.retention * teacher:
        problems.append(
            f"mean NDCG@10 {student:.3f} is {student / teacher:.1%} of the teacher's {teacher:.3f}, below {recipe.retention:.1%}"
        )
    problems += [
        f"on {row.data} NDCG@10 {row.student:.3f} is more than {recipe.first_stage_margin:g} below the first stage's {row.first_stage:.3f}"
        for row in judged
        if row.student < row.first_stage - recipe.first_stage_margin
    ]
    if problems:
        raise GateFailed(
            f"The student does not pass the gate, and no artefact was written: {'; '.join(problems)}."
        )


def publish(work: Path, card: str, output: Path, name: str) -> Manifest:
    """Write the student's artefact: a folder with its model card as README.md, or a file ending in .tar.gz."""
    packed = output.name.endswith(".tar.gz")
    folder = work / "artefact" if packed else output
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("config.json", "model.safetensors", "tokenizer.json"):
        shutil.copyfile(work / "student" / file, folder / file)
    manifest = replace(build(str(folder), folder), model=name)
    manifest.write(folder)
    (folder / "README.md").write_text(card, encoding="utf-8")
    return archive(str(folder), output) if packed else manifest


def _built(source: Path, target: Path) -> Path:
    """An artefact of the weights in `source`, made afresh: training may have gone on."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    build(str(source), target)
    return target
