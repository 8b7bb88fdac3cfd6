"""A JinaBERT student learns its teacher's scores, query by query.

Three losses, each with its weight: the Kullback-Leibler divergence from the teacher's ranking (softmax over the
candidates) to the student's; the squared error of the logits, so that scores are calibrated across queries and not
only ordered within one; and MarginMSE, the squared error of the difference between the teacher's best and each other
candidate (Hofstätter et al. 2020). With the hidden states of a larger model there is a fourth: how far the student's are
from them, see `states`.
"""

from __future__ import annotations

import json
import pickle
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, overload

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from sagerank_inference.jina_bert import JinaBert

from . import DistillationError
from .corpus import read_jsonl
from .mine import Candidates
from .recipe import TrainConfig
from .states import States, error, watched


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of each pair of one query, and the score the student is to give it."""

    ids: tuple[tuple[int, ...], ...]
    logits: tuple[float, ...]


def encode(
    tokenizer: Tokenizer, query: str, documents: Sequence[str], max_tokens: int
) -> tuple[tuple[int, ...], ...]:
    """Pair ids cut to max_tokens at the end of the document: the model learns to do without its separator."""
    return tuple(
        tuple(encoding.ids[:max_tokens])
        for encoding in tokenizer.encode_batch([(query, text) for text in documents])
    )


class Encoded(Sequence[Example]):
    """Scored queries, each tokenised when it is asked for: a run begins at once, and so does a resumed one."""

    def __init__(
        self, tokenizer: Tokenizer, scored: Sequence[tuple[Candidates, tuple[float, ...]]], max_tokens: int
    ) -> None:
        self._tokenizer, self._scored, self._max_tokens = tokenizer, scored, max_tokens

    def __len__(self) -> int:
        return len(self._scored)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        item, logits = self._scored[index]
        return Example(encode(self._tokenizer, item.query, item.documents, self._max_tokens), logits)


def loss_of(
    model: JinaBert, examples: Sequence[Example], config: TrainConfig, states: States | None = None
) -> Tensor:
    """Mean loss over the examples, on the model's device; on CUDA the forward runs in bfloat16."""
    device = model.classifier.weight.device
    pairs = [ids for example in examples for ids in example.ids]
    lengths = torch.tensor([len(ids) for ids in pairs])
    student = torch.empty(len(pairs), device=device)
    apart = torch.zeros((), device=device)
    # Quarters of similar length: less padding than one batch, and one backward.
    order = lengths.argsort(stable=True)
    for chunk in order.chunk(4):
        ids = torch.zeros(len(chunk), int(lengths[chunk].max()), dtype=torch.int64)
        for row, index in zip(ids, chunk.tolist(), strict=True):
            row[: len(pairs[index])] = torch.tensor(pairs[index])
        ids, real = ids.to(device), lengths[chunk].to(device)
        with (
            torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"),
            watched(model) as own,
        ):
            logits = model(ids, real)
            if states is not None:
                apart = apart + error(own, states(ids, real), real) * (len(chunk) / len(pairs))
        student = student.index_put((chunk.to(device),), logits.float())
    total = torch.zeros((), device=device)
    start = 0
    for example in examples:
        logits = student[start : start + len(example.logits)]
        teacher = torch.tensor(example.logits, device=device)
        start += len(example.logits)
        target = F.softmax(teacher / config.temperature, dim=0)
        ranking = F.kl_div(F.log_softmax(logits / config.temperature, dim=0), target, reduction="sum")
        total = total + config.kl_weight * ranking + config.error_weight * F.mse_loss(logits, teacher)
        if config.margin_weight:
            best = teacher.argmax()
            total = total + config.margin_weight * F.mse_loss(logits[best] - logits, teacher[best] - teacher)
    return total / len(examples) + config.hidden_weight * apart


def train(
    model: JinaBert,
    examples: Sequence[Example],
    config: TrainConfig,
    folder: Path,
    *,
    states: States | None = None,
    measure: Callable[[JinaBert], Mapping[str, float]] = lambda _: {},
    on_step: Callable[[int, str], None] = lambda *_: None,
    on_checkpoint: Callable[[int, float], None] = lambda *_: None,
) -> None:
    """Train in place; resumed from a checkpoint of this configuration in `folder`, the result is the same.

    states: the hidden states that the student's layers are to come near. measure: what stands beside the loss in the log, of
    the first weights and of each checkpoint's. on_step: hears of each step what was logged last.
    """
    if not examples:
        raise DistillationError("There are no scored queries: the text gave none.")
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
    if not step:
        _log(folder, 0, None, measure(model))
    model.train()
    running, since, shown = 0.0, step, ""
    on_step(step, shown)
    while step < config.steps:
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _schedule(step, config)
        batch = [examples[index] for index in _batch(step, len(examples), config)]
        optimizer.zero_grad(set_to_none=True)
        loss = 0.0
        for part in range(min(config.accumulate, len(batch))):
            share = batch[part :: config.accumulate]
            value = loss_of(model, share, config, states) * (len(share) / len(batch))
            value.backward()  # type: ignore[no-untyped-call]
            loss += float(value.detach())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        running += loss
        step += 1
        if step % config.checkpoint_every == 0 or step == config.steps:
            _save(path, model, optimizer, config, step)
            shown = _log(folder, step, running / (step - since), measure(model))
            on_checkpoint(step, running / (step - since))
            running, since = 0.0, step
        on_step(step, shown)
    model.eval()


def _schedule(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then linear decay to zero."""
    decay = (config.steps - step) / max(1, config.steps - config.warmup_steps)
    return min((step + 1) / max(1, config.warmup_steps), decay)


def _batch(step: int, count: int, config: TrainConfig) -> list[int]:
    """Indices of a step's examples, by the step alone: a resumed run sees what an unbroken one would."""
    size = min(config.queries_per_step, count)
    epoch, position = divmod(step, count // size)
    order = list(range(count))
    random.Random(f"{config.seed} {epoch}").shuffle(order)
    return order[position * size : (position + 1) * size]


def _resume(path: Path, model: JinaBert, optimizer: torch.optim.Optimizer, config: TrainConfig) -> int:
    if not path.exists():
        return 0
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        # What a version before did not know has the value with which that trained.
        known = {field.name: field.default for field in fields(TrainConfig)} | state["config"]
        if known == asdict(config):
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            return int(state["step"])
    except (RuntimeError, EOFError, LookupError, TypeError, ValueError, pickle.UnpicklingError):
        raise DistillationError(
            f"{path} is not whole: copy it again, or remove it, and training starts over."
        ) from None
    raise DistillationError(
        f"{path} was written with other settings: remove it to start over, or use its settings."
    )


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


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Lines of the training's log by step. A run that was killed may have logged its last steps twice: the later ones count."""
    path = folder / "log.jsonl"
    try:
        return list({row["step"]: row for row in read_jsonl(path)}.values()) if path.exists() else []
    except LookupError:
        raise DistillationError(f"{path} has a line without a step: remove that line.") from None


def _log(folder: Path, step: int, loss: float | None, measured: Mapping[str, float]) -> str:
    """Append a line, without a loss where nothing was trained yet, and return it as a person reads it."""
    values = {
        name: round(value, 4) for name, value in {"loss": loss, **measured}.items() if value is not None
    }
    if values:
        line = json.dumps({"step": step, **values, "time": round(time.time())}) + "\n"
        with (folder / "log.jsonl").open("a+b") as file:
            file.seek(0)
            # What a killed run left of a line is not what the next one goes on with.
            file.truncate(file.read().rfind(b"\n") + 1)
            file.write(line.encode())
    return ", ".join(f"{name} {value:.3f}" for name, value in values.items())
