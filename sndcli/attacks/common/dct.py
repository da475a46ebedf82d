"""The orthonormal discrete cosine transform, as matrices that a device multiplies with."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.fft import dct
from torch import Tensor

from sndcli.streams import Streams


def dct_rows(side: int) -> Tensor:
    """Rows of the orthonormal DCT-II: float32 ``[side, side]``, row u is the u-th basis vector.

    Example:
        >>> dct_rows(2)
        tensor([[ 0.7071,  0.7071],
                [ 0.7071, -0.7071]])
    """
    return torch.from_numpy(dct(np.eye(side), norm="ortho", axis=0)).float()


def low_frequencies(weights: Tensor, rows: Tensor, columns: Tensor | None = None) -> Tensor:
    """``[..., H, W]``: the images whose two-dimensional DCT coefficients are `weights` ``[..., sub_dim²]``.

    `rows` ``[sub_dim, H]`` are the lowest one-dimensional frequencies, and so are `columns` ``[sub_dim, W]``, which
    square images do not need. One axis after the other: the full basis of 75² images of 224 x 224 would take a
    gigabyte.
    """
    columns = rows if columns is None else columns
    images: Tensor = rows.T @ weights.unflatten(-1, (len(rows), len(columns))) @ columns
    return images


class LowFrequencies:
    """Gaussian directions of low frequencies: white noise on the lowest coefficients of each channel's DCT.

    Args:
        reduce: the lowest 1/`reduce` of the frequencies along each axis, at least one; 0 or 1: all.
        x0: images ``[N, C, H, W]``.

    Attributes:
        scale: by which directions of this kind have a pixel variance of 1 on average.
    """

    def __init__(self, reduce: int, x0: Tensor) -> None:
        height, width = (max(1, side // max(1, reduce)) for side in x0.shape[2:])
        self._rows = dct_rows(x0.shape[2])[:height].to(x0)
        self._columns = dct_rows(x0.shape[3])[:width].to(x0)
        self.scale = math.sqrt(x0.shape[2] * x0.shape[3] / (height * width))  # what brings a pixel's variance to 1
        self._white = (height, width) == tuple(x0.shape[2:])

    def __call__(self, streams: Streams, image: Tensor, like: Tensor) -> Tensor:
        """``[M, C, H, W]``, a row for each of `image` ``[M]``; each coefficient that is kept has variance 1."""
        if self._white:
            return streams.normal(image, like)
        weights = streams.normal(image, like.new_empty(1, like.shape[1], len(self._rows), len(self._columns)))
        return low_frequencies(weights.flatten(2), self._rows, self._columns)
