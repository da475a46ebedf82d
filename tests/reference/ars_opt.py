"""ARS-OPT for one image (Xu, Cheng, Xu, Xuan and Ma, AAAI 2026)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from reference.decisions import Ask, Draw
from reference.sign_opt import bisect, local, unit


def ars_opt(
    x: Tensor,
    ask: Ask,
    draw: Draw,
    *,
    directions: int,
    rate: float,
    clip: float,
    probe: float,
    starts: int,
    start_tolerance: float,
    iterations: int,
    limit: float,
    momentum: bool,
) -> None:
    """Submits the point at the least distance g(θ) so far. Ours: ten tries for the derivative, at h, -h, h/2, …"""
    theta, g = torch.zeros_like(x), math.inf
    for _ in range(starts):
        u = draw.normal()
        length = float(u.norm())
        if not ask(x + u) or (length > g and not ask(x + g * u / length)):
            continue
        found = bisect(ask, x, u / length, 0.0, min(length, g), start_tolerance, always=True)
        if found < g:
            theta, g = u / length, found
            ask.submit(x + g * theta)
    if g == math.inf:
        return

    best, m, gamma, k = g, theta, 1 / rate, min(directions, x.numel())
    captured = (2 / math.pi * (k - 1) + 1) / x.numel()
    for _ in range(iterations):
        b = captured**2 * rate * gamma
        a = (-b + math.sqrt(b * b + 4 * b)) / 2
        gamma *= 1 - a
        y, g_y = theta, g
        if momentum:
            y = unit((1 - a) * theta + a * m)
            g_y = local(ask, x, y, g, probe / 500, limit, saving=False)
        if g_y == math.inf or not momentum:
            y, g_y, m = theta, g, theta
        v = signed(x, ask, draw, k, lambda u, y=y, g_y=g_y: x + g_y * unit(y + probe * u))  # type: ignore[misc]
        slope = None
        for n in range(10):
            h = probe * (-1) ** n / 2 ** (n // 2)
            beside = local(ask, x, unit(y + h * v), g_y, probe / 500, limit, saving=False)
            if beside < math.inf:
                slope = (beside - g_y) / h
                break
        if slope is None:
            continue
        step, eta, found = max(-clip, min(clip, slope)), rate, math.inf
        while found == math.inf and eta >= 1e-4:
            tried = unit(y - eta * step * v)
            found = local(ask, x, tried, g_y, probe / 500, limit, saving=True)
            eta /= 2
        if found == math.inf:
            continue
        theta, g = tried, found
        m = unit(m - captured * rate / a * slope * v)
        if g < best:
            best = g
            ask.submit(x + g * theta)


def signed(x: Tensor, ask: Ask, draw: Draw, k: int, at: Callable[[Tensor], Tensor]) -> Tensor:
    """The sum, of length 1, of k orthonormal directions: minus those whose probe is adversarial."""
    drawn = torch.stack([draw.normal().flatten() for _ in range(k)], 1)
    total = torch.zeros_like(x)
    for column in torch.linalg.qr(drawn).Q.T:
        u = column.view_as(x)
        total += -u if ask(at(u)) else u
    return unit(total)
