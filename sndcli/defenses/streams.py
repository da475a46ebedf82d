"""Randomness inside a network: one stream of normal draws for each layer that draws."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sndcli.defenses.base import Defense
from sndcli.models.classifier import Classifier
from sndcli.streams import Source


class Stream(Source):
    """Standard normal draws for one layer.

    Layers do not share a stream: with one for all, the draws of a row would depend on how many rows stand before it
    in the batch.

    Args:
        device: where to draw.

    Attributes:
        rows: how many rows of the batch draw; what comes after them is padding and gets zeros. None: all.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__(torch.Generator(device))
        self.rows: int | None = None

    def per_row(self, like: Tensor) -> Tensor:
        """One draw for each row of `like` ``[M, …]``; rows of padding get zeros."""
        rows = len(like) if self.rows is None else min(self.rows, len(like))
        noise = self.normal(like[:rows])
        return F.pad(noise, (0, 0) * (like.ndim - 1) + (0, len(like) - rows)) if rows < len(like) else noise


class NoisyNetwork(Defense):
    """A classifier whose layers draw from `streams`, in eval mode too.

    Args:
        model: maps ``[M, C, H, W]`` in [0, 1] to logits.
        streams: one for each layer that draws.
        generator: its seed seeds the streams.
    """

    per_image = True

    def __init__(self, model: Classifier, streams: Sequence[Stream], generator: torch.Generator) -> None:
        super().__init__(model, generator)
        self.streams = list(streams)
        self.sources = [*self.streams]
        self.reseed(self.generator.initial_seed() % 2**62)

    @property
    def network(self) -> torch.nn.Module:
        """The network without its normalisation."""
        assert isinstance(self.model, Classifier)
        return self.model.network

    def reseed(self, seed: int) -> None:
        """Restarts all streams."""
        super().reseed(seed)
        for k, stream in enumerate(self.streams):
            stream.generator.manual_seed(seed + 1 + k)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[M, K]`` of `x` ``[M, C, H, W]`` in [0, 1], one draw a row."""
        for stream in self.streams:
            stream.rows = len(x)
        logits: Tensor = self.model(x)
        return logits
