"""Sign-OPT for one image (Cheng, Singh, Chen, Chen, Liu and Hsieh, ICLR 2020, algorithm 1)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from reference.decisions import Ask, Draw, vote
from reference.noise import Confirmed, noise_scale

Decide = Callable[[Tensor], bool]


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
    sigma_hat: str,
    votes: int,
    remeasure: bool,
    confirm: int,
    eps: float,
) -> None:
    """Holds the point at the least distance g(θ) so far. Ours: `saving`, and an end to every walk and bisection.

    Ours too, for a noise σ̂: probes are at least σ̂√d long, searches end at σ̂/10 at the finest, and all but the probes is
    decided by `votes`; with `remeasure` g(θ) is looked for anew before each gradient; with `confirm` every point after
    the starts goes through `Confirmed`.
    """
    sigma, confirmed = noise_scale(x, ask, draw, sigma_hat), Confirmed(ask, x, eps, confirm)

    def decided(z: Tensor) -> bool:
        return vote(ask, z, votes)

    def submit(z: Tensor) -> None:
        if confirm:
            confirmed(z, sigma)
        else:
            ask.submit(z)

    theta, g = torch.zeros_like(x), math.inf
    for _ in range(starts):
        u = draw.normal()
        length = float(u.norm())
        if not decided(x + u) or (length > g and not decided(x + g * u / length)):
            continue
        found = bisect(decided, x, u / length, 0.0, min(length, g), start_tolerance, always=True)
        if found < g:
            theta, g = u / length, found
            ask.submit(x + g * theta)
    if g == math.inf:
        return

    for _ in range(iterations):
        if remeasure:
            again = local(decided, x, theta, g, max(beta / 500, sigma / 10), limit, saving=False)
            g = again if again < math.inf else g
            submit(x + g * theta)
        gradient, h = torch.zeros_like(x), max(beta, sigma * math.sqrt(x.numel()) / g)
        for _ in range(directions):  # the sign of the directional derivative, by one query
            u = draw.normal()
            u = u / u.norm()
            gradient += (-u if ask(x + g * unit(theta + h * u)) else u) / directions
        best_theta, best = theta, g
        for _ in range(trials):
            tried = unit(theta - alpha * gradient)
            found = local(decided, x, tried, best, max(beta / 500, sigma / 10), limit, saving)
            alpha *= 2
            if found >= best:
                break
            best_theta, best = tried, found
            submit(x + best * best_theta)
        for _ in range(trials if best == g else 0):
            alpha /= 4
            tried = unit(theta - alpha * gradient)
            found = local(decided, x, tried, g, max(beta / 500, sigma / 10), limit, saving)
            if found < g:
                best_theta, best = tried, found
                submit(x + best * best_theta)
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


def local(ask: Decide, x: Tensor, theta: Tensor, near: float, tolerance: float, limit: float, saving: bool) -> float:
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


def bisect(ask: Decide, x: Tensor, theta: Tensor, low: float, high: float, width: float, always: bool = False) -> float:
    """The outer end of the last interval; at most 60 steps."""
    for k in range(60):
        if high - low <= width and not (always and k == 0):
            break
        middle = (low + high) / 2
        low, high = (low, middle) if ask(x + middle * theta) else (middle, high)
    return high
