"""Pieces that several attacks share: norms, random starts, bisection on a segment. Sources: spec of each attack."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sndcli.ball import bisected
from sndcli.queries.call import Phase
from sndcli.queries.draws import rows_within
from sndcli.queries.oracle import REFUSED, Oracle
from sndcli.streams import Streams

Ask = Callable[[Oracle, Tensor, Tensor, Phase], Tensor]
Draw = Callable[[Streams, Tensor, Tensor], Tensor]  # as `gaussian`

BLOCK_BYTES = 2**22  # of probes alive at once; fixed, because the order of random draws must not depend on memory
MAX_BISECTIONS = 60


def per_image(values: Tensor, like: Tensor) -> Tensor:
    """``[n]`` as ``[n, 1, 1, 1]`` in the type of `like`, to multiply images with."""
    return values.to(like.dtype).view(-1, *([1] * (like.ndim - 1)))


def norms(v: Tensor) -> Tensor:
    """L2 norm of each row, ``[n]``."""
    lengths: Tensor = torch.linalg.vector_norm(v.flatten(1), dim=1)
    return lengths


def unit(v: Tensor) -> Tensor:
    """Rows scaled to L2 norm 1; a row of zeros stays zero."""
    return v / per_image(norms(v).clamp_min(torch.finfo(v.dtype).tiny), v)


def gaussian(streams: Streams, image: Tensor, like: Tensor) -> Tensor:
    """Standard normal ``[M, C, H, W]``, a row for each of `image` ``[M]``."""
    return streams.normal(image, like)


def block_size(images: int, d: int) -> int:
    """Probes an image sends at once, so that all images together stay within `BLOCK_BYTES`."""
    return rows_within(BLOCK_BYTES, d * max(1, images), 64)


def active(oracle: Oracle) -> Tensor:
    """Indices of the images still under attack."""
    return oracle.active.nonzero().squeeze(1)


def submit_closer(oracle: Oracle, points: Tensor, image: Tensor, reached: Tensor) -> None:
    """Submits those points that are closer than all before; `reached` ``[N]`` keeps the distances."""
    distance = oracle.distance(points, image)
    closer = distance < reached[image]
    reached[image[closer]] = distance[closer]
    oracle.submit(points[closer], image[closer])


def take_turns(oracle: Oracle, turn: Callable[[Tensor], None]) -> None:
    """Calls `turn` with the active images until there are none; every turn asks at least once for each of them."""
    for _ in range(oracle.budget + 1):
        image = active(oracle)
        if not len(image):
            break
        turn(image)


def uniform_start(oracle: Oracle, streams: Streams, tries: int, ask: Ask = Oracle.adversarial) -> tuple[Tensor, Tensor]:
    """Uniform noise images until one is adversarial; images that find none are retired as ``init_failed``.

    Returns:
        (points ``[N, C, H, W]``, images with a start). Every start found is submitted.
    """
    return first_start(oracle, lambda _, image: streams.uniform(image, oracle.x0), tries, ask)


def first_start(
    oracle: Oracle,
    draw: Callable[[int, Tensor], Tensor],
    tries: int,
    ask: Ask = Oracle.adversarial,
    begun: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """As `uniform_start`, of what `draw` makes for images ``[n]`` at each try, counted from 1; or of given starts.

    `begun` are points ``[N, C, H, W]``, and bool ``[N]``: where they are starts already.
    """
    draw, tries = offered(oracle, draw, tries)
    points, pending = oracle.x0.clone(), active(oracle)
    if begun is not None:
        points, pending = begun[0].clone(), pending[~begun[1][pending]]
    for k in range(1, tries + 1):
        if not len(pending):
            break
        tried = draw(k, pending)
        found = ask(oracle, tried, pending, "start") == 1
        points[pending[found]] = tried[found]
        oracle.submit(tried[found], pending[found])
        pending = pending[~found & oracle.active[pending]]
    oracle.retire(pending, "init_failed")
    return points, active(oracle)


def after_one(ask: Ask) -> Ask:
    """Asks once, and by `ask` only where that answer is adversarial."""

    def twice(oracle: Oracle, points: Tensor, image: Tensor, phase: Phase) -> Tensor:
        answer = oracle.adversarial(points, image, phase)
        hit = (answer == 1).nonzero().squeeze(1)
        answer[hit] = ask(oracle, points[hit], image[hit], phase)
        return answer

    return twice


def offered(
    oracle: Oracle, draw: Callable[[int, Tensor], Tensor], tries: int
) -> tuple[Callable[[int, Tensor], Tensor], int]:
    """What starts are tried, and how many: those that the oracle offers, where it does, and else what `draw` makes."""
    given = oracle.starts
    if given is None:
        return draw, tries
    return lambda k, image: given[image, k - 1], min(tries, given.shape[1])


def straight(x: Tensor, z: Tensor, e: Tensor) -> Tensor:
    """``(1 - e) x + e z``."""
    w = per_image(e, x)
    return (1 - w) * x + w * z


def box(x: Tensor, z: Tensor, e: Tensor) -> Tensor:
    """`z` clipped into the L∞ ball around `x` of radius ``e ‖z - x‖∞``."""
    radius = per_image(e.to(x.dtype) * (z - x).flatten(1).abs().amax(1), x)
    return torch.minimum(torch.maximum(z, x - radius), x + radius)


def bisect(
    oracle: Oracle,
    z: Tensor,
    image: Tensor,
    width: float | Tensor,
    phase: str,
    path: Callable[[Tensor, Tensor, Tensor], Tensor] = straight,
    ask: Ask = Oracle.adversarial,
) -> Tensor:
    """The adversarial end of a bisection between the clean images (e = 0) and `z` (e = 1).

    Takes ⌈log2(1 / width)⌉ steps an image whatever the answers, at most `MAX_BISECTIONS`. Where the budget ends on
    the way, or a stateful defense blocks a question, the best end so far is returned.

    Args:
        oracle: asked about points on the path.
        z: ``[n, C, H, W]``, taken to be adversarial.
        image: ``[n]``.
        width: of the final interval of e; one number, or one an image.
        phase: for the query counts.
        path: `straight` for L2, `box` for L∞.
        ask: one query a step, or a majority of several.
    """
    x = oracle.x0[image]
    lo = torch.zeros(len(image), dtype=torch.float64, device=z.device)
    hi = torch.ones_like(lo)
    widths = width.tolist() if isinstance(width, Tensor) else [width] * len(image)
    steps = torch.tensor([bisection_steps(w) for w in widths], dtype=torch.int64, device=z.device)

    def answers(middle: Tensor) -> Tensor:
        rows, told = (steps > 0).nonzero().squeeze(1), torch.full_like(image, REFUSED)
        steps.sub_(1)
        if bool(oracle.active[image[rows]].any()):
            told[rows] = ask(oracle, path(x[rows], z[rows], middle[rows]), image[rows], phase)
            steps[rows[told[rows] == REFUSED]] = 0  # blocked: the search ends where it is
        return told

    _, hi = bisected(lo, hi, answers, int(steps.max()) if len(steps) else 0)
    return path(x, z, hi)


def bisection_steps(width: float) -> int:
    """Steps of `bisect`."""
    return min(MAX_BISECTIONS, max(0, math.ceil(math.log2(1.0 / width))))
