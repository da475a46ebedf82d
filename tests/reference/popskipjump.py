"""PopSkipJump for one image (Simon-Gabriel, Sheikh and Krause, ICML 2021)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reference.decisions import Ask, Draw, straight, uniform_start, vote
from reference.hsja import direction

SLOPES = [10 ** (-1 + 0.1 * i) for i in range(31)]
FLOORS = [0.05 * i for i in range(7)]


def popskipjump(
    x: Tensor,
    ask: Ask,
    draw: Draw,
    *,
    grid: int,
    iterations: int,
    initial_evals: int,
    max_evals: int,
    max_share: float,
    reserve: int,
    outward: float,
    start_draws: int,
    start_votes: int,
) -> None:
    """Submits the estimate of p = 1/2, or a point `outward` cells before it (ours), after each search."""
    start = uniform_start(ask, draw, start_draws, lambda z: vote(ask, z, start_votes))
    if start is None:
        return
    far, floors = start, FLOORS
    for t in range(1, iterations + 2):
        position, slope, floor = infomax(x, far, ask, draw, grid, floors)
        floors, position = [floor], min(position, 1 - 1 / (2 * grid))
        point = straight(x, far, 1 - position)
        before = outward * max(1 / (6 * slope), 1 / grid)
        ask.submit(straight(x, far, 1 - max(0.0, position - before)))
        if t > iterations or ask.distance(point) < 1e-6:
            return
        n_det = int(initial_evals * math.sqrt(t))
        loss = math.sqrt(2 / math.pi) * math.exp(-0.5) / ((1 - 2 * floor) * alpha(slope / grid, 1.0))
        n = min(int(n_det * loss**2), max_evals)  # whose cosine is that of n_det noise-free ones
        left = ask.left - reserve
        n = min(n, max(int(max_share * left), n_det), left)
        if n < n_det:
            return
        v = direction(point, ask, draw, n, math.sqrt(x.numel()) * ask.distance(far) / grid)
        z = (point + ask.distance(point) / math.sqrt(t) * v).clamp(0, 1)
        far = (z + 0.5 * (z - x)).clamp(0, 1)


def alpha(s: float, theta: float) -> float:
    """Mean signal of a probe behind a boundary of slope s, θ of its standard deviations off."""
    root = math.sqrt(2)
    return s * (math.erf((theta + 1 / (2 * s)) / root) - math.erf((theta - 1 / (2 * s)) / root))


def infomax(x: Tensor, far: Tensor, ask: Ask, draw: Draw, grid: int, floors: list[float]) -> tuple[float, float, float]:
    """The most probable (t, s, e) of P(true label at u) = e + (1 - 2e) S(4s(u - t)), before the last answer.

    Ends after 12 answers or more, once the estimate has been the same 11 times.
    """
    places = torch.linspace(0, 1, grid + 1, dtype=torch.float64)
    slopes = torch.tensor(SLOPES, dtype=torch.float64)
    rise = torch.sigmoid(4 * slopes * (places[:, None, None] - places[:, None])).flatten(1)  # [u, (t, s)]
    chance = torch.cat([e + (1 - 2 * e) * rise for e in floors], 1)  # [u, (e, t, s)]
    uncertain = entropy(chance)
    belief = torch.ones(chance.shape[1], dtype=torch.float64)
    guesses: list[int] = []
    while True:
        belief = (belief / belief.sum()).clamp(1e-7, 1 - 1e-7)
        belief = belief / belief.sum()
        guesses.append(int(belief.argmax()))
        information = entropy(chance @ belief) - uncertain @ belief
        place = int((information + 1e-7 * draw.uniform((grid + 1,))).argmax())
        wrong = ask(straight(x, far, 1 - float(places[place])))
        if len(guesses) >= 12 and len(set(guesses[-11:])) == 1:
            break
        belief = belief * (1 - chance[place] if wrong else chance[place])
    e, cell = divmod(guesses[-1], (grid + 1) * len(SLOPES))
    return float(places[cell // len(SLOPES)]), SLOPES[cell % len(SLOPES)], floors[e]


def entropy(p: Tensor) -> Tensor:
    """Of a coin, in nats."""
    return -torch.xlogy(p, p) - torch.xlogy(1 - p, 1 - p)
