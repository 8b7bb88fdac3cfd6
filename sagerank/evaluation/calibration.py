"""Scores that mean something: the temperature and the shift with which a model's scores agree with what is known of pairs.

What is known is a probability for each pair: 1 or 0 of judgements, or a teacher's score. The fit minimises the
cross-entropy of sigmoid((logit - shift) / temperature) to it, which for judgements is maximum likelihood (Platt 1999),
and which finds a teacher's scores exactly where a student is the teacher at another scale. It has two numbers, so
that it cannot change a ranking, and little to overfit; even so, the errors after it are of queries that had no part in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from sagerank_inference.artefact import TEMPERATURES, Calibration
from sagerank_inference.scale import Scale

from . import EvaluationError

Floats = NDArray[np.float64]

BINS = 10  # of a reliability table: [0, 0.1), [0.1, 0.2) and so on
_FOLDS = 5
_FEWEST_PAIRS, _FEWEST_QUERIES = 30, 5
_LEAST_SLOPE = 0.01  # of the log-odds over a standard deviation of the logits: less is no relation
_LONGEST_NAME = 1000  # that an artefact takes
_MORE = "label more pairs, or take another collection."


@dataclass(frozen=True, slots=True)
class Known:
    """A pair: which query, the logit that the model gives it, and the probability that is known of it (0 to 1)."""

    query: str
    logit: float
    probability: float


@dataclass(frozen=True, slots=True)
class Bin:
    """The pairs whose scores lie between two limits: how many, their mean score, and the mean of what is known of them."""

    low: float
    high: float
    pairs: int
    score: float  # NaN of none
    known: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """How far scores are from what is known: by bins of the score, and over all pairs.

    error: the expected calibration error, which is the distance of `score` and `known` averaged over the bins by their
    pairs. brier: the mean squared distance of score and known of a pair; of judgements it is Brier's score.
    """

    bins: tuple[Bin, ...]
    error: float
    brier: float

    def curve(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the mean score of each bin that has pairs, and the mean of what is known of them: of a diagram, x and y."""
        filled = [row for row in self.bins if row.pairs]
        return tuple(row.score for row in filled), tuple(row.known for row in filled)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A calibration: what it is, and the scores before it and after it.

    `after` is of queries left out: of each fifth by the numbers that the other four fifths gave.
    """

    temperature: float
    shift: float
    before: Reliability
    after: Reliability
    pairs: int
    queries: int
    mean: float  # of what is known: the share of relevant pairs, or the teacher's mean score

    @property
    def scale(self) -> Scale:
        """The scale that shows scores so."""
        return Scale(self.temperature, self.shift)

    def calibration(self, target: str, data: str) -> Calibration:
        """Return what a manifest keeps of it. target: what the scores were fitted to; data: on what. Of both names it keeps what can be shown."""
        return Calibration(
            temperature=self.temperature,
            shift=self.shift,
            target=_shown(target),
            data=_shown(data),
            pairs=self.pairs,
            queries=self.queries,
        )

    def facts(self) -> dict[str, Any]:
        """Return all of it for JSON, null where a bin has no pair."""
        facts = asdict(self)
        for table in (facts["before"], facts["after"]):
            table["bins"] = [
                {name: None if value != value else value for name, value in row.items()}
                for row in table["bins"]
            ]
        return facts


def _shown(name: str) -> str:
    return "".join(sign if sign.isprintable() else "_" for sign in name)[:_LONGEST_NAME] or "_"


def fit(pairs: Sequence[Known], *, before: Scale) -> Fitted:
    """Fit a temperature and a shift to the pairs. before: the scale that the model has now.

    Raises EvaluationError where the pairs are too few, know nothing, or contradict the model.
    """
    logits = np.array([pair.logit for pair in pairs], np.float64)
    known = np.array([pair.probability for pair in pairs], np.float64)
    names = {query: number for number, query in enumerate(dict.fromkeys(pair.query for pair in pairs))}
    _check(logits, known, len(names))
    temperature, shift = _fit(logits, known)
    fold = np.array([names[pair.query] for pair in pairs]) % _FOLDS
    left_out = np.empty_like(logits)
    for number in range(_FOLDS):
        held = fold == number
        left_out[held] = _scores(logits[held], Scale(*_fit(logits[~held], known[~held])))
    return Fitted(
        temperature=temperature,
        shift=shift,
        before=reliability(_scores(logits, before), known),
        after=reliability(left_out, known),
        pairs=len(pairs),
        queries=len(names),
        mean=float(known.mean()),
    )


def reliability(scores: Floats, known: Floats) -> Reliability:
    """Compare scores with what is known of the same pairs; both [pairs], from 0 to 1."""
    place = np.minimum((scores * BINS).astype(int), BINS - 1)
    bins = []
    for number in range(BINS):
        inside = place == number
        count = int(inside.sum())
        score, truth = (float(of[inside].mean()) if count else float("nan") for of in (scores, known))
        bins.append(Bin(number / BINS, (number + 1) / BINS, count, score, truth))
    far = sum(one.pairs * abs(one.score - one.known) for one in bins if one.pairs)
    return Reliability(tuple(bins), far / len(scores), float(np.mean((scores - known) ** 2)))


def _scores(logits: Floats, scale: Scale) -> Floats:
    return np.array([scale.score(logit) for logit in logits.tolist()])


def _check(logits: Floats, known: Floats, queries: int) -> None:
    if len(logits) < _FEWEST_PAIRS or queries < _FEWEST_QUERIES:
        raise EvaluationError(
            f"{len(logits)} pairs of {queries} queries are too few for a calibration: give at least {_FEWEST_PAIRS} pairs of {_FEWEST_QUERIES} queries."
        )
    for what, values in (("score of the model", logits), ("probability that is known", known)):
        if not np.isfinite(values).all():
            raise EvaluationError(
                f"Of {len(values):,} pairs {int((~np.isfinite(values)).sum())} have a {what} that is no finite number: the model or the teacher is damaged."
            )
    if ((known < 0) | (known > 1)).any():
        raise EvaluationError("What is known of a pair has to be a probability, from 0 to 1.")


def _fit(logits: Floats, known: Floats) -> tuple[float, float]:
    """Return temperature and shift. Raises EvaluationError where there are none."""
    if known.min() == known.max():
        what = {1.0: "All pairs are relevant", 0.0: "No pair is relevant"}.get(
            float(known[0]), "All pairs have one score"
        )
        raise EvaluationError(f"{what}, of those that a calibration is fitted to: {_MORE}")
    middle, spread = logits.mean(), logits.std()
    if not spread:
        raise EvaluationError("The model gives all pairs one score, and no calibration mends that.")
    inputs = (logits - middle) / spread

    def loss(line: Floats) -> tuple[float, Floats]:
        """The mean cross-entropy of sigmoid(slope * input + offset), and its gradient."""
        value = line[0] * inputs + line[1]
        wrong = _sigmoid(value) - known
        return float(np.mean(np.logaddexp(0, value) - known * value)), np.array(
            [np.mean(wrong * inputs), np.mean(wrong)]
        )

    def curvature(line: Floats) -> Floats:
        share = _sigmoid(line[0] * inputs + line[1])
        weight = share * (1 - share)
        across = np.mean(weight * inputs)
        return np.array([[np.mean(weight * inputs**2), across], [across, np.mean(weight)]])

    if _separate(logits, known):
        raise EvaluationError(
            f"Some score separates all relevant pairs from all others, so that no temperature is too low: {_MORE}"
        )
    found = minimize(
        loss, np.zeros(2), jac=True, hess=curvature, method="trust-exact", options={"gtol": 1e-10}
    )
    slope, offset = (float(value) for value in found.x)
    if not slope >= _LEAST_SLOPE:
        raise EvaluationError(
            "The scores do not rise with what is known of the pairs: this model does not rank them, and no calibration mends that."
        )
    temperature = float(spread / slope)
    if not TEMPERATURES[0] <= temperature <= TEMPERATURES[1]:
        raise EvaluationError(
            f"The temperature would be {temperature:.3g}, which an artefact cannot keep: the logits of this model are of no usual size."
        )
    return temperature, float(middle - offset * temperature)


def _separate(logits: Floats, known: Floats) -> bool:
    """Whether every pair of probability 1 is as high as every other at least, and those are of 0: then the likelihood has no maximum."""
    sure = np.isin(known, (0.0, 1.0)).all()
    return bool(sure and logits[known == 1].min() >= logits[known == 0].max())


def _sigmoid(values: Floats) -> Floats:
    result: Floats = np.exp(-np.logaddexp(0, -values))
    return result
