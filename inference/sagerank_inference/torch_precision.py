"""Which arithmetic a GPU computes in: the one of 16 bits that scores the golden pairs nearest to float32, if it is near enough.

float16 is nearer to float32 than bfloat16, but ends at 65,504; a GPU before Ampere has no products in bfloat16. Nothing of 16 bits is
used that the artefact's golden pairs do not vouch for, but for bfloat16 where there are none: its range is float32's.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import torch

from .artefact import MANIFEST, Manifest
from .tokenise import Tokeniser
from .windows import Windows

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
EXACT = 1e-3  # how far a golden logit may be from the reference in float32
AMPERE = 8  # compute capability

log = logging.getLogger("sagerank")

# Logits of pairs of token ids, in one of TYPES; the model is made anew for each call.
Logits = Callable[[str, Sequence[Sequence[int]]], list[float]]


def choose(
    model_dir: Path, wanted: str, capability: tuple[int, int] | None, logits: Logits
) -> tuple[str, float]:
    """Return one of TYPES, and how far a golden logit may then be from the reference.

    wanted: one of them, or auto. capability: of the GPU; None on a CPU, whose auto is fp32.
    """
    manifest = Manifest.read(model_dir) if (model_dir / MANIFEST).is_file() else None
    rounded = manifest.bfloat16_tolerance if manifest else EXACT
    if wanted != "auto":
        return wanted, EXACT if wanted == "fp32" else rounded
    if capability is None:
        return "fp32", EXACT
    candidates = ("fp16", "bf16") if capability[0] >= AMPERE else ("fp16",)
    if manifest is None:
        return ("bf16", rounded) if "bf16" in candidates else ("fp32", EXACT)
    tokeniser = Tokeniser.load(model_dir, max_tokens=manifest.max_tokens)
    golden = [(tokeniser(pair.query, [pair.document]), pair.logit) for pair in manifest.golden]
    errors = {name: _error(golden, partial(logits, name)) for name in candidates}
    best = min(candidates, key=errors.__getitem__)
    if errors[best] <= rounded:
        return best, rounded
    log.warning(
        "In 16 bits the golden pairs are off by %s, more than %.2g: float32 is used, which is slower.",
        " and ".join(f"{error:.2g} ({name})" for name, error in errors.items()),
        rounded,
    )
    return "fp32", EXACT


def _error(
    golden: Sequence[tuple[Windows, float]], logits: Callable[[Sequence[Sequence[int]]], list[float]]
) -> float:
    """The largest error of a golden logit; infinite where one is no number. golden: tokens of each pair, and its logit."""
    found = iter(logits([ids for windows, _ in golden for ids in windows.ids]))
    errors = []
    for windows, reference in golden:
        (logit,) = windows.scatter(list(islice(found, len(windows.ids))))
        errors.append(abs(logit - reference))
    return max(errors) if all(map(math.isfinite, errors)) else math.inf
