"""One call of the oracle: whose its rows are, and which of them are answered. Kept by the host, in numpy.

A GPU would need a kernel for each of these small sums, and the host would wait for it wherever it must decide.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Integers = NDArray[np.int64]

Phase = str | Sequence[tuple[str, int]]  # a name for all rows, or names for so many consecutive rows each


class Call:
    """M rows about N images in any mixture, of which the first few of each image are answered.

    Args:
        image: int64 ``[M]``, the image each row is for.
        allowed: int64 ``[N]``, how many rows of each image may be answered.

    Attributes:
        length: M.
        whole: whether all rows are answered.
        rows: int64 ``[m]``, the rows that are answered.
        mine: int64 ``[m]``, their images.
        rank: int64 ``[m]``, the place of each among the rows of its image, from 1.
        asked: int64 ``[N]``, how many rows of each image are answered.
    """

    def __init__(self, image: Integers, allowed: Integers) -> None:
        self._image = image
        count, everyone = np.bincount(image, minlength=len(allowed)), np.arange(len(image))
        self._order, self._start = np.argsort(image, kind="stable"), count.cumsum() - count
        rank = np.empty_like(image)
        rank[self._order] = everyone - self._start[image[self._order]]
        self.length, self.asked = len(image), np.minimum(count, allowed)
        self.whole = bool((count <= allowed).all())
        if self.whole:
            self.rows, self.mine, self.rank, self._position = everyone, image, rank + 1, everyone
        else:
            (self.rows,) = (rank < allowed[image]).nonzero()
            self.mine, self.rank = image[self.rows], rank[self.rows] + 1
            self._position = np.full_like(image, -1)
            self._position[self.rows] = everyone[: len(self.rows)]

    def shortened(self, allowed: Integers) -> tuple[Call, NDArray[np.bool_]]:
        """The same with at most `allowed` ``[N]`` rows answered, and bool ``[m]``: which of these rows still are."""
        shorter = Call(self._image, np.minimum(allowed, self.asked))
        return shorter, np.isin(self.rows, shorter.rows)

    def place(self, image: Integers, rank: Integers) -> Integers:
        """int64 ``[k]``: where among the answered rows the `rank` ``[k]``-th of each `image` ``[k]`` stands."""
        place: Integers = self._position[self._order[self._start[image] + rank - 1]]
        return place


def leads(image: Tensor) -> Tensor:
    """bool ``[M]``: the first of each run of equal images."""
    first = torch.ones_like(image, dtype=torch.bool)
    first[1:] = image[1:] != image[:-1]
    return first
