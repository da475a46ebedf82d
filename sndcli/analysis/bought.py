"""How many queries a defense buys: the queries until an image is broken, behind it and without it, image by image.

No success by Q is censored at Q, whatever ended the attack, so the survival curve is the plain share of images that
stand and every quantile is an order statistic. The ratio of medians is the time scale of an accelerated-failure model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sndcli.analysis.statistics import CONFIDENCE

Floats = NDArray[np.float64]
RESAMPLES = 2000
UNLIKE = 2.0  # factor between the ratios at a quarter and at three quarters, above which one number does not say it


@dataclass(frozen=True)
class Bought:
    """A ratio of queries.

    Attributes:
        value: of the medians; infinite where the median image stands behind the defense at Q.
        lo, hi: 95 %, paired bootstrap over images. With images that stand the lower end takes Q for them.
        at_least: Q over the bare median, where the median image stands; None else.
        quarter, three_quarters: the same ratio at 25 and 75 % of the images; None: not reached on the bare model.
        restricted: ratio of geometric means with Q for images that stand: tighter, and too near to 1.
        p: of the sign test on which arm an image broke in first.
        n: images that are in it.
        left_out: images that are broken without an attack, in one arm or the other.
        median, median_bare: queries, infinite where half of the images stand.
    """

    value: float
    lo: float
    hi: float
    at_least: float | None
    quarter: float | None
    three_quarters: float | None
    restricted: float
    p: float
    n: int
    left_out: int
    median: float
    median_bare: float

    @property
    def censored(self) -> bool:
        """Whether the median image stands behind the defense."""
        return self.at_least is not None

    @property
    def unlike(self) -> bool:
        """Whether the defense does not stretch all times alike, so that the curve says more than a ratio."""
        ends = (self.quarter, self.three_quarters)
        if None in ends:
            return False
        low, high = sorted(float(end or 0.0) for end in ends)
        return math.isfinite(high) and low > 0 and high / low > UNLIKE


def bought(bare: Sequence[float] | Floats, defended: Sequence[float] | Floats, budget: int) -> Bought | None:
    """The ratio of two arms of the same images.

    Args:
        bare, defended: ``[n]`` queries until an image was broken; 0 without an attack, infinite: it stands at Q.
        budget: Q.

    Returns:
        None where no image is in it, or half of them stand without the defense.

    Example:
        >>> found = bought([50, 100, 200], [100, 200, 400], 1000)
        >>> found.value, found.median, found.n
        (2.0, 200.0, 3)
    """
    t0, t = np.asarray(bare, dtype=np.float64), np.asarray(defended, dtype=np.float64)
    attacked = (t0 > 0) & (t > 0)
    left_out = int((~attacked).sum())
    t0, t = t0[attacked], t[attacked]
    if not len(t) or math.isinf(_quantile(t0, 0.5)):
        return None
    median, median_bare = float(_quantile(t, 0.5)), float(_quantile(t0, 0.5))
    lo, hi = _interval(t0, t, budget)
    capped, capped_bare = np.minimum(t, budget), np.minimum(t0, budget)
    return Bought(
        median / median_bare, lo, hi, budget / median_bare if math.isinf(median) else None, _ratio(t0, t, 0.25),
        _ratio(t0, t, 0.75), float(np.exp(np.mean(np.log(capped) - np.log(capped_bare)))), _sign_test(t0, t), len(t),
        left_out, median, median_bare,
    )  # fmt: skip


def _quantile(values: Floats, level: float) -> Floats:
    """Along the last axis, the smallest value that at least `level` of them do not exceed."""
    ordered = np.sort(values, axis=-1)
    place = max(0, math.ceil(level * ordered.shape[-1] - 1e-9) - 1)
    found: Floats = ordered[..., place]
    return found


def _ratio(t0: Floats, t: Floats, level: float) -> float | None:
    below, above = float(_quantile(t0, level)), float(_quantile(t, level))
    return None if math.isinf(below) else above / below


def _interval(t0: Floats, t: Floats, budget: int) -> tuple[float, float]:
    draws = np.random.default_rng(0).integers(0, len(t), (RESAMPLES, len(t)))
    below = _quantile(t0[draws], 0.5)
    with np.errstate(invalid="ignore"):
        upper = np.where(np.isinf(below), np.inf, _quantile(t[draws], 0.5) / below)
    lower = _quantile(np.minimum(t, budget)[draws], 0.5) / below
    tail = (1 - CONFIDENCE) / 2
    lo = float(np.quantile(lower, tail, method="inverted_cdf"))
    hi = float(np.quantile(upper, 1 - tail, method="inverted_cdf"))
    return lo, hi


def _sign_test(t0: Floats, t: Floats) -> float:
    """Two-sided, exact; images that broke at the same point, or stand in both arms, say nothing."""
    from scipy.stats import binomtest

    later, sooner = int((t > t0).sum()), int((t < t0).sum())
    return float(binomtest(later, later + sooner).pvalue) if later + sooner else 1.0
