"""Where gradients of image classifiers lie (ours): a prior for the directions that an attack tries."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sndcli.streams import Streams


@dataclass(frozen=True)
class Prior:
    """Gaussian directions with the covariance C expected of the gradient, of unit variance on average.

    With directions u ~ N(0, C), the estimate E[φu] is proportional to C g: what is unlikely is shrunk, as a Bayesian
    with that prior would. And a direction's expected part along the gradient g grows from |g|² to gᵀCg.

    Attributes:
        colour: correlation of the colour channels in [0, 1).
        window: 0, or the standard deviation of the Gaussian by which the variance falls from the middle of the image
            outwards, in halves of its side.
    """

    colour: float = 0.0
    window: float = 0.0

    def draw(self, streams: Streams, image: Tensor, like: Tensor) -> Tensor:
        """``[M, C, H, W]`` like `gaussian`'s, which it is without colour and window."""
        u = streams.normal(image, like)
        if self.colour:
            own = math.sqrt(1 - self.colour)
            common = math.sqrt(1 + (u.shape[1] - 1) * self.colour) - own
            u = own * u + common * u.mean(1, keepdim=True)
        if self.window:
            u = u * self._amplitude(u)
        return u

    def gain(self, channels: int) -> float:
        """E[gᵀCg] for a unit gradient g that the colours' part of the prior expects; 1 for white noise."""
        return ((1 + (channels - 1) * self.colour) ** 2 + (channels - 1) * (1 - self.colour) ** 2) / channels

    def _amplitude(self, like: Tensor) -> Tensor:
        y, x = (torch.linspace(-1 + 1 / n, 1 - 1 / n, n, device=like.device, dtype=like.dtype) for n in like.shape[2:])
        variance = torch.exp(-(y[:, None] ** 2 + x**2) / (2 * self.window**2))
        return (variance / variance.mean()).sqrt()
