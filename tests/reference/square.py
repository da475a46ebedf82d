"""Square Attack of one image: Andriushchenko et al., ECCV 2020, algorithms 1 (loop), 2 (L∞) and 3 (L2).

Draws, in this order: L∞ start: signs; step: row and column, signs. L2 start: signs; step: row and column of either
window, which way up, signs.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from .score_common import Ask, Draw, OutOfBudget, averaged, confirmed, length, margin, wins


def attack(
    x0: Tensor, y: int, draw: Draw, ask: Ask, eps: float, norm: str, *, p_init: float, rescale: bool,
    draws: int = 1, requery: bool = False, confirm: int = 0,
) -> Tensor:  # fmt: skip
    """One random square an iteration, kept where the margin of the right class falls.

    Args:
        draws: answers about a square, of whose mean the margin is (ours, for noise, as what follows).
        requery: the incumbent is asked again for each square, which must beat the mean of all margins seen of it; the
            schedule of p is that of as many squares as the budget has in it.
        confirm: further answers, at most, that must say that a success is one.
    """
    ask(x0)
    x, history = x0, [-math.inf]
    try:
        for iteration in range(ask.budget):
            if requery and iteration:
                history.append(margin(ask(x)[0], y))
            if iteration == 0:
                trial = (stripes if norm == "linf" else mosaic)(x0, eps, draw)
            else:
                p = share(iteration - 1, ask.budget // (draws + requery), p_init, rescale)
                trial = (linf_step if norm == "linf" else l2_step)(x0, x, eps, p, draw)
            told = averaged(ask, trial, draws)
            loss = margin(told, y)
            if loss > sum(history) / len(history) or (loss >= 0 and not requery):
                x, history = trial, [loss] * draws
            if wins(told, y, trial, x0, eps, norm) and (not confirm or confirmed(ask, trial, y, confirm)):
                return trial
    except OutOfBudget:
        pass
    return x


def share(iteration: int, budget: int, p_init: float, rescale: bool) -> float:
    """Section 4.1: p halves at 10, 50, 200, 500, 1000, 2000, 4000, 6000 and 8000 of 10,000 iterations."""
    if rescale:
        iteration = int(iteration / budget * 10_000)
    for limit in (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000):
        if iteration > limit:
            p_init /= 2
    return p_init


def stripes(x0: Tensor, eps: float, draw: Draw) -> Tensor:
    channels, _, width = x0.shape
    return (x0 + eps * draw.signs(channels, 1, width)).clamp(0, 1)


def linf_step(x0: Tensor, x: Tensor, eps: float, p: float, draw: Draw) -> Tensor:
    channels, height, width = x0.shape
    s = min(max(round(math.sqrt(p * height * width)), 1), height, width)
    row, column = corner(height, width, s, draw)
    trial = x.clone()
    for c, sign in enumerate(draw.signs(channels, 1, 1).flatten().tolist()):
        trial[c, row : row + s, column : column + s] += 2 * eps * sign
    return torch.minimum(torch.maximum(trial, x0 - eps), x0 + eps).clamp(0, 1)


def corner(height: int, width: int, s: int, draw: Draw) -> tuple[int, int]:
    u = draw.uniform(2).tolist()
    return int(u[0] * (height - s + 1)), int(u[1] * (width - s + 1))


@cache
def bump(height: int, width: int) -> Tensor:
    """Equation 2: rectangles around the centre, the k-th weighs 1 / (k + 1)²."""
    found = torch.zeros(height, width, dtype=torch.float64)
    for k in range(max(height // 2, width // 2) + 1):
        for i in range(height):
            for j in range(width):
                if abs(i - height // 2) <= k and abs(j - width // 2) <= k:
                    found[i, j] += 1 / (k + 1) ** 2
    return found / length(found)


@cache
def eta(s: int) -> Tensor:
    found = torch.cat([bump(s // 2, s), -bump(s - s // 2, s)])
    return found / length(found)


def mosaic(x0: Tensor, eps: float, draw: Draw) -> Tensor:
    """5 x 5 tiles of η, as many pixels a tile as fit on the shorter side, in the middle."""
    channels, height, width = x0.shape
    s = min(height, width) // 5
    top, left = (height - 5 * s) // 2, (width - 5 * s) // 2
    signs, d = draw.signs(channels, 5, 5), torch.zeros_like(x0)
    for c in range(channels):
        for i in range(5):
            for j in range(5):
                rows, columns = top + i * s, left + j * s
                d[c, rows : rows + s, columns : columns + s] = signs[c, i, j] * eta(s)
    return (x0 + eps * d / length(d)).clamp(0, 1)


def l2_step(x0: Tensor, x: Tensor, eps: float, p: float, draw: Draw) -> Tensor:
    channels, height, width = x0.shape
    s = max(round(math.sqrt(p * height * width)), 3)
    s += s % 2 == 0
    side = min(height, width)
    s = min(s, side if side % 2 else side - 1)
    (r1, c1), (r2, c2) = corner(height, width, s, draw), corner(height, width, s, draw)
    pattern = eta(s) if draw.uniform(1).item() < 0.5 else eta(s).T
    sign = draw.signs(channels, 1, 1).flatten()
    d = x - x0
    one, two = torch.zeros(height, width, dtype=torch.bool), torch.zeros(height, width, dtype=torch.bool)
    one[r1 : r1 + s, c1 : c1 + s] = True
    two[r2 : r2 + s, c2 : c2 + s] = True
    moved = d.clone()
    for c in range(channels):
        content = d[c, r1 : r1 + s, c1 : c1 + s]
        nu = sign[c] * pattern + content / (length(content) + 1e-12)
        target = max(eps**2 - length(d) ** 2, 0.0) / channels + length(d[c][one | two]) ** 2
        moved[c][two] = 0.0
        moved[c, r1 : r1 + s, c1 : c1 + s] = nu * math.sqrt(target) / (length(nu) + 1e-12)
    return (x0 + eps * moved / max(length(moved), 1e-12)).clamp(0, 1)
