"""What the references of the score attacks share: one image's draws, its budget, its losses and its ball.

All in float64, so that a rounding error never decides a comparison.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sndcli.streams import ImageStreams


class OutOfBudget(Exception):
    """More questions than are left."""


class Draw:
    """The random numbers of one image, in the order in which its attack asks for them."""

    def __init__(self, seed: int, image_id: int) -> None:
        self.streams = ImageStreams(seed, [image_id], "attack")

    def normal(self, *shape: int) -> Tensor:
        return self.streams.normal(torch.tensor([0]), torch.empty(1, *shape, dtype=torch.float64))[0]

    def uniform(self, *shape: int) -> Tensor:
        return self.streams.uniform(torch.tensor([0]), torch.empty(1, *shape, dtype=torch.float64))[0]

    def signs(self, *shape: int) -> Tensor:
        """+1 or -1."""
        return torch.where(self.uniform(*shape) < 0.5, -1.0, 1.0)


class Ask:
    """Probabilities of a few points, one after the other; counts them and keeps them in `sent`."""

    def __init__(self, victim: Callable[[Tensor], Tensor], budget: int) -> None:
        self.victim, self.budget = victim, budget
        self.sent: list[Tensor] = []

    @property
    def left(self) -> int:
        return self.budget - len(self.sent)

    def __call__(self, *points: Tensor) -> list[Tensor]:
        if len(points) > self.left:
            raise OutOfBudget
        clipped = [point.clamp(0, 1) for point in points]
        self.sent += clipped
        return [self.victim(point[None]).softmax(1)[0] for point in clipped]


def margin(p: Tensor, y: int) -> float:
    """max_{j≠y} z_j - z_y."""
    z = p.double().clamp_min(1e-37).log()
    return max(float(z[j]) for j in range(len(z)) if j != y) - float(z[y])


def cross_entropy(p: Tensor, y: int) -> float:
    return -float(p[y].double().clamp_min(1e-37).log())


def length(v: Tensor) -> float:
    return float(v.double().square().sum().sqrt())


def inside(point: Tensor, x0: Tensor, eps: float, norm: str) -> bool:
    """Within ε of the clean image; a point on the surface is, whatever float32 makes of it."""
    d = point.clamp(0, 1) - x0
    return (float(d.abs().max()) if norm == "linf" else length(d)) <= eps * (1 + 1e-6)


def project(x: Tensor, x0: Tensor, eps: float, norm: str) -> Tensor:
    d = x - x0
    if norm == "linf":
        d = d.clamp(-eps, eps)
    elif length(d) > eps:
        d = d * (eps / length(d))
    return (x0 + d).clamp(0, 1)


def wins(p: Tensor, y: int, point: Tensor, x0: Tensor, eps: float, norm: str) -> bool:
    """A wrong answer inside the ball ends an attack."""
    return int(p.argmax()) != y and inside(point, x0, eps, norm)


def averaged(ask: Ask, point: Tensor, draws: int) -> Tensor:
    """Mean probabilities of several answers about one point (ours, for noise)."""
    answers = [ask(point)[0] for _ in range(draws)]
    return torch.stack(answers).mean(0)


def confirmed(ask: Ask, point: Tensor, y: int, votes: int, lead: int = 5) -> bool:
    """Whether most of `votes` more answers are wrong, or the first side to lead by `lead` is that (ours, for noise)."""
    wrong = right = 0
    while max(wrong, right) <= votes // 2 and abs(wrong - right) < lead:
        if int(ask(point)[0].argmax()) != y:
            wrong += 1
        else:
            right += 1
    return wrong > right
