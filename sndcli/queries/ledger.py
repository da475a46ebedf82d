"""The ledger: what an attack paid for and found, as the oracle writes it down."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Ledger:
    """What an attack on N images paid for and found. B is the number of report points.

    Attributes:
        used: int64 ``[N]``, paid queries.
        phases: for each phase, int64 ``[N]`` queries; they add up to `used`.
        last_l2: ``[N, B]`` distance of the last paid query at each report point (norm of the oracle).
        held: ``[B]`` tensors ``[N, C, H, W]``: the point the attack would hand over at each report point.
        has_held: bool ``[N, B]``.
        events: (owner, query, distance) of every paid query that was answered wrong, closer than all before.
        mismatches: int64 ``[N]``, paid queries whose own label (before any vote) was not the undefended one.
        stop_reason: one word an image.
    """

    used: Tensor
    phases: dict[str, Tensor]
    last_l2: Tensor
    held: list[Tensor]
    has_held: Tensor
    mismatches: Tensor
    stop_reason: list[str]
    events: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)

    def submit_as_it_is(self, x0: Tensor, which: Tensor) -> None:
        """Makes the clean image what is submitted at every report point for `which` ``[N]``: the model errs on it."""
        for held in self.held:
            held[which] = x0[which]
        self.has_held[which] = True

    def events_by_image(self) -> list[list[tuple[int, float]]]:
        """For each image (query, distance), in order."""
        found: list[list[tuple[int, float]]] = [[] for _ in range(len(self.used))]
        if self.events:
            columns = (torch.cat(column).tolist() for column in zip(*self.events, strict=True))
            for owner, query, distance in zip(*columns, strict=True):
                found[owner].append((query, distance))
        return found

    def events_of(self, image: int) -> list[tuple[int, float]]:
        """(query, distance) of one image, in order."""
        return self.events_by_image()[image]


def best_distance(events: Sequence[tuple[int, float]], budget: int) -> float:
    """Closest wrong answer within `budget`; infinite where there was none."""
    return min((distance for query, distance in events if query <= budget), default=math.inf)
