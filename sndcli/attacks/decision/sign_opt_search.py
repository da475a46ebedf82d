"""Sign-OPT's local search: the distance of the boundary along a ray, one query an image and turn.

The states of a search, and how each answer moves an image from one to the next. `sign_opt` decides which rays are
searched and what becomes of the distances.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sndcli.attacks.common.geometry import norms, per_image, unit
from sndcli.queries.oracle import Oracle
from sndcli.streams import Streams

TEST, CHECK, HALVE, GRADIENT, FIRST, OUT, IN, REFINE = range(8)
MAX_WALK, MAX_HALVES = 600, 60


class RaySearch:
    """The searches of all N images; names as in the paper.

    Args:
        oracle: its clean images are where the rays begin.
        streams: of the start directions.
        starts: their number.
        start_tolerance: width of their bisections.
        saving: end a search at its first answer where that is no better.
        limit: L2 length at which a walk outwards gives up.
    """

    def __init__(
        self,
        oracle: Oracle,
        streams: Streams,
        starts: int,
        start_tolerance: float,
        saving: bool,
        limit: float,
    ) -> None:
        n, device = len(oracle.x0), oracle.x0.device
        self.oracle, self.streams = oracle, streams
        self.starts, self.start_tolerance, self.saving, self.limit = starts, start_tolerance, saving, limit
        self.state = torch.full((n,), TEST, device=device)
        self.trial_theta = torch.zeros_like(oracle.x0)  # θ', the direction asked about
        self.lam, self.lo, self.hi = (torch.zeros(n, dtype=torch.float64, device=device) for _ in range(3))
        self.best_theta, self.best_g = torch.zeros_like(oracle.x0), torch.full_like(self.lam, torch.inf)
        self.moves, self.tried = (torch.zeros(n, dtype=torch.int64, device=device) for _ in range(2))

    # -- what becomes of a search ----------------------------------------------------------------------------

    def _found(self, owner: Tensor, g: Tensor) -> None:
        """A local search has ended with g' (infinite where it gave up)."""
        raise NotImplementedError

    def _begin(self, owner: Tensor) -> None:
        """The starts have ended with a direction."""
        raise NotImplementedError

    def _tolerance(self, owner: Tensor) -> Tensor:
        """Width of the local searches' last interval, ``[n]``."""
        raise NotImplementedError

    def _quick(self, owner: Tensor) -> Tensor:
        """bool ``[n]``: whose search ends at a first answer that is no better."""
        return torch.full_like(owner, self.saving, dtype=torch.bool)

    # -- where a search begins -------------------------------------------------------------------------------

    def _next_direction(self, owner: Tensor) -> None:
        """Draws the next start direction, or begins the first gradient after the last."""
        last = self.tried[owner] >= self.starts
        done = owner[last]
        failed = done[~self.best_g[done].isfinite()]
        self.oracle.retire(failed, "init_failed")
        self._begin(done[self.best_g[done].isfinite()])
        owner = owner[~last]
        direction = self.streams.normal(owner, self.oracle.x0)
        self.trial_theta[owner] = unit(direction)
        self.lam[owner] = norms(direction).double()
        self.tried[owner] += 1
        self.state[owner] = TEST

    def _at(self, owner: Tensor, theta: Tensor, lam: Tensor) -> Tensor:
        return self.oracle.x0[owner] + per_image(lam, theta) * theta

    def _halve(self, owner: Tensor, hi: Tensor, state: int) -> None:
        self.lo[owner], self.hi[owner] = 0.0, hi
        self.lam[owner] = hi / 2
        self.moves[owner] = 0
        self.state[owner] = state

    def _search(self, owner: Tensor, theta: Tensor, beat: Tensor) -> None:
        """A local search along `theta`, whose first query is at the distance to beat."""
        self.trial_theta[owner] = theta
        self.lam[owner] = beat
        self.moves[owner] = 0
        self.state[owner] = FIRST

    # -- one answer ------------------------------------------------------------------------------------------

    def _advance(self, owner: Tensor, hit: Tensor) -> None:
        state = self.state[owner].clone()
        for which, step in ((TEST, self._test), (CHECK, self._check), (FIRST, self._first), (OUT, self._out),
                            (IN, self._in), (HALVE, self._narrow), (REFINE, self._narrow)):  # fmt: skip
            mine = state == which
            if bool(mine.any()):
                step(owner[mine], hit[mine])

    def _test(self, owner: Tensor, hit: Tensor) -> None:
        longer = self.lam[owner] > self.best_g[owner]
        check = owner[hit & longer]
        self.state[check] = CHECK
        near = owner[hit & ~longer]
        self._halve(near, self.lam[near], HALVE)
        self.lam[check] = self.best_g[check]
        self._next_direction(owner[~hit])

    def _check(self, owner: Tensor, hit: Tensor) -> None:
        self._halve(owner[hit], self.best_g[owner[hit]], HALVE)
        self._next_direction(owner[~hit])

    def _first(self, owner: Tensor, hit: Tensor) -> None:
        inside, outside = owner[hit], owner[~hit]
        self.hi[inside] = self.lam[inside]
        self.lo[outside] = self.lam[outside]
        self.state[inside], self.state[outside] = IN, OUT
        self.lam[inside] *= 0.99
        quick = self._quick(outside)
        self.lam[outside[~quick]] *= 1.01
        self._found(outside[quick], torch.full_like(self.lam[outside[quick]], torch.inf))

    def _out(self, owner: Tensor, hit: Tensor) -> None:
        self.hi[owner[hit]] = self.lam[owner[hit]]
        self._refine(owner[hit])
        on = owner[~hit]
        self.lam[on] *= 1.01
        self.moves[on] += 1
        over = (self.lam[on] > self.limit) | (self.moves[on] > MAX_WALK)
        self._found(on[over], torch.full_like(self.lam[on[over]], torch.inf))

    def _in(self, owner: Tensor, hit: Tensor) -> None:
        self.lo[owner[~hit]] = self.lam[owner[~hit]]
        self._refine(owner[~hit])
        on = owner[hit]
        self.lam[on] *= 0.99
        self.moves[on] += 1
        over = on[self.moves[on] > MAX_WALK]
        self.oracle.retire(over, "collapsed")

    def _refine(self, owner: Tensor) -> None:
        self.moves[owner] = 0
        self.lam[owner] = (self.lo[owner] + self.hi[owner]) / 2
        self.state[owner] = REFINE
        self._settle(owner)

    def _narrow(self, owner: Tensor, hit: Tensor) -> None:
        self.hi[owner[hit]] = self.lam[owner[hit]]
        self.lo[owner[~hit]] = self.lam[owner[~hit]]
        self.lam[owner] = (self.lo[owner] + self.hi[owner]) / 2
        self.moves[owner] += 1
        self._settle(owner)

    def _settle(self, owner: Tensor) -> None:
        """Ends the bisections that are narrow enough."""
        start = self.state[owner] == HALVE
        tolerance = torch.where(start, self.start_tolerance, self._tolerance(owner))
        narrow = (self.hi[owner] - self.lo[owner] <= tolerance) | (self.moves[owner] >= MAX_HALVES)
        first, later = owner[narrow & start], owner[narrow & ~start]
        better = first[self.hi[first] < self.best_g[first]]
        self.best_theta[better], self.best_g[better] = self.trial_theta[better], self.hi[better]
        self.oracle.hold(self._at(better, self.trial_theta[better], self.hi[better]), better)
        self._next_direction(first)
        self._found(later, self.hi[later])
