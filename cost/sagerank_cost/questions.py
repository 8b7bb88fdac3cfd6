"""What the options ask: their catalogue of prices, their traffic, and the question that they put to `decide`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from . import CostError, unknown
from .arguments import check_modes, either
from .options import OPTIONS

if TYPE_CHECKING:
    from .catalogue import Catalogue
    from .decide import Question
    from .traffic import Traffic


def catalogue(options: argparse.Namespace) -> Catalogue:
    """The prices of the folder, with the user's own. Raises CostError for a price of the user's that nothing would use."""
    from .catalogue import Catalogue
    from .store import DATA

    own = dict(options.price)
    if len(own) < len(options.price):
        raise CostError("--price is given twice for one name: give it once.")
    known = Catalogue(options.data or DATA, own)
    for name in getattr(options, "service", ()):
        known.service(name)
    for name in own:
        kind = "service" if name in known.services else "instance"
        if kind == "service" and (options.command not in OPTIONS["service"].commands or options.scenarios):
            raise CostError(
                f"--price {name} has no effect here: {either(OPTIONS['service'].commands)} compares with services."
            )
        asked: tuple[str, ...] = getattr(options, kind)
        if asked and name not in asked:
            raise CostError(f"--price {name} has no effect without --{kind} {name}: add it.")
    return known


def one(options: argparse.Namespace, name: str) -> str:
    """The only value of an option that may be given more than once. Raises CostError where there are several, or is none."""
    found: tuple[str, ...] = getattr(options, name)
    if len(found) != 1:
        raise CostError(
            f"{options.command} takes one --{name}, and {len(found) or 'none'} was given: give one."
        )
    return found[0]


def regions(options: argparse.Namespace, prices: Catalogue) -> tuple[str, ...]:
    if options.region == ("all",):
        return prices.regions
    return tuple(prices.region(name) for name in options.region)


def question(options: argparse.Namespace, prices: Catalogue) -> Question:
    """The question. Raises CostError where options contradict each other, and for names that do not exist."""
    from .bill import Scenario
    from .decide import Question
    from .discount import discounts
    from .models import check_precision, choice

    traffic = _traffic(options)
    if traffic.tokens > options.max_tokens:
        raise CostError(
            f"A document has {traffic.tokens:,} tokens with its query, and --max-tokens is {options.max_tokens:,}: raise it, or send shorter ones."
        )
    scenario = Scenario(
        traffic,
        prices,
        options.max_tokens,
        confidence=options.confidence / 100,
        cold_start=options.cold_start,
        discounts=discounts(options.discount),
        hit_rate=options.hit_rate,
    )
    return Question(
        scenario=scenario,
        choices=tuple(choice(name) for name in options.model),
        precisions=tuple(map(check_precision, options.precision)),
        modes=_modes(options, prices),
        regions=regions(options, prices),
        instances=options.instance,
        p95_seconds=options.p95,
        min_ndcg=options.min_ndcg,
        min_instances=options.min_instances,
        max_instances=options.max_instances,
        preset=options.preset,
    )


def _traffic(options: argparse.Namespace) -> Traffic:
    from .traffic import daily, from_log

    if options.log is not None:
        return from_log(options.log)
    shape = {name: getattr(options, name) for name in ("swing", "documents", "tokens", "variation")}
    return daily(options.rate, **shape)


def _modes(options: argparse.Namespace, prices: Catalogue) -> tuple[str, ...]:
    """The modes asked for: where none is, and an instance is named to be simulated, those that it can have."""
    from .bill import MODES

    modes: tuple[str, ...] = options.mode
    for mode in modes:
        if mode not in MODES:
            raise unknown("mode", mode, MODES)
    sizes = [name for name in options.instance if name.isdecimal()]
    types = [name for name in options.instance if not name.isdecimal()]
    for name in types:
        if prices.instance(name).accelerator:
            raise CostError(
                f"{name} has an accelerator that none of our models runs on: give a CPU or GPU type."
            )
    if options.instance and "mode" not in options.given and options.command in ("simulate", "breakeven"):
        modes = tuple(mode for mode in modes if (sizes if mode == "serverless" else types))
    if types and set(modes) == {"serverless"}:
        raise CostError(
            f"--instance {types[0]} has no effect with mode serverless: give its memory in MB, or --mode realtime."
        )
    if sizes and "serverless" not in modes:
        raise CostError(
            f"--instance {sizes[0]} is a serverless memory, and the mode {either(modes)}: add --mode serverless, or give a type."
        )
    check_modes(options, modes)
    return modes
