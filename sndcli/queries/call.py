"""One call of the oracle: whose its rows are, and which of them are answered."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Phase = str | Sequence[tuple[str, int]]  # a name for all rows, or names for so many consecutive rows each


class Call:
    """M rows about N images in any mixture, of which the first few of each image are answered.

    Args:
        image: int64 ``[M]``, the image each row is for.
        allowed: int64 ``[N]``, how many rows of each image may be answered.

    Attributes:
        length: M.
        rows: int64 ``[m]``, the rows that are answered.
        mine: int64 ``[m]``, their images.
        rank: int64 ``[m]``, the place of each among the rows of its image, from 1.
        asked: int64 ``[N]``, how many rows of each image are answered.
    """

    def __init__(self, image: Tensor, allowed: Tensor) -> None:
        count, everyone = torch.bincount(image, minlength=len(allowed)), torch.arange(len(image), device=image.device)
        self._order, self._start = torch.argsort(image, stable=True), count.cumsum(0) - count
        rank = torch.empty_like(image)
        rank[self._order] = everyone - self._start[image[self._order]]
        self.rows = (rank < allowed[image]).nonzero().squeeze(1)
        self.mine, self.rank = image[self.rows], rank[self.rows] + 1
        self.asked = torch.minimum(count, allowed)
        self._position = torch.full_like(image, -1)
        self._position[self.rows] = everyone[: len(self.rows)]
        self.length = len(image)

    def place(self, image: Tensor, rank: Tensor) -> Tensor:
        """int64 ``[k]``: where among the answered rows the `rank` ``[k]``-th of each `image` ``[k]`` stands."""
        return self._position[self._order[self._start[image] + rank - 1]]


def leads(image: Tensor) -> Tensor:
    """bool ``[M]``: the first of each run of equal images."""
    first = torch.ones_like(image, dtype=torch.bool)
    first[1:] = image[1:] != image[:-1]
    return first
