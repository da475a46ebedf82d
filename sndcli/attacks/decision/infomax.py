"""PopSkipJump's search: Bayesian bisection of a noisy sigmoid by queries of most expected information.

The chance of the true label at u in [0, 1] is P(u; t, s, e) = e + (1 - 2e) S(4s(u - t)), S(v) = 1/(1 + e^-v). The
posterior over a grid of (e, t, s) is kept for each image; all images share a round, never the end of their search.
P is linear in S, so one table serves the mean of P for every e; its entropy needs one table for each e in use.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from sndcli.attacks.common.geometry import straight
from sndcli.queries.oracle import REFUSED, Oracle
from sndcli.streams import Streams

SLOPES, FLOORS, MOST_FLOOR = 31, 7, 0.3
LEAST = 1e-7  # the posterior is kept above, so that no answer is beyond repair
FEWEST, STEADY = 12, 11  # estimates in all, and alike at the end, that end a search
MAX_ROUNDS = 5_000


class Sigmoids:
    """The grids and the tables of P.

    Attributes:
        u: ``[G + 1]``, places on the segment; the grid of t is the same.
        s: ``[31]`` slopes, 0.1 to 100, log-spaced.
        e: ``[7]`` floors, 0 to 0.3.
        table: S, ``[G + 1, (G + 1) · 31]``: places by (t, s). Its type is that of the posterior.
    """

    def __init__(self, grid: int, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.u = torch.linspace(0, 1, grid + 1, dtype=torch.float64, device=device)
        self.s = torch.logspace(-1, 2, SLOPES, dtype=torch.float64, device=device)
        self.e = torch.linspace(0, MOST_FLOOR, FLOORS, dtype=torch.float64, device=device)
        v = 4 * self.s * (self.u[:, None, None] - self.u[:, None])
        self.table = torch.sigmoid(v).flatten(1).to(dtype)
        self._floors: list[float] = self.e.tolist()  # read once, not once a round
        self._entropy: dict[int, Tensor] = {}

    def likelihood(self, k: int, place: Tensor | slice = slice(None)) -> Tensor:
        """P at some places for the k-th floor, ``[places, (G + 1) · 31]``."""
        e = self._floors[k]
        return e + (1 - 2 * e) * self.table[place]

    def entropy(self, k: int) -> Tensor:
        """h(P) for the k-th floor, of the shape of `table`."""
        if k not in self._entropy:
            self._entropy[k] = binary_entropy(self.likelihood(k))
        return self._entropy[k]

    def information(self, posterior: Tensor, allowed: Tensor) -> Tensor:
        """I(u) = h(E[P(u)]) - E[h(P(u))] in nats, ``[n, G + 1]``.

        Args:
            posterior: ``[n, 7, (G + 1) · 31]``, sums to one an image.
            allowed: bool ``[n, 7]``, on the CPU, floors that have any weight.
        """
        e = self.e.to(posterior.dtype)
        slanted = torch.einsum("nkc,k->nc", posterior, 1 - 2 * e)
        mean = (posterior.sum(2) @ e)[:, None] + slanted @ self.table.T
        expected = torch.zeros_like(mean)
        for k in allowed.any(0).nonzero().squeeze(1).tolist():
            rows = allowed[:, k].nonzero().squeeze(1).to(mean.device)
            expected[rows] += posterior[rows, k] @ self.entropy(k).T
        return binary_entropy(mean.clamp(0.0, 1.0)) - expected


@lru_cache(maxsize=2)
def sigmoids_of(grid: int, device: torch.device, dtype: torch.dtype) -> Sigmoids:
    """The tables of a grid, made once (90 MB for G = 300, when every floor has been in use)."""
    return Sigmoids(grid, device, dtype)


@dataclass(frozen=True)
class Found:
    """What a search says of each image: t, s ``[n]``; index of e; whether it ended by itself; rounds (queries)."""

    t: Tensor
    s: Tensor
    floor: Tensor
    finished: Tensor
    rounds: Tensor


def binary_entropy(p: Tensor) -> Tensor:
    """``-p log p - (1 - p) log(1 - p)`` in nats."""
    return -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p))


def infomax(oracle: Oracle, far: Tensor, image: Tensor, sigmoids: Sigmoids, floor: Tensor, streams: Streams) -> Found:
    """Searches the segments from `far` (u = 0) to the clean images (u = 1), one query an image and round.

    Ends for an image once its most probable (t, s, e) has been the same 11 times, after at least 12 rounds; as in
    the authors' code the estimate is the one before the last answer.

    Args:
        oracle: paid in the phase ``search``.
        far: x̃, ``[n, C, H, W]``.
        image: ``[n]``.
        sigmoids: grids and tables.
        floor: ``[n]``, index of the floor found before, or -1 to search it too.
        streams: break ties.
    """
    n, m, device = len(image), len(sigmoids.u), far.device
    allowed = (floor[:, None] < 0) | (floor[:, None] == torch.arange(FLOORS, device=device))
    posterior = sigmoids.table.new_ones(n, FLOORS, m * SLOPES) * allowed[:, :, None]
    on_host = allowed.cpu()
    best, streak, rounds = (torch.full((n,), v, dtype=torch.int64, device=device) for v in (-1, 0, 0))
    finished = torch.zeros(n, dtype=torch.bool, device=device)
    for _ in range(MAX_ROUNDS):
        live = (~finished & oracle.active[image]).nonzero().squeeze(1)
        if not len(live):
            break
        p = posterior[live]
        p = p / p.sum((1, 2), keepdim=True)
        p = p.clamp(LEAST, 1 - LEAST) * allowed[live, :, None]
        p /= p.sum((1, 2), keepdim=True)
        guess = p.flatten(1).argmax(1)
        streak[live] = torch.where(guess == best[live], streak[live] + 1, 1)
        best[live] = guess
        information = sigmoids.information(p, on_host[live.cpu()])
        jitter = streams.uniform(image[live], information)
        place = (information + 1e-7 * jitter).argmax(1)
        points = straight(oracle.x0[image[live]], far[live], 1 - sigmoids.u[place])
        answer = oracle.adversarial(points, image[live], "search")
        told = answer != REFUSED
        rounds[live] += told.long()
        finished[live] = told & (rounds[live] >= FEWEST) & (streak[live] >= STEADY)
        for k in range(FLOORS):
            like = sigmoids.likelihood(k, place)
            p[:, k] *= torch.where(answer[:, None] == 1, 1 - like, like)
        posterior[live] = torch.where(told[:, None, None], p, posterior[live])
    best.clamp_min_(0)
    cell = best % (m * SLOPES)
    return Found(sigmoids.u[cell // SLOPES], sigmoids.s[cell % SLOPES], best // (m * SLOPES), finished, rounds)
