"""The majority boundary: where fresh draws flip on the ray from a clean image through the point an attack submitted.

How far that point is, the attack knows from its own answers. Under noise it can fool itself: a lucky answer close by
looks like success. The boundary is measured after the attack, unpaid, on draws that the attack never saw (the reference
distance of PopSkipJump's experiments, Simon-Gabriel et al. 2021, with a smoothed classifier of 25 votes).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sndcli.attacks.common.geometry import per_image
from sndcli.ball import bisected
from sndcli.queries.criterion import Criterion
from sndcli.queries.draws import Logits
from sndcli.queries.sequential import share_that_errs
from sndcli.streams import Streams

DRAWS = 25  # odd; of a randomised model
HALVINGS = 9  # the boundary lies within 1/512 of the bracket
FIRST_STEP, STEPS = 0.25, 14  # walks outwards by 0.25, 0.5, 1, 2, ... of the submitted distance
BYTES = 2**26  # of rows alive at once

Wrong = Callable[[Tensor, Tensor], Tensor]


def boundary_points(wrong: Wrong, x0: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """The points at which the majority flips.

    Where the majority errs at `z` the flip is sought between `x0` and `z`, else outwards, in doubling steps clipped
    to [0, 1]. All images share every batch.

    Args:
        wrong: bool ``[m]`` of (points ``[m, C, H, W]``, rows ``[m]``): whether the majority errs; `rows` say which.
        x0: clean images ``[n, C, H, W]``.
        z: points submitted ``[n, C, H, W]``.

    Returns:
        points ``[n, C, H, W]``, the outer ends of the last brackets, and bool ``[n]``, whether there is a flip.
    """
    n, device = len(x0), x0.device

    def at(rows: Tensor, e: Tensor) -> Tensor:
        return (x0[rows] + per_image(e, x0) * (z[rows] - x0[rows])).clamp(0.0, 1.0)

    everyone = torch.arange(n, device=device)
    lo = torch.zeros(n, dtype=torch.float64, device=device)
    hi = torch.ones_like(lo)
    found = wrong(at(everyone, hi), everyone)
    for k in range(STEPS):
        rows = (~found & (z != x0).flatten(1).any(1)).nonzero().squeeze(1)
        if not len(rows):
            break
        lo[rows] = hi[rows]
        hi[rows] = 1 + FIRST_STEP * 2.0**k
        found[rows] = wrong(at(rows, hi[rows]), rows)
    rows = found.nonzero().squeeze(1)
    if len(rows):
        _, hi[rows] = bisected(lo[rows], hi[rows], lambda e: wrong(at(rows, e), rows), HALVINGS)
    return at(everyone, hi), found


def majority_wrong(
    logits: Logits, criterion: Criterion, image: Tensor, draws: int, streams: Streams | None = None
) -> Wrong:
    """Whether at least half of `draws` fresh labels are wrong, asked until that is certain (`sequential`).

    Args:
        logits: ``[M, K]`` of points ``[M, C, H, W]``, fresh randomness for every row.
        criterion: which labels are wrong.
        image: ``[n]``, the images that `Wrong`'s rows stand for.
        draws: answers about each point, at most.
        streams: of the images.
    """

    def wrong(points: Tensor, rows: Tensor) -> Tensor:
        share = share_that_errs(logits, points, image[rows], draws, criterion, streams, BYTES)
        return (share >= 0.5).to(points.device)

    return wrong
