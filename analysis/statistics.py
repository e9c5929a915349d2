"""Statistics of paired differences over seeds: intervals, tests, corrections. Numbers in, numbers out.

Two trials of one seed share data, masks, initial weights and batch order, so rows are compared seed by seed. Nothing
here knows of records or claims.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

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


def estimate(differences: Sequence[float], level: float = 0.95) -> Estimate:
    """Student's t interval and test of the mean of differences. Raises `ValueError` for an empty
    list, or a value that is not finite."""
    values = np.asarray(differences, dtype=float)
    if not len(values) or not np.isfinite(values).all():
        raise ValueError(f"differences must be finite, and at least one: {list(differences)}")
    n, mean = len(values), float(values.mean())
    if n < 2:
        return Estimate(n, mean, -math.inf, math.inf, 1.0, math.nan)
    sd = float(values.std(ddof=1))
    if sd <= 1e-12 * max(abs(mean), 1.0):  # all equal: t is not defined, and there is no doubt
        nothing = abs(mean) <= 1e-12
        effect = 0.0 if nothing else math.copysign(math.inf, mean)
        return Estimate(n, mean, mean, mean, float(nothing), effect)
    low, high = stats.t.interval(level, n - 1, loc=mean, scale=sd / math.sqrt(n))
    return Estimate(n, mean, float(low), float(high), float(stats.ttest_1samp(values, 0.0).pvalue), mean / sd)


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


def equivalence_p(differences: Sequence[float], margin: float) -> float:
    """p-value of two one-sided t tests: small where the mean lies within ± `margin`. 1 with fewer than two values."""
    found = estimate(differences)
    if found.n < 2:
        return 1.0
    if found.low == found.high:
        return 0.0 if abs(found.mean) < margin else 1.0
    return float(DescrStatsW(np.asarray(differences, dtype=float)).ttost_mean(-margin, margin)[0])


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number, by Holm's procedure, in the same order."""
    return multipletests(list(p_values), method="holm")[1].tolist() if len(p_values) else []


def slope(places: Sequence[float], values: Sequence[float]) -> float:
    """Least-squares slope of values over places. Raises `ValueError` for fewer than two."""
    if len(values) < 2:
        raise ValueError(f"a slope needs two values at least, not {len(values)}")
    return float(stats.linregress(places, values).slope)


def roughness(values: Sequence[float]) -> float:
    """How much a curve bends from place to place: the mean magnitude of its second differences over that of its values,
    0 for a straight line. Raises `ValueError` for fewer than three values."""
    if len(values) < 3:
        raise ValueError(f"roughness needs three values at least, not {len(values)}")
    curve = np.asarray(values, dtype=float)
    return float(np.abs(np.diff(curve, 2)).mean() / np.abs(curve).mean())
