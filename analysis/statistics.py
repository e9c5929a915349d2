"""Statistics of paired differences over seeds: intervals, tests, corrections. Numbers in, numbers out.

Two trials of one seed share data, masks, initial weights and batch order, so rows are compared seed by seed. Nothing
here knows of records or claims.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.special import stdtr, stdtrit  # the t distribution itself: scipy.stats wraps it and takes 100 times as long

FEWEST = 3  # seeds that can decide anything: the standard deviation of two values is often small by chance


@dataclass(frozen=True)
class Estimate:
    """The mean of `n` differences, its interval `low` … `high`, the two-sided p-value `p` of mean = 0, and the effect
    size (mean over sd). With fewer than two values there is no interval and p is 1."""

    n: int
    mean: float
    low: float
    high: float
    p: float
    effect: float


class Sides(NamedTuple):
    """The p-value of a statement, `p`, and that of its opposite, `against`."""

    p: float
    against: float


def estimate(differences: Sequence[float], level: float = 0.95) -> Estimate:
    """Student's t interval and test of the mean of differences. Raises `ValueError` for an empty
    list, or a value that is not finite."""
    values = np.asarray(differences, dtype=float)
    if not len(values) or not np.isfinite(values).all():
        raise ValueError(f"differences must be finite, and at least one: {list(differences)}")
    n, mean = len(values), float(values.sum()) / len(values)
    if n < 2:
        return Estimate(n, mean, -math.inf, math.inf, 1.0, math.nan)
    sd = math.sqrt(((values - mean) ** 2).sum() / (n - 1))
    if sd <= 1e-12 * max(abs(mean), 1.0):  # all equal: t is not defined, and there is no doubt
        nothing = abs(mean) <= 1e-12
        effect = 0.0 if nothing else math.copysign(math.inf, mean)
        return Estimate(n, mean, mean, mean, float(nothing), effect)
    error = sd / math.sqrt(n)
    reach = error * float(stdtrit(n - 1, (1 + level) / 2))
    return Estimate(n, mean, mean - reach, mean + reach, 2 * float(stdtr(n - 1, -abs(mean) / error)), mean / sd)


def above(found: Estimate) -> Sides:
    """Whether the mean is above 0; its opposite is that it is below. The two-sided t test, so that both together err
    with the probability of its level."""
    return Sides(found.p if found.mean > 0 else 1.0, found.p if found.mean < 0 else 1.0)


def within(differences: Sequence[float], margin: float) -> Sides:
    """Whether the mean lies within ± `margin`, by two one-sided t tests (TOST). Its opposite is that it lies outside,
    on either side: the two-sided t test against the nearer end of the margin."""
    ends = [estimate([margin + side * difference for difference in differences]) for side in (1, -1)]
    if ends[0].n < 2:
        return Sides(1.0, 1.0)
    p = max(end.p / 2 if end.mean > 0 else 1 - end.p / 2 for end in ends)
    return Sides(p, min(end.p if end.mean < 0 else 1.0 for end in ends))


def in_most(places: Sequence[Sequence[Sides]]) -> Sides:
    """Whether in more than half of the places all statements of the place hold.

    A place's p is the largest of its statements' (each must hold). With m places and k = m // 2 + 1, p is
    (m − k + 1) p_(k), where p_(k) is the k-th smallest (partial conjunction by Bonferroni; Benjamini and Heller, 2008),
    so places may depend on each other. The opposite is that in at least m − k + 1 places one statement's opposite
    holds: a place's is the smallest of its statements', times their number, and places are combined as above.
    """
    m = len(places)
    k = m // 2 + 1
    against = [min(1.0, len(place) * min(one.against for one in place)) for place in places]
    return Sides(
        _partial_conjunction([max(one.p for one in place) for place in places], k),
        _partial_conjunction(against, m - k + 1),
    )


def _partial_conjunction(p_values: Sequence[float], k: int) -> float:
    """p-value of "at least k of these statements hold"."""
    return min(1.0, (len(p_values) - k + 1) * sorted(p_values)[k - 1])


def bootstrap(differences: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean, always from the same 9,999 resamples; unbounded for fewer than two
    values. It does not assume a normal distribution, but for few values it is too narrow, by √((n − 1) / n) or more."""
    values = np.asarray(differences, dtype=float)
    if len(values) < 2:
        return -math.inf, math.inf
    found = stats.bootstrap((values,), np.mean, confidence_level=level, method="percentile", rng=0)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> dict[int, float]:
    """Ours minus theirs for every seed that both have."""
    return {seed: value - theirs[seed] for seed, value in ours.items() if seed in theirs}


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number, by Holm's procedure, in the same order."""
    order = np.argsort(p_values)
    corrected = np.asarray(p_values, dtype=float)
    corrected[order] = np.minimum(np.maximum.accumulate(corrected[order] * np.arange(len(order), 0, -1)), 1)
    return corrected.tolist()


def slope(places: Sequence[float], values: Sequence[float]) -> float:
    """Least-squares slope of values over places. Raises `ValueError` for fewer than two."""
    if len(values) < 2:
        raise ValueError(f"a slope needs two values at least, not {len(values)}")
    return float(np.polyfit(places, values, 1)[0])


def roughness(values: Sequence[float]) -> float:
    """How much a curve bends from place to place: the mean magnitude of its second differences, in the unit of the
    values; 0 for a straight line. Raises `ValueError` for fewer than three values."""
    if len(values) < 3:
        raise ValueError(f"roughness needs three values at least, not {len(values)}")
    return float(np.abs(np.diff(np.asarray(values, dtype=float), 2)).mean())
