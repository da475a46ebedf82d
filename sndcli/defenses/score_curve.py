"""Scores that mislead by rule, AAA: "Adversarial Attack on Attackers" (Chen et al., NeurIPS 2022, section 3).

Deterministic, and labels stay: against attacks that see labels alone it is no defense at all.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from sndcli.defenses.base import Defense
from sndcli.defenses.facts import Facts, within
from sndcli.errors import ConfigError

Shape = Literal["linear", "sine"]
PERIODS = {"linear": 4.0, "sine": 6.0}
HEIGHT, CONFIDENCE, STEPS, RATE = 0.7, 5.0, 100, 0.1
MOMENTS = (0.9, 0.999)  # of Adam
LEAST = 1e-4  # margin that is left to the label


def linear_facts(tau: float = PERIODS["linear"]) -> Facts:
    """Of `ScoreCurve` with straight pieces of length τ.

    Raises:
        ConfigError: τ is not positive.
    """
    within("tau", tau, open_end=True)
    return Facts(random=False)


def sine_facts(tau: float = PERIODS["sine"]) -> Facts:
    """Of `ScoreCurve` with a sine of period τ.

    Raises:
        ConfigError: τ is not positive.
    """
    return linear_facts(tau)


class ScoreCurve(Defense):
    """Moves logits so that their margin l becomes ``l_t(l)``, while the confidence stays.

    ``linear``: l_t = 2 A - l with A the middle of l's interval of length τ: every interval slopes the wrong way.
    ``sine``: l_t = l - 0.7 τ sin(π (1 - 2 (l - A)/τ)). The logits are found by 100 steps of Adam, rate 0.1, on
    ``|l(z) - l_t| + 5 |p_top(z) - p_top|``, for all rows at once and without the network.

    Differs from the released code: where the last step has lost the label, its logit is put 1e-4 above the others.

    Args:
        model: maps images ``[M, C, H, W]`` in [0, 1] to logits ``[M, K]``.
        shape: of the curve.
        tau: τ > 0, in units of the logits; None: 4 of linear, 6 of sine.
        generator: of nothing; nothing is drawn.

    Raises:
        ConfigError: another shape, or τ is not positive.
    """

    per_image = True

    def __init__(
        self,
        model: nn.Module,
        shape: Shape = "linear",
        tau: float | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(model, generator)
        if shape not in PERIODS:
            raise ConfigError(f"Expected `shape` to be linear or sine but got {shape}.")
        self.shape, self.tau = shape, PERIODS[shape] if tau is None else float(tau)
        self.facts = linear_facts(self.tau)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[M, K]``."""
        logits: Tensor = self.model(x).float()
        return self.moved(logits) if len(logits) else logits

    def target(self, margin: Tensor) -> Tensor:
        """l_t for margins l ≥ 0."""
        middle = (torch.round(margin / self.tau + 0.5) - 0.5) * self.tau
        if self.shape == "linear":
            return 2 * middle - margin
        return margin - HEIGHT * self.tau * torch.sin(math.pi * (1 - 2 * (margin - middle) / self.tau))

    def moved(self, logits: Tensor) -> Tensor:
        """Logits ``[M, K]`` with the margin asked for, as near as it gets."""
        top = logits.argmax(1, keepdim=True)
        is_top = torch.zeros_like(logits).scatter(1, top, 1.0)
        others = torch.zeros_like(logits).scatter(1, top, -math.inf)
        sure = logits.softmax(1).gather(1, top)
        wanted = self.target(logits.gather(1, top) - (logits + others).amax(1, keepdim=True))
        z, first, second = logits.detach().clone(), torch.zeros_like(logits), torch.zeros_like(logits)
        for step in range(1, STEPS + 1):
            highest, runner_up = (z + others).max(1, keepdim=True)
            p = z.softmax(1)
            p_top = p.gather(1, top)
            slope = (z.gather(1, top) - highest - wanted).sign() * is_top.scatter(1, runner_up, -1.0)
            slope = slope + CONFIDENCE * (p_top - sure).sign() * p_top * (is_top - p)
            first = MOMENTS[0] * first + (1 - MOMENTS[0]) * slope
            second = MOMENTS[1] * second + (1 - MOMENTS[1]) * slope**2
            spread = (second / (1 - MOMENTS[1] ** step)).sqrt() + 1e-8
            z = z - RATE * first / (1 - MOMENTS[0] ** step) / spread
        return z.scatter(1, top, torch.maximum(z.gather(1, top), (z + others).amax(1, keepdim=True) + LEAST))

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"shape={self.shape}, tau={self.tau}"
