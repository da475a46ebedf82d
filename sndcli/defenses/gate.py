"""A gate: the clean answer where the model is sure, else a random one.

Boundary Defense (Aithal and Li, arXiv 2201.13444): noise on the logits where the confidence is below 0.3. "Closing the
Gap" (arXiv 2312.10132): noise, crops or JPEG on the image where it is not above a threshold.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sndcli.defenses.base import Defense
from sndcli.defenses.facts import Facts, within
from sndcli.streams import drawing_rows


def facts(tau: float, temperature: float = 1.0) -> Facts:
    """Of `ConfidenceGate` with these parameters, before what is inside has its say.

    Raises:
        ConfigError: a threshold outside of [0, 1] or a temperature that is not positive.
    """
    within("tau", tau, 0, 1)
    within("temperature", temperature, open_end=True)
    return Facts(random=tau > 0)


class ConfidenceGate(Defense):
    """``f(x)`` where ``max softmax(f(x)/T) > τ``, else a fresh answer of ``inner`` about the same x.

    τ = 0 is the bare model, τ = 1 the inner defense. A query costs one pass, and where the gate is open what the inner
    defense costs as well. Confidences are not calibrated: T is 1 where it is not given.

    The gate's edge can lie nearer to an image than the model's boundary: strong noise inside has a favourite class,
    which is then answered from the edge on. Look at `distance_boundary`. Scores jump at the edge.

    Differs from "Closing the Gap": noise inside is not clipped, and random for every row.

    Args:
        model: maps images ``[M, C, H, W]`` in [0, 1] to logits ``[M, K]``.
        inner: a defense around the same model.
        tau: τ in [0, 1].
        temperature: T > 0.
        generator: of nothing; a gate draws nothing itself.

    Raises:
        ConfigError: a threshold outside of [0, 1] or a temperature that is not positive.
    """

    per_image = True

    def __init__(
        self,
        model: nn.Module,
        inner: nn.Module,
        tau: float,
        temperature: float = 1.0,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(model, generator)
        self.facts = facts(tau, temperature)
        self.inner, self.tau, self.temperature = inner, tau, temperature

    def reseed(self, seed: int) -> None:
        """Restarts what is inside and behind."""
        super().reseed(seed)
        if isinstance(self.inner, Defense):
            self.inner.reseed(seed + 500)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[M, K]`` of `x` ``[M, C, H, W]``: one decision a row, by the clean pass of the same query."""
        answers: Tensor = self.model(x).float()
        confidence = (answers / self.temperature).softmax(1).amax(1)
        opened = (~(confidence > self.tau)).nonzero()[:, 0]
        if not len(opened):
            return answers
        with drawing_rows(opened, len(x)):
            return answers.index_copy(0, opened, self.inner(x[opened]).float())

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"tau={self.tau}, temperature={self.temperature}"
