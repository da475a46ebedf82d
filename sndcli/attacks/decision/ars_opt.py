"""ARS-OPT (Xu, Cheng, Xu, Xuan and Ma, AAAI 2026), untargeted, L2: Sign-OPT with accelerated random search.

Minimises over unit directions θ the distance g(θ) at which the label changes. An iteration looks from a point y between
θ and a momentum m: the signs of K orthonormal directions give v, a difference of two distances the derivative along v,
and a step down the gradient the next θ; m goes further along the same gradient, the more so the longer the attack runs.

Differs from the authors' code: searches stop after 600 steps of 1 % and 60 bisections, what is submitted is the best so
far, no more directions than there are pixels, and where the boundary is not found at y + h v the other side and
halves of h are tried in turn.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sndcli.attacks.common.geometry import active, per_image, take_turns, unit
from sndcli.attacks.decision.sign_opt_search import CHECK, FIRST, GRADIENT, HALVE, IN, OUT, REFINE, TEST, RaySearch
from sndcli.attacks.ranges import Count, NonNegative, Positive
from sndcli.attacks.spec import AttackSpec, Preset, Scales
from sndcli.queries.oracle import REFUSED, Oracle
from sndcli.streams import Streams

PHASES = {"start": (TEST, CHECK, HALVE), "search": (FIRST, OUT, IN, REFINE)}
LOOK, SLOPE, STEP = range(3)  # what a search is for: g(y), the derivative along v, the next θ
RETRIES, SHORTEST = 10, 1e-4  # of the derivative; step size that is not tried any more


@dataclass(frozen=True)
class Options:
    """Hyper-parameters.

    Attributes:
        directions: K, orthonormal probes of a gradient.
        rate: step size, the inverse of L₁.
        clip: longest gradient of a step; the momentum's is not clipped.
        probe: h, how far a probe and the derivative look; searches end at h/500.
        starts: Gaussian directions tried at the start.
        start_tolerance: width of the start's bisections, in L2.
        iterations: at most.
        limit: L2 length at which a walk outwards gives up.
        momentum: off for plain random search: y is θ.
    """

    directions: Count = 200
    rate: Positive = 2.0
    clip: NonNegative = 0.1
    probe: Positive = 1e-3
    starts: Count = 100
    start_tolerance: Positive = 1e-3
    iterations: Count = 1_000
    limit: Positive = 100.0
    momentum: bool = True


def run(oracle: Oracle, streams: Streams, options: Options) -> None:
    """Attacks every active image until its budget or its iterations end."""
    take_turns(oracle, _Machine(oracle, streams, options).turn)


class _Machine(RaySearch):
    """The state of all N images; names as in the paper."""

    def __init__(self, oracle: Oracle, streams: Streams, o: Options) -> None:
        super().__init__(oracle, streams, o.starts, o.start_tolerance, False, o.limit)
        n, d, device = len(oracle.x0), oracle.x0[0].numel(), oracle.x0.device
        self.o, self.k = o, min(o.directions, d)
        self.captured = (2 / torch.pi * (self.k - 1) + 1) / d  # A, expected squared cosine of v and the gradient
        self.theta, self.m, self.y, self.v = (torch.zeros_like(oracle.x0) for _ in range(4))
        self.g, self.g_y, self.h, self.eta, self.a = (torch.zeros_like(self.lam) for _ in range(5))
        self.slope = torch.zeros_like(self.lam)  # δ
        self.gamma = torch.full_like(self.lam, 1 / o.rate)
        self.aim, self.iteration = (torch.full((n,), LOOK, device=device) for _ in range(2))
        self.states = [torch.tensor(states, device=device) for states in PHASES.values()]
        self._next_direction(active(oracle))

    def turn(self, image: Tensor) -> None:
        """One query of every image that searches, all in one batch; and all probes of every other, one by one."""
        for i in image[self.state[image] == GRADIENT].tolist():
            self._probe(i)
        parts = [image[torch.isin(self.state[image], states)] for states in self.states]
        searching = torch.cat(parts)
        points = self._at(searching, self.trial_theta[searching], self.lam[searching])
        reply = self.oracle.adversarial(points, searching, list(zip(PHASES, map(len, parts), strict=True)))
        self._advance(searching[reply != REFUSED], reply[reply != REFUSED] == 1)

    # -- one iteration ---------------------------------------------------------------------------------------

    def _begin(self, image: Tensor) -> None:
        """The starts have ended."""
        self.theta[image], self.g[image] = self.best_theta[image], self.best_g[image]
        self.m[image] = self.theta[image]
        self._look(image)

    def _look(self, image: Tensor) -> None:
        """y between θ and m, and the first query of its local search."""
        self.oracle.retire(image[self.iteration[image] >= self.o.iterations], "exhausted")
        self.iteration[image] += 1
        k = self.captured**2 * self.o.rate * self.gamma[image]  # ζγ, where ζ = A²/L₁
        a = (-k + (k.square() + 4 * k).sqrt()) / 2
        self.a[image] = a
        self.gamma[image] *= 1 - a
        if self.o.momentum:
            y = per_image(1 - a, self.y) * self.theta[image] + per_image(a, self.y) * self.m[image]
            self._search_for(LOOK, image, unit(y), self.g[image])
        else:
            self._looked(image, self.g[image])

    def _search_for(self, aim: int, image: Tensor, theta: Tensor, near: Tensor) -> None:
        self.aim[image] = aim
        self._search(image, theta, near)

    def _looked(self, image: Tensor, g: Tensor) -> None:
        lost = image[~g.isfinite()] if self.o.momentum else image
        self.y[image], self.g_y[image] = self.trial_theta[image], g
        self.y[lost], self.g_y[lost], self.m[lost] = self.theta[lost], self.g[lost], self.theta[lost]
        self.state[image] = GRADIENT

    def _probe(self, i: int) -> None:
        """v of image i: the sum of K orthonormal directions, each with the sign of its probe."""
        x0 = self.oracle.x0
        image = torch.full((self.k,), i, device=x0.device)
        drawn = self.streams.normal(image, x0).flatten(1)
        u = torch.linalg.qr(drawn.T).Q.T.reshape(self.k, *x0.shape[1:])
        reply = self.oracle.adversarial(
            self._at(image, unit(self.y[image] + self.o.probe * u), self.g_y[image]), image, "gradient"
        )
        if bool((reply == REFUSED).any()):
            return
        self.v[i] = unit((per_image(1 - 2 * reply, u) * u).sum(0, keepdim=True))[0]
        self.h[i], self.tried[i] = self.o.probe, 0
        self._try_slope(image[:1])

    def _try_slope(self, image: Tensor) -> None:
        beside = unit(self.y[image] + per_image(self.h[image], self.v) * self.v[image])
        self._search_for(SLOPE, image, beside, self.g_y[image])

    def _sloped(self, image: Tensor, g: Tensor) -> None:
        lost = ~g.isfinite()
        again = image[lost]
        self.tried[again] += 1
        self.h[again] *= torch.where(self.tried[again] % 2 == 1, -1.0, -0.5)
        self._look(again[self.tried[again] >= RETRIES])
        self._try_slope(again[self.tried[again] < RETRIES])
        image, g = image[~lost], g[~lost]
        self.slope[image] = (g - self.g_y[image]) / self.h[image]
        self.eta[image] = self.o.rate
        self._try_step(image)

    def _try_step(self, image: Tensor) -> None:
        """θ' = (y - ηg₁)/‖·‖ and its one query at the distance to beat."""
        step = self.eta[image] * self.slope[image].clamp(-self.o.clip, self.o.clip)
        self._search_for(STEP, image, unit(self.y[image] - per_image(step, self.v) * self.v[image]), self.g_y[image])

    def _stepped(self, image: Tensor, g: Tensor) -> None:
        short = image[~g.isfinite()]
        self.eta[short] /= 2
        self._look(short[self.eta[short] < SHORTEST])
        self._try_step(short[self.eta[short] >= SHORTEST])
        image, g = image[g.isfinite()], g[g.isfinite()]
        self.theta[image], self.g[image] = self.trial_theta[image], g
        further = self.captured * self.o.rate / self.a[image] * self.slope[image]  # ζ/a times g₂
        self.m[image] = unit(self.m[image] - per_image(further, self.v) * self.v[image])
        better = image[g < self.best_g[image]]
        self.best_theta[better], self.best_g[better] = self.theta[better], self.g[better]
        self.oracle.submit(self._at(better, self.theta[better], self.g[better]), better)
        self._look(image)

    # -- searches --------------------------------------------------------------------------------------------

    def _found(self, image: Tensor, g: Tensor) -> None:
        aim = self.aim[image].clone()
        for which, step in ((LOOK, self._looked), (SLOPE, self._sloped), (STEP, self._stepped)):
            mine = aim == which
            if bool(mine.any()):
                step(image[mine], g[mine])

    def _quick(self, image: Tensor) -> Tensor:
        return self.aim[image] == STEP

    def _tolerance(self, image: Tensor) -> Tensor:
        return torch.full_like(self.lam[image], self.o.probe / 500)


def scales(o: Options, d: int, distance: float, sigma: float) -> Scales:  # noqa: ARG001
    """Probes of h times the distance, of which 1/√d is along the normal; searches end at h/500."""
    return o.probe * distance / d**0.5, o.probe / 500


SOURCE = "Xu, Cheng, Xu, Xuan, Ma, AAAI 2026"
SPEC = AttackSpec(
    name="ars-opt",
    access="labels",
    norms=("l2",),
    presets={
        "authors": Preset(Options(), source=SOURCE, note="their settings for CIFAR"),
        "large": Preset(Options(rate=0.4, clip=1.0), source=SOURCE, note="their settings for ImageNet"),
    },
    summary="ARS-OPT: Sign-OPT with momentum (Xu, Cheng, Xu, Xuan, Ma 2026)",
    run=run,
    scales=scales,
    wider=("probe=0.01", "probe=0.1"),
    relatives={"hsja-na": None, "sign-opt": "na"},
    uses_eps=False,
)
