"""HSJA-NA for one image: ours, HopSkipJump with PopSkipJump's radii and steps, votes, and a measured noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import count

import torch
from scipy.fft import idctn
from torch import Tensor

from reference.decisions import Ask, Draw, OutOfBudget, ball, bisect, straight, uniform_start, vote
from reference.hsja import probed
from reference.noise import Confirmed, measured


class Prior(Draw):
    """Draws of correlated colours, larger in the middle of the image."""

    colour: float = 0.0
    window: float = 0.0
    reduce: int = 0

    def normal(self, shape: tuple[int, ...] = ()) -> Tensor:
        """As `Draw.normal`, with covariance C."""
        u = self.low() if self.reduce > 1 else super().normal(shape)
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

    def low(self) -> Tensor:
        """White noise of the lowest frequencies, of variance 1 on average."""
        channels, height, width = self.shape
        rows, columns = height // self.reduce, width // self.reduce
        spectrum = torch.zeros(self.shape, dtype=self.dtype)
        spectrum[:, :rows, :columns] = super().normal((channels, rows, columns))
        u = torch.from_numpy(idctn(spectrum.numpy(), axes=(1, 2), norm="ortho"))
        return u * math.sqrt(height * width / (rows * columns))


def hsja_na(
    x: Tensor,
    ask: Ask,
    draw: Draw,
    *,
    sigma_hat: str,
    pairs: int,
    floor: float,
    bend: float,
    widest: float,
    grid: int,
    votes: int,
    lead: int,
    share: float,
    fineness: float,
    initial_evals: int,
    max_evals: int,
    step: float,
    halvings: int,
    memory: float,
    outward: float,
    overshoot: float,
    safety: float,
    confirm: int,
    confirm_lead: int,
    start_scale: float,
    start_draws: int,
    colour: float | None,
    window: float | None,
    reduce: int | None,
    eps: float = math.inf,
) -> None:
    """Submits after each projection a point a little further out, which `confirm` answers confirm."""
    prior = Prior(draw.streams, draw.image, draw.shape)
    prior.colour = 0.8 if colour is None else colour  # as measured on small pictures
    prior.window = 0.6 if window is None else window
    prior.reduce = reduce or 0
    linf = ask.norm == "linf"
    path = ball if linf else straight
    sigma, root_d = 0.0, math.sqrt(x.numel())
    submit = Confirmed(ask, x, eps, confirm, confirm_lead, overshoot, safety, share=share)
    if sigma_hat != "estimate":
        sigma = float(sigma_hat)

    def decided(z: Tensor) -> bool:
        return vote(ask, z, votes, lead, share)

    def all_yes(votes: int, lead: int, share: float) -> int:
        most = math.ceil(share * votes - 1e-9)
        return min(most, math.ceil(lead / (2 * (1 - share)) - 1e-9)) if lead else most

    def in_l2(z: Tensor) -> float:
        return max(float((z.clamp(0, 1) - x).norm()), 1e-6)

    def width_at(far: Tensor) -> float:
        return min(0.5, max(1.5 / grid, fineness * sigma / in_l2(far)))

    def projected(far: Tensor) -> Tensor:
        found = bisect(decided, x, far, width_at(far), path)
        submit(found, sigma * ask.distance(found) / in_l2(found))
        return found

    def stepped(point: Tensor, target: Tensor) -> Tensor | None:
        for k in range(halvings + 1):
            z: Tensor = point + (target - point) / 2.0**k
            z = (z + outward * (z - x)).clamp(0, 1)
            if not halvings or decided(z):
                return z
        return None

    if start_scale:
        start = growing_start(x, ask, draw, prior, start_scale, start_draws, decided)
    else:
        start = uniform_start(ask, draw, start_draws)
    if start is None:
        return
    far = start
    point = projected(far)
    if sigma_hat == "estimate":
        sigma = measured(x, point, ask, draw, pairs)
    total = torch.zeros_like(x)
    for t in count(1):
        a_vote = all_yes(votes, lead, share) + all_yes(votes, lead, 1 - share) if lead else votes
        answers = 1.0 if votes == 1 else 0.75 * a_vote
        reserve = math.ceil(answers * math.ceil(math.log2(1 / width_at(far))))
        reserve += all_yes(votes, lead, share) if halvings else 0
        reserve += all_yes(confirm, confirm_lead, share) + 1 if confirm else 0
        n = min(int(initial_evals * math.sqrt(t)), max_evals, ask.left - reserve)
        if ask.distance(point) < 1e-6 or n < min(30, initial_evals):
            return
        a = max(1.5 * in_l2(far) / grid, bend * math.sqrt(sigma) if bend else floor * sigma)
        v = probed(point, ask, prior, n, root_d * (min(a, widest) if widest else a))
        if linf:
            total = memory * total + v
            target = x + ask.distance(point) * total.sign()
        else:
            target = point + step * ask.distance(point) / math.sqrt(t) * (v / v.norm() if v.norm() > 0 else v)
        try:
            z = stepped(point, target.clamp(0, 1))
        except OutOfBudget:
            return
        if z is not None:
            far = z
            point = projected(far)


def growing_start(
    x: Tensor, ask: Ask, draw: Draw, prior: Draw, scale: float, draws: int, decided: Callable[[Tensor], bool]
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
        if ask(z) and decided(z):
            ask.submit(z)
            return z
    return None
