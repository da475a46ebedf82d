"""Boundary Attack for one image (Brendel, Rauber and Bethge, ICLR 2018) as in the Adversarial Robustness Toolbox."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reference.decisions import Ask, Draw


def boundary_art(
    x: Tensor,
    ask: Ask,
    draw: Draw,
    *,
    iterations: int,
    delta: float,
    epsilon: float,
    step_adapt: float,
    samples: int,
    trials: int,
    start_draws: int,
    keep_class: bool,
    closest: bool,
    sphere: bool,
    project: bool,
) -> None:
    """Trials of `samples` orthogonal steps, then of steps inwards; 25 failures in a row of either end it."""
    for _ in range(start_draws):
        a = draw.uniform()
        wanted = ask.label(a)
        if wanted != ask.y:
            ask.submit(a)
            break
    else:
        return

    def good(z: Tensor) -> bool:
        return ask.label(z) == wanted if keep_class else ask(z)

    def chosen(points: list[Tensor]) -> Tensor:
        return min(points, key=ask.distance) if closest else points[0]

    for _ in range(iterations):
        found: list[Tensor] = []
        for _ in range(trials):
            if ask.distance(a) < 1e-6:
                return
            steps = [orthogonal_step(x, a, draw, delta, sphere, project) for _ in range(samples)]
            found = [z for z in steps if good(z)]
            delta = adapted(delta, len(found) / samples, step_adapt)
            if found:
                break
        else:
            return
        for _ in range(trials):
            inner = [(z + epsilon * (x - z)).clamp(0, 1) for z in found]
            asked = inner[: ask.left] or inner  # what the budget cuts short still counts
            survivors = [z for z in asked if good(z)]
            epsilon = adapted(epsilon, len(survivors) / len(asked), step_adapt)
            if survivors:
                a = chosen(survivors)
                ask.submit(a)
                break
        else:
            ask.submit(chosen(found))
            return


def orthogonal_step(x: Tensor, a: Tensor, draw: Draw, delta: float, sphere: bool, project: bool) -> Tensor:
    """A step of δ to the side of `a`; without `project` as version 1.2 took it, channel by channel."""
    away = a - x
    eta = draw.normal()
    eta = eta * (delta * away.norm() / eta.norm())
    if project:
        eta = eta - (eta * away).sum() / away.norm() ** 2 * away
    else:
        channels = []
        for p, way in zip(eta, away, strict=True):
            unit = way / way.norm().clamp_min(1e-6)
            channels.append(p - p @ unit.T @ unit)
        eta = torch.stack(channels)
    return (x + (away + eta) / (math.sqrt(1 + delta**2) if sphere else 1)).clamp(0, 1)


def adapted(step: float, rate: float, factor: float) -> float:
    """Shorter where less than a fifth of the trial was adversarial, longer where more than half was."""
    if rate < 0.2:
        return step * factor
    return step / factor if rate > 0.5 else step
