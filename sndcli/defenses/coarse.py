"""Coarser images: JPEG of a random quality, and a random grid of grey levels, a draw for each query.

Fixed qualities are a common baseline (Guo, Rana, Cissé and van der Maaten, ICLR 2018); here they are random.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from sndcli.defenses.base import Defense
from sndcli.defenses.facts import Facts, within
from sndcli.errors import ConfigError


def jpeg_facts(low: int = 85, high: int = 98) -> Facts:
    """Of `RandomJPEG` with these qualities.

    Raises:
        ConfigError: not 1 <= low <= high <= 100.
    """
    within("low", low, 1, 100)
    within("high", high, 1, 100)
    if high < low:
        raise ConfigError(f"Expected `low` of at most `high` but got {low} and {high}.")
    return Facts(random=low < high)


def bits_facts(levels: int = 32) -> Facts:
    """Of `RandomLevels` with so many levels.

    Raises:
        ConfigError: fewer than two.
    """
    within("levels", levels, 2, 2**16)
    return Facts()


class RandomJPEG(Defense):
    """The image rounded to 8 bits, written as JPEG of a quality uniform on {low, ..., high}, and read again.

    By Pillow with its usual chroma subsampling, row by row on the CPU; no gradients.

    Args:
        model: maps images ``[M, C, H, W]`` in [0, 1] to logits ``[M, K]``, C = 1 or 3.
        low, high: qualities. Where they are equal nothing is random.
        generator: source of the qualities.

    Raises:
        ConfigError: not 1 <= low <= high <= 100.
    """

    per_image = True

    def __init__(
        self, model: nn.Module, low: int = 85, high: int = 98, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(model, generator)
        self.facts = jpeg_facts(low, high)
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[M, K]``."""
        logits: Tensor = self.model(self.perturb(x))
        return logits

    def perturb(self, x: Tensor) -> Tensor:
        """The images as they come back.

        Raises:
            ConfigError: images of other than one or three channels.
        """
        if x.shape[1] not in (1, 3):
            raise ConfigError(f"`jpeg` needs images of 1 or 3 channels but got {x.shape[1]}.")
        u = self.sources[0].uniform(torch.empty(len(x), 1, dtype=torch.float64, device=self.generator.device))
        qualities = (self.low + (u[:, 0] * (self.high - self.low + 1)).long()).tolist()
        pixels = torch.round(x.detach().clamp(0, 1) * 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        rows = [torch.from_numpy(_again(row, q)) for row, q in zip(pixels, qualities, strict=True)]
        return torch.stack(rows).permute(0, 3, 1, 2).to(x) / 255 if rows else x

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"low={self.low}, high={self.high}"


class RandomLevels(Defense):
    """``(round(x (k - 1) + v) - v)/(k - 1)``, v ~ U(-1/2, 1/2) a row: a grid of k levels at a random offset.

    Over the offsets this is x in the mean, with variance ``1/(12 (k - 1)²)``.

    Args:
        model: maps images ``[M, C, H, W]`` in [0, 1] to logits ``[M, K]``.
        levels: k.
        generator: source of the offsets.

    Raises:
        ConfigError: fewer than two levels.
    """

    per_image = True

    def __init__(self, model: nn.Module, levels: int = 32, *, generator: torch.Generator | None = None) -> None:
        super().__init__(model, generator)
        self.facts = bits_facts(levels)
        self.levels = levels

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[M, K]``."""
        logits: Tensor = self.model(self.perturb(x))
        return logits

    def perturb(self, x: Tensor) -> Tensor:
        """``x`` on the grids."""
        v = self.sources[0].uniform(x[:, :1, :1, :1]) - 0.5
        steps = self.levels - 1
        return (torch.round(x * steps + v) - v) / steps

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"levels={self.levels}"


def _again(pixels: np.ndarray, quality: int) -> np.ndarray:
    """uint8 ``[H, W, C]`` through JPEG."""
    kept = BytesIO()
    grey = pixels.shape[2] == 1
    Image.fromarray(pixels[:, :, 0] if grey else pixels).save(kept, "JPEG", quality=quality)
    read = np.array(Image.open(kept))
    return read[:, :, None] if grey else read
