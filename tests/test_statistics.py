from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from sndcli.analysis import statistics
from sndcli.queries.ledger import best_distance


@pytest.mark.parametrize(
    ("k", "n", "lo", "hi"), [(50, 100, 0.4038, 0.5962), (500, 1000, 0.4691, 0.5309), (0, 10, 0, 0.2775)]
)
def test_wilson_has_its_known_values(k: int, n: int, lo: float, hi: float) -> None:
    rate = statistics.rate(k, n)
    assert (rate.value, rate.n) == (k / n, n)
    assert rate.lo == pytest.approx(lo, abs=1e-4)
    assert rate.hi == pytest.approx(hi, abs=1e-4)


def test_exact_interval_of_zero_successes() -> None:
    assert statistics.rate(0, 100, "clopper-pearson").hi == pytest.approx(0.0362, abs=1e-4)


def test_no_trials() -> None:
    assert math.isnan(statistics.rate(0, 0).value)


def test_floor() -> None:
    assert statistics.floor([0.001], 1000) == pytest.approx(1 - 0.999**1000)
    assert statistics.floor([0.0, 1.0], 1) == pytest.approx(0.5)


def test_best_distance() -> None:
    events = [(3, 2.0), (10, 0.9), (50, 0.4)]
    assert best_distance(events, 9) == 2.0
    assert best_distance(events, 10) == 0.9
    assert best_distance(events, 49) == 0.9
    assert best_distance(events, 2) == math.inf


def test_median_counts_failures_as_infinite() -> None:
    assert statistics.median([1.0, math.inf, math.inf]) == math.inf
    assert statistics.median([1.0, 2.0, math.inf]) == 2.0


def test_mean_and_std() -> None:
    assert statistics.mean_std([1.0, 3.0]) == pytest.approx((2.0, 2**0.5))
    assert statistics.mean_std([1.0]) == (1.0, 0.0)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (17, 250)])
def test_wilson_of_arrays_is_scipys(k: int, n: int) -> None:
    lo, hi = statistics.wilson(np.array([k]), np.array([n]))
    reference = scipy.stats.binomtest(k, n).proportion_ci(method="wilson")
    assert (lo[0], hi[0]) == pytest.approx((reference.low, reference.high), abs=1e-12)


def test_seeds_that_agree_say_no_more_than_one() -> None:
    """As docs/concepts.md has it; and seeds that decide by chance alone say at most as much as new images."""
    once = np.array([[1.0] * 13 + [0.0] * 27])
    same = statistics.crossed_rate(np.repeat(once, 5, axis=0))
    alone = statistics.rate(13, 40)
    assert (same.value, same.lo, same.hi) == pytest.approx((alone.value, alone.lo, alone.hi))
    chance = (np.random.default_rng(1).random((5, 40)) < 0.4).astype(float)
    found, plain = statistics.crossed_rate(chance), statistics.rate(int(chance.sum()), 200)
    one = statistics.rate(round(40 * float(chance.mean())), 40)
    assert plain.hi - plain.lo <= found.hi - found.lo + 1e-9
    assert found.hi - found.lo < one.hi - one.lo


@pytest.mark.parametrize("n", [6, 7, 25, 100])
def test_median_interval_is_that_of_scipys_quantile_test(n: int) -> None:
    values = np.random.default_rng(n).normal(size=n)
    middle, lo, hi = statistics.median_interval(values)
    reference = scipy.stats.quantile_test(values).confidence_interval(0.95)
    assert (float(lo), float(hi)) == (reference.low, reference.high)
    assert float(middle) == np.median(values)
    values[: n // 2] = np.inf
    assert float(statistics.median_interval(values)[2]) == np.inf
    assert statistics.median_interval(values[:5])[1] == -np.inf


def test_mcnemar_has_its_known_values() -> None:
    assert statistics.mcnemar(0, 0) == 1.0
    assert statistics.mcnemar(6, 0) == pytest.approx(2 / 64)
    assert statistics.mcnemar(5, 15) == pytest.approx(0.0414, abs=1e-4)
    assert statistics.mcnemar(15, 5) == statistics.mcnemar(5, 15)


def test_holm() -> None:
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_no_discordant_pair_is_not_certainty() -> None:
    value, lo, hi = statistics.paired_difference([0.0] * 100)
    upper = scipy.stats.binomtest(0, 100).proportion_ci(method="exact").high
    assert value == 0.0
    assert (lo, hi) == pytest.approx((-upper, upper))
    value, lo, hi = statistics.paired_difference([1.0] * 10)
    assert (value, hi) == (1.0, 1.0)
    assert lo == pytest.approx(1 - 2 * 0.3085, abs=1e-3)
    assert statistics.paired_difference([])[1:] == (-1.0, 1.0)


def test_paired_difference_is_scipys_bootstrap() -> None:
    values = [1.0] * 12 + [-1.0] * 3 + [0.0] * 85
    value, lo, hi = statistics.paired_difference(values)
    assert value == pytest.approx(0.09)
    spread = 1.96 * np.std(values) / 10
    assert (lo, hi) == pytest.approx((0.09 - spread, 0.09 + spread), abs=0.015)


def test_paired_medians() -> None:
    rng = np.random.default_rng(0)
    old = rng.normal(size=60)
    new = old + 0.3 + 0.1 * rng.normal(size=60)
    value, lo, hi = statistics.paired_median_difference(new, old)
    reference = scipy.stats.bootstrap(
        (new, old), lambda a, b, axis: np.median(a, axis=axis) - np.median(b, axis=axis), paired=True,
        method="percentile", rng=np.random.default_rng(1), n_resamples=2000,
    ).confidence_interval  # fmt: skip
    assert value == pytest.approx(np.median(new) - np.median(old))
    assert (lo, hi) == pytest.approx((reference.low, reference.high), abs=0.05)
    failures = np.full(60, np.inf)
    assert statistics.paired_median_difference(failures, failures) == (0.0, 0.0, 0.0)
    assert statistics.paired_median_difference(failures, old)[0] == np.inf


def test_both_levels_of_sampling_cover_the_truth() -> None:
    """Images that decide everything: five seeds of 100 images say as much as 100 images, not 500."""
    rng, covered, naive = np.random.default_rng(0), 0, 0
    for _ in range(200):
        p = rng.beta(0.2, 0.2, size=(1, 100))
        table = (rng.random((5, 100)) < p).astype(float)
        rate = statistics.crossed_rate(table)
        plain = statistics.rate(int(table.sum()), 500)
        covered += rate.lo <= 0.5 <= rate.hi
        naive += plain.lo <= 0.5 <= plain.hi
    assert covered >= 0.9 * 200
    assert naive < 0.8 * 200


def test_seeds_that_differ_widen_the_interval() -> None:
    apart = np.zeros((4, 50))
    apart[:2] = 1.0  # two seeds succeed on everything, two on nothing
    rate = statistics.crossed_rate(apart)
    assert rate.value == 0.5
    assert rate.hi - rate.lo > 0.6
    exact = statistics.crossed_rate(np.zeros((3, 20)), "clopper-pearson")
    assert exact.hi == pytest.approx(scipy.stats.binomtest(0, 20).proportion_ci(method="exact").high)


def test_pooled_rate_knows_which_rows_belong_together() -> None:
    hits = np.array([True, False, True, False])
    seeds, images = np.array([0, 0, 1, 1]), np.array([1, 2, 3, 4])
    apart = statistics.pooled_rate(hits, seeds, images)
    assert apart == statistics.rate(2, 4)
    crossed = statistics.pooled_rate(hits, seeds, np.array([1, 2, 1, 2]))
    assert crossed.hi - crossed.lo > apart.hi - apart.lo
    ragged = statistics.pooled_rate(hits[:3], seeds[:3], np.array([1, 2, 1]))
    assert ragged.value == pytest.approx(2 / 3)
    assert ragged.n == 3
