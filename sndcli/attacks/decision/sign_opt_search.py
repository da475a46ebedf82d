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
        starts: their number; where the oracle offers starts, theirs counts.
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
        self.starts = starts if oracle.starts is None else min(starts, oracle.starts.shape[1])
        self.start_tolerance, self.saving, self.limit = start_tolerance, saving, limit
        self.state = torch.full((n,), TEST, device=device)
        self.trial_theta = torch.zeros_like(oracle.x0)  # θ', the direction asked about
        self.lam, self.lo, self.hi = (torch.zeros(n, dtype=torch.float64, device=device) for _ in range(3))
        self.best_theta, self.best_g = torch.zeros_like(oracle.x0), torch.full_like(self.lam, torch.inf)
        self.moves, self.tried = (torch.zeros(n, dtype=torch.int64, device=device) for _ in range(2))

    # -- what becomes of a search ----------------------------------------------------------------------------

    def _found(self, image: Tensor, g: Tensor) -> None:
        """A local search has ended with g' (infinite where it gave up)."""
        raise NotImplementedError

    def _begin(self, image: Tensor) -> None:
        """The starts have ended with a direction."""
        raise NotImplementedError

    def _tolerance(self, image: Tensor) -> Tensor:
        """Width of the local searches' last interval, ``[n]``."""
        raise NotImplementedError

    def _quick(self, image: Tensor) -> Tensor:
        """bool ``[n]``: whose search ends at a first answer that is no better."""
        return torch.full_like(image, self.saving, dtype=torch.bool)

    # -- where a search begins -------------------------------------------------------------------------------

    def _next_direction(self, image: Tensor) -> None:
        """Draws the next start direction, or begins the first gradient after the last."""
        last = self.tried[image] >= self.starts
        done = image[last]
        failed = done[~self.best_g[done].isfinite()]
        self.oracle.retire(failed, "init_failed")
        self._begin(done[self.best_g[done].isfinite()])
        image = image[~last]
        given, x0 = self.oracle.starts, self.oracle.x0
        direction = self.streams.normal(image, x0) if given is None else given[image, self.tried[image]] - x0[image]
        self.trial_theta[image] = unit(direction)
        self.lam[image] = norms(direction).double()
        self.tried[image] += 1
        self.state[image] = TEST

    def _at(self, image: Tensor, theta: Tensor, lam: Tensor) -> Tensor:
        return self.oracle.x0[image] + per_image(lam, theta) * theta

    def _halve(self, image: Tensor, hi: Tensor, state: int) -> None:
        self.lo[image], self.hi[image] = 0.0, hi
        self.lam[image] = hi / 2
        self.moves[image] = 0
        self.state[image] = state

    def _search(self, image: Tensor, theta: Tensor, beat: Tensor) -> None:
        """A local search along `theta`, whose first query is at the distance to beat."""
        self.trial_theta[image] = theta
        self.lam[image] = beat
        self.moves[image] = 0
        self.state[image] = FIRST

    # -- one answer ------------------------------------------------------------------------------------------

    def _advance(self, image: Tensor, hit: Tensor) -> None:
        state = self.state[image].clone()
        for which, step in ((TEST, self._test), (CHECK, self._check), (FIRST, self._first), (OUT, self._out),
                            (IN, self._in), (HALVE, self._narrow), (REFINE, self._narrow)):  # fmt: skip
            mine = state == which
            if bool(mine.any()):
                step(image[mine], hit[mine])

    def _test(self, image: Tensor, hit: Tensor) -> None:
        longer = self.lam[image] > self.best_g[image]
        check = image[hit & longer]
        self.state[check] = CHECK
        near = image[hit & ~longer]
        self._halve(near, self.lam[near], HALVE)
        self.lam[check] = self.best_g[check]
        self._next_direction(image[~hit])

    def _check(self, image: Tensor, hit: Tensor) -> None:
        self._halve(image[hit], self.best_g[image[hit]], HALVE)
        self._next_direction(image[~hit])

    def _first(self, image: Tensor, hit: Tensor) -> None:
        inside, outside = image[hit], image[~hit]
        self.hi[inside] = self.lam[inside]
        self.lo[outside] = self.lam[outside]
        self.state[inside], self.state[outside] = IN, OUT
        self.lam[inside] *= 0.99
        quick = self._quick(outside)
        self.lam[outside[~quick]] *= 1.01
        self._found(outside[quick], torch.full_like(self.lam[outside[quick]], torch.inf))

    def _out(self, image: Tensor, hit: Tensor) -> None:
        self.hi[image[hit]] = self.lam[image[hit]]
        self._refine(image[hit])
        on = image[~hit]
        self.lam[on] *= 1.01
        self.moves[on] += 1
        over = (self.lam[on] > self.limit) | (self.moves[on] > MAX_WALK)
        self._found(on[over], torch.full_like(self.lam[on[over]], torch.inf))

    def _in(self, image: Tensor, hit: Tensor) -> None:
        self.lo[image[~hit]] = self.lam[image[~hit]]
        self._refine(image[~hit])
        on = image[hit]
        self.lam[on] *= 0.99
        self.moves[on] += 1
        over = on[self.moves[on] > MAX_WALK]
        self.oracle.retire(over, "collapsed")

    def _refine(self, image: Tensor) -> None:
        self.moves[image] = 0
        self.lam[image] = (self.lo[image] + self.hi[image]) / 2
        self.state[image] = REFINE
        self._settle(image)

    def _narrow(self, image: Tensor, hit: Tensor) -> None:
        self.hi[image[hit]] = self.lam[image[hit]]
        self.lo[image[~hit]] = self.lam[image[~hit]]
        self.lam[image] = (self.lo[image] + self.hi[image]) / 2
        self.moves[image] += 1
        self._settle(image)

    def _settle(self, image: Tensor) -> None:
        """Ends the bisections that are narrow enough."""
        start = self.state[image] == HALVE
        tolerance = torch.where(start, self.start_tolerance, self._tolerance(image))
        narrow = (self.hi[image] - self.lo[image] <= tolerance) | (self.moves[image] >= MAX_HALVES)
        first, later = image[narrow & start], image[narrow & ~start]
        better = first[self.hi[first] < self.best_g[first]]
        self.best_theta[better], self.best_g[better] = self.trial_theta[better], self.hi[better]
        self.oracle.submit(self._at(better, self.trial_theta[better], self.hi[better]), better)
        self._next_direction(first)
        self._found(later, self.hi[later])
