"""A vote of noisy passes: randomised smoothing as a classifier.

Cohen, Rosenfeld and Kolter, "Certified Adversarial Robustness via Randomized Smoothing" (ICML 2019), section 3.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sndcli.defenses.base import Defense
from sndcli.defenses.facts import Facts, within
from sndcli.models.opaque import log_probabilities
from sndcli.streams import drawing_part

ROWS = 1024  # of a pass through the network


def facts(n: int = 25, sigma: float = 0.1) -> Facts:
    """Of `Smoothing` with these parameters.

    Raises:
        ConfigError: no pass, or a negative σ.
    """
    within("n", n, 1, 100_000)
    within("sigma", sigma)
    return Facts(random=sigma > 0)


class Smoothing(Defense):
    """The most frequent label of n passes on ``x + σ ξ``; its scores are the labels' shares.

    One query costs n passes. Beside a flat boundary the vote is as random as one pass with noise of
    ``σ √(π / (2 n))``: of σ/4 with n = 25. So a vote takes away the randomness that small noise relies on, and what is
    left is the smoothing, which needs a σ ≥ 0.1 and a network trained for it.

    Differs from the cited work: no abstention and no certificate; a tie goes to the smaller label.

    Args:
        model: maps images ``[M, C, H, W]`` in [0, 1] to logits ``[M, K]``.
        n: passes a query.
        sigma: σ ≥ 0, in units of the [0, 1] pixel scale.
        generator: source of the noise.

    Raises:
        ConfigError: no pass, or a negative σ.
    """

    per_image = True

    def __init__(
        self, model: nn.Module, n: int = 25, sigma: float = 0.1, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(model, generator)
        self.facts = facts(n, sigma)
        self.n, self.sigma = n, float(sigma)

    def forward(self, x: Tensor) -> Tensor:
        """The logarithms of the labels' shares ``[M, K]``; NaN where no pass was answered."""
        step = max(1, ROWS // self.n)
        found = []
        for start in range(0, max(1, len(x)), step):
            piece = x[start : start + step]
            with drawing_part(start, start + len(piece), len(x)):
                found.append(self._shares(piece))
        return log_probabilities(torch.cat(found))

    def _shares(self, x: Tensor) -> Tensor:
        x = x.repeat_interleave(self.n, 0)
        logits = self.model(x + self.sigma * self.normal(x) if self.sigma and len(x) else x)
        answered = ~logits.isnan().any(1, keepdim=True)
        votes = F.one_hot(logits.nan_to_num().argmax(1), logits.shape[1]) * answered
        counts = votes.view(-1, self.n, votes.shape[1]).sum(1)
        shares: Tensor = counts / answered.view(-1, self.n).sum(1, keepdim=True)
        return shares

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"n={self.n}, sigma={self.sigma}"
