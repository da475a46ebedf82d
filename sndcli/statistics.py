"""Pure functions from per-image outcomes to figures that can be claimed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Rate:
    """A share of n images in [0, 1] with its 95 % interval."""

    value: float
    lo: float
    hi: float
    n: int


@lru_cache(maxsize=65536)
def rate(successes: int, n: int, method: str = "wilson") -> Rate:
    """A binomial rate with a confidence interval (scipy; ``wilson`` or ``exact`` for Clopper-Pearson).

    With several seeds an image counts once a seed; seeds of one image are not independent, so the interval is
    then narrower than it should be.
    """
    if n == 0:
        return Rate(float("nan"), 0.0, 1.0, 0)
    from scipy.stats import binomtest

    interval = binomtest(successes, n).proportion_ci(CONFIDENCE, method=method)
    return Rate(successes / n, float(interval.low), float(interval.high), n)


def seen(events: Sequence[tuple[int, float]], budget: int, eps: float) -> bool:
    """Whether a query paid within `budget` was answered wrong within distance `eps`."""
    return any(query <= budget and distance <= eps for query, distance in events)


def best_distance(events: Sequence[tuple[int, float]], budget: int) -> float:
    """Closest wrong answer within `budget`; infinite where there was none."""
    return min((distance for query, distance in events if query <= budget), default=math.inf)


def floor(p0: Sequence[float], budget: int, votes: int = 1) -> float:
    """Success of resending the clean image `budget` times: the mean over images of ``1 - (1 - p)^(budget / votes)``.

    p is the chance that a question is answered wrong: p0 for one answer, that of a strict majority for more.
    """
    from scipy.stats import binom

    p = np.asarray(p0, dtype=np.float64)
    if not len(p):
        return math.nan
    p = p if votes == 1 else binom.sf(votes // 2, votes, p)
    return float(np.mean(-np.expm1(budget // votes * np.log1p(-np.minimum(p, 1 - 1e-15)))))


def median(values: Sequence[float]) -> float:
    """Median in which failures count as infinite; between a finite and an infinite value it is infinite."""
    return float(np.median(np.asarray(values, dtype=np.float64))) if len(values) else math.nan


def paired_difference(values: Sequence[float], resamples: int = 2000) -> tuple[float, float, float]:
    """Mean of per-image differences with its 95 % bootstrap interval (scipy, percentile; images are resampled)."""
    array = np.asarray(values, dtype=np.float64)
    if len(array) == 0:
        return math.nan, -1.0, 1.0
    mean = float(array.mean())
    if np.ptp(array) == 0:
        return mean, mean, mean
    from scipy.stats import bootstrap

    found = bootstrap((array,), np.mean, n_resamples=resamples, method="percentile", rng=np.random.default_rng(0))
    return mean, float(found.confidence_interval.low), float(found.confidence_interval.high)


def mean_std(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation over repeats (n - 1 in the denominator; 0 for a single one)."""
    array = np.asarray(values, dtype=np.float64)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else 0.0
