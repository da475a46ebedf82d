"""Sign-OPT (Cheng, Singh, Chen, Chen, Liu and Hsieh, ICLR 2020), untargeted, L2.

Minimises over unit directions θ the distance g(θ) at which the label changes, by the signs of single queries.
Every image is a state machine of its own: all but the gradient ask one query at a time, at ``x + λ θ'``, so images
in different states share every batch.

Differs from the authors' code: walks of ±1 % stop after 600 moves and bisections after 60, g is kept in float64, a
failed start is a failure, every query counts (theirs misses the first of each local search), the clean image's
label is not asked again, and what is handed over is the clipped point.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sndcli.attacks.geometry import active, block_size, gaussian, norms, per_image, take_turns, unit
from sndcli.oracle import REFUSED, Oracle

TEST, CHECK, HALVE, GRADIENT, FIRST, OUT, IN, REFINE = range(8)
PHASES = {"start": (TEST, CHECK, HALVE), "search": (FIRST, OUT, IN, REFINE)}
MAX_WALK, MAX_HALVES = 600, 60


@dataclass(frozen=True)
class Options:
    """Hyper-parameters.

    Attributes:
        directions: K, probes of a gradient.
        alpha: α, first step size.
        beta: β, probe length relative to the distance; searches end at β/500.
        starts: Gaussian directions tried at the start.
        start_tolerance: width of the start's bisections, in L2.
        iterations: gradients, at most.
        trials: step sizes tried upwards, and downwards.
        limit: L2 length at which a walk outwards gives up (an absolute constant of the authors).
        saving: reject a step at once when its first answer says that it is no better. Leaves the path unchanged
            and saves queries; off, because the authors walk on.
    """

    directions: int = 200
    alpha: float = 0.2
    beta: float = 1e-3
    starts: int = 100
    start_tolerance: float = 1e-3
    iterations: int = 1_000
    trials: int = 15
    limit: float = 20.0
    saving: bool = False


OPTIONS = {"authors": Options(), "saving": Options(saving=True)}


def run(oracle: Oracle, generator: torch.Generator, options: Options) -> None:
    """Attacks every active image until its budget ends or it has converged."""
    take_turns(oracle, _Machine(oracle, generator, options).turn)


class _Machine:
    """The state of all N images; names as in the paper."""

    def __init__(self, oracle: Oracle, generator: torch.Generator, options: Options) -> None:
        n, device = len(oracle.x0), oracle.x0.device
        self.oracle, self.generator, self.o = oracle, generator, options
        self.state = torch.full((n,), TEST, device=device)
        self.theta = torch.zeros_like(oracle.x0)
        self.g = torch.full((n,), torch.inf, dtype=torch.float64, device=device)
        self.best_theta, self.best_g = self.theta.clone(), self.g.clone()
        self.trial_theta = self.theta.clone()  # θ', the direction asked about
        self.lam, self.lo, self.hi = (torch.zeros_like(self.g) for _ in range(3))
        self.alpha = torch.full_like(self.g, options.alpha)
        self.beta = torch.full_like(self.g, options.beta)
        self.gradient = torch.zeros_like(oracle.x0)
        self.count, self.moves, self.trial, self.tried, self.iteration = (
            torch.zeros(n, dtype=torch.int64, device=device) for _ in range(5)
        )
        self.upwards = torch.ones(n, dtype=torch.bool, device=device)
        self._next_direction(active(oracle))

    def turn(self, owner: Tensor) -> None:
        """One batch: a block of probes of every image in its gradient, one query of every other."""
        probing = owner[self.state[owner] == GRADIENT]
        asking = owner[self.state[owner] != GRADIENT]
        image, u, probes = self._probes(probing)
        points = self._at(asking, self.trial_theta[asking], self.lam[asking])
        answers = {}
        for phase, states in PHASES.items():
            mine = torch.isin(self.state[asking], torch.tensor(states, device=asking.device))
            answers[phase] = (asking[mine], points[mine])
        rows = [probing[image], *(who for who, _ in answers.values())]
        sent = [probes, *(where for _, where in answers.values())]
        # One forward for all; the oracle is told the phases apart.
        split = [len(part) for part in rows]
        phases = list(zip(("gradient", *PHASES), split, strict=True))
        replies = self.oracle.adversarial(torch.cat(sent), torch.cat(rows), phases).split(split)
        self._gather(probing, image, u, replies[0])
        for (who, _), reply in zip(answers.values(), replies[1:], strict=True):
            ok = reply != REFUSED
            self._advance(who[ok], reply[ok] == 1)

    def _at(self, owner: Tensor, theta: Tensor, lam: Tensor) -> Tensor:
        return self.oracle.x0[owner] + per_image(lam, theta) * theta

    # -- the start -------------------------------------------------------------------------------------------

    def _next_direction(self, owner: Tensor) -> None:
        """Draws the next start direction, or begins the first gradient after the last."""
        last = self.tried[owner] >= self.o.starts
        done = owner[last]
        failed = done[~self.best_g[done].isfinite()]
        self.oracle.retire(failed, "init_failed")
        self._begin(done[self.best_g[done].isfinite()])
        owner = owner[~last]
        direction = gaussian(len(owner), self.oracle.x0, self.generator)
        self.trial_theta[owner] = unit(direction)
        self.lam[owner] = norms(direction).double()
        self.tried[owner] += 1
        self.state[owner] = TEST

    def _halve(self, owner: Tensor, hi: Tensor, state: int) -> None:
        self.lo[owner], self.hi[owner] = 0.0, hi
        self.lam[owner] = hi / 2
        self.moves[owner] = 0
        self.state[owner] = state

    # -- one iteration ---------------------------------------------------------------------------------------

    def _begin(self, owner: Tensor) -> None:
        """A new gradient at the best direction so far."""
        self.theta[owner], self.g[owner] = self.best_theta[owner], self.best_g[owner]
        self.oracle.retire(owner[self.iteration[owner] >= self.o.iterations], "exhausted")
        self.iteration[owner] += 1
        self.gradient[owner] = 0.0
        self.count[owner] = 0
        self.state[owner] = GRADIENT

    def _probes(self, owner: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        block = block_size(len(self.oracle.x0), self.theta[0].numel())
        take = torch.clamp(self.o.directions - self.count[owner], max=block)
        image = torch.repeat_interleave(torch.arange(len(owner), device=owner.device), take)
        u = unit(gaussian(len(image), self.oracle.x0, self.generator))
        who = owner[image]
        theta = unit(self.theta[who] + per_image(self.beta[who], u) * u)
        return image, u, self._at(who, theta, self.g[who])

    def _gather(self, owner: Tensor, image: Tensor, u: Tensor, reply: Tensor) -> None:
        """Adds sign · u: -1 where the boundary came nearer, +1 elsewhere."""
        ok = reply != REFUSED
        sign = (1 - 2 * reply[ok]).to(u.dtype)
        self.gradient.index_add_(0, owner[image[ok]], u[ok] * per_image(sign, u))
        self.count.index_add_(0, owner[image[ok]], torch.ones_like(reply[ok]))
        done = owner[self.count[owner] >= self.o.directions]
        self.gradient[done] /= self.o.directions
        self.trial[done], self.upwards[done] = 0, True
        self._try_step(done)

    def _try_step(self, owner: Tensor) -> None:
        """θ' = (θ - αG)/‖·‖ and the first query of its local search, at the distance to beat."""
        step = per_image(self.alpha[owner], self.theta) * self.gradient[owner]
        self.trial_theta[owner] = unit(self.theta[owner] - step)
        self.lam[owner] = torch.where(self.upwards[owner], self.best_g[owner], self.g[owner])
        self.moves[owner] = 0
        self.state[owner] = FIRST

    def _found(self, owner: Tensor, g: Tensor) -> None:
        """A local search has ended with g' (infinite where it gave up): accept or not, and go on."""
        up = self.upwards[owner]
        better = g < torch.where(up, self.best_g[owner], self.g[owner])
        taken = owner[better]
        self.best_theta[taken], self.best_g[taken] = self.trial_theta[taken], g[better]
        self.oracle.hold(self._at(taken, self.best_theta[taken], self.best_g[taken]), taken)
        self.alpha[owner[up]] *= 2
        self.trial[owner] += 1
        spent = self.trial[owner] >= self.o.trials
        improved = self.best_g[owner] < self.g[owner]
        turn = up & ~improved & (~better | spent)  # nothing upwards: now downwards
        again = (up & better & ~spent) | (~up & ~better & ~spent)
        self.upwards[owner[turn]], self.trial[owner[turn]] = False, 0
        go = owner[turn | again]
        self.alpha[go[~self.upwards[go]]] /= 4
        self._try_step(go)
        self._end(owner[~(turn | again)])

    def _end(self, owner: Tensor) -> None:
        small = owner[self.alpha[owner] < 1e-4]
        self.alpha[small] = 1.0
        self.beta[small] /= 10
        self.oracle.retire(small[self.beta[small] < 1e-8], "converged")
        self._begin(owner)

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
        if self.o.saving:
            self._found(outside, torch.full_like(self.lam[outside], torch.inf))
        else:
            self.lam[outside] *= 1.01

    def _out(self, owner: Tensor, hit: Tensor) -> None:
        self.hi[owner[hit]] = self.lam[owner[hit]]
        self._refine(owner[hit])
        on = owner[~hit]
        self.lam[on] *= 1.01
        self.moves[on] += 1
        over = (self.lam[on] > self.o.limit) | (self.moves[on] > MAX_WALK)
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
        tolerance = torch.where(start, self.o.start_tolerance, self.beta[owner] / 500)
        narrow = (self.hi[owner] - self.lo[owner] <= tolerance) | (self.moves[owner] >= MAX_HALVES)
        first, later = owner[narrow & start], owner[narrow & ~start]
        better = first[self.hi[first] < self.best_g[first]]
        self.best_theta[better], self.best_g[better] = self.trial_theta[better], self.hi[better]
        self.oracle.hold(self._at(better, self.trial_theta[better], self.hi[better]), better)
        self._next_direction(first)
        self._found(later, self.hi[later])
