"""Where gradients of image classifiers lie (ours): a prior for the directions that an attack tries."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from sndcli.attacks.common.dct import LowFrequencies
from sndcli.streams import Streams

LARGE = 160  # side in pixels from which pictures are like ImageNet's


@dataclass(frozen=True)
class Prior:
    """Gaussian directions with the covariance C expected of the gradient, of unit variance on average.

    With directions u ~ N(0, C), the estimate E[φu] is proportional to C g: what is unlikely is shrunk, as a Bayesian
    with that prior would. And a direction's expected part along the gradient g grows from |g|² to gᵀCg.

    Attributes:
        colour: correlation of the colour channels in [0, 1).
        window: 0, or the standard deviation of the Gaussian by which the variance falls from the middle of the image
            outwards, in halves of its side.
        reduce: only the lowest 1/`reduce` of the frequencies along each axis; 0 or 1: all.
    """

    colour: float = 0.0
    window: float = 0.0
    reduce: int = 0

    def draw(self, streams: Streams, image: Tensor, like: Tensor) -> Tensor:
        """``[M, C, H, W]`` like `gaussian`'s, which it is without colour, window and reduction."""
        if self.reduce > 1:
            low = _lowest(self.reduce, tuple(like.shape), like.dtype, like.device)
            u = low(streams, image, like) * low.scale
        else:
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


@lru_cache(maxsize=8)
def _lowest(reduce: int, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> LowFrequencies:
    return LowFrequencies(reduce, torch.empty(1, *shape[1:], dtype=dtype, device=device))


SMALL_PICTURES = Prior(colour=0.8, window=0.6)
LARGE_PICTURES, THEIR_STARTS = Prior(window=0.85, reduce=4), Prior(colour=0.8, window=0.85, reduce=4)


def priors(colour: float | None, window: float | None, reduce: int | None, side: int) -> tuple[Prior, Prior]:
    """What probes and starts are drawn from; None: as measured on pictures of this size.

    On the ResNet-20, CIFAR-10, three quarters of the gradient's energy are common to the colours, and 0.43 of it is in
    the middle quarter of the area. On EfficientNet-Lite0, ImageNet, the lowest quarter of the frequencies along each
    axis, a 16th of the dimensions, has 0.13 of it, 0.36 of that in the middle, and there the colours have nothing in
    common. But noise of these frequencies leads out of a class at three quarters of the distance where it is grey.

    Args:
        colour, window, reduce: as of `Prior`.
        side: the longer one, in pixels.

    Example:
        >>> priors(None, None, None, 32)[0], priors(0.0, None, None, 32)[1]
        (Prior(colour=0.8, window=0.6, reduce=0), Prior(colour=0.0, window=0.6, reduce=0))
    """
    usual = (LARGE_PICTURES, THEIR_STARTS) if side >= LARGE else (SMALL_PICTURES, SMALL_PICTURES)
    probes, starts = (
        Prior(
            prior.colour if colour is None else colour,
            prior.window if window is None else window,
            prior.reduce if reduce is None else reduce,
        )
        for prior in usual
    )
    return probes, starts
