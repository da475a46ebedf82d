"""Sign-OPT for one image (Cheng, Singh, Chen, Chen, Liu and Hsieh, ICLR 2020, algorithm 1)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reference.decisions import Ask, Draw


class Collapsed(Exception):
    """The whole ray is adversarial."""


def sign_opt(
    x: Tensor,
    ask: Ask,
    draw: Draw,
    *,
    directions: int,
    alpha: float,
    beta: float,
    starts: int,
    start_tolerance: float,
    iterations: int,
    trials: int,
    limit: float,
    saving: bool,
) -> None:
    """Holds the point at the least distance g(θ) so far. Ours: `saving`, and an end to every walk and bisection."""
    theta, g = torch.zeros_like(x), math.inf
    for _ in range(starts):
        u = draw.normal()
        length = float(u.norm())
        if not ask(x + u) or (length > g and not ask(x + g * u / length)):
            continue
        found = bisect(ask, x, u / length, 0.0, min(length, g), start_tolerance, always=True)
        if found < g:
            theta, g = u / length, found
            ask.hold(x + g * theta)
    if g == math.inf:
        return

    for _ in range(iterations):
        gradient = torch.zeros_like(x)
        for _ in range(directions):  # the sign of the directional derivative, by one query
            u = draw.normal()
            u = u / u.norm()
            gradient += (-u if ask(x + g * unit(theta + beta * u)) else u) / directions
        best_theta, best = theta, g
        for _ in range(trials):
            tried = unit(theta - alpha * gradient)
            found = local(ask, x, tried, best, beta / 500, limit, saving)
            alpha *= 2
            if found >= best:
                break
            best_theta, best = tried, found
            ask.hold(x + best * best_theta)
        for _ in range(trials if best == g else 0):
            alpha /= 4
            tried = unit(theta - alpha * gradient)
            found = local(ask, x, tried, g, beta / 500, limit, saving)
            if found < g:
                best_theta, best = tried, found
                ask.hold(x + best * best_theta)
                break
        theta, g = best_theta, best
        if alpha < 1e-4:
            alpha, beta = 1.0, beta / 10
            if beta < 1e-8:
                return


def unit(v: Tensor) -> Tensor:
    """`v` of length 1."""
    length: Tensor = v.norm()
    return v / length


def local(ask: Ask, x: Tensor, theta: Tensor, near: float, tolerance: float, limit: float, saving: bool) -> float:
    """g(θ), looked for around `near` by steps of 1 % and then by bisection; infinite beyond `limit`."""
    moves, g = 0, near
    if ask(x + near * theta):
        g *= 0.99
        while ask(x + g * theta):
            g, moves = g * 0.99, moves + 1
            if moves > 600:
                raise Collapsed
        return bisect(ask, x, theta, g, near, tolerance)
    if saving:
        return math.inf
    g *= 1.01
    while not ask(x + g * theta):
        g, moves = g * 1.01, moves + 1
        if g > limit or moves > 600:
            return math.inf
    return bisect(ask, x, theta, near, g, tolerance)


def bisect(ask: Ask, x: Tensor, theta: Tensor, low: float, high: float, width: float, always: bool = False) -> float:
    """The outer end of the last interval; at most 60 steps."""
    for k in range(60):
        if high - low <= width and not (always and k == 0):
            break
        middle = (low + high) / 2
        low, high = (low, middle) if ask(x + middle * theta) else (middle, high)
    return high
