"""Random flips and shifts, a draw for each query: what the network was trained to ignore.

Ours; random crops and flips at test time are as old as test-time augmentation (Krizhevsky et al., 2012, averaged ten of
them), but there their mean is answered, and here each query sees one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sndcli.defenses.base import Defense
from sndcli.defenses.facts import Facts, within
from sndcli.errors import ConfigError


def facts(flip: float = 0.5, shift: int = 2) -> Facts:
    """Of `RandomAugment` with these parameters.

    Raises:
        ConfigError: a probability outside of [0, 1] or a negative shift.
    """
    within("flip", flip, 0, 1)
    within("shift", shift)
    return Facts(random=0 < flip < 1 or shift > 0)


class RandomAugment(Defense):
    """``f(A x)``: A mirrors the image with probability `flip` and moves it by (dy, dx), each uniform on {-s, ..., s}.

    What a shift leaves empty is filled with the image mirrored at its border, the border itself not repeated. With the
    defaults there are 2 · 25 states, which an attacker can enumerate: what he has to cross is their majority.

    Differs from `ResizePad`: no size changes and no canvas, so a network trained with flips and shifts loses nothing.
    Differs from its own training, which filled with black.

    Args:
        model: maps images ``[M, C, H, W]`` in [0, 1] to logits ``[M, K]``.
        flip: probability of a mirror image, left for right.
        shift: s, pixels.
        generator: source of the draws.

    Raises:
        ConfigError: a probability outside of [0, 1] or a negative shift.
    """

    per_image = True

    def __init__(
        self, model: nn.Module, flip: float = 0.5, shift: int = 2, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(model, generator)
        self.facts = facts(flip, shift)
        self.flip, self.shift = flip, shift

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[M, K]`` of the rows of `x` ``[M, C, H, W]``, each mirrored and moved for itself."""
        logits: Tensor = self.model(self.perturb(x))
        return logits

    def perturb(self, x: Tensor) -> Tensor:
        """``A x``; the same tensor where nothing is random and nothing is done.

        Raises:
            ConfigError: images of a side of at most s.
        """
        if min(x.shape[-2:]) <= self.shift:
            raise ConfigError(f"Expected images larger than the shift of {self.shift} but got {list(x.shape[-2:])}.")
        if not len(x) or (not self.flip and not self.shift):
            return x
        mirrored, down, right = (value.to(x.device)[:, None] for value in self.geometry(len(x)))
        height, width = x.shape[-2:]
        rows = _reflected(torch.arange(height, device=x.device) - down, height)
        columns = _reflected(torch.arange(width, device=x.device) - right, width)
        columns = torch.where(mirrored, width - 1 - columns, columns)
        m, c = torch.arange(len(x), device=x.device), torch.arange(x.shape[1], device=x.device)
        return x[m[:, None, None, None], c[None, :, None, None], rows[:, None, :, None], columns[:, None, None, :]]

    def geometry(self, rows: int) -> tuple[Tensor, Tensor, Tensor]:
        """``[rows]`` each: whether it is mirrored, and by how many pixels it moves down and to the right."""
        u = self.sources[0].uniform(torch.empty(rows, 3, dtype=torch.float64, device=self.generator.device))
        moves = (u[:, 1:] * (2 * self.shift + 1)).long() - self.shift
        return u[:, 0] < self.flip, moves[:, 0], moves[:, 1]

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"flip={self.flip}, shift={self.shift}"


def _reflected(at: Tensor, side: int) -> Tensor:
    """Places beyond the border as places within, mirrored at it."""
    at = at.abs()
    return torch.where(at >= side, 2 * (side - 1) - at, at)
