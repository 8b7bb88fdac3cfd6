"""`python -m sagerank_cost.check`: whether decisions keep what they promise, by simulating what they recommend for random scenarios.

For each, the recommended deployment is simulated at the speed it was decided for. It keeps its promise if its simulated 95th percentile is
within the limit, fewer than one request in a thousand fails, and the simulated month costs within a tenth of what was quoted.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .bill import ERRORS, Bill, Scenario
from .catalogue import Catalogue
from .decide import Question, decide
from .models import choice
from .simulate import simulate
from .traffic import MINUTES_PER_DAY, MINUTES_PER_MONTH, daily

# Of the promises on latency and errors, and on cost: how many are to be kept, and how far a cost may be off.
KEPT, WITHIN = 0.99, 0.10
_CENTS = 0.05  # USD that a cost may be off anyway: months that cost next to nothing are rounded
_BIN = 1.008  # latencies are counted in bins so wide
_REQUESTS = 500_000  # that are simulated for a scenario, over a day at least
_MODES = (
    ("realtime", "serverless"),
    ("realtime",),
    ("serverless",),
    ("realtime", "serverless", "async"),
    ("async",),
    ("batch",),
    ("scale-to-zero",),
)


@dataclass(frozen=True, slots=True)
class Checked:
    """A scenario with its recommended deployment's bill, and what the simulation found: p95 in seconds, the share that failed, USD."""

    question: Question
    bill: Bill
    p95: float
    failed: float
    usd: float

    @property
    def in_limits(self) -> bool:
        limit = self.question.p95_seconds
        return math.isinf(limit) or (self.p95 <= limit * _BIN and self.failed <= ERRORS)

    @property
    def cost_error(self) -> float:
        """How far the quoted cost is from the simulated one, as a share of it; what are cents is none."""
        off = abs(float(self.bill.usd) - self.usd)
        return 0.0 if off <= _CENTS else off / max(self.usd, _CENTS)

    def __str__(self) -> str:
        traffic, limit = self.question.scenario.traffic, self.question.p95_seconds
        return (
            f"{self.bill.deployment.name}: {traffic.name}, {traffic.documents} x {traffic.tokens}, limit {limit}: "
            f"p95 {self.bill.p95:.3f} s (simulated {self.p95:.3f}), {self.failed:.3%} fail, {self.bill.usd} USD (simulated {self.usd:.2f})"
        )


def check(count: int, seed: int, catalogue: Catalogue) -> Iterator[Checked]:
    """Random scenarios for which something is recommended, so many, simulated."""
    generator = np.random.default_rng(seed)
    found = 0
    while found < count:
        question = _random(generator, catalogue)
        bill = decide(question).best
        if bill is None:
            continue
        found += 1
        minutes = int(_REQUESTS / (60 * question.scenario.traffic.mean)) // MINUTES_PER_DAY * MINUTES_PER_DAY
        minutes = min(MINUTES_PER_MONTH, max(MINUTES_PER_DAY, minutes))
        simulated = simulate(bill.deployment, question.scenario, minutes=minutes, seed=seed + found)
        outcome = simulated.outcome
        failed = (outcome.refused + outcome.late) / max(1, outcome.arrived)
        yield Checked(question, bill, outcome.latencies.quantile(0.95), failed, float(simulated.usd))


def _random(generator: np.random.Generator, catalogue: Catalogue) -> Question:
    """Traffic from a request in three hours to 30 a second, of 1 to 200 documents, under any limit that somebody may have."""
    modes = _MODES[generator.integers(len(_MODES))]
    slow = modes[0] in ("async", "batch", "scale-to-zero")
    traffic = daily(
        float(10 ** generator.uniform(-4, 1.5)),
        swing=float(generator.uniform()),
        documents=int(10 ** generator.uniform(0, 2.3)),
        tokens=int(10 ** generator.uniform(1.3, 2.7)),
        variation=float(generator.uniform(0, 1)),
    )
    models = generator.permutation(("tiny", "turbo", "base"))[: generator.integers(1, 4)]
    return Question(
        scenario=Scenario(traffic, catalogue, int(2 ** generator.integers(9, 14))),
        choices=tuple(map(choice, models)),
        modes=modes,
        regions=("us-east-1",),
        p95_seconds=math.inf
        if slow or generator.uniform() < 0.1
        else float(10 ** generator.uniform(-1, 1.7)),
        min_instances=int(generator.integers(1, 3)),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print both shares, and each promise that was not kept. Return 1 where they are below what is to be."""
    parser = argparse.ArgumentParser(prog="python -m sagerank_cost.check", description=__doc__)
    parser.add_argument("--scenarios", type=int, default=500, help="how many (default: 500)")
    parser.add_argument("--seed", type=int, default=0, help="of scenarios and simulations (default: 0)")
    options = parser.parse_args(arguments)
    if options.scenarios < 1 or options.seed < 0:
        parser.error("give at least 1 scenario, and a seed of 0 or more")
    kept, close, errors = 0, 0, []
    for one in check(options.scenarios, options.seed, Catalogue()):
        kept += one.in_limits
        close += one.cost_error <= WITHIN
        errors.append(one.cost_error)
        if not one.in_limits or one.cost_error > WITHIN:
            print(one, flush=True)
    whole = options.scenarios
    print(
        f"{whole} scenarios, seed {options.seed}: {kept / whole:.1%} keep their limit (95th percentile, and fewer than {ERRORS:.1%} fail), "
        f"{close / whole:.1%} cost within {WITHIN:.0%} of the quoted month (median error {np.median(errors):.2%})."
    )
    return 0 if min(kept, close) >= KEPT * whole else 1


if __name__ == "__main__":
    sys.exit(main())
