"""Boundary Attack for one image (Brendel, Rauber and Bethge, ICLR 2018, algorithm 1 and figure 2), as in Foolbox 3."""

from __future__ import annotations

import math

from torch import Tensor

from reference.decisions import Ask, Draw, straight, uniform_start, vote
from reference.noise import Confirmed, noise_scale


def boundary(
    x: Tensor,
    ask: Ask,
    draw: Draw,
    *,
    steps: int,
    spherical_step: float,
    source_step: float,
    adaptation: float,
    source_step_convergence: float,
    update_every: int,
    start_draws: int,
    blend_steps: int,
    votes: int,
    retest: int,
    sigma_hat: str,
    floor: float,
    confirm: int,
    eps: float,
) -> None:
    """Walks on the boundary; the incumbent `a` is submitted. Ours: the blend leaves out the clean image itself.

    Ours too, for noise: what one answer calls adversarial is accepted by `votes` more; every `retest` steps as many say
    whether `a` still is, which moves out by 5 % if not; steps are a `floor` of the noise long or more. With `confirm`
    only what `Confirmed` makes of `a` at each retest is submitted.
    """
    sigma, submit = noise_scale(x, ask, draw, sigma_hat), Confirmed(ask, x, eps, confirm)
    noise = uniform_start(ask, draw, start_draws)
    if noise is None:
        return
    a = noise
    for k in range(1, blend_steps):
        blend = straight(x, noise, k / blend_steps)
        if ask(blend):
            a = blend
            ask.submit(a)
            break
    delta, epsilon = spherical_step, source_step
    sphere: list[bool] = []
    inwards: list[bool] = []
    for k in range(1, steps + 1):
        away = a - x
        distance = float(away.norm())
        if epsilon < source_step_convergence or distance < 1e-6:
            return
        delta = max(delta, floor * sigma * math.sqrt(x.numel()) / distance)
        epsilon = max(epsilon, floor * sigma / distance)
        eta = draw.normal()
        eta = eta - (eta * away).sum() * away / distance**2  # orthogonal to the way to the clean image,
        eta = eta * (delta * distance / eta.norm())  # δ long,
        s = (x + (away + eta) / math.sqrt(1 + delta**2)).clamp(0, 1)  # and back on the sphere
        gap = float((s - x).norm())
        c = (s + max(0.0, epsilon * distance + gap - distance) / gap * (x - s)).clamp(0, 1)
        hit = ask(c)
        if hit and float((c - x).norm()) < distance and (votes == 1 or vote(ask, c, votes)):
            a = c
            if not confirm:
                ask.submit(a)
        if retest and k % retest == 0:
            sure = vote(ask, a, votes)
            if not sure:
                a = (x + 1.05 * (a - x)).clamp(0, 1)
            if confirm:
                submit(a, sigma)
            elif not sure:
                ask.submit(a)
        if k % update_every:
            continue
        sphere.append(ask(s))
        inwards.append(hit)
        rate = sum(sphere[-100:]) / 100
        if len(sphere) >= 100 and not 0.2 <= rate <= 0.5:
            factor = adaptation if rate > 0.5 else 1 / adaptation
            delta, epsilon, sphere = delta * factor, epsilon * factor, []
        rate = sum(inwards[-30:]) / 30
        if len(inwards) >= 30 and not 0.1 <= rate <= 0.25:
            epsilon, inwards = epsilon * (adaptation if rate > 0.25 else 1 / adaptation), []
