"""Subspace attack of one image: Guo, Yan and Zhang, NeurIPS 2019, algorithm 1, with the authors' momentum prior."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .score_common import Ask, Draw, length, margin, project, wins

Gradient = Callable[[Tensor, int, int], Tensor]  # (x, best wrong class, y) -> ∂(z_wrong - z_y)/∂x of a reference model


def attack(
    x0: Tensor, y: int, draw: Draw, ask: Ask, eps: float, norm: str, *, image_lr: float, fd_eta: float = 0.1,
    exploration: float = 0.1, prior_lr: float = 1.0, gradient: Gradient | None = None,
) -> Tensor:  # fmt: skip
    """Two probes along the reference's gradient, then the new iterate, which says what to look at next."""
    (p,) = ask(x0)
    x, v = x0, torch.zeros_like(x0)
    while ask.left >= 2:
        wrong = max((j for j in range(len(p)) if j != y), key=lambda j: float(p[j]))
        if gradient is None:
            r = draw.normal(*x0.shape)
        else:
            draw.uniform(1)  # which reference model: there is one
            r = gradient(x, wrong, y)
        r = r / length(r)
        probes = []
        for sign in (1, -1):
            q = v + sign * exploration * r
            probes.append(x + fd_eta * q / length(q))
        answers = ask(*probes)
        slope = (margin(answers[0], y) - margin(answers[1], y)) / (fd_eta * exploration)
        g = slope * r
        if slope:
            v = v + prior_lr * g / float(g.abs().sum())
        x = project(x + image_lr * (v.sign() if norm == "linf" else v / max(length(v), 1e-37)), x0, eps, norm)
        for probe, told in zip(probes, answers, strict=True):
            if wins(told, y, probe, x0, eps, norm):
                return probe.clamp(0, 1)
        if not ask.left:
            break
        (p,) = ask(x)
        if wins(p, y, x, x0, eps, norm):
            return x
    return x
