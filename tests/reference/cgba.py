"""CGBA and CGBA-H for one image (Reza, Rahmati, Wu and Dai, ICCV 2023)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from scipy.fft import idctn
from torch import Tensor

from reference.decisions import Ask, Draw, OutOfBudget, bisect


def cgba(
    x: Tensor,
    ask: Ask,
    draw: Draw,
    *,
    iterations: int,
    initial_evals: int,
    probe: float,
    tolerance: float,
    reduce: int,
    restricted: bool,
    start_step: float,
    start_draws: int,
) -> None:
    """Submits the closest boundary point.

    Ours: an iteration needs at least half of its probes beyond what its search may take; the search of the angle begins
    between the last two angles asked about.
    """
    side = [max(1, s // reduce) for s in x.shape[1:]]

    def direction() -> Tensor:
        if reduce <= 1:
            return draw.normal()
        coefficients = torch.zeros_like(x)
        coefficients[:, : side[0], : side[1]] = draw.normal((len(x), *side))
        return torch.from_numpy(idctn(coefficients.numpy(), axes=(1, 2), norm="ortho"))

    def straight_to(z: Tensor) -> Tensor:
        return bisect(ask, x, z, min(1.0, tolerance / max(ask.distance(z), 1e-6)))

    point = None
    for k in range(1, start_draws + 1):
        tried = (x + start_step * k * draw.normal()).clamp(0, 1)
        if ask(tried):
            point = tried
            ask.submit(tried)
            break
    if point is None:
        return
    point = straight_to(point)
    best = ask.hold_if_closer(point, math.inf)
    for t in range(1, iterations + 1):
        wanted = int(initial_evals * math.sqrt(t))
        search = 3 + max(0, math.ceil(math.log2(max(ask.distance(point), 1.0) / tolerance)))
        n = min(wanted, ask.left - search)
        if ask.distance(point) < 1e-6 or n < max(1, wanted // 2):
            return
        total = torch.zeros_like(x)
        for _ in range(n):
            eta = direction()
            total += eta if ask(point + probe * eta) else -eta
        normal = total / total.norm()
        diameter, u = float((point - x).norm()), (point - x) / (point - x).norm()
        theta = math.acos(float((normal * u).sum()))
        p = normal - (normal * u).sum() * u
        on = half_circle(x, diameter, u, p / p.norm())
        try:
            point = straight_to(back(ask, on, theta)) if restricted else along(ask, on, diameter, tolerance)
        except LookupError:
            continue
        best = ask.hold_if_closer(point, best)


def half_circle(x: Tensor, diameter: float, u: Tensor, p: Tensor) -> Callable[[float], Tensor]:
    """z(β) = x + D cos β (u cos β + p sin β), clipped."""

    def on(beta: float) -> Tensor:
        return (x + diameter * math.cos(beta) * (math.cos(beta) * u + math.sin(beta) * p)).clamp(0, 1)

    return on


def along(ask: Ask, on: Callable[[float], Tensor], diameter: float, tolerance: float) -> Tensor:
    """The half-circle's adversarial point within `tolerance` of the first one found that is not."""
    inner, outer, k = 0.0, 0.0, 1
    while k <= 40:
        outer = math.pi / 2 * (1 - 0.5**k)
        if not ask(on(outer)):
            break
        inner, k = outer, k + 1
    else:
        raise LookupError
    while diameter * math.sin(outer - inner) > tolerance:
        middle = (inner + outer) / 2
        try:
            inner, outer = (middle, outer) if ask(on(middle)) else (inner, middle)
        except OutOfBudget:
            break
    return on(inner)


def back(ask: Ask, on: Callable[[float], Tensor], theta: float) -> Tensor:
    """The adversarial point at θ/2, θ/4, …"""
    for k in range(1, 40):
        if ask(on(theta / 2**k)):
            return on(theta / 2**k)
    raise LookupError
