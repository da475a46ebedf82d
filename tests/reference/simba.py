"""SimBA and SimBA-DCT of one image: Guo et al., ICML 2019, algorithm 1 and section 3 (low frequencies)."""

from __future__ import annotations

import numpy as np
import torch
from scipy.fft import idctn
from torch import Tensor

from .score_common import Ask, Draw, OutOfBudget, averaged, confirmed, wins


def attack(
    x0: Tensor, y: int, draw: Draw, ask: Ask, eps: float, *, step: float = 0.2, basis: str = "pixel",
    first: int = 0, stride: int = 0, draws: int = 1, requery: bool = False, confirm: int = 0,
) -> Tensor:  # fmt: skip
    """Walks along one direction after the other, left, and if p_y did not fall right.

    Args:
        first: with a `stride`, side of the square of frequencies that are tried first; 0: all in random order.
        draws: answers whose mean is looked at (ours, for noise, as what follows).
        requery: the incumbent is asked again before each direction; what is to be beaten is the mean of its answers.
        confirm: further answers, at most, that must say that a success is one.
    """
    x, history = x0, [float(ask(x0)[0][y])]  # every answer about x
    try:
        for c, u, v in order(draw, tuple(x0.shape), first, stride):
            coefficients = np.zeros(tuple(x0.shape))
            coefficients[c, u, v] = 1.0
            q = coefficients if basis == "pixel" else idctn(coefficients, axes=(1, 2), norm="ortho")
            if requery:
                history.append(float(ask(x)[0][y]))
            for sign in (-1, 1):
                trial = x + sign * step * torch.as_tensor(q)
                p = averaged(ask, trial, draws)
                fell = float(p[y]) < sum(history) / len(history)
                if fell:
                    x, history = trial, [float(p[y])] * draws
                if wins(p, y, trial, x0, eps, "l2") and (not confirm or confirmed(ask, trial, y, confirm)):
                    return trial.clamp(0, 1)
                if fell:
                    break
    except OutOfBudget:
        pass
    return x.clamp(0, 1)


def order(draw: Draw, shape: tuple[int, ...], first: int, stride: int) -> list[tuple[int, int, int]]:
    """(channel, row, column) of every direction: shell by shell, each in random order."""
    found = []
    every = list(np.ndindex(*shape))
    for (c, u, v), key in zip(every, draw.uniform(len(every)).tolist(), strict=True):
        shell = 0 if not first or max(u, v) < first else 1 + (max(u, v) - first) // stride
        found.append((shell, key, (c, u, v)))
    return [place for _, _, place in sorted(found)]
