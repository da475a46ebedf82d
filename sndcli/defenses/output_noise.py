"""Randomness on the answer: noise on the logits, and random scaling of them.

Logit noise: Aithal and Li, "Mitigating Black-Box Adversarial Attacks via Output Noise Perturbation" (IEEE Access 2022),
on probabilities there. Scaling: Random Logit Scaling (TMLR submission 8263).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sndcli.defenses.base import Defense
from sndcli.defenses.facts import Facts, within
from sndcli.errors import ConfigError


def noise_facts(tau: float = 1.0) -> Facts:
    """Of `LogitNoise` with this τ.

    Raises:
        ConfigError: a negative τ.
    """
    within("tau", tau)
    return Facts(random=tau > 0)


def scaling_facts(low: float = 0.5, high: float = 10.0) -> Facts:
    """Of `LogitScaling` with these ends.

    Raises:
        ConfigError: not 0 < low <= high.
    """
    within("low", low, open_end=True)
    within("high", high, open_end=True)
    if high < low:
        raise ConfigError(f"Expected `low` of at most `high` but got {low:g} and {high:g}.")
    return Facts(random=low < high)


class LogitNoise(Defense):
    """``f(x) + τ ξ``, ξ ~ N(0, I) of the logits' shape, a draw for each row.

    For labels this is noise of ``√2 τ / G`` in the distance from the boundary, G the norm of the margin's gradient
    there: that of small noise, without the shift of a curved boundary's mean. All draws have one normal, so steps
    wider than the noise buy it off.

    Differs from the cited work: on logits, where its scale does not depend on how sure the model is.

    Args:
        model: maps images ``[M, C, H, W]`` in [0, 1] to logits ``[M, K]``.
        tau: τ ≥ 0, in units of the logits.
        generator: source of the noise.

    Raises:
        ConfigError: a negative τ.
    """

    per_image = True

    def __init__(self, model: nn.Module, tau: float = 1.0, *, generator: torch.Generator | None = None) -> None:
        super().__init__(model, generator)
        self.facts = noise_facts(tau)
        self.tau = float(tau)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[M, K]``."""
        logits: Tensor = self.model(x).float()
        return logits + self.tau * self.normal(logits) if self.tau and len(logits) else logits

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"tau={self.tau}"


class LogitScaling(Defense):
    """``m f(x)``, m ~ U(low, high), a draw for each row. The label never changes.

    It is undone by division: log-probabilities less their mean, divided by their norm, do not depend on m. At large m
    probabilities of unlikely classes are 0 in float32; an attacker who gets probabilities then loses these digits.

    Differs from the authors' code: the uniform form alone, not the Gaussian one.

    Args:
        model: maps images ``[M, C, H, W]`` in [0, 1] to logits ``[M, K]``.
        low, high: ends of the scale.
        generator: source of the scales.

    Raises:
        ConfigError: not 0 < low <= high.
    """

    per_image = True

    def __init__(
        self, model: nn.Module, low: float = 0.5, high: float = 10.0, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(model, generator)
        self.facts = scaling_facts(low, high)
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[M, K]``."""
        logits: Tensor = self.model(x).float()
        u = self.sources[0].uniform(torch.empty(len(logits), 1, device=self.generator.device)).to(logits)
        return logits * (self.low + (self.high - self.low) * u)

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"low={self.low}, high={self.high}"
