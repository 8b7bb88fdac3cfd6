"""A recipe carried out: mine, score, cut out a student, train it, and hand it to the gate.

Everything lies in one work folder, and each step takes up what it finds there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from sagerank.evaluation.embedder import open_embedder
from sagerank.evaluation.progress import Progress
from sagerank.evaluation.scores import ScoreStore
from sagerank.models.build import resolve
from sagerank_inference import jina_bert
from sagerank_inference.checkpoint import JinaBertConfig
from sagerank_inference.jina_bert import JinaBert

from . import bert, states
from .claim import claimed, seal, settle, whole
from .corpus import read_jsonl
from .heldout import HeldOut, Reference, divided, graded
from .mine import Candidates, Text, mine
from .probe import Probe
from .recipe import Recipe, parse_teachers
from .student import from_bert, from_layers, new_student
from .teacher import GATE_TOKENS, EmbeddingTeacher, assigned, each, open_teacher, targets
from .train import Encoded, Example, train
from .vocabulary import pruned_wordpiece, read_tokenizer, train_wordpiece

# Embeddings of queries [n, d] and passages [m, d], rows of length 1.
_Vectors = tuple[NDArray[np.float32], NDArray[np.float32]]


def distil(
    recipe: Recipe, work: Path, *, threads: int = 0, device: str = "cpu", progress: Progress = lambda *_: None
) -> Path:
    """Carry `recipe` out in `work` and return the folder of the student: config.json, model.safetensors, tokenizer.json.

    Raises DistillationError where `work` belongs to another recipe, or another process is at it.
    """
    with claimed(work):
        _check_layers(recipe)
        settle(work, recipe)
        return _distil(recipe, work, threads=threads, device=device, progress=progress)


def _distil(recipe: Recipe, work: Path, *, threads: int, device: str, progress: Progress) -> Path:
    if threads:
        torch.set_num_threads(threads)
    text, held = divided(recipe)
    run = _Run(
        recipe=recipe,
        text=text,
        work=work,
        threads=threads or torch.get_num_threads(),
        progress=progress,
    )
    vectors = run.vectors()
    scored = run.scores(run.candidates(vectors), vectors)
    reference = run.reference(held) if held else None
    start = _start(recipe.start) if recipe.start else None
    tokenizer, rows = run.tokenizer(start)
    examples = Encoded(tokenizer, scored, recipe.max_tokens)
    model = _student(recipe, start, tokenizer, rows, examples).to(device)
    if not (work / "start").exists():
        # A run that is killed here leaves it whole or not at all.
        part = work / "start.part"
        shutil.rmtree(part, ignore_errors=True)
        save_student(model, part, tokenizer, "float32")
        part.rename(work / "start")
    config = recipe.training()
    train(
        model,
        examples,
        config,
        work,
        states=_states(recipe, start, tokenizer, rows),
        measure=Probe(reference, tokenizer, recipe.max_tokens) if reference else lambda _: {},
        on_step=lambda step, shown: progress(f"train, {shown}", step, config.steps),
    )
    if recipe.keep_start:
        _blend(model, jina_bert.load(work / "start"), recipe.keep_start)
    save_student(model, work / "student", tokenizer, recipe.dtype)
    return work / "student"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """The steps of one distillation up to the training, each of which takes up what it finds in `work`."""

    recipe: Recipe
    text: Text
    work: Path
    threads: int
    progress: Progress

    def vectors(self) -> _Vectors | None:
        """Embeddings of queries and passages, kept in parts, so that a killed run goes on; None without an embedder."""
        if not self.recipe.embedder:
            return None
        embedder = open_embedder(self.recipe.embedder, threads=self.threads)

        def all_of(
            side: str, texts: list[str], embed: Callable[[list[str]], NDArray[np.float32]]
        ) -> NDArray[np.float32]:
            parts = []
            for start in range(0, len(texts), 2048):
                path = self.work / f"vectors.{side}.{start}.npy"
                if not whole(path):
                    # 16 bits keep a cosine to 1e-3 and halve the folder.
                    part = path.with_suffix(".part.npy")
                    np.save(part, embed(texts[start : start + 2048]).astype(np.float16))
                    part.replace(path)
                    seal(path)
                parts.append(np.load(path).astype(np.float32))
                self.progress(f"embed {side}", min(start + 2048, len(texts)), len(texts))
            return np.concatenate(parts)

        queries = all_of("queries", [query for query, _ in self.text.queries], embedder.queries)
        return queries, all_of("passages", list(self.text.passages), embedder.passages)

    def candidates(self, vectors: _Vectors | None) -> list[Candidates]:
        """The queries with their candidates, mined once and kept."""
        recipe, path = self.recipe, self.work / "candidates.jsonl"
        if not whole(path):
            part = path.with_suffix(".part")
            total = min(recipe.limit, len(self.text.queries))
            self.progress("mine", 0, total)
            mined = mine(
                self.text, vectors=vectors, documents=recipe.documents, limit=recipe.limit, seed=recipe.seed
            )
            with part.open("w", encoding="utf-8") as file:
                for number, item in enumerate(mined, 1):
                    file.write(json.dumps(asdict(item), ensure_ascii=False) + "\n")
                    if number % 20 == 0 or number == total:
                        self.progress("mine", number, total)
            part.replace(path)
            seal(path)
        return [
            Candidates(row["query"], tuple(row["documents"]), tuple(row["lexical"]))
            for row in read_jsonl(path)
        ]

    def scores(
        self, items: Sequence[Candidates], vectors: _Vectors | None
    ) -> list[tuple[Candidates, tuple[float, ...]]]:
        """What the student is to score each candidate; the teachers' scores are kept."""
        recipe, shares = self.recipe, parse_teachers(self.recipe.teachers)
        teachers = {
            spec: open_teacher(spec, threads=self.threads, max_tokens=recipe.teacher_tokens)
            for spec in shares
        }
        embedding = teachers.get(recipe.embedder)
        if isinstance(embedding, EmbeddingTeacher) and vectors is not None:
            embedding.remember([query for query, _ in self.text.queries], vectors[0], queries=True)
            embedding.remember(self.text.passages, vectors[1], queries=False)
        result = []
        self.progress("score", 0, len(items))

        def taught(item: Candidates) -> tuple[float, ...]:
            teacher = teachers[assigned(item.query, shares, recipe.seed)]
            return targets(item, teacher, store, lexical=recipe.lexical)

        with ScoreStore(self.work / "scores.jsonl") as store:
            scored = each(teachers.values(), taught, items)
            for number, (item, scores) in enumerate(zip(items, scored, strict=True), 1):
                result.append((item, scores))
                self.progress("score", number, len(items))
        return result

    def reference(self, held: HeldOut) -> Reference:
        """The held-out queries as the first teacher grades them; its scores are kept for the gate."""
        teacher = open_teacher(self.recipe.first_teacher, threads=self.threads, max_tokens=GATE_TOKENS)
        with ScoreStore(self.work / "gate.jsonl") as store:
            return graded(held, teacher, store, progress=self.progress)

    def tokenizer(self, start: Path | None) -> tuple[Tokenizer, list[int] | None]:
        """The student's tokenizer, and the donor's id of each of its tokens where the donor is a BERT."""
        text, vocabulary = self.text, self.recipe.vocabulary
        if start is not None and not _is_bert(start):
            return read_tokenizer(start), None
        if start is None:
            path = self.work / "tokenizer.json"
            if not whole(path):
                train_wordpiece(
                    (*text.passages, *(query for query, _ in text.queries)), size=vocabulary
                ).save(str(path))
                seal(path)
            return read_tokenizer(self.work), None
        donor = read_tokenizer(start)
        counts: dict[str, float] = {}
        for encoding in donor.encode_batch_fast(
            [*text.passages[::2], *(query for query, _ in text.queries)], add_special_tokens=False
        ):
            for token in encoding.tokens:
                counts[token] = counts.get(token, 0) + 1
        # BERT's vocabulary is in order of frequency: a prior for the words that this text happens to lack.
        prior = {
            token: counts.get(token, 0) + 3e5 / max(1, index - 1995)
            for token, index in donor.get_vocab().items()
        }
        raw, rows = pruned_wordpiece(donor.to_str(), prior, vocabulary)
        return Tokenizer.from_str(raw), rows


@torch.no_grad()
def _blend(model: JinaBert, start: JinaBert, share: float) -> None:
    """Move every weight of `model` that share of the way back to `start`'s."""
    for weight, first in zip(model.parameters(), start.parameters(), strict=True):
        weight.lerp_(first.to(weight.device), share)


def save_student(model: JinaBert, folder: Path, tokenizer: Tokenizer, dtype: str) -> None:
    jina_bert.save(model, folder, getattr(torch, dtype))
    tokenizer.save(str(folder / "tokenizer.json"))


def _start(spec: str) -> Path:
    """The folder of the model that gives the first weights."""
    return Path(spec) if Path(spec).is_dir() else resolve(spec)


def _check_layers(recipe: Recipe) -> None:
    """Raise DistillationError for what `start` does not have: before hours of scoring, in a folder that keeps its recipe, and not after."""
    if not recipe.start:
        return
    start = _start(recipe.start)
    if _is_bert(start):
        donor = bert.read_bert(start)
        depth = bert.depth(donor)
        if recipe.hidden_layers:
            states.check_positions(recipe.max_tokens, donor)
    else:
        depth = JinaBertConfig.read(start).num_hidden_layers
    for name, chosen in (("layers", recipe.layers), ("hidden_layers", recipe.hidden_layers)):
        states.check(name, chosen, depth)


def _is_bert(folder: Path) -> bool:
    config = folder / "config.json"
    if not config.is_file():
        return True  # an ONNX file beside its tokenizer
    return bool(json.loads(config.read_text(encoding="utf-8")).get("position_embedding_type") != "alibi")


def _heads(folder: Path) -> int:
    """An ONNX file without config.json is taken for one of the published BERTs of 384 or 768, which have 12."""
    config = folder / "config.json"
    raw = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    return int(raw.get("num_attention_heads", 12))


def _student(
    recipe: Recipe,
    start: Path | None,
    tokenizer: Tokenizer,
    rows: list[int] | None,
    examples: Sequence[Example],
) -> JinaBert:
    if start is None:
        return new_student(recipe.shape(tokenizer.get_vocab_size()), seed=recipe.seed)
    if rows is None:
        return from_layers(jina_bert.load(start), recipe.layers)
    donor = bert.read_bert(start)
    torch.manual_seed(recipe.seed)  # of the head, where the donor has none
    return from_bert(
        donor,
        rows,
        layers=recipe.layers,
        neurons=recipe.neurons,
        heads=_heads(start),
        separator=tokenizer.token_to_id("[SEP]"),
        sample=[example.ids[0] for example in examples[:200]],
    )


def _states(
    recipe: Recipe, start: Path | None, tokenizer: Tokenizer, rows: list[int] | None
) -> states.States | None:
    """The hidden states that the student learns; None where the recipe has none."""
    if start is None or not recipe.hidden_layers:
        return None
    if rows is None:
        return states.of_jina_bert(jina_bert.load(start), recipe.hidden_layers)
    return states.of_bert(
        bert.read_bert(start),
        rows,
        recipe.hidden_layers,
        heads=_heads(start),
        separator=tokenizer.token_to_id("[SEP]"),
    )
