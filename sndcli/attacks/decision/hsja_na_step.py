"""Where HSJA-NA steps to from a boundary point, and how it comes back: every decision is a vote."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sndcli.attacks.common.confirm import Confirmed
from sndcli.attacks.common.geometry import Ask, bisect, bisection_steps, box, per_image, straight
from sndcli.ball import COLLAPSED, distances
from sndcli.queries.oracle import Oracle


def in_l2(oracle: Oracle, points: Tensor, image: Tensor) -> Tensor:
    """float64 ``[n]``: L2 distance from the clean images, at least `COLLAPSED`, whatever the norm of the oracle is.

    Noise of scale σ moves the boundary by about σ in L2, where in L∞ everything is some fifty times as short.
    """
    return distances(points.clamp(0.0, 1.0), oracle.x0, image, "l2").clamp_min(COLLAPSED)


def stepped_out(
    oracle: Oracle, x: Tensor, target: Tensor, image: Tensor, outward: float, halvings: int, ask: Ask
) -> tuple[Tensor, Tensor]:
    """Points on the way from `x` to `target`, moved on outwards, that a vote calls adversarial.

    The whole way is tried first, then half of it, and so on: where the adversarial region is narrow, most of a long
    step ends beyond it, and a projection that takes its far end for adversarial returns the far end.

    Args:
        oracle: asked in the phase ``step``.
        x: ``[n, C, H, W]``, boundary points.
        target: ``[n, C, H, W]``, where the whole step leads.
        image: ``[n]``.
        outward: how far a point is moved on, relative to its distance from the clean image.
        halvings: of the step, at most; 0: the whole step is taken, and nothing is asked.
        ask: a vote.

    Returns:
        (points ``[n, C, H, W]``, bool ``[n]``: which of them were called adversarial).
    """
    x0, share = oracle.x0[image], torch.ones(len(image), dtype=torch.float64, device=x.device)

    def at(rows: Tensor) -> Tensor:
        z = x[rows] + per_image(share[rows], x) * (target[rows] - x[rows])
        return (z + outward * (z - x0[rows])).clamp_(0.0, 1.0)

    far = at(torch.arange(len(image), device=x.device))
    found = torch.full((len(image),), halvings == 0, device=x.device)
    for _ in range(halvings and halvings + 1):
        pending = (~found & oracle.active[image]).nonzero().squeeze(1)
        if not len(pending):
            break
        far[pending] = at(pending)
        found[pending] = ask(oracle, far[pending], image[pending], "step") == 1
        share[pending] /= 2
    return far, found


@dataclass(frozen=True)
class Projection:
    """Bisections towards the clean image that end at the noise; a point beyond what they find is submitted.

    Attributes:
        oracle: paid in the phase ``projection``.
        sigma_hat: float64 ``[N]``, σ̂; may change between calls.
        ask: a vote.
        fineness: the last interval in σ̂, if that is wider than
        grid: 1.5 of so many parts of the segment.
        submit: what is made of a boundary point.
    """

    oracle: Oracle
    sigma_hat: Tensor
    ask: Ask
    fineness: float
    grid: int
    submit: Confirmed

    def __call__(self, far: Tensor, image: Tensor) -> Tensor:
        """Boundary points ``[n, C, H, W]`` between the clean images and adversarial ones `far` ``[n, C, H, W]``."""
        oracle, path = self.oracle, box if self.oracle.norm == "linf" else straight
        found = bisect(oracle, far, image, self.width(far, image), "projection", path, self.ask)
        unit_of_norm = oracle.distance(found, image) / in_l2(oracle, found, image)
        self.submit(found, self.sigma_hat[image] * unit_of_norm, image)
        return found

    def width(self, far: Tensor, image: Tensor) -> Tensor:
        """``[n]``: relative width at which the projection of `far` ends."""
        noise = self.fineness * self.sigma_hat[image] / in_l2(self.oracle, far, image)
        return noise.clamp(1.5 / self.grid, 0.5)

    def steps(self, far: Tensor, image: Tensor) -> Tensor:
        """int64 ``[n]``: votes that the projection of `far` takes."""
        return torch.tensor([bisection_steps(w) for w in self.width(far, image).tolist()], device=far.device)
