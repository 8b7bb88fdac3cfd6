"""A JinaBERT student learns its teacher's scores, query by query.

The loss of one query is the Kullback-Leibler divergence from the teacher's ranking (softmax over the
candidates) to the student's, plus a share of the squared error of the logits, so that scores are calibrated
across queries and not only ordered within one.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from inference.checkpoint import JinaBertConfig
from inference.jina_bert import JinaBert


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of each pair of one query, and the teacher's logits."""

    ids: tuple[tuple[int, ...], ...]
    logits: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    steps: int
    queries_per_step: int = 16
    learning_rate: float = 6e-4
    warmup_steps: int = 100
    weight_decay: float = 0.01
    temperature: float = 2.0  # of the teacher's softmax: its logits span about 20
    error_weight: float = 0.03  # of the squared error
    max_tokens: int = 160
    checkpoint_every: int = 200
    seed: int = 0


def encode(
    tokenizer: Tokenizer, query: str, documents: Sequence[str], max_tokens: int
) -> tuple[tuple[int, ...], ...]:
    """Pair ids cut to max_tokens; what is cut is the end of the document and its separator, which the model
    learns to do without.
    """
    return tuple(
        tuple(encoding.ids[:max_tokens])
        for encoding in tokenizer.encode_batch([(query, text) for text in documents])
    )


def new_student(config: JinaBertConfig, embeddings: Tensor | None, *, seed: int) -> JinaBert:
    """A student whose attention starts out matching equal tokens.

    Query and key projections of a layer start equal, so a token's best match is itself in the other text.
    Lexical match is the first thing a reranker has to know and the slowest for a small one to find by itself.
    """
    torch.manual_seed(seed)
    model = JinaBert(config)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.02 if "embeddings" in name else 0.04)
        elif name.endswith("bias"):
            torch.nn.init.zeros_(parameter)
    # |W x|^2 / sqrt(d) is about 5 for a token and itself: e^5 against e^0 for an unrelated one.
    std = math.sqrt(5 * math.sqrt(config.head_size) / (config.head_size * config.hidden_size))
    state = model.state_dict()
    for index in range(config.num_hidden_layers):
        prefix = f"bert.encoder.layer.{index}.attention.self"
        torch.nn.init.normal_(state[f"{prefix}.query.weight"], std=std)
        state[f"{prefix}.key.weight"].copy_(state[f"{prefix}.query.weight"])
    if embeddings is not None:
        state["bert.embeddings.word_embeddings.weight"].copy_(embeddings)
    return model


def loss_of(model: JinaBert, examples: Sequence[Example], config: TrainConfig) -> Tensor:
    pairs = [ids for example in examples for ids in example.ids]
    lengths = torch.tensor([len(ids) for ids in pairs])
    student = torch.empty(len(pairs))
    # Halves of similar length: less padding than one batch, and one backward.
    order = lengths.argsort()
    for chunk in order.chunk(4):
        ids = torch.zeros(len(chunk), int(lengths[chunk].max()), dtype=torch.int64)
        for row, index in zip(ids, chunk.tolist(), strict=True):
            row[: len(pairs[index])] = torch.tensor(pairs[index])
        student = student.index_put((chunk,), model(ids, lengths[chunk]))
    total = torch.zeros(())
    start = 0
    for example in examples:
        logits = student[start : start + len(example.logits)]
        teacher = torch.tensor(example.logits)
        target = F.softmax(teacher / config.temperature, dim=0)
        total = total + F.kl_div(F.log_softmax(logits / config.temperature, dim=0), target, reduction="sum")
        total = total + config.error_weight * F.mse_loss(logits, teacher)
        start += len(example.logits)
    return total / len(examples)


def train(
    model: JinaBert,
    examples: Sequence[Example],
    config: TrainConfig,
    folder: Path,
    *,
    on_checkpoint: Callable[[int, float], None] = lambda step, loss: None,
) -> None:
    """Train in place. A checkpoint in `folder` of the same configuration is taken up: the result is that of
    an unbroken run.
    """
    if not examples:
        raise ValueError("There are no scored examples: run the teacher first.")
    decayed = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    others = [parameter for parameter in model.parameters() if parameter.ndim != 2]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98))
    path = folder / "checkpoint.pt"
    folder.mkdir(parents=True, exist_ok=True)
    step = _resume(path, model, optimizer, config)
    model.train()
    running, since = 0.0, step
    while step < config.steps:
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _schedule(step, config)
        batch = [examples[index] for index in _batch(step, len(examples), config)]
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(model, batch, config)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        running += float(loss.detach())
        step += 1
        if step % config.checkpoint_every == 0 or step == config.steps:
            _save(path, model, optimizer, config, step)
            _log(folder, step, running / (step - since))
            on_checkpoint(step, running / (step - since))
            running, since = 0.0, step
    model.eval()


def _schedule(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then linear decay to zero."""
    return min(
        (step + 1) / config.warmup_steps, (config.steps - step) / max(1, config.steps - config.warmup_steps)
    )


def _batch(step: int, count: int, config: TrainConfig) -> list[int]:
    """Which examples a step sees: a function of the step alone, so a resumed run sees what an unbroken one
    would.
    """
    size = min(config.queries_per_step, count)
    epoch, position = divmod(step, count // size)
    order = list(range(count))
    random.Random(f"{config.seed} {epoch}").shuffle(order)
    return order[position * size : (position + 1) * size]


def _resume(path: Path, model: JinaBert, optimizer: torch.optim.Optimizer, config: TrainConfig) -> int:
    if not path.exists():
        return 0
    state: dict[str, Any] = torch.load(path, weights_only=True)
    if state["config"] != asdict(config):
        raise ValueError(
            f"{path} was written with other settings: remove it to start over, or use its settings."
        )
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def _save(
    path: Path, model: JinaBert, optimizer: torch.optim.Optimizer, config: TrainConfig, step: int
) -> None:
    state = {
        "config": asdict(config),
        "step": step,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)  # a run that is killed while it writes keeps the checkpoint before


def _log(folder: Path, step: int, loss: float) -> None:
    with (folder / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": step, "loss": round(loss, 4), "time": round(time.time())}) + "\n")
