"""Sign-OPT (Cheng, Singh, Chen, Chen, Liu and Hsieh, ICLR 2020), untargeted, L2.

Minimises over unit directions θ the distance g(θ) at which the label changes, by the signs of single queries.
Every image is a state machine of its own: all but the gradient ask one query at a time, at ``x + λ θ'``, so images
in different states share every batch.

Differs from the authors' code: walks of ±1 % stop after 600 moves and bisections after 60, g is kept in float64, a
failed start is a failure, every query counts (theirs misses the first of each local search), the clean image's
label is not asked again, and what is submitted is the clipped point.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sndcli.attacks.common.confirm import submitting
from sndcli.attacks.common.geometry import active, block_size, per_image, take_turns, unit
from sndcli.attacks.common.noise import ESTIMATE, check_scale, known_scale, noise_scale, voted_but_first
from sndcli.attacks.decision.sign_opt_search import CHECK, FIRST, GRADIENT, HALVE, IN, OUT, REFINE, TEST, RaySearch
from sndcli.attacks.ranges import Count, Odd, Positive, Whole
from sndcli.attacks.spec import AttackSpec, Preset, Scales
from sndcli.queries.oracle import REFUSED, Oracle
from sndcli.streams import Streams

PHASES = {"start": (TEST, CHECK, HALVE), "search": (FIRST, OUT, IN, REFINE)}


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
        sigma_hat: the model's noise (ours): a number, or ``estimate``; probes move by at least σ̂ along the normal
            and searches end at σ̂/10.
        votes: odd, answers behind every decision but the probes (ours).
        remeasure: measure g(θ) anew at each iteration instead of carrying the least of noisy values (ours).
        confirm: with a number, a point 2 % and 2σ̂ further out is submitted that so many answers confirm (ours).
    """

    directions: Count = 200
    alpha: Positive = 0.2
    beta: Positive = 1e-3
    starts: Count = 100
    start_tolerance: Positive = 1e-3
    iterations: Count = 1_000
    trials: Count = 15
    limit: Positive = 20.0
    saving: bool = False
    sigma_hat: str = "0"
    votes: Odd = 1
    remeasure: bool = False
    confirm: Whole = 0

    def __post_init__(self) -> None:
        check_scale(self.sigma_hat)


def run(oracle: Oracle, streams: Streams, options: Options) -> None:
    """Attacks every active image until its budget ends or it has converged."""
    sigma_hat = noise_scale(oracle, streams, options.sigma_hat)
    take_turns(oracle, _Machine(oracle, streams, options, sigma_hat).turn)


class _Machine(RaySearch):
    """The state of all N images; names as in the paper."""

    def __init__(self, oracle: Oracle, streams: Streams, options: Options, sigma_hat: Tensor) -> None:
        o, n, device = options, len(oracle.x0), oracle.x0.device
        super().__init__(oracle, streams, o.starts, o.start_tolerance, o.saving, o.limit)
        self.o, self.sigma_hat = o, sigma_hat
        self.submit = submitting(oracle, o.confirm)
        self.theta = torch.zeros_like(oracle.x0)
        self.g = torch.full((n,), torch.inf, dtype=torch.float64, device=device)
        self.alpha, self.beta = torch.full_like(self.g, o.alpha), torch.full_like(self.g, o.beta)
        self.gradient = torch.zeros_like(oracle.x0)
        self.count, self.trial, self.iteration = (torch.zeros(n, dtype=torch.int64, device=device) for _ in range(3))
        self.upwards, self.remeasuring = (torch.full((n,), up, device=device) for up in (True, False))
        self.states = [torch.tensor(states, device=device) for states in PHASES.values()]
        self._next_direction(active(oracle))

    def turn(self, image: Tensor) -> None:
        """One batch: a block of probes of every image in its gradient, one query of every other."""
        probing = image[self.state[image] == GRADIENT]
        asking = [image[torch.isin(self.state[image], states)] for states in self.states]
        nth, u, probes = self._probes(probing)
        everyone = torch.cat(asking)
        points = self._at(everyone, self.trial_theta[everyone], self.lam[everyone])
        # One forward for all; the oracle is told the phases apart.
        phases = list(zip(("gradient", *PHASES), (len(nth), *map(len, asking)), strict=True))
        sent, rows = torch.cat([probes, points]), torch.cat([probing[nth], everyone])
        reply = voted_but_first(self.oracle, sent, rows, phases, self.o.votes)
        self._gather(probing, nth, u, reply[: len(nth)])
        told = reply[len(nth) :]
        ok = told != REFUSED
        self._advance(everyone[ok], told[ok] == 1)

    # -- one iteration ---------------------------------------------------------------------------------------

    def _begin(self, image: Tensor) -> None:
        """A new gradient at the best direction so far, after a new look at its distance where that is wanted."""
        if self.o.remeasure:
            first = image[~self.remeasuring[image]]
            self.remeasuring[image] = ~self.remeasuring[image]
            self._search(first, self.best_theta[first], self.best_g[first])
            image = image[~torch.isin(image, first)]
        self.theta[image], self.g[image] = self.best_theta[image], self.best_g[image]
        self.oracle.retire(image[self.iteration[image] >= self.o.iterations], "exhausted")
        self.iteration[image] += 1
        self.gradient[image] = 0.0
        self.count[image] = 0
        self.state[image] = GRADIENT

    def _probes(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        block = block_size(len(self.oracle.x0), self.theta[0].numel())
        take = torch.clamp(self.o.directions - self.count[image], max=block)
        nth = torch.repeat_interleave(torch.arange(len(image), device=image.device), take)
        u = unit(self.streams.normal(image[nth], self.oracle.x0))
        who = image[nth]
        h = torch.maximum(self.beta[who], self.sigma_hat[who] * self.theta[0].numel() ** 0.5 / self.g[who])
        theta = unit(self.theta[who] + per_image(h, u) * u)
        return nth, u, self._at(who, theta, self.g[who])

    def _gather(self, image: Tensor, nth: Tensor, u: Tensor, reply: Tensor) -> None:
        """Adds sign · u: -1 where the boundary came nearer, +1 elsewhere."""
        ok = reply != REFUSED
        sign = (1 - 2 * reply[ok]).to(u.dtype)
        self.gradient.index_add_(0, image[nth[ok]], u[ok] * per_image(sign, u))
        self.count.index_add_(0, image[nth[ok]], torch.ones_like(reply[ok]))
        done = image[self.count[image] >= self.o.directions]
        self.gradient[done] /= self.o.directions
        self.trial[done], self.upwards[done] = 0, True
        self._try_step(done)

    def _try_step(self, image: Tensor) -> None:
        """θ' = (θ - αG)/‖·‖ and the first query of its local search, at the distance to beat."""
        step = per_image(self.alpha[image], self.theta) * self.gradient[image]
        beat = torch.where(self.upwards[image], self.best_g[image], self.g[image])
        self._search(image, unit(self.theta[image] - step), beat)

    def _found(self, image: Tensor, g: Tensor) -> None:
        """A local search has ended with g' (infinite where it gave up): accept or not, and go on."""
        again = self.remeasuring[image]
        self._remeasured(image[again], g[again])
        image, g = image[~again], g[~again]
        up = self.upwards[image]
        better = g < torch.where(up, self.best_g[image], self.g[image])
        taken = image[better]
        self.best_theta[taken], self.best_g[taken] = self.trial_theta[taken], g[better]
        self._submit(taken)
        self.alpha[image[up]] *= 2
        self.trial[image] += 1
        spent = self.trial[image] >= self.o.trials
        improved = self.best_g[image] < self.g[image]
        turn = up & ~improved & (~better | spent)  # nothing upwards: now downwards
        again = (up & better & ~spent) | (~up & ~better & ~spent)
        self.upwards[image[turn]], self.trial[image[turn]] = False, 0
        go = image[turn | again]
        self.alpha[go[~self.upwards[go]]] /= 4
        self._try_step(go)
        self._end(image[~(turn | again)])

    def _remeasured(self, image: Tensor, g: Tensor) -> None:
        told = g.isfinite()
        self.best_g[image[told]] = g[told]
        self._submit(image)
        self._begin(image)

    def _submit(self, image: Tensor) -> None:
        self.submit(self._at(image, self.best_theta[image], self.best_g[image]), self.sigma_hat[image], image)

    def _tolerance(self, image: Tensor) -> Tensor:
        return torch.maximum(self.beta[image] / 500, self.sigma_hat[image] / 10)

    def _quick(self, image: Tensor) -> Tensor:
        return super()._quick(image) & ~self.remeasuring[image]

    def _end(self, image: Tensor) -> None:
        small = image[self.alpha[image] < 1e-4]
        self.alpha[small] = 1.0
        self.beta[small] /= 10
        self.oracle.retire(small[self.beta[small] < 1e-8], "converged")
        self._begin(image)


def scales(o: Options, d: int, distance: float, sigma: float) -> Scales:
    """Probes of β times the distance, of which 1/√d is along the normal; searches end at β/500."""
    noise = known_scale(o.sigma_hat, sigma)
    return max(o.beta * distance / d**0.5, noise), max(o.beta / 500, noise / 10)


SPEC = AttackSpec(
    name="sign-opt",
    access="labels",
    norms=("l2",),
    presets={
        "authors": Preset(Options(), source="Cheng et al., ICLR 2020"),
        "saving": Preset(
            Options(saving=True), ours=True, note="rejects a step at its first answer: same path, fewer queries"
        ),
        "na": Preset(
            Options(saving=True, sigma_hat=ESTIMATE, votes=5, remeasure=True, confirm=9),
            noise_aware=True,
            ours=True,
            note="probes that move the margin by σ̂, majorities of five, distances measured anew, a confirmed point",
        ),
    },
    summary="Sign-OPT (Cheng, Singh, Chen, Chen, Liu, Hsieh 2020)",
    run=run,
    targeted=True,
    scales=scales,
    wider=("beta=0.01", "beta=0.1"),
    told="sigma_hat={}",
    uses_eps="confirm",
)
