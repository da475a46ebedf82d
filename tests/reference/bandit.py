"""Bandits with time and data priors of one image: Ilyas, Engstrom and Madry, ICLR 2019, algorithms 1 to 3.

The scale of the estimate is that of the authors' code, where the exploration e has length about δ and G = c e.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .score_common import Ask, Draw, cross_entropy, length, project, wins


def attack(
    x0: Tensor, y: int, draw: Draw, ask: Ask, eps: float, norm: str, *, fd_eta: float, exploration: float,
    online_lr: float, image_lr: float, tiles: int,
) -> Tensor:  # fmt: skip
    """Two probes an iteration; where one errs outside of the ball, the new iterate is asked too."""
    channels = x0.shape[0]
    ask(x0)
    x, v = x0, torch.zeros(channels, tiles, tiles, dtype=x0.dtype)
    while ask.left >= 2:
        e = exploration * draw.normal(channels, tiles, tiles) / math.sqrt(channels * tiles * tiles)
        probes = [x + fd_eta * normalised(upsampled(v + sign * e, x0)) for sign in (1, -1)]
        answers = ask(*probes)
        c = (cross_entropy(answers[0], y) - cross_entropy(answers[1], y)) / (fd_eta * exploration)
        v = updated(v, c * e, online_lr, norm)
        ascent = upsampled(v, x0)
        x = project(x + image_lr * (ascent.sign() if norm == "linf" else normalised(ascent)), x0, eps, norm)
        for probe, p in zip(probes, answers, strict=True):
            if wins(p, y, probe, x0, eps, norm):
                return probe.clamp(0, 1)
        if any(int(p.argmax()) != y for p in answers) and ask.left and wins(ask(x)[0], y, x, x0, eps, norm):
            return x
    return x


def normalised(v: Tensor) -> Tensor:
    return v / max(length(v), 1e-8)


def upsampled(v: Tensor, x0: Tensor) -> Tensor:
    """Pixel (i, j) has the value of tile (⌊i t / H⌋, ⌊j t / W⌋)."""
    _, height, width = x0.shape
    tiles = v.shape[1]
    rows = [i * tiles // height for i in range(height)]
    columns = [j * tiles // width for j in range(width)]
    return v[:, rows][:, :, columns]


def updated(v: Tensor, g: Tensor, lr: float, norm: str) -> Tensor:
    """L2: gradient ascent. L∞: exponentiated gradients on [-1, 1], where r = (v + 1) / 2 is a probability."""
    if norm == "l2":
        return v + lr * g
    odds = torch.log1p(v) - torch.log1p(-v) + 2 * lr * g  # log r / (1 - r)
    return (2 * torch.sigmoid(odds) - 1).clamp(-1 + 1e-6, 1 - 1e-6)
