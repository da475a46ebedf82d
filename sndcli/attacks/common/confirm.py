"""What a noise-aware attack submits (ours): a point beyond the boundary, confirmed by further answers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sndcli.attacks.common.geometry import straight
from sndcli.attacks.common.noise import Jitter, voted
from sndcli.ball import COLLAPSED
from sndcli.queries.oracle import Oracle

WITHIN = 0.999  # of ε, so that rounding does not put a point on the edge outside
SLACK = 1.1  # the latest point is submitted unless it is that much further out than the closest

Submit = Callable[[Tensor, Tensor, Tensor], None]  # as `Confirmed.__call__`


def submitting(oracle: Oracle, confirm: int, safety: float = 2.0) -> Submit:
    """What the presets do: with `confirm` answers a `Confirmed` 2 % and `safety` σ̂ beyond; else points as they are."""
    if not confirm:
        return lambda found, _, image: oracle.submit(found, image)
    return Confirmed(oracle, 0.02, safety, confirm, 3)


class Confirmed:
    """Submits the first of three points beyond a boundary point, but inside ε where that is, that is confirmed.

    At a boundary point half of the answers are adversarial, so it is no success; a little further out most are.

    Args:
        oracle: every answer is paid, in the phase ``confirm``.
        overshoot: how far beyond the boundary point, relative to its distance,
        safety: and by how many σ̂ more. A point that fails is moved twice and then four times as far; where all fail,
            the one before stays.
        votes: answers, at most, that must confirm a point; 0 to ask none.
        lead: ends such a vote.
        share: of adversarial answers that confirms.
        jitter: moves every question of it.

    Attributes:
        reached: distance of the closest point submitted so far, ``[N]``.
    """

    def __init__(
        self,
        oracle: Oracle,
        overshoot: float,
        safety: float,
        votes: int,
        lead: int,
        share: float = 0.5,
        jitter: Jitter | None = None,
    ) -> None:
        self.oracle, self.overshoot, self.safety, self.votes = oracle, overshoot, safety, votes
        self._ask = voted(votes, lead, share, jitter)
        self.reached = torch.full((len(oracle.x0),), torch.inf, dtype=torch.float64, device=oracle.x0.device)

    def __call__(self, found: Tensor, sigma_hat: Tensor, image: Tensor) -> None:
        """Submits for boundary points `found` ``[n, C, H, W]`` of the images `image`, with their σ̂ ``[n]``."""
        oracle, pending = self.oracle, torch.arange(len(image), device=image.device)
        distance = oracle.distance(found, image).clamp_min(COLLAPSED)
        beyond = self.overshoot + self.safety * sigma_hat / distance
        edge = WITHIN * oracle.eps / distance  # of the ball of ε
        for k in (1, 2, 4) if self.votes else (1,):
            further = torch.where(edge >= 1, torch.minimum(1 + k * beyond, edge), 1 + k * beyond)[pending]
            whose = image[pending]
            sent = straight(oracle.x0[whose], found[pending], further).clamp_(0.0, 1.0)
            length = oracle.distance(sent, whose)
            good = length <= SLACK * self.reached[whose]  # the closest of many noisy ones is a lucky one
            if self.votes:
                asked = good.nonzero().squeeze(1)
                good[asked] = self._ask(oracle, sent[asked], whose[asked], "confirm") == 1
            self.reached[whose[good]] = torch.minimum(self.reached[whose[good]], length[good])
            oracle.submit(sent[good], whose[good])
            pending = pending[~good]
