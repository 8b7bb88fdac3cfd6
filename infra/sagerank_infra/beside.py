"""What stands beside a deployment's own type and model: types to fall back to, variants, and the components of a fleet."""

from __future__ import annotations

from dataclasses import dataclass

from .options import option
from .sections import ARTEFACT, ARTEFACT_FORM, INSTANCE, INSTANCE_FORM, NAME, NAME_FORM, SHA256, SHA256_FORM

_MODEL = "(micro|tiny|turbo|base)"
CASCADE = rf"{_MODEL}(>{_MODEL}@[1-9]\d{{0,5}}){{0,2}}"
CASCADE_FORM = "one of micro, tiny, turbo, base, or a cascade of them such as tiny>base@20"
PRECISIONS = ("", "fp32", "bf16", "int8")
PRECISIONS_FORM = "bf16 (GPU, Graviton3 and later), fp32 or int8 (CPU); of fp16 no speed is known"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """An instance type that stands in when the first is not to be had."""

    instance: str = option("", "its type", pattern=INSTANCE.removeprefix("|"), form=INSTANCE_FORM)
    priority: int = option(2, "the lowest is tried first; the endpoint's own type has 1", low=2, high=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """Another artefact behind the same endpoint: for a share of the traffic, or for a copy of it."""

    name: str = option("", "of the variant", pattern=NAME, form=NAME_FORM)
    artefact: str = option(
        "",
        "its model.tar.gz; empty: the endpoint's own",
        pattern=f"|{ARTEFACT}",
        form=ARTEFACT_FORM,
    )
    artefact_sha256: str = option(
        "", "of its manifest.json, as artefact_sha256 is of the endpoint's", pattern=SHA256, form=SHA256_FORM
    )
    instance: str = option("", "its type; empty: the endpoint's own", pattern=INSTANCE, form=INSTANCE_FORM)
    count: int = option(1, "its instances", low=1)
    weight: float = option(
        0.0, "of the traffic, beside the main variant's 1.0; a shadow's share is copied, not taken", low=0
    )
    shadow: bool = option(False, "answers are dropped: for comparing under real traffic")


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """Another model on the same fleet, with copies that come and go by its own requests."""

    name: str = option(
        "",
        "an invocation names the deployment and it: NAME-turbo",
        pattern=r"[a-z][a-z0-9]{0,19}",
        form="at most 20 lower-case letters and digits, a letter first",
    )
    model: str = option("tiny", "which reranker, or a cascade", pattern=CASCADE, form=CASCADE_FORM)
    precision: str = option(
        "",
        "of its arithmetic, as precision is of the first",
        choices=PRECISIONS,
        form=PRECISIONS_FORM,
    )
    artefact: str = option(
        "",
        "its model.tar.gz; empty: `sagerank deploy` builds the model",
        pattern=f"|{ARTEFACT}",
        form=ARTEFACT_FORM,
    )
    artefact_sha256: str = option(
        "", "of its manifest.json, as artefact_sha256 is of the first", pattern=SHA256, form=SHA256_FORM
    )
    min: int = option(0, "copies, at least", low=0)
    max: int = option(4, "and at most; equal to min: no scaling", low=1)
    target: float = option(
        0.0, "invocations a minute and copy that scaling holds; 0: from the estimated speed", low=0
    )
    memory_mb: int = option(0, "of a copy; 0: what `sagerank cost fit` promises of it", low=0)
    cpus: float = option(
        0.0, "vCPUs of a copy, without a GPU; 0: an equal part of three quarters of the instance's", low=0
    )
