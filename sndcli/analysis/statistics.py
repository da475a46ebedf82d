"""Pure functions from per-image outcomes to figures that can be claimed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
INTERVALS = ("wilson", "clopper-pearson")
SCIPY_NAME = {"wilson": "wilson", "clopper-pearson": "exact"}
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Rate:
    """A share of n images in [0, 1] with its 95 % interval."""

    value: float
    lo: float
    hi: float
    n: int


@lru_cache(maxsize=65536)
def rate(successes: int, n: int, method: str = "wilson") -> Rate:
    """A binomial rate with a confidence interval (scipy).

    Args:
        successes: how many of n.
        n: trials, taken as independent. For several seeds of the same images use `crossed_rate`.
        method: ``wilson`` or ``clopper-pearson``.

    Example:
        >>> found = rate(35, 200)
        >>> found.value, round(found.lo, 3), round(found.hi, 3)
        (0.175, 0.129, 0.234)
    """
    if n == 0:
        return Rate(float("nan"), 0.0, 1.0, 0)
    from scipy.stats import binomtest

    interval = binomtest(successes, n).proportion_ci(CONFIDENCE, method=SCIPY_NAME[method])
    return Rate(successes / n, float(interval.low), float(interval.high), n)


def wilson(successes: Floats, n: Floats) -> tuple[Floats, Floats]:
    """Bounds of the Wilson interval for whole arrays; n may be fractional, such as an effective sample size.

    Wilson, JASA 22 (1927). scipy has it for one pair of integers at a time; the tests compare the two.
    """
    from scipy.stats import norm

    z2 = float(norm.ppf(0.5 + CONFIDENCE / 2)) ** 2
    k, n = np.asarray(successes, dtype=np.float64), np.asarray(n, dtype=np.float64)
    share = k / n
    centre = (k + z2 / 2) / (n + z2)
    half = np.sqrt(z2 * (n * share * (1 - share) + z2 / 4)) / (n + z2)
    return np.clip(centre - half, 0.0, share), np.clip(centre + half, share, 1.0)


def crossed_rate(outcomes: Floats, method: str = "wilson") -> Rate:
    """A rate over the same images under several seeds, with both levels of sampling in the interval.

    The variance of the mean of a table images × seeds is that of a crossed random-effects model,
    ``(MS_images + MS_seeds - MS_rest) / (S N)``, and the interval is the binomial one at the effective sample size
    ``p (1 - p) / variance`` (Korn and Graubard, Survey Methodology 24, 1998). The effective size is kept between
    N, as if seeds of an image repeated each other, and S·N, as if they were independent; where no outcome varies it
    is N. Few seeds say little about the spread over seeds, and no interval can make up for that.

    Args:
        outcomes: ``[S, N]`` of 0 and 1, one row a seed; S ≥ 2, N ≥ 1.
        method: ``wilson`` or ``clopper-pearson``.
    """
    table = np.asarray(outcomes, dtype=np.float64)
    (s, n), p = table.shape, float(table.mean())
    size = float(n)
    if n > 1 and 0 < p < 1:
        images, seeds = table.mean(0), table.mean(1)
        ms_images = s * float(images.var(ddof=1))
        ms_seeds = n * float(seeds.var(ddof=1))
        ms_rest = float(((table - images - seeds[:, None] + p) ** 2).sum()) / ((s - 1) * (n - 1))
        variance = (ms_images + ms_seeds - ms_rest) / (s * n)
        size = p * (1 - p) / variance if variance > 0 else float(s * n)
        # More seeds of the same images cannot say less than one seed unless the seeds themselves differ.
        lowest = 1.0 if ms_seeds > ms_rest else float(n)
        size = min(max(size, lowest), float(s * n))
    return _at_size(p, size, s * n, method)


def _at_size(p: float, size: float, n: int, method: str) -> Rate:
    """The rate p of n outcomes with the interval of `size` independent ones, which need not be a whole number."""
    if method == "clopper-pearson":
        from scipy.stats import beta

        k, tail = p * size, (1 - CONFIDENCE) / 2
        lo = float(beta.ppf(tail, k, size - k + 1)) if p > 0 else 0.0
        hi = float(beta.ppf(1 - tail, k + 1, size - k)) if p < 1 else 1.0
        return Rate(p, lo, hi, n)
    lows, highs = wilson(np.array(p * size), np.array(size))
    return Rate(p, float(lows), float(highs), n)


def pooled_rate(hits: Flags, seeds: Integers, images: Integers, method: str = "wilson") -> Rate:
    """A rate over rows of one or several seeds.

    Rows of different images are independent and get the plain interval; every image under every seed gets that of
    `crossed_rate`; anything between gets the interval of as many trials as there are images, which is too wide
    rather than too narrow.

    Args:
        hits: ``[n]`` outcomes.
        seeds, images: ``[n]`` of which seed and image; pairs are unique.
        method: of the interval.
    """
    n = len(hits)
    distinct, column = np.unique(images, return_inverse=True)
    if len(distinct) == n:
        return rate(int(hits.sum()), n, method)
    rows, row = np.unique(seeds, return_inverse=True)
    table = np.full((len(rows), len(distinct)), np.nan)
    table[row, column] = hits
    if not bool(np.isnan(table).any()):
        return crossed_rate(table, method)
    p = float(hits.mean())
    return _at_size(p, float(len(distinct)), n, method)


def floor(p0: Sequence[float] | Floats, budget: int, votes: int = 1) -> float:
    """Success of resending the clean image `budget` times: the mean over images of `wrong_by_resending`."""
    return float(np.mean(wrong_by_resending(p0, budget, votes))) if len(p0) else math.nan


def wrong_by_resending(p0: Sequence[float] | Floats, budget: int, votes: int = 1) -> Floats:
    """For each image ``1 - (1 - p)^(budget / votes)``, the chance that one of its questions is answered wrong.

    p is the chance that one question is: p0 for one answer, that of a strict majority for more.
    """
    from scipy.stats import binom

    p = np.asarray(p0, dtype=np.float64)
    p = p if votes == 1 else binom.sf(votes // 2, votes, p)
    chance: Floats = -np.expm1(budget // votes * np.log1p(-np.minimum(p, 1 - 1e-15)))
    return chance


def median(values: Sequence[float] | Floats) -> float:
    """Median in which failures count as infinite; between a finite and an infinite value it is infinite.

    Example:
        >>> median([1.0, math.inf, 2.0]), median([1.0, math.inf])
        (2.0, inf)
    """
    return float(np.median(np.asarray(values, dtype=np.float64))) if len(values) else math.nan


def finite(value: float) -> float | None:
    """`value`, or None where it is infinite or undefined: JSON has neither."""
    return value if math.isfinite(value) else None


def median_interval(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Median along the last axis and its distribution-free 95 % interval, from order statistics.

    The ranks are those of scipy's `quantile_test`; infinite values take part as what they are. With fewer than six
    values no pair of order statistics reaches 95 %, and the bounds are -inf and inf.

    Args:
        values: ``[..., n]``, n ≥ 1.
    """
    from scipy.stats import binom

    ordered = np.sort(np.asarray(values, dtype=np.float64), axis=-1)
    n, tail = ordered.shape[-1], (1 - CONFIDENCE) / 2
    below = int(binom.ppf(tail, n, 0.5)) - 1
    below += bool(binom.cdf(below + 1, n, 0.5) <= tail)
    middle = (ordered[..., (n - 1) // 2] + ordered[..., n // 2]) / 2
    if below < 0:
        return middle, np.full_like(middle, -np.inf), np.full_like(middle, np.inf)
    return middle, ordered[..., below], ordered[..., n - 1 - below]


def paired_difference(values: Sequence[float] | Floats, resamples: int = 2000) -> tuple[float, float, float]:
    """Mean of per-image differences of two outcomes, each in [0, 1], with a 95 % interval.

    Percentile bootstrap over images (scipy). Where all differences are the same value v, resampling cannot show that
    an image not drawn might differ; there the share of such images is at most u, the exact upper bound of 0 in n, and
    the mean is between ``v - u (1 + v)`` and ``v + u (1 - v)``.

    Args:
        values: one difference an image, in [-1, 1].
        resamples: of the bootstrap.
    """
    array = np.asarray(values, dtype=np.float64)
    if len(array) == 0:
        return math.nan, -1.0, 1.0
    mean = float(array.mean())
    if np.ptp(array) == 0:
        u = rate(0, len(array), "clopper-pearson").hi
        return mean, mean - u * (1 + mean), mean + u * (1 - mean)
    from scipy.stats import bootstrap

    found = bootstrap((array,), np.mean, n_resamples=resamples, method="percentile", rng=np.random.default_rng(0))
    return mean, float(found.confidence_interval.low), float(found.confidence_interval.high)


def mcnemar(worse: int, better: int) -> float:
    """Exact two-sided p-value of McNemar's test from the discordant pairs (scipy's binomial test); 1 without any."""
    if worse + better == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(worse, worse + better).pvalue)


def holm(pvalues: Sequence[float]) -> list[float]:
    """p-values adjusted for their number (Holm, Scand. J. Statist. 6, 1979): the family-wise error stays below α."""
    m, adjusted, running = len(pvalues), [1.0] * len(pvalues), 0.0
    for rank, k in enumerate(np.argsort(np.asarray(pvalues), kind="stable").tolist()):
        running = max(running, min(1.0, (m - rank) * pvalues[k]))
        adjusted[k] = running
    return adjusted


def paired_median_difference(new: Floats, old: Floats, resamples: int = 2000) -> tuple[float, float, float]:
    """Difference of two medians over the same images with a 95 % paired bootstrap interval.

    Percentile bootstrap over images; scipy's has no place for infinite differences.

    Failures are infinite. Two infinite medians do not differ; one makes the difference infinite.

    Args:
        new, old: ``[n]`` distances, image by image; n ≥ 1.
        resamples: of the bootstrap.
    """
    new, old = np.asarray(new, dtype=np.float64), np.asarray(old, dtype=np.float64)

    def difference(a: Floats, b: Floats) -> Floats:
        a, b = np.median(a, axis=-1), np.median(b, axis=-1)
        same = np.isinf(a) & np.isinf(b)
        return np.where(same, 0.0, np.where(same, 0.0, a) - np.where(same, 0.0, b))

    value = float(difference(new, old))
    if len(new) < 2:
        return value, -math.inf, math.inf
    draws = np.random.default_rng(0).integers(0, len(new), (resamples, len(new)))
    drawn = difference(new[draws], old[draws])
    lo, hi = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], method="inverted_cdf")
    return value, float(lo), float(hi)


def mean_std(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation over repeats (n - 1 in the denominator; 0 for a single one)."""
    array = np.asarray(values, dtype=np.float64)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else 0.0
