"""GeoDA for one image (Rahmati, Moosavi-Dezfooli, Frossard and Dai, CVPR 2020, algorithm 1)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from reference.decisions import Ask, Draw, vote
from reference.noise import Confirmed, noise_scale


def geoda(
    x: Tensor,
    ask: Ask,
    draw: Draw,
    *,
    sub_dim: int,
    probe: float,
    tolerance: float,
    allocation: float,
    step: float,
    steps: int,
    start_draws: int,
    sigma_hat: str,
    votes: int,
    confirm: int,
    eps: float,
) -> None:
    """Goes from the clean image along the summed estimates of the normal; submits the closest boundary point.

    Ours: an iteration starts only with more than 25 queries left and probes with what is left beyond those. With a
    noise σ̂ probes are 2σ̂ or more and bisections end at σ̂; all but probes are decided by votes, for which 25 decisions'
    worth is kept back; with `confirm` every boundary point is submitted by `Confirmed`.
    """
    sigma, submit = noise_scale(x, ask, draw, sigma_hat), Confirmed(ask, x, eps, confirm)
    reserve, best = 25 * (votes + 1) // 2, math.inf

    def decided(z: Tensor) -> bool:
        return vote(ask, z, votes)

    def on_boundary(z: Tensor) -> Tensor:
        nonlocal best
        found = bisect(decided, x, z, tolerance)
        if confirm:
            submit(found, sigma)
        else:
            best = ask.hold_if_closer(found, best)
        return found

    # The authors' numbers are of 224 x 224 pixels over a standard deviation of 0.226 (`geoda_plan.rescaled`).
    part = 0.226 * math.sqrt(x.numel() / (3 * 224 * 224))
    probe, tolerance = probe or 2e-4 * 0.226, tolerance or 1e-4 * part
    step = step or 5 * (part if ask.norm == "linf" else 0.226)
    probe, tolerance = max(probe, 2 * sigma), max(tolerance, sigma)
    plan = allocated(ask.budget, allocation)
    basis = low_frequencies(x.shape[-1], sub_dim or max(1, 75 * x.shape[-1] // 224))
    for k in range(1, start_draws + 1):
        z = (x + 0.02 * k * draw.normal()).clamp(0, 1)
        if decided(z):
            ask.submit(z)
            break
    else:
        return
    b = on_boundary(z)
    normal = torch.zeros_like(x)
    for planned in plan:
        n = min(planned, ask.left - reserve)
        if n < 1 or ask.distance(b) < 1e-6:
            return
        for _ in range(n):
            weights = draw.normal((len(x), len(basis)))
            eta = torch.stack([sum(w * image for w, image in zip(row, basis, strict=True)) for row in weights])
            z = (b + probe * eta).clamp(0, 1)
            normal += (1 if ask(z) else -1) * (z - b) / probe / n
        way = normal if ask.norm == "l2" else normal.sign() / normal.norm()
        for k in range(1, steps + 1):
            z = (x + step * k * way).clamp(0, 1)
            if decided(z):
                b = on_boundary(z)
                break


def bisect(ask: Callable[[Tensor], bool], x: Tensor, z: Tensor, tolerance: float) -> Tensor:
    """The adversarial end of an interval that is shorter than `tolerance` in L2."""
    near, far = x, z
    for _ in range(60):
        middle = (near + far) / 2
        ended = middle.equal(near) or middle.equal(far)
        near, far = (near, middle) if ask(middle) else (middle, far)
        if ended or float((near - far).norm()) < tolerance:
            break
    return far


def low_frequencies(side: int, count: int) -> list[Tensor]:
    """The images of the two-dimensional DCT's `count`² lowest frequencies, of length 1."""
    waves = [[math.cos((2 * i + 1) * u * math.pi / (2 * side)) for i in range(side)] for u in range(count)]
    rows = [torch.tensor(wave) / torch.tensor(wave).norm() for wave in waves]
    return [torch.outer(first, second) for first in rows for second in rows]


def allocated(queries: int, allocation: float) -> list[int]:
    """Probes of each iteration (section 3.3): a geometric series of ratio λ^(-2/3), the first from 50 to 80."""

    def shares(total: int, count: int) -> list[int]:
        weights = [allocation ** (-2 / 3 * i) for i in range(count)]
        return [round(total * weight / sum(weights)) for weight in weights]

    def settled(total: int, count: int) -> int:
        seen: list[int] = []
        while count not in seen:
            seen.append(count)
            first = shares(total, count)[0]
            count = count + 1 if first > 80 else max(1, count - 1) if first < 50 else count
        return max(seen) if count != seen[-1] else count

    first_guess = max(1, round(queries / 500))
    count = settled(queries - 25 * first_guess, first_guess)
    total = queries - 25 * count
    return shares(total, settled(total, first_guess))
