"""`python -m distillation`: mine, score, vocabulary, train, in this order. Each step goes on where a killed
one stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from .mine import Candidates, mine, read_jsonl, share_alike

# Micro: 4.5M parameters, 9 MB in 16 bits.
SHAPE = {"hidden_size": 192, "num_hidden_layers": 4, "num_attention_heads": 12, "intermediate_size": 512}


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (OSError, ValueError, KeyError) as error:
        print(f"distillation: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m distillation", description=__doc__)
    steps = parser.add_subparsers(required=True, metavar="step")
    files = {
        "--passages": "JSON Lines (.gz) with id, text, source, licence",
        "--queries": "JSON Lines (.gz) with id, text, source, positive_passage_id",
        "--candidates": "what `mine` wrote",
        "--teacher": "folder with model.onnx and tokenizer.json of a cross-encoder",
        "--embeddings": "folder with model.safetensors and tokenizer.json to take first token embeddings from",
        "--vocabulary": "folder `vocabulary` wrote",
        "--scores": "what `score` wrote; may be given more than once",
    }

    def step(name: str, run: object, description: str, *names: str) -> argparse.ArgumentParser:
        sub = steps.add_parser(name, help=description, description=description)
        sub.set_defaults(run=run)
        for option in names:
            action = "append" if option == "--scores" else "store"
            sub.add_argument(option, type=Path, required=True, help=files[option], action=action)
        sub.add_argument("--output", type=Path, required=True)
        return sub

    sub = step("mine", _mine, "choose candidates for each query", "--passages", "--queries")
    sub.add_argument("--hard", type=int, default=5, help="BM25 negatives (default: %(default)s)")
    sub.add_argument("--random", type=int, default=2, help="random negatives (default: %(default)s)")
    sub.add_argument("--words", type=int, default=70, help="kept of a passage (default: %(default)s)")
    sub.add_argument("--limit", type=int, default=30_000, help="queries (default: %(default)s)")
    sub.add_argument("--seed", type=int, default=1)
    sub = step("score", _score, "let the teacher score the candidates", "--candidates", "--teacher")
    sub.add_argument("--start", type=int, default=0, help="first query")
    sub.add_argument("--count", type=int, default=None, help="queries from there (default: all)")
    sub.add_argument("--threads", type=int, default=1)
    sub = step("vocabulary", _vocabulary, "train the student's WordPiece", "--passages", "--candidates")
    sub.add_argument("--size", type=int, default=14_000)
    sub = step(
        "train",
        _train,
        "train the student",
        "--candidates",
        "--scores",
        "--teacher",
        "--vocabulary",
        "--embeddings",
    )
    sub.add_argument("--steps", type=int, default=1200)
    sub.add_argument("--learning-rate", type=float, default=6e-4)
    sub.add_argument("--threads", type=int, default=2)
    return parser


def _mine(options: argparse.Namespace) -> None:
    part = options.output.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        for item in mine(
            options.passages,
            options.queries,
            hard=options.hard,
            random_negatives=options.random,
            words=options.words,
            limit=options.limit,
            seed=options.seed,
        ):
            file.write(json.dumps(dataclasses.asdict(item), ensure_ascii=False) + "\n")
    part.replace(options.output)


def _candidates(path: Path) -> Iterator[Candidates]:
    for row in read_jsonl(path):
        yield Candidates(row["query"], tuple(row["documents"]))


def _score(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from .teacher import CrossEncoder, score_all

    teacher = CrossEncoder(options.teacher, threads=options.threads, max_tokens=160)
    end = None if options.count is None else options.start + options.count
    items = list(_candidates(options.candidates))[options.start : end]
    score_all(teacher, tqdm(items, unit="query", disable=None), options.output)


def _vocabulary(options: argparse.Namespace) -> None:
    from .vocabulary import train_wordpiece

    def texts() -> Iterator[str]:
        yield from (row["text"] for row in read_jsonl(options.passages) if not share_alike(row["licence"]))
        yield from (item.query for item in _candidates(options.candidates))

    options.output.mkdir(parents=True, exist_ok=True)
    train_wordpiece(texts(), size=options.size).save(str(options.output / "tokenizer.json"))


def _train(options: argparse.Namespace) -> None:
    import torch
    from safetensors.torch import load_file

    from inference import jina_bert
    from inference.checkpoint import JinaBertConfig

    from .teacher import CrossEncoder, candidate_key
    from .train import Example, TrainConfig, encode, new_student, train
    from .vocabulary import read_tokenizer, transfer_embeddings

    torch.set_num_threads(options.threads)
    config = TrainConfig(steps=options.steps, learning_rate=options.learning_rate, checkpoint_every=100)
    tokenizer = read_tokenizer(options.vocabulary)
    name = CrossEncoder.name_of(options.teacher)
    scores = {row["key"]: row["scores"] for path in options.scores for row in read_jsonl(path)}
    examples = [
        Example(encode(tokenizer, item.query, item.documents, config.max_tokens), tuple(scores[key]))
        for item in _candidates(options.candidates)
        if (key := candidate_key(name, item)) in scores
    ]
    donor = load_file(options.embeddings / "model.safetensors")
    rows = next(tensor for key, tensor in donor.items() if key.endswith("word_embeddings.weight")).float()
    shape = JinaBertConfig(vocab_size=tokenizer.get_vocab_size(), **SHAPE)
    first = transfer_embeddings(tokenizer, read_tokenizer(options.embeddings), rows, shape.hidden_size)
    model = new_student(shape, first, seed=config.seed)

    def show(step: int, loss: float) -> None:
        print(f"step {step} of {config.steps}, loss {loss:.4f}", file=sys.stderr)

    train(model, examples, config, options.output, on_checkpoint=show)
    jina_bert.save(model, options.output, torch.float16)
    shutil.copyfile(options.vocabulary / "tokenizer.json", options.output / "tokenizer.json")


if __name__ == "__main__":
    sys.exit(main())
