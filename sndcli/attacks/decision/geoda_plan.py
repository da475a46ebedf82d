"""What GeoDA fixes before its first query: the subspace of its probes and how many go to each iteration."""

from __future__ import annotations

import numpy as np

PROBE, TOLERANCE, STEP = 2e-4, 1e-4, 5.0  # the authors' numbers, in their space
THEIR_STD = 0.226  # of a pixel of ImageNet, which theirs are divided by: the mean of the channels' 0.229, 0.224, 0.225
THEIR_SIZE = 3 * 224 * 224
RESERVE = 25  # queries an iteration keeps for its line search and bisection


def rescaled(probe: float, tolerance: float, step: float, d: int, norm: str = "l2") -> tuple[float, float, float]:
    """The three lengths for images of `d` values in [0, 1]; those given as 0 are the authors'.

    A length in their space is 0.226 times as long in pixels. The width of a bisection, an L2 norm, is as large a part
    of an image of d values when it is √(d / 150,528) times as long. The probe multiplies a draw for each coefficient,
    and the L2 step the summed normal, mostly noise of as many coefficients: both grow with √d by themselves. The L∞
    step is divided by the length of that normal and so falls as it grows, though a pixel should move as far at any d:
    it needs the factor.
    """
    whole = (d / THEIR_SIZE) ** 0.5
    step = step or STEP * THEIR_STD * (whole if norm == "linf" else 1.0)
    return probe or PROBE * THEIR_STD, tolerance or TOLERANCE * THEIR_STD * whole, step


def allocate(queries: int, allocation: float = 0.6) -> list[int]:
    """Probes of each iteration (paper, section 3.3, with the authors' limits of 50 and 80 on the first).

    The number of iterations T starts at queries/500 and changes by one until the first share lies within the
    limits; where it would go in circles the larger T is taken. Always at least one iteration.
    """
    ratio = allocation ** (-2 / 3)

    def shares(total: int, iterations: int) -> list[int]:
        weights = ratio ** np.arange(iterations)
        return [int(v) for v in np.round(total * weights / weights.sum())]

    def settle(total: int, iterations: int) -> int:
        visited: set[int] = set()
        while iterations not in visited:
            visited.add(iterations)
            first = shares(total, iterations)[0]
            if first > 80:
                iterations += 1
            elif first < 50 and iterations > 1:
                iterations -= 1
            else:
                return iterations
        return max(visited)

    planned = max(1, round(queries / 500))
    reserved = RESERVE * settle(max(1, queries - RESERVE * planned), planned)
    total = max(1, queries - reserved)
    return shares(total, settle(total, planned))
