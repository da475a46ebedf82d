"""A model that can only be asked whose optimum is known: the half-space of images with a mean above `THRESHOLD`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sndcli.errors import IncompleteError
from sndcli.models.opaque import NO_LABEL, Facts, OpaqueModel

GREY = (1, 28, 28)
THRESHOLD = 0.55  # label 1 where the mean is above it


def scores_of(x: Tensor) -> Tensor:
    mean = x.mean((1, 2, 3))
    return torch.stack([torch.full_like(mean, THRESHOLD), mean], 1) * 40


class Bright(OpaqueModel):
    """The half-space of `THRESHOLD`, with what a test wants of it.

    Args:
        silent_after: rows that are answered; None: all.
        flips: probability that an answer is the other one.
        gone: nobody answers any more after twenty rows.
    """

    def __init__(
        self, silent_after: int | None = None, flips: float = 0.0, gone: bool = False, **facts: object
    ) -> None:
        told = {"name": "bright", "input_size": (1, 8, 8), "classes": 2, "digest": "1"} | facts
        super().__init__(Facts(**told))  # type: ignore[arg-type]
        self.rows, self.silent_after, self.flips, self.gone = 0, silent_after, flips, gone

    def __call__(self, images: Tensor) -> Tensor:
        if self.gone and self.rows > 20:
            raise IncompleteError("Nobody answers. The same command continues.")
        scores = scores_of(images)
        other = torch.rand(len(images)) < self.flips
        scores[other] = scores[other].flip(1)
        numbers = self.rows + torch.arange(len(images))
        self.rows += len(images)
        silent = (
            torch.zeros(len(images), dtype=torch.bool) if self.silent_after is None else numbers >= self.silent_after
        )
        if self.facts.access == "labels":
            return scores.argmax(1).masked_fill(silent, NO_LABEL)
        scores = scores.softmax(1) if self.facts.score == "probabilities" else scores
        return scores.masked_fill(silent[:, None], float("nan"))


def grey(n: int = 3) -> tuple[Tensor, Tensor]:
    return torch.full((n, 1, 8, 8), 0.5), torch.zeros(n, dtype=torch.int64)


def picture_folder(root: Path, names: tuple[str, ...] = ("dark", "bright"), each: int = 4) -> Path:
    """Grey pictures, one folder a name: above `THRESHOLD` in ``bright``, below it in the others."""
    values = np.random.default_rng(0)
    for name in names:
        (root / name).mkdir(parents=True)
        for i in range(each):
            base = 160 if name == "bright" else 110
            pixels = values.integers(base - 20, base + 20, (28, 28)).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root
