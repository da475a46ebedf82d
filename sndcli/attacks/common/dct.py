"""The orthonormal discrete cosine transform, as matrices that a device multiplies with."""

from __future__ import annotations

import numpy as np
import torch
from scipy.fft import dct
from torch import Tensor


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
