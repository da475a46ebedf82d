"""HSJA-NA for one image: ours, HopSkipJump with PopSkipJump's radii and steps, votes, and a measured noise."""

from __future__ import annotations

import math
from itertools import count

import torch
from torch import Tensor

from reference.decisions import Ask, Draw, bisect, uniform_start, vote
from reference.hsja import direction
from reference.noise import Confirmed, measured


class Prior(Draw):
    """Draws of correlated colours, larger in the middle of the image."""

    colour: float = 0.0
    window: float = 0.0

    def normal(self, shape: tuple[int, ...] = ()) -> Tensor:
        """As `Draw.normal`, with covariance C."""
        u = super().normal(shape)
        common = u.mean(0)
        own, shared = math.sqrt(1 - self.colour), math.sqrt(1 + (len(u) - 1) * self.colour)
        u = own * (u - common) + shared * common  # C's eigenvectors: the differences of colours, and grey
        if not self.window:
            return u
        _, height, width = u.shape
        square = [[((2 * i + 1) / height - 1) ** 2 + ((2 * j + 1) / width - 1) ** 2 for j in range(width)]
                  for i in range(height)]  # fmt: skip
        variance = torch.exp(-torch.tensor(square) / (2 * self.window**2))
        return u * (variance / variance.mean()).sqrt()


def hsja_na(
    x: Tensor,
    ask: Ask,
    draw: Draw,
    *,
    sigma_hat: str,
    pairs: int,
    floor: float,
    grid: int,
    votes: int,
    lead: int,
    fineness: float,
    initial_evals: int,
    max_evals: int,
    step: float,
    outward: float,
    overshoot: float,
    safety: float,
    confirm: int,
    confirm_lead: int,
    start_scale: float,
    start_draws: int,
    colour: float,
    window: float,
    eps: float = math.inf,
) -> None:
    """Submits after each projection a point a little further out, which `confirm` answers confirm."""
    prior = Prior(draw.streams, draw.image, draw.shape)
    prior.colour, prior.window = colour, window
    sigma, root_d = 0.0, math.sqrt(x.numel())
    submit = Confirmed(ask, x, eps, confirm, confirm_lead, overshoot, safety)
    if sigma_hat != "estimate":
        sigma = float(sigma_hat)

    def decided(z: Tensor) -> bool:
        return vote(ask, z, votes, lead)

    def width_at(far: Tensor) -> float:
        return min(0.5, max(1.5 / grid, fineness * sigma / max(ask.distance(far), 1e-6)))

    def projected(far: Tensor) -> Tensor:
        found = bisect(decided, x, far, width_at(far))
        submit(found, sigma)
        return found

    if start_scale:
        start = growing_start(x, ask, draw, prior, start_scale, start_draws, votes, lead)
    else:
        start = uniform_start(ask, draw, start_draws)
    if start is None:
        return
    far = start
    point = projected(far)
    if sigma_hat == "estimate":
        sigma = measured(x, point, ask, draw, pairs)
    for t in count(1):
        answers = 1.0 if votes == 1 else 1.5 * lead if lead else 0.75 * votes  # expected of a vote
        reserve = math.ceil(answers * math.ceil(math.log2(1 / width_at(far)))) + (confirm_lead + 1 if confirm else 0)
        n = min(int(initial_evals * math.sqrt(t)), max_evals, ask.left - reserve)
        if ask.distance(point) < 1e-6 or n < min(30, initial_evals):
            return
        delta = max(1.5 * root_d * ask.distance(far) / grid, floor * sigma * root_d)
        v = direction(point, ask, prior, n, delta)
        z = (point + step * ask.distance(point) / math.sqrt(t) * v).clamp(0, 1)
        far = (z + outward * (z - x)).clamp(0, 1)
        point = projected(far)


def growing_start(
    x: Tensor, ask: Ask, draw: Draw, prior: Draw, scale: float, draws: int, votes: int, lead: int
) -> Tensor | None:
    """Noise that grows by a tenth a try up to 0.5, then of four sizes in turn, plain and from the prior."""
    growing = math.ceil(math.log(0.5 / scale) / math.log(1.1))
    for k in range(draws):
        if k < growing:
            noise = scale * 1.1**k * prior.normal()
        else:
            late = k - growing
            noise = (0.12, 0.24, 0.48, 0.96)[late % 4] * (prior if late // 4 % 2 else draw).normal()
        z = (x + noise).clamp(0, 1)
        if ask(z) and vote(ask, z, votes, lead):
            ask.submit(z)
            return z
    return None
