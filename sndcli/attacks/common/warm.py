"""Warm starts (ours): what the attacker's own networks think is adversarial, as the beginning of an attack."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sndcli.attacks.common.geometry import Ask, active, after_one, per_image, straight, unit
from sndcli.attacks.common.score_noise import Score
from sndcli.attacks.decision.transfer import Options as Ascent
from sndcli.attacks.decision.transfer import ascend
from sndcli.models.reference import Reference
from sndcli.queries.oracle import Oracle

DONE_INSIDE, DONE_BEYOND = 5, 2
WEIGHT = 0.75  # in √d: of a warm start's direction among gradients' sums, where four tenths of it are right
FURTHER = (1.0, 1.3, 1.7, 2.2, 2.9, 3.7)  # of ε: how far out a start is looked for on a point's ray


@dataclass(frozen=True)
class Warm:
    """Starts found on the rays of transferred points.

    Attributes:
        points: ``[N, C, H, W]``.
        found: bool ``[N]``, where there is one.
        inside: bool ``[N]``, where it lies at ε.
    """

    points: Tensor
    found: Tensor
    inside: Tensor

    @property
    def begun(self) -> tuple[Tensor, Tensor]:
        """As `growing_start` takes it."""
        return self.points, self.found

    @property
    def iterations(self) -> Tensor:
        """int64 ``[N]``: of an attack that starts from noise, how many lead about as far; 0 where nothing is found."""
        return torch.where(self.inside, DONE_INSIDE, DONE_BEYOND).where(self.found, 0)

    def gradient(self, difference: Tensor) -> Tensor:
        """``[N, C, H, W]``: what the directions of starts ``[N, C, H, W]`` are worth as a sum of gradients; or 0."""
        weight = WEIGHT * math.sqrt(difference[0].numel()) * self.found
        return per_image(weight, difference) * unit(difference)


def transferred(oracle: Oracle, references: Sequence[Reference], image: Tensor) -> Tensor:
    """``[n, C, H, W]``: the points at ε of the images that the references take for most adversarial; no query."""
    label, towards = oracle.criterion.surrogate(image)
    return ascend(oracle.x0[image], label, references, Ascent(), oracle.eps, oracle.norm, towards)


def warm_start(oracle: Oracle, references: Sequence[Reference], ask: Ask) -> Warm:
    """The first adversarial point on the ray of each active image's transferred one, at ε or beyond.

    Args:
        oracle: paid in the phase ``start``: one query a try, and a vote where its answer is adversarial.
        references: the attacker's own models; without any, nothing is found or asked.
        ask: the vote. What it confirms is submitted.
    """
    points, found = oracle.x0.clone(), torch.zeros_like(oracle.active)
    inside, image = found.clone(), active(oracle)
    rays = points.clone()
    if references:
        rays[image] = transferred(oracle, references, image)
    for far in FURTHER if references else ():
        pending = (oracle.active & ~found).nonzero().squeeze(1)
        scale = torch.full((len(pending),), far, dtype=torch.float64, device=points.device)
        tried = straight(oracle.x0[pending], rays[pending], scale).clamp_(0.0, 1.0)
        hit = after_one(ask)(oracle, tried, pending, "start") == 1
        points[pending[hit]], found[pending[hit]] = tried[hit], True
        oracle.submit(tried[hit], pending[hit])
        inside |= found & (far == FURTHER[0])
    return Warm(points, found, inside)


@dataclass(frozen=True)
class Pair:
    """Antithetic probes along one direction an image.

    Attributes:
        u: ``[N, C, H, W]``, in units of the probes' scale a.
        odd: float64 ``[N]``, half the difference of their scores; NaN where they were refused.
    """

    u: Tensor
    odd: Tensor

    def compared_with(self, odd: Tensor, image: Tensor) -> Tensor:
        """``[n, C, H, W]``: the pairs' part in the gradients of blocks that had the half differences `odd` ``[n, P]``.

        A random direction u of length √d has a difference of the gradient's size, one with the cosine c to the gradient
        one that is √d c times as large, so that c is known to about 1/√d. u times that difference is about d c, and a
        block's P random ones add up to some P along the gradient and √(P d) across: as independent estimates should be
        weighted.
        """
        spread = odd.square().nanmean(1).sqrt().clamp_min(1e-30)
        return per_image((self.odd[image] / spread).nan_to_num(), self.u) * self.u[image]


def pair_along(oracle: Oracle, x: Tensor, a: Tensor, score: Score) -> Pair:
    """Asks for the scores at ``x ± a√d s`` of each active image, s the direction from its clean image to `x`.

    Args:
        oracle: paid in the phase ``probe``.
        x: ``[N, C, H, W]``.
        a: ``[N]``.
        score: of the answers.
    """
    image, root_d = active(oracle), math.sqrt(x[0].numel())
    odd, u = torch.full((len(x),), torch.nan, dtype=torch.float64, device=x.device), torch.zeros_like(x)
    scale = per_image(a[image], x)
    ray = root_d * scale * unit(x[image] - oracle.x0[image])
    probes = torch.stack([x[image] + ray, x[image] - ray], 1).clamp_(0.0, 1.0)
    rows = image.repeat_interleave(2)
    told = score(oracle.scores(probes.flatten(0, 1), rows, "probe"), rows).double().view(-1, 2)
    u[image], odd[image] = (probes[:, 0] - probes[:, 1]) / (2 * scale), (told[:, 0] - told[:, 1]) / 2
    return Pair(u, odd)
