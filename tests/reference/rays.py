"""RayS for one image (Chen and Gu, KDD 2020)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reference.decisions import Ask, Draw, vote
from reference.noise import Confirmed


def rays(
    x: Tensor, ask: Ask, draw: Draw, *, tolerance: float, votes: int, retest: int, confirm: int, eps: float
) -> None:
    """Flips ever smaller blocks of a vector of signs; ρ is the L2 length of the ray's part inside the boundary.

    Ours, for noise: all is decided by `votes` answers; as many more check a new ρ before it is kept; after `retest`
    flips they ask about the incumbent again, whose ρ grows by 5 % until they agree; `confirm` more that it is beyond.
    """
    confirmed, flips = Confirmed(ask, x, eps, confirm, safety=0.0), 0
    d, signs, rho, level, block = x.numel(), torch.ones(x.numel()), math.inf, 0, 0

    def at(radius: float, s: Tensor) -> Tensor:
        reach = min(radius / math.sqrt(d), 1e9)  # without a radius the corner of the box
        return (x + reach * s.view(x.shape)).clamp(0, 1)

    def submit() -> None:
        if confirm:
            confirmed(at(rho, signs), 0.0)
        else:
            ask.submit(at(rho, signs))

    while True:
        if retest and flips >= retest and rho < math.inf:
            while not vote(ask, at(rho, signs), votes):
                rho = min(1.05 * rho, math.sqrt(d))
                submit()
            flips = 0
        flips += 1
        size = max(1, math.ceil(d / 2**level))
        trial = signs.clone()
        trial[block * size : (block + 1) * size] *= -1
        if vote(ask, at(rho, trial), votes):
            low, high = 0.0, min(rho, math.sqrt(d))
            while True:
                middle = (low + high) / 2
                low, high = (low, middle) if vote(ask, at(middle, trial), votes) else (middle, high)
                if high - low <= tolerance:
                    break
            if high < rho and (votes == 1 or vote(ask, at(high, trial), votes)):
                rho, signs = high, trial
                submit()
            if rho < 1e-6:
                return
        block += 1
        if block == 2**level or block * size >= d:
            level, block = level + 1, 0
