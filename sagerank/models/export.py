"""Weights and tokenizer -> a folder that the engine can load, and what the PyTorch reference scores on it.

The only module of `sagerank build` that needs PyTorch and onnx.
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import torch

from sagerank_inference import jina_bert
from sagerank_inference.artefact import GoldenPair
from sagerank_inference.checkpoint import CheckpointError, JinaBertConfig
from sagerank_inference.tokenise import Tokeniser

from . import graph

# The golden pairs' texts: short and long, a match and a miss. The long one crosses a block boundary of the
# attention loop.
_LONG = " ".join(
    f"Part {i}: alpine glaciers carve valleys and leave moraines of unsorted debris." for i in range(70)
)
_GOLDEN_TEXTS = (
    ("What is the capital of France?", "Paris is the capital of France."),
    ("What is the capital of France?", "Berlin is the capital of Germany."),
    (
        "Which planet is known as the Red Planet?",
        "Mars, known for its reddish appearance, is often referred to as the Red Planet.",
    ),
    ("how do glaciers shape valleys", _LONG),
)


def write_random(config: JinaBertConfig, tokenizer: Path, folder: Path) -> None:
    """Write a model of random weights, the same on every call, with that tokenizer.json, whose ids have to be fewer than its rows."""
    torch.manual_seed(0)
    # 16 bits, like the published checkpoints; the reference reads back what was stored.
    jina_bert.save(jina_bert.JinaBert(config).eval(), folder, torch.bfloat16)
    shutil.copyfile(tokenizer, folder / "tokenizer.json")


def write_stored(source: Path, folder: Path) -> None:
    """Write a Hugging Face folder's model under canonical names, in the precision it is stored in; `folder` may be `source`.

    Raises CheckpointError where a file is missing or the tensors do not fit the configuration.
    """
    dtypes = {tensor.dtype for tensor in jina_bert.read_tensors(source).values()}
    stored = torch.int8 if torch.int8 in dtypes else dtypes.pop() if len(dtypes) == 1 else torch.float32
    jina_bert.save(jina_bert.load(source), folder, stored)
    if source.resolve() != folder.resolve():
        if not (source / "tokenizer.json").is_file():
            raise CheckpointError(f"{source} holds no tokenizer.json: fetch it with the model.")
        shutil.copyfile(source / "tokenizer.json", folder / "tokenizer.json")


def write_graph(folder: Path, model: str) -> tuple[GoldenPair, ...]:
    """Write model.onnx for the weights in `folder` and return the reference's golden pairs.

    model: the name for messages. Raises CheckpointError for a tokenizer of another model and for damaged weights.
    """
    config = JinaBertConfig.read(folder)
    tokeniser = Tokeniser.load(folder, max_tokens=config.max_position_embeddings)
    if tokeniser.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"tokenizer.json has ids up to {tokeniser.vocab_size - 1}, the embeddings have {config.vocab_size} rows: "
            "the tokenizer belongs to another model."
        )
    graph.write(folder)
    reference = jina_bert.load(folder)
    golden = []
    for query, document in _GOLDEN_TEXTS:
        logit = jina_bert.score(reference, tokeniser(query, [document]).ids)[0]
        if not math.isfinite(logit):
            raise CheckpointError(f"The weights of {model!r} give the logit {logit}: they are damaged.")
        golden.append(GoldenPair(query, document, logit))
    return tuple(golden)


def stored_dtype(folder: Path) -> str:
    """The dtypes of model.safetensors in its own words, joined by slashes where there are several."""
    with (folder / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    dtypes: set[str] = {entry["dtype"] for name, entry in header.items() if name != "__metadata__"}
    return "/".join(sorted(dtypes))
