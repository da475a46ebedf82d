"""Whether at least half of N fresh answers about a point are adversarial, asked in stages until that is certain.

Answers are counted after 8, 12, 16, … of the N. The asking ends where as many of one kind as there are come by chance
so seldom, and are outvoted by the rest so seldom, that both together have a probability of at most `CHANCE` for a
point on the majority boundary, where either answer has probability 1/2; anywhere else it is far smaller. So of a
certain point some dozen answers are asked, and of one on the boundary all.

The share of adversarial answers in what was asked would be biased, since the asking ends at extremes. What is returned
is the share that the *first* answer has among all orders in which the answers so found could have come (Girshick,
Mosteller and Savage, Annals of Mathematical Statistics 17, 1946): its mean is the point's own probability, whatever
the rule by which the asking ends. It is at least 1/2 where at least half of the answers are adversarial.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import bdtr, bdtrc
from torch import Tensor

from sndcli.queries.criterion import Criterion
from sndcli.queries.draws import UNANSWERED, Logits, fresh_labels, rows_within, share_met
from sndcli.streams import Streams, passing_over

CHANCE = 1e-4  # of ending at one stage with a verdict that the rest would have turned, on the boundary
FIRST, STEP, COARSER = (
    8,
    4,
    16,
)  # the first stage; how far apart stages are; twice as far after 32, three times after 48


@dataclass(frozen=True)
class Stage:
    """A count of the answers so far.

    Attributes:
        asked: answers by then.
        many: with at least so many adversarial ones, or at least so many others, the asking ends.
    """

    asked: int
    many: int

    def ends(self, adversarial: Tensor) -> Tensor:
        """bool ``[M]``: whether it does, for so many adversarial ones ``[M]``."""
        return (adversarial >= self.many) | (self.asked - adversarial >= self.many)


@cache
def stages(draws: int) -> tuple[Stage, ...]:
    """The counts of at most `draws` ≥ 1 answers; all end at the last.

    Example:
        >>> [(stage.asked, stage.many) for stage in stages(25)]
        [(8, 8), (12, 11), (16, 12), (20, 13), (25, 0)]
    """
    found, asked = [], FIRST
    while asked + STEP <= draws:  # after a last answer of its own a share of 1/2 would not say of which kind it was
        many = _many(asked, draws)
        if many <= asked:
            found.append(Stage(asked, many))
        asked += STEP * max(1, asked // COARSER)
    return (*found, Stage(draws, 0))


def _many(asked: int, draws: int) -> int:
    """The fewest of one kind that end the asking; more than `asked`: none do."""
    counts = np.arange(asked // 2 + 1, asked + 1)
    at_least, outvoted = bdtrc(counts - 1, asked, 0.5), draws // 2 - counts
    turned = np.where(outvoted >= 0, bdtr(np.maximum(outvoted, 0), draws - asked, 0.5), 0.0)
    (seldom,) = (at_least * turned <= CHANCE).nonzero()
    return int(counts[seldom[0]]) if len(seldom) else asked + 1


@cache
def shares(draws: int) -> Mapping[int, NDArray[np.float64]]:
    """For each count at which the asking can end, the share for 0, 1, … adversarial answers; NaN: not reached.

    Args:
        draws: at most so many answers.
    """
    plan = stages(draws)
    if len(plan) == 1:
        return {draws: np.arange(draws + 1) / draws}
    found = {}
    begun, other = np.array([0.0, 1.0]), np.array([1.0, 0.0])  # orders that begin with an adversarial one, and others
    for before, stage in pairwise((Stage(1, 2), *plan)):
        for _ in range(stage.asked - before.asked):
            begun, other = _longer(begun), _longer(other)
        with np.errstate(invalid="ignore"):
            found[stage.asked] = begun / (begun + other)
        ended = stage.ends(torch.arange(stage.asked + 1)).numpy()
        begun, other = np.where(ended, 0.0, begun), np.where(ended, 0.0, other)
    return found


def _longer(orders: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orders of one answer more, all as likely as before."""
    longer: NDArray[np.float64] = (np.append(orders, 0.0) + np.append(0.0, orders)) / 2
    return longer


@cache
def expected(draws: int, p: float) -> float:
    """Mean number of answers that are asked about a point whose answers are adversarial with probability `p`.

    Example:
        >>> [round(expected(100, p)) for p in (0.0, 0.2, 0.5, 1.0)]
        [12, 28, 95, 12]
    """
    chances, mean, asked = np.array([1.0]), 0.0, 0
    for stage in stages(draws):
        for _ in range(stage.asked - asked):
            chances = np.append(chances, 0.0) * (1 - p) + np.append(0.0, chances) * p
        asked = stage.asked
        ended = stage.ends(torch.arange(asked + 1)).numpy()
        mean += asked * float(chances[ended].sum())
        chances = np.where(ended, 0.0, chances)
    return mean


def share_that_errs(
    logits: Logits,
    points: Tensor,
    image: Tensor,
    draws: int,
    criterion: Criterion,
    streams: Streams | None = None,
    memory: int = sys.maxsize,
) -> Tensor:
    """float64 ``[M]``, on the CPU: the share of fresh answers that are adversarial; NaN where nothing was answered.

    Where not all that was asked about a point was answered, all `draws` are asked and the share is that of the answers.
    An image's draws are those that it would have without any end before the last: what is not asked is passed over.

    Args:
        logits: ``[m, K]`` of ``[m, C, H, W]``, fresh randomness for every row; NaN where it was not answered.
        points: ``[M, C, H, W]``.
        image: int64 ``[M]``, the image each point is for, no two the same.
        draws: answers about each, at most.
        criterion: which answers are adversarial.
        streams: where a defense draws for each image.
        memory: bytes of rows alive at once.
    """
    found = torch.full((len(points),), float("nan"), dtype=torch.float64)
    left, labels = torch.arange(len(points), device=points.device), None
    asked, plan = 0, stages(draws)
    with passing_over(streams) as pass_over:
        for stage in plan:
            more = stage.asked - asked
            at_once = rows_within(memory, points[:1].numel() * more) if len(points) else 1
            fresh = fresh_labels(logits, points[left], image[left], more, streams, at_once)
            labels = fresh if labels is None else torch.cat([labels, fresh], 1)
            asked = stage.asked
            met, answered = criterion.met(labels, image[left]).cpu(), (labels != UNANSWERED).cpu()
            count, whole = (met & answered).sum(1), answered.all(1)
            ends = stage.ends(count) & whole if stage is not plan[-1] else torch.ones_like(whole)
            told = torch.from_numpy(shares(draws)[asked])[count]
            found[left.cpu()[ends]] = torch.where(whole, told, share_met(met, labels.cpu()))[ends]
            if asked < draws:
                for which in image[left][ends.to(left.device)].tolist():
                    pass_over(which, asked, draws - asked)
            stay = (~ends).to(left.device)
            left, labels = left[stay], labels[stay]
            if not len(left):
                break
    return found
