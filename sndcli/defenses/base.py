"""What every defense has in common: one model inside, explicit randomness, one fresh draw a row."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from sndcli.streams import Source


class Defense(nn.Module):
    """Wraps a model; randomness is drawn in `forward`, in eval mode too.

    In a run the draws of a row come from streams of its image's own, whoever shares its batch. A defense gets them by
    drawing through `normal` or other `sources` only, and says so by ``per_image = True``. One that draws from
    `generator` itself has that one stream for all images of a work unit.

    Args:
        model: maps ``[M, C, H, W]`` in [0, 1] to logits.
        generator: source of all randomness outside of a run; by default one seeded from the operating system. Its
            device decides where noise is drawn.
    """

    per_image: ClassVar[bool] = False

    def __init__(self, model: nn.Module, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.model = model
        self.generator = generator if generator is not None else fresh_generator()
        self.sources = [Source(self.generator)]

    def reseed(self, seed: int) -> None:
        """Restarts the stream of randomness, here and in every defense inside."""
        self.generator.manual_seed(seed)
        if isinstance(self.model, Defense):
            self.model.reseed(seed + 1_000)

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal draws in the shape of `like` ``[M, …]``, row by row."""
        return self.sources[0].normal(like)


def settle_sources(defended: nn.Module) -> bool:
    """Gives every place that draws in `defended` a stream of its own; whether all of them draw for each image.

    Returns:
        False where a defense draws from its own generator.
    """
    site, all_per_image = 0, True
    for module in defended.modules():
        if isinstance(module, Defense):
            all_per_image &= module.per_image
            for source in module.sources:
                source.site, source.own = site, not module.per_image
                site += 1
    return all_per_image


def fresh_generator() -> torch.Generator:
    """A generator on the CPU, seeded from the operating system."""
    generator = torch.Generator()
    generator.seed()
    return generator
