"""The model card, generated from what was measured and what was read: nothing in it is written by hand."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from sagerank.evaluation.collection import load
from sagerank.evaluation.scorer import public_address
from sagerank_inference.checkpoint import JinaBertConfig

from .corpus import read_jsonl, read_passages, share_alike
from .gate import StudentQuality, below_first_stage
from .heldout import training_text
from .overlap import RUN, overlap
from .recipe import Recipe
from .train import read_log

# Of a gate without judgements.
_TEACHER_JUDGES = (
    "Nobody judged these queries: they were made from passages that are in no training pair, and the grades are the teacher's own scores. "
    "The figures say how near the student comes to its teacher, and not how right both are."
)


def model_card(
    recipe: Recipe, work: Path, judged: Sequence[StudentQuality], *, name: str, licence: str, scores: str
) -> str:
    """Return the card as Markdown. scores: a sentence on what they are worth."""
    config = JinaBertConfig.read(work / "student")
    size = sum((work / "student" / file).stat().st_size for file in ("model.safetensors", "tokenizer.json"))
    lines = [
        "---",
        f"license: {licence}",
        "language: en",
        "---",
        f"# {name}",
        "",
        f"A JinaBERT cross-encoder of {config.parameters:,} parameters: {config.num_hidden_layers} layer{'s' * (config.num_hidden_layers > 1)}, hidden size "
        f"{config.hidden_size}, {config.num_attention_heads} heads, {config.vocab_size:,} tokens, up to "
        f"{config.max_position_embeddings:,} tokens a pair. Weights and tokenizer take {size / 1e6:.1f} MB, stored as {recipe.dtype}.",
        "",
        "## Quality",
        "",
        "NDCG@10 (linear gains) over the same candidates: the best 50 of BM25, or of the run file in the collection's folder.",
        "",
        "| collection | queries | first stage | before training | student | teacher | of the teacher | student - first stage (95 %), p |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in judged:
        difference = row.over_first_stage
        lines.append(
            f"| {row.data} | {row.queries} | {row.first_stage:.3f} | {row.start:.3f} | **{row.student:.3f}** | {row.teacher:.3f} | "
            f"{row.retention:.0%} | {difference.mean:+.3f} ({difference.low:+.3f} to {difference.high:+.3f}), {difference.p:.4f} |"
        )
    lines += [line for each in below_first_stage(judged) for line in ("", each)]
    stages = [*_earlier(recipe), (recipe, work)]
    lines += ["", *(_overlaps(recipe, stages) if recipe.gate else [_TEACHER_JUDGES])]
    lines += [
        "",
        scores,
        "",
        f"`sagerank distil --recipe recipe.json --name {name} --licence {licence} --output {name}`",
    ]
    lines += ["", "## Training", ""]
    for number, (stage, folder) in enumerate(stages, 1):
        lines += [f"### Stage {number} of {len(stages)}", ""] if len(stages) > 1 else []
        lines += _stage(stage, folder, number)
    lines += ["| text from | licence | passages |", "| --- | --- | --- |"]
    lines += [
        f"| {source} | {text_licence} | {count:,} |"
        for (source, text_licence), count in sorted(_text(stages).items())
    ]
    return "\n".join([*lines, ""])


def _overlaps(recipe: Recipe, stages: Sequence[tuple[Recipe, Path]]) -> Iterator[str]:
    """How much of each gate collection stands in the text of any stage."""
    yield f"In the training text, queries word by word and documents by {RUN} words in a row:"
    yield ""
    texts = [training_text(stage) for stage, _ in stages]
    for collection in map(load, recipe.gate):
        overlaps = [overlap(collection, text) for text in texts]
        most = max(overlaps, key=lambda item: item.queries + item.documents)
        yield f"- {most.data}: {most.queries} of its {most.of_queries:,} queries, {most.documents} of its {most.of_documents:,} documents"


def _earlier(recipe: Recipe) -> list[tuple[Recipe, Path]]:
    """Return the distillations that this one builds on, first to last, with their work folders."""
    folder = Path(recipe.start).parent
    if Path(recipe.start).name != "student" or not (folder / "recipe.json").is_file():
        return []  # not a student in its work folder
    before = Recipe.read(folder / "recipe.json")
    return [*_earlier(before), (before, folder)]


def _stage(recipe: Recipe, work: Path, number: int) -> list[str]:
    """Teachers, first weights, learning curve and recipe of one distillation."""
    lines = [f"- Teacher: `{public(teacher)}`" for teacher in recipe.teachers]
    if recipe.start:
        start = f"`{public(recipe.start)}`" if number == 1 else "the student of the stage before"
        lines.append(f"- First weights: layers {', '.join(map(str, recipe.layers))} of {start}")
    pairs = sum(len(row["documents"]) for row in read_jsonl(work / "candidates.jsonl"))
    seen = recipe.steps * recipe.queries_per_step * recipe.documents
    lines.append(f"- {pairs:,} scored pairs; {seen:,} were seen in training")
    lines += ["", "| step | loss |", "| --- | --- |"]
    curve = [row for row in read_log(work) if "loss" in row]
    stride = max(1, len(curve) // 10)
    lines += [f"| {row['step']:,} | {row['loss']:.3f} |" for row in curve[::-1][::stride][::-1]]
    shown = recipe.to_json() | {
        "passages": Path(recipe.passages).name,
        "queries": Path(recipe.queries).name,
        "teachers": [public(teacher) for teacher in recipe.teachers],
        "start": public(recipe.start),
        "embedder": public(recipe.embedder),
        "gate": [Path(source).name for source in recipe.gate],
    }
    return [
        *lines,
        "",
        "The recipe, for `sagerank distil --recipe recipe.json`:",
        "",
        "```json",
        json.dumps(shown, indent=2),
        "```",
        "",
    ]


def _text(stages: Sequence[tuple[Recipe, Path]]) -> Counter[tuple[str, str]]:
    """Passages by source and licence; one that several stages read counts once."""
    passages = {
        passage.key: (passage.source, passage.licence)
        for path in {recipe.passages for recipe, _ in stages}
        for passage in read_passages(Path(path))
        if not share_alike(passage.licence)
    }
    return Counter(passages.values())


def public(spec: str) -> str:
    """A spec without the folders of the machine it ran on, and without an address's secrets."""
    if spec.startswith(("http://", "https://")):
        return public_address(spec)
    prefix, colon, where = spec.rpartition(":")
    return f"{prefix}{colon}{Path(where).name}"
