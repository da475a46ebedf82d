"""What GeoDA fixes before its first query: the subspace of its probes and how many go to each iteration."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

RESERVE = 25  # queries an iteration keeps for its line search and bisection


def dct_basis(side: int, sub_dim: int) -> Tensor:
    """Orthonormal ``[sub_dim², side, side]``: the lowest two-dimensional DCT-II frequencies."""
    i = np.arange(side)
    rows = np.cos((2 * i[None, :] + 1) * np.arange(sub_dim)[:, None] * np.pi / (2 * side)) * np.sqrt(2 / side)
    rows[0] = np.sqrt(1 / side)
    basis = np.einsum("ua,vb->uvab", rows, rows).reshape(sub_dim**2, side, side)
    return torch.from_numpy(basis).float()


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
