"""HopSkipJump for one image (Chen, Jordan and Wainwright, S&P 2020, algorithms 1 and 2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reference.decisions import Ask, Draw, ball, bisect, straight, uniform_start


def hsja(
    x: Tensor,
    ask: Ask,
    draw: Draw,
    *,
    iterations: int,
    initial_evals: int,
    max_evals: int,
    gamma: float,
    power: float,
    first_radius: float,
    start_draws: int,
    projected: bool,
) -> None:
    """Submits the closest projected point x_t (`projected`), or the closest point stepped out to.

    Ours: the last gradient gets what is left beyond the step and the projection, and there is none below 30 probes;
    25 halvings of the step at most.
    """
    d, linf = x.numel(), ask.norm == "linf"
    theta = gamma * d ** (power - 0.5 if linf else power)  # paper: d^-3/2, and d^-2 for L∞
    path, search = (ball if linf else straight), math.ceil(math.log2(1 / theta))
    start = uniform_start(ask, draw, start_draws)
    if start is None:
        return
    z = bisect(ask, x, start, 1e-3)
    point = bisect(ask, x, z, theta, path)
    best = ask.hold_if_closer(point, math.inf)
    for t in range(1, iterations + 1):
        n = min(int(initial_evals * math.sqrt(t)), max_evals, ask.left - 1 - search)
        if ask.distance(point) < 1e-6 or n < min(30, initial_evals):
            return
        delta = (d if linf else math.sqrt(d)) * theta * ask.distance(z) if t > 1 else first_radius
        v = direction(point, ask, draw, n, delta, linf)
        size = ask.distance(point) / math.sqrt(t)  # halved until the step is adversarial
        halvings = 0
        while halvings < 25 and v.norm() > 0 and not ask(point + size * v):
            size, halvings = size / 2, halvings + 1
        if halvings == 25 or v.norm() == 0:
            continue
        z = (point + size * v).clamp(0, 1)
        if not projected:
            best = ask.hold_if_closer(z, best)
        point = bisect(ask, x, z, theta, path)
        if projected:
            best = ask.hold_if_closer(point, best)


def direction(point: Tensor, ask: Ask, draw: Draw, n: int, delta: float, linf: bool = False) -> Tensor:
    """The sum of n probes, of length 1, or its sign (eq. 9 and 16)."""
    v = probed(point, ask, draw, n, delta, linf)
    if linf:
        return v.sign()
    return v / v.norm() if v.norm() > 0 else v


def probed(point: Tensor, ask: Ask, draw: Draw, n: int, delta: float, uniform: bool = False) -> Tensor:
    """Σ (φ - φ̄) u over n probes; Σ φ u where all answers agree."""
    answers, directions = [], []
    for _ in range(n):
        u = draw.normal()
        if uniform:
            u = torch.erf(u / math.sqrt(2))  # uniform on [-1, 1]
        probe = (point + delta * u / u.norm()).clamp(0, 1)
        answers.append(1.0 if ask(probe) else -1.0)
        directions.append((probe - point) / delta)  # as the clipped probe really lies
    mean = sum(answers) / n
    baseline = 0.0 if abs(mean) == 1 else mean
    v = torch.zeros_like(point)
    for phi, u in zip(answers, directions, strict=True):
        v += (phi - baseline) * u
    return v
