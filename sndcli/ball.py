"""The ball of radius ε around a clean image: distances, what is inside, and points moved out to its surface."""

from __future__ import annotations

from collections.abc import Callable
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SLACK = 1e-6  # relative
ROUNDING = 3.1e-8  # a pixel at x0 ± ε lies up to so much outside once it has been rounded to float32: 2⁻²⁵, and ε's own
COLLAPSED = 1e-6  # a distance below this can only be a wrong answer at the clean image
HALVINGS = 50
PULLS, PULL = 20, 0.9999  # of a point that rounding took out of the ball: how often it is drawn in, and to where
CACHED = 256  # rows measured at a time on the CPU: what its cache holds


def reach(eps: float) -> float:
    """The largest distance that counts as inside ε: a relative 1e-6 more, or a rounding where that is more."""
    return eps + max(SLACK * eps, ROUNDING)


@overload
def within(distance: float, eps: float) -> bool: ...
@overload
def within(distance: Tensor, eps: float) -> Tensor: ...
@overload
def within(distance: NDArray[np.float64], eps: float) -> NDArray[np.bool_]: ...


def within(distance: float | Tensor | NDArray[np.float64], eps: float) -> bool | Tensor | NDArray[np.bool_]:
    """Whether a distance is at most ε, up to the rounding of the points: everywhere by this one rule.

    Args:
        distance: a number, a tensor or an array.
        eps: ε > 0, in the same norm.

    Returns:
        a truth value, or one for each distance.

    Example:
        >>> within(8 / 255 + 2.8e-8, 8 / 255), within(0.0315, 8 / 255)
        (True, False)
    """
    return distance <= reach(eps)


def length(difference: Tensor, norm: str) -> Tensor:
    """float64 ``[M]``: L2 or L∞ norm of each row of `difference` ``[M, …]``.

    In float64, because a float32 sum over 150,528 pixels errs by more than `SLACK`.
    """
    flat = difference.flatten(1)
    if norm == "linf":
        return flat.abs().amax(1).double()
    lengths: Tensor = torch.linalg.vector_norm(flat.double(), dim=1)
    return lengths


def distances(points: Tensor, x0: Tensor, image: Tensor, norm: str) -> Tensor:
    """float64 ``[M]``: distance of each of `points` ``[M, C, H, W]`` from the one of `x0` that `image` ``[M]`` says."""
    if len(points) <= CACHED or points.device.type != "cpu":
        return length(points - x0[image], norm)
    pieces = zip(points.split(CACHED), image.split(CACHED), strict=True)
    return torch.cat([length(piece - x0[mine], norm) for piece, mine in pieces])


def as_sent(points: Tensor, quantize: bool) -> Tensor:
    """`points` clipped to [0, 1], and rounded to 8 bits where queries are."""
    sent = points.clamp(0.0, 1.0)
    return torch.round(sent * 255.0) / 255.0 if quantize else sent


def sent_inside(points: Tensor, x0: Tensor, image: Tensor, eps: float, norm: str) -> Tensor:
    """`points` as they are sent in 8 bits; those inside ε stay inside, a little nearer where rounding takes them out.

    Score attacks ask on the surface of the ball, and rounded to the nearest grey level such points lie 0.1 to 0.3 %
    outside, where no answer counts.

    Args:
        points: ``[M, C, H, W]``.
        x0: clean images ``[N, C, H, W]`` in [0, 1].
        image: int64 ``[M]``, the image each row is for.
        eps, norm: the ball.
    """
    sent = as_sent(points, quantize=True)
    distance = distances(sent, x0, image, norm)
    (out,) = torch.nonzero(~within(distance, eps), as_tuple=True)
    out = out[within(distances(points[out].clamp(0.0, 1.0), x0, image[out], norm), eps)]
    scale = torch.ones(len(out), dtype=torch.float64, device=points.device)
    for _ in range(PULLS):
        if not len(out):
            break
        scale = scale * (PULL * eps / distance[out])
        clean = x0[image[out]]
        difference = points[out].clamp(0.0, 1.0) - clean
        sent[out] = as_sent(clean + scale.to(x0.dtype).view(-1, *[1] * (x0.ndim - 1)) * difference, quantize=True)
        distance[out] = distances(sent[out], x0, image[out], norm)
        left = ~within(distance[out], eps)
        out, scale = out[left], scale[left]
    return sent


def bisected(lo: Tensor, hi: Tensor, ask: Callable[[Tensor], Tensor], steps: int) -> tuple[Tensor, Tensor]:
    """Halves n brackets [lo, hi] so many times, each where its own answers say.

    Args:
        lo: ``[n]``, ends at which the answer is 0.
        hi: ``[n]``, ends at which it is 1.
        ask: the answers ``[n]`` at the middles ``[n]``: 1 (or true) makes a middle the new `hi`, 0 (or false) the new
            `lo`, and anything else leaves its bracket as it is.
        steps: halvings.

    Example:
        >>> lo, hi = bisected(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 8.0]), lambda x: x >= 0.7, 20)
        >>> [round(x, 4) for x in hi.tolist()]
        [0.7, 0.7]
    """
    for _ in range(steps):
        middle = (lo + hi) / 2
        answer = ask(middle)
        lo, hi = torch.where(answer == 0, middle, lo), torch.where(answer == 1, middle, hi)
    return lo, hi


def moved_out(x0: Tensor, z: Tensor, eps: float, norm: str, quantize: bool = False) -> Tensor:
    """``x0 + s (z - x0)`` with the largest s ≥ 1 that keeps it inside ε after clipping (and quantising).

    The free last step of an attack that minimises a distance: what it found says in which direction to go, and ε says
    how far it may. A point outside ε stays, and so does one at the clean image, which has no direction.

    Args:
        x0: clean images ``[n, C, H, W]`` in [0, 1].
        z: submitted points ``[n, C, H, W]`` in [0, 1].
        eps: radius of the ball.
        norm: ``l2`` or ``linf``.
        quantize: whether points are sent in 8 bits.
    """
    difference, one = z - x0, torch.ones(len(x0), dtype=torch.float64, device=x0.device)

    def at(s: Tensor) -> Tensor:
        return as_sent(x0 + s.to(x0.dtype).view(-1, *[1] * (x0.ndim - 1)) * difference, quantize)

    def inside(s: Tensor) -> Tensor:
        return within(length(at(s) - x0, norm), eps)

    start = length(difference, norm)
    movable = (start >= COLLAPSED) & inside(one)
    # Where even the largest steps stay inside, every pixel that moves is at 0 or 1 by then.
    far = one / difference.flatten(1).abs().clamp_min(torch.finfo(x0.dtype).tiny).amin(1).clamp_min(1e-6).double()
    lo, hi = one.clone(), torch.maximum(2 * eps / start.clamp_min(COLLAPSED), far)
    lo = torch.where(inside(hi), hi, lo)
    lo, _ = bisected(lo, hi, lambda s: ~inside(s), HALVINGS)
    moved, movable = at(lo), movable & (lo > 1 + 10 * SLACK)  # a point on the surface stays to the bit
    return torch.where(movable.view(-1, *[1] * (x0.ndim - 1)), moved, z)
