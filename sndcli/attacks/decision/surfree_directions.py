"""SurFree's directions: of an image's own low frequencies, and orthogonal to those before."""

from __future__ import annotations

import torch
from torch import Tensor

from sndcli.attacks.common.dct import dct_rows
from sndcli.attacks.common.geometry import unit
from sndcli.streams import Streams

ABSENT = 1e-6  # a coefficient below is none


class Directions:
    """The directions of N images; names as in the paper.

    Args:
        x0: images ``[N, C, H, W]``.
        streams: of the signs.
        history: past directions that a new one is orthogonal to, of an image; they are kept.
        frequencies: share of the coefficients of each channel's DCT, the lowest: by the sum of both indices, then by
            the row. An image that has hardly any of them, less than two for each direction of the history, has all.
        constant: all coefficients that an image has are alike; else each is the tanh of what it is in the image.
        orthogonal: to the present u and to exactly the last `history` directions. Otherwise as the authors, whose
            slice of the past begins below 0 while there are few: the first u comes in once more each time, is taken
            away as often, and the past stays half as long as it is said to be.
    """

    def __init__(
        self, x0: Tensor, streams: Streams, history: int, frequencies: float, constant: bool, orthogonal: bool
    ) -> None:
        self._x0, self._streams, self._history, self._orthogonally = x0, streams, history, orthogonal
        height, width = x0.shape[2:]
        self._rows, self._columns = dct_rows(height).to(x0), dct_rows(width).to(x0)
        order = (torch.arange(height)[:, None] + torch.arange(width)).flatten().argsort(stable=True)
        kept = torch.zeros(height * width).index_fill_(0, order[: max(1, int(frequencies * height * width))], 1.0)
        own = (self._rows @ x0 @ self._columns.T) * kept.view(height, width).to(x0)
        there = (own.abs() > ABSENT).to(x0.dtype)
        self._amplitude = there if constant else own.tanh() * there
        self._amplitude[there.flatten(1).sum(1) < 2 * history] = kept.view(height, width).to(x0)
        self._past = [x0.new_empty(0, x0[0].numel())] * len(x0)

    def __call__(self, image: Tensor, x: Tensor) -> Tensor:
        """``[n, C, H, W]``: the next v of each of `image` ``[n ≥ 1]``, of length 1; its boundary point is `x`."""
        amplitude = self._amplitude[image]
        sign = (3 * self._streams.uniform(image, amplitude)).floor() - 1
        drawn: Tensor = self._rows.T @ (amplitude * sign) @ self._columns
        towards = unit(x - self._x0[image]).flatten(1)
        found = [self._orthogonal(*each) for each in zip(image.tolist(), drawn.flatten(1), towards, strict=True)]
        return torch.stack(found).view_as(x)

    def _orthogonal(self, i: int, v: Tensor, u: Tensor) -> Tensor:
        n, past = self._history, self._past[i]
        if self._orthogonally:
            past = past[-n:]
            basis = torch.cat([past, unit((u - (past @ u) @ past)[None])])
            v = unit((v - (basis @ v) @ basis)[None])
        else:
            past = past if len(past) else u[None]
            v = unit((v - (past @ v) @ past)[None])
            past = torch.cat([past[:1], past[1 + len(past) - n :]])
        self._past[i] = torch.cat([past, v])
        return v[0]
