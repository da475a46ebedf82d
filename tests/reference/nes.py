"""Natural evolution strategies of one image: Ilyas, Engstrom, Athalye and Lin, ICML 2018, section 2.1.1, 2.1.2.

Untargeted. The authors' step halves where their loss, over five estimates, went the wrong way.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .score_common import Ask, Draw, cross_entropy, length, margin, project, wins


def attack(
    x0: Tensor, y: int, draw: Draw, ask: Ask, eps: float, norm: str, *, pairs: int, probe: float, lr: float,
    momentum: float, loss: str, plateau: int = 0, least: float = 5e-5,
) -> Tensor:  # fmt: skip
    """Antithetic estimates of the gradient; a wrong answer outside of the ball makes it ask the iterate too."""
    L = cross_entropy if loss == "cross-entropy" else margin
    ask(x0)
    x, g = x0, torch.zeros_like(x0)
    history: list[float] = []
    while ask.left >= 2:
        probes: list[Tensor] = []
        answers: list[Tensor] = []
        losses: list[float] = []
        estimate = torch.zeros_like(x0)
        q = min(pairs, ask.left // 2)
        for _ in range(q):
            u = draw.normal(*x0.shape)
            two = [x + probe * u, x - probe * u]
            told = ask(*two)
            up, down = L(told[0], y), L(told[1], y)
            estimate += (up - down) * u / (2 * q * probe)
            probes, answers, losses = probes + two, answers + told, [*losses, up, down]
        g = momentum * g + (1 - momentum) * estimate
        history.append(sum(losses) / len(losses))
        if plateau and len(history) == plateau:
            if history[-1] < history[0]:
                lr, history = max(lr / 2, least), []
            else:
                history = history[1:]
        ascent = g.sign() if norm == "linf" else g / max(length(g), 1e-37)
        x = project(x + lr * ascent, x0, eps, norm)
        for point, p in zip(probes, answers, strict=True):
            if wins(p, y, point, x0, eps, norm):
                return point.clamp(0, 1)
        if any(int(p.argmax()) != y for p in answers) and ask.left and wins(ask(x)[0], y, x, x0, eps, norm):
            return x
    return x
