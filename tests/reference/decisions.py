"""What the plain forms of label attacks are given (who answers, who draws), and the geometry of one image."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sndcli.streams import Streams

ROUNDING = 1e-9

Path = Callable[[Tensor, Tensor, float], Tensor]


class OutOfBudget(Exception):
    """There was no query left for a question."""


@dataclass
class Draw:
    """Random numbers of one image, row after row, in a type."""

    streams: Streams
    image: int
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32

    def normal(self, shape: tuple[int, ...] = ()) -> Tensor:
        """One standard normal tensor of the image's shape, or of `shape`."""
        return self.streams.normal(
            torch.tensor([self.image]), torch.zeros(1, *(shape or self.shape), dtype=self.dtype)
        )[0]

    def uniform(self, shape: tuple[int, ...] = ()) -> Tensor:
        """As `normal`, uniform on [0, 1)."""
        return self.streams.uniform(
            torch.tensor([self.image]), torch.zeros(1, *(shape or self.shape), dtype=self.dtype)
        )[0]


@dataclass
class Ask:
    """Answers one question at a time until the budget ends, and remembers what it was asked.

    Attributes:
        victim: label of a point.
        x: the clean image.
        y: its label.
        budget: questions, at most.
        norm: ``l2`` or ``linf``.
        sent: every point asked about, and
        labels: its label.
        submitted: what the attack would submit now.
    """

    victim: Callable[[Tensor], int]
    x: Tensor
    y: int
    budget: int
    norm: str = "l2"
    sent: list[Tensor] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    submitted: Tensor | None = None

    @property
    def left(self) -> int:
        """Questions that can still be asked."""
        return self.budget - len(self.sent)

    def label(self, z: Tensor) -> int:
        """The label of `z`, clipped to [0, 1]; `OutOfBudget` where no query is left."""
        if not self.left:
            raise OutOfBudget
        self.sent.append(z.clamp(0, 1))
        self.labels.append(self.victim(self.sent[-1]))
        return self.labels[-1]

    def __call__(self, z: Tensor) -> bool:
        """Whether `z` is adversarial (untargeted: any wrong label)."""
        return self.label(z) != self.y

    def submit(self, z: Tensor) -> None:
        """Declares what is submitted from now on."""
        self.submitted = z.clamp(0, 1)

    def hold_if_closer(self, z: Tensor, best: float) -> float:
        """Holds `z` if it is closer than `best`; the distance of the closer of both."""
        if self.distance(z) < best:
            self.submit(z)
        return min(best, self.distance(z))

    def distance(self, z: Tensor) -> float:
        """Distance of `z`, clipped to [0, 1], from the clean image."""
        difference = z.clamp(0, 1) - self.x
        return float(difference.abs().max() if self.norm == "linf" else difference.norm())


def straight(x: Tensor, z: Tensor, e: float) -> Tensor:
    """The point of the segment from `x` (e = 0) to `z` (e = 1)."""
    return (1 - e) * x + e * z


def ball(x: Tensor, z: Tensor, e: float) -> Tensor:
    """`z` projected onto the L∞ ball around `x` of radius e‖z - x‖∞."""
    radius = e * float((z - x).abs().max())
    return x + (z - x).clamp(-radius, radius)


def bisect(ask: Callable[[Tensor], bool], x: Tensor, z: Tensor, width: float, path: Path = straight) -> Tensor:
    """The adversarial end of the last interval, of e ≤ `width` or where the budget ends; `z` is not asked about."""
    low, high = 0.0, 1.0
    for _ in range(math.ceil(math.log2(1 / width))):
        middle = (low + high) / 2
        try:
            low, high = (low, middle) if ask(path(x, z, middle)) else (middle, high)
        except OutOfBudget:
            break
    return path(x, z, high)


def uniform_start(ask: Ask, draw: Draw, draws: int, confirmed: Callable[[Tensor], bool] | None = None) -> Tensor | None:
    """The first uniform noise image that is adversarial, submitted; None where there is none."""
    for _ in range(draws):
        z = draw.uniform()
        if (confirmed or ask)(z):
            ask.submit(z)
            return z
    return None


def vote(ask: Callable[[Tensor], bool], z: Tensor, votes: int, lead: int = 0, share: float = 0.5) -> bool:
    """Whether `share` of `votes` answers are adversarial, asked until that is decided or one side leads by `lead`.

    A yes puts that side ahead by 2(1 - share), a no the other by 2 share.
    """
    yes = no = 0
    while True:
        hit = ask(z)
        yes, no = yes + hit, no + (not hit)
        ahead = 2 * (1 - share) * yes - 2 * share * no
        least = share * votes - ROUNDING
        if yes >= least or votes - no < least or (lead and abs(ahead) >= lead - ROUNDING):
            return ahead >= -ROUNDING
