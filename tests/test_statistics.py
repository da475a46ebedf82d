from __future__ import annotations

import math

import pytest

from sndcli import statistics


@pytest.mark.parametrize(
    ("k", "n", "lo", "hi"), [(50, 100, 0.4038, 0.5962), (500, 1000, 0.4691, 0.5309), (0, 10, 0, 0.2775)]
)
def test_wilson_has_its_known_values(k: int, n: int, lo: float, hi: float) -> None:
    rate = statistics.rate(k, n)
    assert (rate.value, rate.n) == (k / n, n)
    assert rate.lo == pytest.approx(lo, abs=1e-4)
    assert rate.hi == pytest.approx(hi, abs=1e-4)


def test_exact_interval_of_zero_successes() -> None:
    assert statistics.rate(0, 100, "exact").hi == pytest.approx(0.0362, abs=1e-4)


def test_no_trials() -> None:
    assert math.isnan(statistics.rate(0, 0).value)


def test_floor() -> None:
    assert statistics.floor([0.001], 1000) == pytest.approx(1 - 0.999**1000)
    assert statistics.floor([0.0, 1.0], 1) == pytest.approx(0.5)


def test_seen_and_best_distance() -> None:
    events = [(3, 2.0), (10, 0.9), (50, 0.4)]
    assert not statistics.seen(events, 9, 1.0)
    assert statistics.seen(events, 10, 1.0)
    assert not statistics.seen(events, 49, 0.5)
    assert statistics.best_distance(events, 49) == 0.9
    assert statistics.best_distance(events, 2) == math.inf


def test_median_counts_failures_as_infinite() -> None:
    assert statistics.median([1.0, math.inf, math.inf]) == math.inf
    assert statistics.median([1.0, 2.0, math.inf]) == 2.0


def test_mean_and_std() -> None:
    assert statistics.mean_std([1.0, 3.0]) == (2.0, pytest.approx(2**0.5))
    assert statistics.mean_std([1.0]) == (1.0, 0.0)
