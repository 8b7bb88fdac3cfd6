"""What each model weighs, the smallest machines that hold it, and how fast and dear it is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from .. import CostError
from ..catalogue import Catalogue, Price
from ..decide import Question, candidates, unnamed_baseline
from ..memory import PACKED, RUNTIME_MB, copy_mb, measured, serverless_mb, usual_fit, weights_mb
from ..models import Choice
from ..throughput import Speed, serverless_speed, speed
from .tables import cents, price_source

SHORT = 128  # tokens of a pair as search has them


@dataclass(frozen=True, slots=True)
class Machine:
    """The cheapest machine that holds a model: a hosting type, or a serverless size. `speed` is None where it is not known."""

    name: str
    price: Price
    speed: Speed | None
    documents: int

    @property
    def per_second(self) -> tuple[float, float, float] | None:
        """Documents a second: at the slow bound, as estimated, and at the fast bound."""
        if self.speed is None:
            return None
        pace = self.speed
        return self.documents / pace.high, self.documents / pace.seconds, self.documents / pace.low

    @property
    def usd_per_million(self) -> Decimal | None:
        """US dollars for a million documents, if it is never idle and as fast as estimated. Without data and volumes."""
        if self.speed is None:
            return None
        seconds = Decimal(repr(self.speed.seconds * 1_000_000 / self.documents))
        return cents(self.price.usd * seconds / (3600 if self.price.unit == "hour" else 1))


@dataclass(frozen=True, slots=True)
class Kept:
    """A model and the smallest machines that hold it, both in float32; None where none does."""

    choice: Choice
    weights_mb: float
    short_mb: float
    long_mb: float
    instance: Machine | None
    serverless: Machine | None


def kept(question: Question, choices: Sequence[Choice]) -> list[Kept]:
    """Models in the question's first region."""
    tokens = question.scenario.tokens_at_once
    return [
        Kept(
            choice,
            sum(weights_mb(stage, "fp32") for stage in choice.stages),
            copy_mb(choice, "fp32", SHORT),
            copy_mb(choice, "fp32", tokens),
            _smallest_instance(choice, question),
            _smallest_serverless(choice, question),
        )
        for choice in choices
    ]


def _smallest_instance(choice: Choice, question: Question) -> Machine | None:
    """The CPU type that costs least of those that hold it, and that the question allows."""
    scenario, region = question.scenario, question.regions[0]
    catalogue, traffic = scenario.catalogue, scenario.traffic
    asked = Question(
        scenario=scenario,
        choices=(choice,),
        precisions=("fp32",),
        modes=("realtime",),
        regions=(region,),
        instances=tuple(name for name in question.instances if not name.isdecimal()),
    )
    names = [each.instance for each in candidates(asked) if unnamed_baseline(question, each) is None]
    holding = [
        instance
        for instance in map(catalogue.instance, names)
        if not instance.gpu
        and usual_fit(choice, "fp32", scenario.tokens_at_once, instance, mode="realtime").copies
    ]
    if not holding:
        return None
    least = min(holding, key=lambda instance: (catalogue.hosting(region, instance.name).usd, instance.name))
    shape = {"documents": traffic.documents, "tokens": traffic.tokens}
    try:
        pace = speed(choice, "fp32", least, **shape, folder=catalogue.folder)
    except CostError:
        pace = None
    return Machine(least.name, catalogue.hosting(region, least.name), pace, traffic.documents)


def _smallest_serverless(choice: Choice, question: Question) -> Machine | None:
    scenario = question.scenario
    size, traffic = serverless_mb(choice, "fp32", scenario.tokens_at_once), scenario.traffic
    if size is None:
        return None
    try:
        price = scenario.catalogue.rate(question.regions[0], "serverless", size)
    except CostError:
        return None
    shape = {"documents": traffic.documents, "tokens": traffic.tokens}
    pace = serverless_speed(choice, "fp32", size, **shape, folder=scenario.catalogue.folder)
    return Machine(str(size), price, pace, traffic.documents)


def formula_error(catalogue: Catalogue) -> str:
    """How far the formula of memory is from what was measured."""
    points = measured(catalogue.folder)
    if not points:
        return "The memory formula has not been measured here."
    worst = max(points, key=lambda point: abs(point.error))
    return (
        f"The memory formula is within {abs(worst.error):.1%} of all {len(points)} measured peaks (worst: {worst.model}, {worst.backend}, {worst.tokens} tokens: "
        f"{worst.formula_mb:.0f} MB for {worst.mb:.0f} MB measured)."
    )


def explain_kept(model: Kept, tokens: int, catalogue: Catalogue) -> Iterator[str]:
    """Where the numbers of a model's column come from."""
    name, stages = model.choice.name, model.choice.stages
    parts = " + ".join(f"{stage.parameters:,} x 2 bytes" for stage in stages)
    linear = 4 * PACKED * sum(stage.linear for stage in stages) / 1e6
    yield f"{name}: {parts} of 16 bits are {model.weights_mb:.1f} MB."
    for mb, length in ((model.short_mb, SHORT), (model.long_mb, tokens)):
        rest = mb - RUNTIME_MB["onnx"] - linear
        yield (
            f"  process at {length:,} tokens: runtime {RUNTIME_MB['onnx']:g} MB + linear weights {linear:.1f} MB + activations {rest:.1f} MB = {mb:.0f} MB (cost/sagerank_cost/memory.py)"
        )
    for machine in filter(None, (model.instance, model.serverless)):
        hourly = machine.price.unit == "hour"
        kind, unit = (
            ("smallest instance", "an hour") if hourly else ("smallest serverless size, MB", "a second")
        )
        yield (
            f"  {kind}: {machine.name} at {machine.price.usd} USD {unit}; {price_source(machine.price, catalogue)}"
        )
        if machine.speed is not None:
            pace = machine.speed
            yield (
                f"  there {machine.documents} documents take {pace.seconds:.4f} s ({pace.low:.4f} to {pace.high:.4f}), {pace.basis}: {pace.why}; a million of them, without a pause, {machine.usd_per_million} USD"
            )
