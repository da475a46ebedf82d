"""Rounding as noise. What a network rounds scatters its answers, which holds attacks back as a defense does.

σ_round says how much, in the unit of the Small Noise Defense: the width of Gaussian noise on the image that scatters
the margin of the undefended network as much as the rounding does. It takes no gradients.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sndcli.defenses.base import Defense
from sndcli.defenses.parse import DefenseSpec
from sndcli.errors import ConfigError
from sndcli.models.inference import REDUCED, Forward, Precision
from sndcli.queries.draws import repeated
from sndcli.streams import ImageStreams

REFERENCE = 0.01  # σ of the noise that rounding is measured by
IMAGES, DRAWS = 16, 8  # clean images, and noisy copies of each


@dataclass(frozen=True)
class Rounding:
    """How much noise there is in rounding alone.

    Attributes:
        sigma: σ_round, on the [0, 1] pixel scale; 0 in float32, None where no noise moves the margin.
        share: of the defense's own noise, as standard deviations of the margin; 0 in float32, None without a defense.
    """

    sigma: float | None = 0.0
    share: float | None = 0.0

    def as_dict(self) -> dict[str, float | None]:
        """Plain data for JSON."""
        return {"sigma": self.sigma, "share": self.share}


def check_rounding(precision: Precision, defense: DefenseSpec, allowed: bool) -> None:
    """Whether a precision may be used: a network without a defense would be given one by its rounding.

    Raises:
        ConfigError: a reduced precision behind no defense that draws, and nobody `allowed` it.
    """
    if precision in REDUCED and not defense.random and not allowed:
        raise ConfigError(
            f"`--precision {precision}` rounds, which defends an undefended model: leave it out, or measure it all the "
            "same with --allow-rounding."
        )


@torch.no_grad()
def measure(
    exact: tuple[Forward, Forward], rounded: tuple[Forward, Forward], defense: DefenseSpec, x: Tensor, ids: list[int]
) -> Rounding:
    """Compares a victim in float32 with the same at its run's precision, on the same noisy images, by the same draws.

    A margin that rounding shifts everywhere alike is no noise, so it is the spread over an image's copies that counts,
    in the root mean square over images.

    Args:
        exact: the undefended and the defended model in float32.
        rounded: the same at the precision of the run. What defends draws anew.
        defense: which it is.
        x: clean images ``[N, C, H, W]``.
        ids: theirs.
    """
    copies = x[:IMAGES].repeat_interleave(DRAWS, 0)
    noise = torch.randn(copies.shape, generator=torch.Generator().manual_seed(0))
    noisy = copies + REFERENCE * noise.to(copies)
    true, other = _margins(exact[0](noisy), rounded[0](noisy))
    scatter = _spread(true)
    sigma = REFERENCE * _spread(other - true) / scatter if scatter else None
    effective = defense.effective
    if not defense.random:
        return Rounding(sigma, None)
    if effective.only_noise and effective.beta is None:
        return Rounding(sigma, None if sigma is None else sigma / effective.noise)
    true, other = _margins(_drawn(exact[1], x[:IMAGES], ids), _drawn(rounded[1], x[:IMAGES], ids))
    scatter = _spread(true)
    return Rounding(sigma, _spread(other - true) / scatter if scatter else None)


def _drawn(forward: Forward, x: Tensor, ids: list[int]) -> Tensor:
    """Logits ``[N * DRAWS, K]`` of a random defense, whose draws are the same each time."""
    if isinstance(forward.model, Defense):
        forward.model.reseed(0)
    streams = ImageStreams(0, ids[: len(x)], "self-test")
    ((_, _, answers),) = repeated(forward, x, torch.arange(len(x)), DRAWS, streams, len(x))
    return answers.flatten(0, 1)


def _margins(true: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Margins ``[N, DRAWS]`` of two sets of logits ``[N * DRAWS, K]``, for the label of an image's first `true` one."""
    label = true.view(-1, DRAWS, true.shape[1])[:, 0].argmax(1).repeat_interleave(DRAWS)[:, None]

    def margin(logits: Tensor) -> Tensor:
        rest = logits.double().scatter(1, label, float("-inf")).amax(1)
        return (logits.double().gather(1, label)[:, 0] - rest).view(-1, DRAWS)

    return margin(true), margin(other)


def _spread(margins: Tensor) -> float:
    """Standard deviation over each image's copies, in the root mean square over images."""
    return float(margins.var(1).mean().sqrt())
