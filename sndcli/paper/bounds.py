"""What a randomised defense can buy at most, in closed forms. Proofs are in docs/theory.md, by the same names.

The setting: t(x) is the signed distance of x to the boundary, positive where the answer is adversarial. Near it
``t(x + δ) = t(x) + ⟨u, δ⟩`` with a unit normal u in d dimensions. A defense adds to t a random number of standard
deviation σ, as Gaussian noise of that σ on the input does. A probe of length ϱ has ``a = ϱ/√d``, its standard
deviation along any direction. The attacker knows σ; that can only help him. A price is a ratio of queries: how many
times as many an equally good direction costs as with narrow probes on the bare model.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from scipy.integrate import quad

Access = Literal["scores", "labels"]


def _phi(z: float) -> float:
    """The normal distribution's Φ."""
    return 0.5 * math.erfc(-z / math.sqrt(2))


def _information(n: int, radius: float, sigma: float, access: Access) -> float:
    """J of Theorem 1: what n answers to probes of length `radius` tell about the normal, at most (Cor. 1 and 2)."""
    each = (radius / sigma) ** 2
    return n * each * (1.0 if access == "scores" else 2 / math.pi)


def mse_bound(n: int, d: int, radius: float, sigma: float, access: Access = "scores") -> float:
    """Least mean squared error of any estimate of the gradient, in units of its squared length (Theorem 1a).

    ``1/(1 + J/(d-1)²)``, ``J = n ϱ²/σ²`` for scores and ``2/π`` of it for labels. Holds for adaptive attackers, too.

    Args:
        n: queries.
        d: dimensions, at least 2.
        radius: ϱ, the longest probe in L2.
        sigma: σ > 0.
        access: what an answer is.
    """
    return 1 / (1 + _information(n, radius, sigma, access) / (d - 1) ** 2)


def cosine_bound(n: int, d: int, radius: float, sigma: float, access: Access = "scores") -> float:
    """Greatest expected cosine of any estimate with the normal: ``(1 + (d-1)²/J)^-½`` (Theorem 1b).

    Example:
        >>> d, a = 3072, 0.01  # CIFAR-10, probes as long as the noise
        >>> round(cosine_bound(1000, d, a * d**0.5, sigma=0.01), 3)
        0.496
    """
    return 1 / math.sqrt(1 + (d - 1) ** 2 / _information(n, radius, sigma, access))


def label_information(s: float) -> float:
    """Fisher information of one label about the boundary's place, at s noise lengths from it: ``φ²/(Φ(1-Φ))``.

    Greatest at s = 0, where it is 2/π: a label tells at most that share of what a score does (Cor. 2).
    """
    density = math.exp(-s * s / 2) / math.sqrt(2 * math.pi)
    return density * density / (_phi(s) * _phi(-s))


def label_bits(r: float) -> float:
    """Bits that a label carries about the normal, for isotropic probes at the boundary with a/σ = r (Cor. 3)."""

    def entropy(z: float) -> float:
        p = _phi(r * z)
        return sum(-q * math.log2(q) for q in (p, 1 - p) if q > 0)

    def weighted(z: float) -> float:
        return entropy(z) * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    return 1 - float(quad(weighted, -12, 12, limit=200)[0])


def one_bit_queries(cosine: float, d: int) -> float:
    """Labels that any attacker needs for an expected cosine, noise or not: ``((d-1)/2) log₂ 1/(1-c²)`` (Cor. 3)."""
    return (d - 1) / 2 * math.log2(1 / (1 - cosine**2))


def singles_cosine(n: int, d: int, a: float, sigma: float) -> float:
    """What n scores of Gaussian probes reach, answers centred (Theorem 2): ``(1 + (d/n)(1 + σ²/a²))^-½``."""
    return 1 / math.sqrt(1 + d / n * (1 + (sigma / a) ** 2))


def sign_cosine(n: int, d: int, a: float, sigma: float, offset: float = 0.0) -> float:
    """What HopSkipJump's centred average of n labels reaches at a distance `offset` from the boundary (Theorem 2).

    ``(1 + (d-1)/(n α²))^-½``, ``α² = κ² φ(τ)²/(Φ(τ)Φ(-τ))``, ``κ² = a²/(a²+σ²)``, ``τ = offset/√(a²+σ²)``.
    """
    scale = a * a + sigma * sigma
    alpha2 = a * a / scale * label_information(offset / math.sqrt(scale))
    return 1 / math.sqrt(1 + (d - 1) / (n * alpha2))


def one_sided_error(d: int, directions: int, beta: float, sigma: float) -> float:
    """Mean squared error of eq. 3 of the paper in units of the squared gradient: ``(d+1)/B + 2dσ²/(Bβ²)`` (Theorem 2).

    `beta` is the standard deviation of a Gaussian step along any direction. Asking the baseline once or anew makes
    no difference.
    """
    return (d + 1) / directions + 2 * d * sigma**2 / (directions * beta**2)


def price(a: float, sigma: float, h: float = 0.0) -> float:
    """Queries for an equally good direction, beside narrow probes on the bare model (Theorem 3).

    ``1 + σ²/a² + (a²+σ²)² h²/(2a²)``: the first part is the noise, which wide probes buy off, the second curvature,
    which makes them pay for their width.

    Args:
        a: the probes.
        sigma: σ of the noise on the margin; 0 for a bare model.
        h: Frobenius norm of the second derivative of t, 1/length; √(d-1)/R for a boundary of curvature radius R.
    """
    return 1 + (sigma / a) ** 2 + ((a * a + sigma * sigma) * h / a) ** 2 / 2


def best_probe(sigma: float, h: float) -> float:
    """The probe of the least price: ``a² = (σ/h) √(2 + w²)``, ``w = σh`` (Theorem 3)."""
    return math.sqrt(sigma / h * math.sqrt(2 + (sigma * h) ** 2))


def best_price(w: float) -> float:
    """The least price, ``1 + w² + w√(2 + w²)``, ``w = σh``: what small noise buys at most per gradient (Theorem 3).

    Example:
        >>> [round(best_price(w), 1) for w in (0.5, 2.01, 7.0)]
        [2.0, 10.0, 100.0]
    """
    return 1 + w * w + w * math.sqrt(2 + w * w)


def noise_for_price(factor: float) -> float:
    """The w = σh that makes the least price `factor` (≥ 1): the inverse of `best_price`."""
    return (factor - 1) / math.sqrt(2 * factor)


def pairs_price(w: float, ratio: float) -> float:
    """Price of antithetic score pairs, a/σ = `ratio`: ``1 + (σ²/2a²)(1 + w²/2) + w²/2``; even terms cancel."""
    return 1 + (1 + w * w / 2) / (2 * ratio * ratio) + w * w / 2


def step_price(low: float, high: float) -> float:
    """Price where the probability of an adversarial answer jumps from `low` to `high`, as at a gate (Theorem 6).

    ``4 p̄(1-p̄)/(high-low)²`` with their mean p̄: 3 from ½ to 1, and 2k - 1 from 0 to 1/k.
    """
    mean = (low + high) / 2
    return 4 * mean * (1 - mean) / (high - low) ** 2


def set_price(k: int, rho: float) -> float:
    """Price of a set of k models whose normals have mean pairwise cosine ρ: ``k/(1+(k-1)ρ) < 1/ρ`` (Theorem 7)."""
    return k / (1 + (k - 1) * rho)


def drawn_price(a: float, sigma_m: float, rho: float, h: float = 0.0) -> float:
    """Price of draws that agree by ρ and add margin noise σ_m: Theorem 3's price over ρ (Theorem 7).

    No width of the probes buys 1/ρ off, since what the normals differ by grows with the probe.
    """
    return price(a, sigma_m, h) / rho


def beta_price(ratio: float, shape: float = 2.0) -> float:
    """Price of noise whose strength is drawn, ``kσξ`` with k ~ Beta(shape, shape), for probes a/σ = `ratio`.

    ``(E[r/√(r²+k²)])^-2``: weak draws give the boundary away. A Gaussian of the same power has ``1 + E[k²]/r²``.
    """
    norm = math.exp(2 * math.lgamma(shape) - math.lgamma(2 * shape))

    def weighted(k: float) -> float:
        return float(ratio / math.hypot(ratio, k) * (k * (1 - k)) ** (shape - 1) / norm)

    mean = float(quad(weighted, 0, 1, limit=200)[0])
    return 1 / (mean * mean)


def vote_sigma(sigma: float, votes: int) -> float:
    """Width of the response of a majority of T answers near the boundary: ``σ √(π/(2T))``.

    So a vote of T gains at most 2T/π in information for T times the queries. Exact as T grows; T = 1 is σ itself.
    """
    return sigma if votes == 1 else sigma * math.sqrt(math.pi / (2 * votes))


def accuracy_loss(slope: float, variance: float) -> float:
    """Accuracy lost to margin noise: ``½ p'(0) E[s²]``, p the density of images over their distance (Theorem 4)."""
    return slope * variance / 2


def shape_product(density: np.ndarray, places: np.ndarray) -> float:
    """``sup_t i(t) · Var(s)`` of noise on the margin: 2/π for a Gaussian, at least ``π²/4 - 2`` for any (Theorem 5a).

    ``i = f²/(F(1-F))`` is the information of a label about the boundary's place. Queries go with 1/sup i and accuracy
    with the variance, so the product ranks shapes of noise; none is better than the Gaussian by more than 1.36.

    Args:
        density: f at `places`, ``[k]``; need not be normalised.
        places: increasing, evenly spaced, covering where f is not negligible, ``[k]``.
    """
    step = places[1] - places[0]
    f = density / (density.sum() * step)
    below = (np.cumsum(f) - f / 2) * step
    inside = (below > 1e-6) & (below < 1 - 1e-6)
    information = f[inside] ** 2 / (below[inside] * (1 - below[inside]))
    mean = float((f * places).sum() * step)
    return float(information.max() * ((f * (places - mean) ** 2).sum() * step))
