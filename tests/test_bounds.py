"""The closed forms of `paper/bounds.py` against simulations with fixed seeds, or against numbers known elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from sndcli.paper import bounds as b

D, SIGMA = 3072, 0.01
Estimate = Callable[[np.random.Generator, np.ndarray], np.ndarray]  # of a normal, which it asks about


def normal_direction(rng: np.random.Generator, d: int) -> np.ndarray:
    u = rng.standard_normal(d)
    return np.asarray(u / np.linalg.norm(u))


def cosine(estimate: np.ndarray, u: np.ndarray) -> float:
    return float(estimate @ u / np.linalg.norm(estimate) / np.linalg.norm(u))


def mean_cosine(estimate: Estimate, d: int, times: int, seed: int = 0) -> float:
    """Mean over directions of the cosine of ``estimate(rng, u)`` with u."""
    rng = np.random.default_rng(seed)
    directions = [normal_direction(rng, d) for _ in range(times)]
    return float(np.mean([cosine(estimate(rng, u), u) for u in directions]))


def sign_average(n: int, a: float, sigma: float, offset: float = 0.0) -> Estimate:
    def estimate(rng: np.random.Generator, u: np.ndarray) -> np.ndarray:
        probes = a * rng.standard_normal((n, len(u)))
        labels = offset + probes @ u + sigma * rng.standard_normal(n) > 0
        return np.asarray((labels - labels.mean()) @ probes)

    return estimate


@pytest.mark.parametrize(
    ("a", "scores", "labels", "bits"), [(0.01, 0.496, 0.414, 0.344), (0.0033, 0.185, 0.149, 0.144)]
)
def test_bounds_of_the_cosine_on_cifar10(a: float, scores: float, labels: float, bits: float) -> None:
    radius = a * math.sqrt(D)
    assert b.cosine_bound(1000, D, radius, SIGMA) == pytest.approx(scores, abs=3e-3)
    assert b.cosine_bound(1000, D, radius, SIGMA, "labels") == pytest.approx(labels, abs=3e-3)
    # as many bits as one_bit_queries asks for that cosine
    assert b.one_bit_queries(bits, D) == pytest.approx(1000 * b.label_bits(a / SIGMA), rel=0.03)


def test_the_published_attack_is_blind() -> None:
    """HopSkipJump's probe at distance 1, δ = D/d: after 10,000 labels the cosine of any attacker is below 0.001."""
    assert b.cosine_bound(10_000, D, 1 / D, SIGMA, "labels") < 1e-3


def test_no_estimate_is_better_than_the_bound() -> None:
    """Orthogonal probes and ridge regression meet Theorem 1a up to (1 - 1/d)²; its cosine stays below 1b."""
    d, a, sigma, k = 64, 0.5, 1.0, 2
    rng = np.random.default_rng(0)
    errors, found = [], []
    for _ in range(400):
        u, q = normal_direction(rng, d), np.linalg.qr(rng.standard_normal((d, d)))[0]
        probes = a * math.sqrt(d) * np.concatenate([q, -q][:k])
        answers = probes @ u + sigma * rng.standard_normal(k * d)
        estimate = probes.T @ answers / (k * a * a * d + sigma**2 * d)
        errors.append(((estimate - u) ** 2).sum())
        found.append(cosine(estimate, u))
    n, radius = k * d, a * math.sqrt(d)
    assert b.mse_bound(n, d, radius, sigma) == pytest.approx(0.6596, abs=1e-3)
    assert b.mse_bound(n, d, radius, sigma) < np.mean(errors) == pytest.approx(2 / 3, abs=0.01)
    assert np.mean(found) < b.cosine_bound(n, d, radius, sigma) + 0.003


@pytest.mark.parametrize(("ratio", "expected"), [(1.0, 0.3741), (0.3, 0.1618)])
def test_singles(ratio: float, expected: float) -> None:
    a = ratio * SIGMA

    def estimate(rng: np.random.Generator, u: np.ndarray) -> np.ndarray:
        probes = a * rng.standard_normal((1000, D))
        answers = probes @ u + SIGMA * rng.standard_normal(1000)
        return np.asarray((answers - answers.mean()) @ probes)

    assert b.singles_cosine(1000, D, a, SIGMA) == pytest.approx(expected, abs=1e-3)
    assert mean_cosine(estimate, D, 8) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(("offset", "expected"), [(0.0, 0.3065), (SIGMA * math.sqrt(2), 0.2582)])
def test_average_of_signs(offset: float, expected: float) -> None:
    assert b.sign_cosine(1000, D, SIGMA, SIGMA, offset) == pytest.approx(expected, abs=1e-3)
    assert mean_cosine(sign_average(1000, SIGMA, SIGMA, offset), D, 8) == pytest.approx(expected, abs=0.02)


def test_signs_cannot_be_improved_in_high_noise() -> None:
    """Efficiency of the sign average against Corollary 2: 1/(1 + (a/σ)²)."""
    for ratio in (0.1, 0.5, 1.0):
        alpha2 = 2 / math.pi * ratio**2 / (1 + ratio**2)
        assert alpha2 / (2 / math.pi * ratio**2) == pytest.approx(1 / (1 + ratio**2))
    few, d = 50, 4000  # so few that both cosines are √(share of information)
    assert b.sign_cosine(few, d, 0.1, 1.0) / b.cosine_bound(few, d, 0.1 * math.sqrt(d), 1.0, "labels") > 0.99


@pytest.mark.parametrize("baseline", ["once", "anew"])
def test_one_sided_error(baseline: str) -> None:
    d, directions, draws = 60, 20, 3000
    rng = np.random.default_rng(1)
    u = normal_direction(rng, d)
    errors = []
    for _ in range(draws):
        steps = rng.standard_normal((directions, d))
        base = rng.standard_normal(1 if baseline == "once" else directions)
        estimate = (steps @ u + rng.standard_normal(directions) - base) @ steps / directions
        errors.append(((estimate - u) ** 2).sum())
    assert b.one_sided_error(d, directions, beta=1.0, sigma=1.0) == pytest.approx(9.05)
    assert np.mean(errors) == pytest.approx(9.05, abs=0.2)


@pytest.mark.parametrize(("s", "share"), [(0.5, 0.91), (1.0, 0.69), (1.5, 0.42), (2.0, 0.21), (3.0, 0.02)])
def test_label_information(s: float, share: float) -> None:
    assert b.label_information(0) == pytest.approx(2 / math.pi)
    assert b.label_information(s) / b.label_information(0) == pytest.approx(share, abs=0.006)


@pytest.mark.parametrize(("r", "bits"), [(0.1, 0.0046), (0.3, 0.039), (1, 0.279), (2, 0.539), (5, 0.796)])
def test_label_bits(r: float, bits: float) -> None:
    assert b.label_bits(r) == pytest.approx(bits, rel=0.02)


@pytest.mark.parametrize(("w", "prices"), [(0.5, (2.844, 2.0, 2.844)), (2.0, (15.41, 9.899, 15.41))])
def test_price(w: float, prices: tuple[float, float, float]) -> None:
    sigma = 0.02
    h = w / sigma
    best = b.best_probe(sigma, h)
    assert [b.price(a, sigma, h) for a in (best / 2, best, 2 * best)] == pytest.approx(prices, rel=1e-3)
    assert b.best_price(w) == pytest.approx(prices[1], rel=1e-3)
    assert b.noise_for_price(b.best_price(w)) == pytest.approx(w)


def test_price_on_a_curved_boundary() -> None:
    """Probes of the best width at a balanced point of a quadratic boundary: ‖E[Zξ]‖² falls by the price."""
    d, w = 100, 0.5
    sigma = 1.0
    rng = np.random.default_rng(2)
    signs = np.where(np.arange(d) % 2, 1.0, -1.0)  # no trace, no dominating eigenvalue
    h = w / sigma
    curvature = h * signs / math.sqrt(d)
    a = b.best_probe(sigma, h)
    n = 200_000
    total = np.zeros(d)
    for _ in range(8):
        xi = rng.standard_normal((n // 8, d))
        eta = rng.standard_normal((n // 8, d))
        moved = a * xi + sigma * eta
        t = moved[:, 0] + 0.5 * (moved**2) @ curvature
        total += np.where(t > 0, 1.0, -1.0) @ xi
    # E⟨Zξ, u⟩² = (2/π)/F
    measured = (2 / math.pi) / (total[0] / n) ** 2
    assert measured == pytest.approx(b.price(a, sigma, h), rel=0.08)


def test_price_of_pairs() -> None:
    assert [b.pairs_price(0.67, 1), b.pairs_price(0.67, 5), b.pairs_price(2, 3)] == pytest.approx(
        [1.837, 1.249, 3.167], abs=1e-3
    )


@pytest.mark.parametrize(("low", "high", "expected"), [(0.5, 1, 3), (0.25, 0.75, 4), (0.5, 0.95, 3.938), (0, 0.2, 9)])
def test_step(low: float, high: float, expected: float) -> None:
    assert b.step_price(low, high) == pytest.approx(expected, abs=1e-3)
    rng = np.random.default_rng(3)
    side = rng.standard_normal(400_000)  # ⟨u, ξ⟩
    labels = rng.random(len(side)) < np.where(side > 0, high, low)
    alpha2 = ((labels - labels.mean()) * side).mean() ** 2 / labels.var()
    assert (2 / math.pi) / alpha2 == pytest.approx(expected, rel=0.03)


def test_normals_of_a_set() -> None:
    """Five normals of pairwise cosine 0.3, one drawn for each probe."""
    k, rho, d, n = 5, 0.3, 300, 2000
    rng, found = np.random.default_rng(4), []
    for _ in range(8):
        basis = np.linalg.qr(rng.standard_normal((d, k + 1)))[0].T
        normals = math.sqrt(rho) * basis[0] + math.sqrt(1 - rho) * basis[1:]
        probes = rng.standard_normal((n, d))
        labels = (probes * normals[rng.integers(k, size=n)]).sum(1) > 0
        found.append(cosine((labels - labels.mean()) @ probes, normals.mean(0)))
    expected = (1 + (d - 1) * b.set_price(k, rho) / (n * 2 / math.pi)) ** -0.5
    assert expected == pytest.approx(0.8075, abs=1e-3)
    assert np.mean(found) == pytest.approx(expected, abs=0.015)


def test_normals_drawn_anew() -> None:
    """Normals around a mean, of pairwise cosine 0.4, and margin noise of half a probe."""
    rho, sigma_m, d, n = 0.4, 0.5, 400, 3000
    rng, found = np.random.default_rng(5), []
    for _ in range(6):
        mean = normal_direction(rng, d)
        own = rng.standard_normal((n, d))
        own -= np.outer(own @ mean, mean)
        own /= np.linalg.norm(own, axis=1, keepdims=True)
        normals = math.sqrt(rho) * mean + math.sqrt(1 - rho) * own
        probes = rng.standard_normal((n, d))
        labels = (probes * normals).sum(1) + sigma_m * rng.standard_normal(n) > 0
        found.append(cosine((labels - labels.mean()) @ probes, mean))
    expected = (1 + (d - 1) * b.drawn_price(1.0, sigma_m, rho) / (n * 2 / math.pi)) ** -0.5
    assert expected == pytest.approx(0.7778, abs=1e-3)
    assert np.mean(found) == pytest.approx(expected, abs=0.015)


@pytest.mark.parametrize(("votes", "expected"), [(1, 0.584), (5, 0.483), (21, 0.427)])
def test_votes_gain_nothing(votes: int, expected: float) -> None:
    a, d, n = 0.2, 200, 4200 // votes
    assert b.sign_cosine(n, d, a, b.vote_sigma(1.0, votes)) == pytest.approx(expected, abs=2e-3)

    def estimate(rng: np.random.Generator, u: np.ndarray) -> np.ndarray:
        probes = a * rng.standard_normal((n, d))
        wrong = (probes @ u)[:, None] + rng.standard_normal((n, votes)) > 0
        labels = wrong.mean(1) > 0.5
        return np.asarray((labels - labels.mean()) @ probes)

    assert mean_cosine(estimate, d, 25) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(("ratio", "expected"), [(0.3, 3.244), (1.0, 1.272), (3.0, 1.033)])
def test_noise_of_random_strength(ratio: float, expected: float) -> None:
    assert b.beta_price(ratio) == pytest.approx(expected, abs=2e-3)
    rng = np.random.default_rng(5)
    side, k = rng.standard_normal(400_000), rng.beta(2, 2, 400_000)
    labels = np.where(ratio * side + k * rng.standard_normal(len(side)) > 0, 1.0, -1.0)
    assert (2 / math.pi) / (labels * side).mean() ** 2 == pytest.approx(expected, rel=0.03)


def test_loss_of_accuracy() -> None:
    """Density 1 + 1.6 r over the distance r in [-½, ½], noise of 0.05: half of slope times variance."""
    rng = np.random.default_rng(6)
    r = rng.uniform(-0.5, 0.5, 4_000_000)
    weight = 1 + 1.6 * r
    noise = 0.05 * rng.standard_normal(len(r))
    lost = (weight * ((r > 0).astype(float) - (r + noise > 0))).mean()
    assert b.accuracy_loss(1.6, 0.05**2) == pytest.approx(0.002)
    assert lost == pytest.approx(0.002, abs=0.0004)


def test_shapes_of_noise() -> None:
    """2/π for the Gaussian, the least possible for the half-cosine, and what others have."""
    places = np.linspace(-12, 12, 240_001)
    within = np.abs(places) < math.pi / 2
    least = math.pi**2 / 4 - 2
    shapes = {
        "normal": (np.exp(-(places**2) / 2), 2 / math.pi),
        "half-cosine": (np.where(within, np.cos(places), 0.0), least),
        "logistic": (1 / np.cosh(places) ** 2, 0.82),
        "triangular": (np.clip(1 - np.abs(places), 0, None), 2 / 3),
        "Laplace": (np.exp(-2 * np.abs(places)), 2.0),
    }
    for name, (density, expected) in shapes.items():
        assert b.shape_product(density, places) == pytest.approx(expected, rel=0.01), name
    assert (2 / math.pi) / least == pytest.approx(1.36, abs=0.005)
