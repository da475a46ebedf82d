"""Scores that mislead on purpose (ours): noticed by their trend, and outrun by wider probes."""

from __future__ import annotations

import torch
from torch import Tensor

STEP, WIDEST, ENOUGH = 1.3, 0.06, 3.0


class Trend:
    """How much wider probes should be, for each image: 1 where the score rises as an honest one does.

    A defense that obfuscates scores adds a staircase to the margin that turns its slope around on intervals of a few
    logits, and leaves labels alone. An attack that follows it falls by a stair and stays there: the mean score of its
    probes rises no more. Probes whose scores differ by more than the stairs see the margin's own slope again.

    Args:
        images: N.
        blocks: that the trend is of, the latest; 0 never widens.
        device: of the answers.
    """

    def __init__(self, images: int, blocks: int, device: torch.device) -> None:
        self.blocks, self.seen = blocks, torch.zeros(images, dtype=torch.int64, device=device)
        self.means = torch.zeros(images, max(1, blocks), dtype=torch.float64, device=device)
        self.wider = torch.ones(images, dtype=torch.float64, device=device)

    def see(self, image: Tensor, even: Tensor, odd: Tensor) -> None:
        """Half the sums and differences of the scores of pairs, ``[n, P]``; NaN where there is none."""
        if not self.blocks:
            return
        self.means[image] = torch.cat([self.means[image, 1:], even.nanmean(1, keepdim=True)], 1)
        self.seen[image] += 1
        time = torch.arange(self.blocks, dtype=torch.float64, device=image.device)
        slope = self.means[image] @ (time - time.mean())
        narrow = odd.square().nanmean(1).sqrt() < ENOUGH
        misled = image[(self.seen[image] >= self.blocks) & (slope <= 0) & narrow]
        self.wider[misled] *= STEP

    def applied(self, a: Tensor) -> Tensor:
        """Scales ``[N]`` of probes, widened to at most `WIDEST` where they are."""
        return torch.where(self.wider > 1, (a * self.wider).clamp(max=WIDEST), a)
