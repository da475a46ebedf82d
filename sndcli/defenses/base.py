"""What every defense has in common: one model inside, one explicit generator, one fresh draw a row."""

from __future__ import annotations

import torch
from torch import Tensor, nn

ALIGNMENT = 16  # elements; CPU normal draws are a plain stream only in multiples of this


def normal_rows(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal draws of the shape of `like`, on its device.

    Row j's draw does not depend on how the rows are split into batches (on the CPU), because rows are drawn in
    multiples of sixteen elements.
    """
    rows, size = len(like), like[0].numel() if len(like) else 0
    padded = -(-size // ALIGNMENT) * ALIGNMENT
    noise = torch.empty(rows, padded, device=generator.device, dtype=torch.float32)
    noise.normal_(generator=generator)
    return noise[:, :size].reshape(like.shape).to(like.device, like.dtype)


class Defense(nn.Module):
    """Wraps a model; randomness is drawn in `forward`, in eval mode too.

    Args:
        model: maps ``[M, C, H, W]`` in [0, 1] to logits.
        generator: source of all randomness; by default one seeded from the operating system. Its device
            decides where noise is drawn.
    """

    def __init__(self, model: nn.Module, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.model = model
        self.generator = generator if generator is not None else fresh_generator()

    def reseed(self, seed: int) -> None:
        """Restarts the stream of randomness, here and in every defense inside."""
        self.generator.manual_seed(seed)
        if isinstance(self.model, Defense):
            self.model.reseed(seed + 1_000)

    def normal(self, like: Tensor) -> Tensor:
        """`normal_rows` from this defense's generator."""
        return normal_rows(like, self.generator)


def fresh_generator() -> torch.Generator:
    """A generator on the CPU, seeded from the operating system."""
    generator = torch.Generator()
    generator.seed()
    return generator
