"""NATTACK for one image: Li, Li, Wang, Zhang and Gong, ICML 2019, algorithm 1. Images of at most 32 x 32."""

from __future__ import annotations

import torch
from torch import Tensor

from .score_common import Ask, Draw, confirmed, length, margin, project, wins


def attack(
    x0: Tensor, y: int, draw: Draw, ask: Ask, eps: float, norm: str, *,
    population: int, lr: float, loss: str = "margin", confirm: int = 0, spread: float = 0.1, init: float = 0.001,
) -> Tensor:  # fmt: skip
    """The mean of a Gaussian in the space before tanh climbs the z-scored rewards of its samples."""
    h = torch.atanh((2 * x0 - 1) * (1 - 1e-6))
    clean = (1 + torch.tanh(h)) / 2

    def moved(mu: Tensor) -> Tensor:
        return (1 + torch.tanh(h + mu)) / 2 - clean

    def reward(p: Tensor) -> float:
        return float(p[y].clamp_min(1e-37).log()) / -2 if loss == "py" else -max(0.0, -margin(p, y)) / 2

    ask(x0)
    mu = init * draw.normal(*x0.shape)
    while True:
        x = project(x0 + moved(mu), x0, eps, norm)
        if not ask.left:
            return x
        if wins(ask(x)[0], y, x, x0, eps, norm) and (not confirm or confirmed(ask, x, y, confirm)):
            return x
        n = min(population, ask.left)
        if n < min(30, population):
            return x
        noise, rewards = [], []
        for _ in range(n):
            e = draw.normal(*x0.shape)
            change = moved(mu + spread * e)
            z = x0 + eps * change / length(change) if norm == "l2" else x0 + change.clamp(-eps, eps)
            noise.append(e)
            rewards.append(reward(ask(z)[0]))
        r = torch.tensor(rewards, dtype=torch.float64)
        a = (r - r.mean()) / (r.std(correction=0) + 1e-7)
        for weight, e in zip(a, noise, strict=True):
            mu = mu + lr / (n * spread) * weight * e
