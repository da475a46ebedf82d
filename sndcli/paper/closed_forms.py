"""What theory expects of the quantities in `evidence`: gradients of flat boundaries, errors of averaging, lengths."""

from __future__ import annotations

import math


def decision_cosine(n: int, d: int, probe: float, sigma: float) -> float:
    """Expected cosine of n decision probes with the normal, on a half-space at the boundary (p = ½).

    ``1/√(1 + (d - 1)/(n α²))``, α = √(2/π) a/√(a² + σ²).
    """
    alpha = math.sqrt(2 / math.pi) * probe / math.hypot(probe, sigma)
    return 1 / math.sqrt(1 + (d - 1) / (n * alpha**2))


def score_cosine(pairs: int, d: int, probe: float, sigma: float) -> float:
    """Expected cosine of q antithetic pairs with the gradient of a linear loss: ``1/√(1 + (d/q)(1 + σ²/2a²))``."""
    return 1 / math.sqrt(1 + d / pairs * (1 + sigma**2 / (2 * probe**2)))


def quadratic_error(d: int, sigma: float) -> float:
    """``E[F(η)] - F(0)`` of ``F(x) = xᵀx``: dσ² (section 3.4)."""
    return d * sigma**2


def relu_expectation(mu: float, s: float) -> float:
    """``E[max(0, Y)]``, ``Y ~ N(μ, s²)``: ``μ Φ(μ/s) + s φ(μ/s)`` (Appendix E, with μ = Wx + b, s = |W|σ).

    Differs from the formula printed in section 3.4, whose term ``Φ(-μ/s)`` lacks the factor μ.
    """
    if s == 0:
        return max(0.0, mu)
    v = mu / s
    return mu * 0.5 * math.erfc(-v / math.sqrt(2)) + s * math.exp(-v * v / 2) / math.sqrt(2 * math.pi)


def gaussian_length(d: int, sigma: float) -> float:
    """``E‖η‖₂`` of ``η ~ N(0, σ² I_d)``: ``σ √2 Γ((d + 1)/2) / Γ(d/2)``.

    Example:
        >>> round(gaussian_length(3 * 32 * 32, 0.01), 3)  # a CIFAR-10 image
        0.554
    """
    return sigma * math.sqrt(2) * math.exp(math.lgamma((d + 1) / 2) - math.lgamma(d / 2))
