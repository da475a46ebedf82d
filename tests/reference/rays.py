"""RayS for one image (Chen and Gu, KDD 2020)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reference.decisions import Ask, Draw


def rays(x: Tensor, ask: Ask, draw: Draw, *, tolerance: float) -> None:
    """Flips ever smaller blocks of a vector of signs; ρ is the L2 length of the ray's part inside the boundary."""
    d, signs, rho, level, block = x.numel(), torch.ones(x.numel()), math.inf, 0, 0

    def at(radius: float, s: Tensor) -> Tensor:
        reach = min(radius / math.sqrt(d), 1e9)  # without a radius the corner of the box
        return (x + reach * s.view(x.shape)).clamp(0, 1)

    while True:
        size = max(1, math.ceil(d / 2**level))
        trial = signs.clone()
        trial[block * size : (block + 1) * size] *= -1
        if ask(at(rho, trial)):
            low, high = 0.0, min(rho, math.sqrt(d))
            while True:
                middle = (low + high) / 2
                low, high = (low, middle) if ask(at(middle, trial)) else (middle, high)
                if high - low <= tolerance:
                    break
            if high < rho:
                rho, signs = high, trial
                ask.hold(at(rho, signs))
            if rho < 1e-6:
                return
        block += 1
        if block == 2**level or block * size >= d:
            level, block = level + 1, 0
