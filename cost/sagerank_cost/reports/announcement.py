"""What "75 % less memory" and "13 % less" are true of, and what they become in dollars, by what is billed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .. import CostError
from ..bill import Bill
from ..catalogue import Catalogue
from ..decide import Question
from ..memory import measured, peak_mb, serverless_mb, weights_mb
from ..models import MODELS, Choice
from ..sheet import Table
from .holding import SHORT, Kept, kept

Value = Callable[[Kept], "float | None"]
_FAMILY = ("base", "turbo", "tiny")
_LENGTHS = tuple(1 << power for power in range(9, 14))  # tokens: 512 to 8,192


def saving_table(question: Question, cheapest: Mapping[str, Bill]) -> Table:
    """What the smaller models of the family take less of than the larger ones: of memory, and of dollars by what is billed."""
    scenario, region = question.scenario, question.regions[0]
    tokens, short = scenario.tokens_at_once, _alike(scenario.tokens_at_once)
    models = kept(question, [Choice((MODELS[name],)) for name in _FAMILY])

    def second(at: int) -> Value:
        return lambda model: _usd_per_second(model.choice, at, scenario.catalogue, region)

    def monthly(model: Kept) -> float | None:
        bill = cheapest.get(model.choice.name)
        return None if bill is None else float(bill.usd)

    rows: dict[str, Value] = {
        "stored weights": lambda model: model.weights_mb,
        f"process, {SHORT} tokens": lambda model: model.short_mb,
        f"process, {tokens:,} tokens": lambda model: model.long_mb,
        **({f"USD by memory: serverless second, {short:,} tokens": second(short)} if short else {}),
        f"USD by memory: serverless second, {tokens:,} tokens": second(tokens),
        "USD by the hour: smallest CPU instance": lambda model: (
            None if model.instance is None else float(model.instance.price.usd)
        ),
        "USD by time: a document, at full use": _when_full,
        "USD/month, this traffic": monthly,
    }
    base, turbo, tiny = models
    pairs = ((base, turbo), (turbo, tiny), (base, tiny))
    changed = {
        name: [_change(value(large), value(small)) for large, small in pairs] for name, value in rows.items()
    }
    return Table(
        key="savings by model",
        title="What a smaller model saves",
        columns=("", *(f"{small.choice.name} to {large.choice.name}" for large, small in pairs)),
        rows=tuple((name, *changes) for name, changes in changed.items() if any(changes)),
        notes=(announcement(tokens), _in_dollars(short)),
        turned=True,
    )


def _when_full(model: Kept) -> float | None:
    """US dollars for a million documents where it costs least."""
    usd = [one.usd_per_million for one in (model.instance, model.serverless) if one is not None]
    return min((float(each) for each in usd if each is not None), default=None)


def _alike(tokens: int) -> int:
    """The longest of _LENGTHS, below `tokens`, at which the whole family needs one serverless size; 0: there is none."""

    def sizes(at: int) -> set[int | None]:
        return {serverless_mb(Choice((MODELS[name],)), "fp32", at) for name in _FAMILY}

    return max((at for at in _LENGTHS if at < tokens and len(sizes(at)) == 1), default=0)


def _in_dollars(short: int) -> str:
    alike = f", and nothing up to {short:,} tokens, where all need one size" if short else ""
    return (
        f"In dollars, memory saves what a smaller serverless size costs less{alike}; by the hour, what the smallest type that holds the model does. "
        "Arithmetic saves time, whatever is billed: that is the saving."
    )


def _change(large: float | None, small: float | None) -> str | None:
    """None where one is not known, or the larger is nothing: an amount below half a cent."""
    return None if not large or small is None else f"{small / large - 1:+.1%}"


def _usd_per_second(choice: Choice, tokens: int, catalogue: Catalogue, region: str) -> float | None:
    size = serverless_mb(choice, "fp32", tokens)
    try:
        return None if size is None else float(catalogue.rate(region, "serverless", size).usd)
    except CostError:
        return None


def announcement(tokens: int) -> str:
    """What the announcement's two percentages are true of, and what they are not."""
    weights = _less(*(weights_mb(MODELS[name], "fp32") for name in _FAMILY))
    processes = " and ".join(_processes(at) for at in (SHORT, tokens))
    return (
        "The announcement says 75 % less memory for Turbo than for Base, and 13 % less for Tiny than for Turbo. Of stored weights, that is of parameters, it is "
        f"{weights}; of the whole process, {processes}: runtime and activations do not shrink with the weights."
    )


def _processes(tokens: int) -> str:
    """What is saved of the family's processes on one core: as measured, where all were, and else by the formula."""
    conditions = "fp32", "onnx", tokens, 1
    points = {
        point.model: point.mb
        for point in measured()
        if (point.precision, point.backend, point.tokens, point.threads) == conditions
        and point.longest == tokens
    }
    if points.keys() >= set(_FAMILY):
        return f"{_less(*(points[name] for name in _FAMILY))} at {tokens:,} tokens (measured)"
    formula = _less(*(peak_mb(MODELS[name], "fp32", tokens) for name in _FAMILY))
    return f"{formula} at {tokens:,} tokens (formula)"


def _less(base: float, turbo: float, tiny: float) -> str:
    return f"{1 - turbo / base:.1%} and {1 - tiny / turbo:.1%}"
