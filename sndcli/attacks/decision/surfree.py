"""SurFree (Maho, Furon and Le Merrer, CVPR 2021), untargeted, L2: circles through the boundary, without any gradient.

From the boundary point x_b at distance D of the clean image x, u being the direction from x to x_b, a random direction
v of the image's own low frequencies gives the circle ``z(θ) = x + D cos θ (u cos θ + v sin θ)``, all of it closer than
x_b. Where z(±θ_max) is adversarial, the largest such θ is looked for by bisection; where not, the next v is tried.
θ_max grows with every success and shrinks with every failure.

Differs from the authors' code: θ_max stays below 90°; no last search on the ray to x, because a run may be read at many
budgets; an image with hardly any frequencies, as one of a single colour, has directions of all the frequencies that are
kept; a start is looked for 1,000 times. The history of directions goes wrong as theirs does, unless `orthogonal`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sndcli.attacks.common.geometry import (
    active,
    bisect,
    first_start,
    norms,
    per_image,
    straight,
    submit_closer,
    take_turns,
    unit,
)
from sndcli.attacks.decision.surfree_directions import Directions
from sndcli.attacks.ranges import Count, Positive, PositiveShare
from sndcli.attacks.spec import AttackSpec, Preset, Scales
from sndcli.ball import COLLAPSED
from sndcli.queries.oracle import REFUSED, Oracle
from sndcli.streams import Streams

SIGN, OUT, MIDDLE = range(3)
RIGHT = math.radians(89.9)  # no angle is larger


@dataclass(frozen=True)
class Options:
    """Hyper-parameters.

    Attributes:
        iterations: directions, at most; the authors stop after 100.
        theta: θ_max at the start, in degrees.
        rho: ρ, by which θ_max shrinks, and by whose inverse it grows.
        angles: T, angles tried on either side: θ_max, θ_max (T-1)/T, …
        bisections: of an angle and of the start, at most.
        gamma: γ, what is left of 1 - cos θ when a bisection ends.
        history: past directions that a new one is orthogonal to.
        frequencies: share of the DCT's coefficients that directions have, the lowest ones.
        constant: all of them alike, and not by the tanh of their size in the image.
        orthogonal: directions are so to the present u and to exactly the last `history`; angles are doubled until one
            fails and then searched to a sixth of their size (ours).
        start_noise: standard deviation of the start's noise.
        start_draws: starts tried, at most.
    """

    iterations: Count = 100_000
    theta: Positive = 30.0
    rho: PositiveShare = 0.95
    angles: Count = 1
    bisections: Count = 7
    gamma: Positive = 0.01
    history: Count = 100
    frequencies: PositiveShare = 0.5
    constant: bool = False
    orthogonal: bool = False
    start_noise: Positive = 0.5
    start_draws: Count = 1000


def run(oracle: Oracle, streams: Streams, options: Options) -> None:
    """Attacks every active image until its budget ends."""
    x = _start(oracle, streams, options)
    take_turns(oracle, _Machine(oracle, streams, options, x).turn)


def _start(oracle: Oracle, streams: Streams, o: Options) -> Tensor:
    """Noisy images that are adversarial, brought back to the boundary: ``[N, C, H, W]``."""

    def noisy(_: int, image: Tensor) -> Tensor:
        return (oracle.x0[image] + o.start_noise * streams.normal(image, oracle.x0)).clamp_(0.0, 1.0)

    x, image = first_start(oracle, noisy, o.start_draws)
    at = torch.full((len(image),), 0.8, dtype=torch.float64, device=x.device)
    nearer = oracle.adversarial(straight(oracle.x0[image], x[image], at), image, "start") == 1
    lo, hi = torch.where(nearer, 0.0, at), torch.where(nearer, at, 1.0)

    def between(x0: Tensor, z: Tensor, e: Tensor) -> Tensor:
        return straight(x0, z, lo + e * (hi - lo))

    x[image] = bisect(oracle, x[image], image, 0.5**o.bisections, "projection", between)
    return x


class _Machine:
    """The state of all N images, whose boundary points are `x`; names as in the paper."""

    def __init__(self, oracle: Oracle, streams: Streams, o: Options, x: Tensor) -> None:
        n, device = len(x), x.device
        self.oracle, self.o, self.x, self.v = oracle, o, x, torch.zeros_like(x)
        self.direction = Directions(oracle.x0, streams, o.history, o.frequencies, o.constant, o.orthogonal)
        # The angle that is asked about; one that is adversarial; one further out that is not, as far as is known.
        self.at, self.inner, self.outer = (torch.zeros(n, dtype=torch.float64, device=device) for _ in range(3))
        self.theta_max = torch.full_like(self.at, min(math.radians(o.theta), RIGHT))
        self.reached = torch.full_like(self.at, torch.inf)
        self.state, self.step, self.j, self.iteration = (torch.full((n,), SIGN, device=device) for _ in range(4))
        self.both, self.mirrored = (torch.zeros(n, dtype=torch.bool, device=device) for _ in range(2))
        submit_closer(oracle, x[active(oracle)], active(oracle), self.reached)
        self._next(active(oracle))

    def turn(self, image: Tensor) -> None:
        """One query of every image, and two where both sides are asked about; all in one batch."""
        sign = self.state[image] == SIGN
        image = torch.cat([image[sign], image[~sign]])
        other = image[self.both[image] & (self.state[image] == MIDDLE)]
        sent = torch.cat([self._arc(image, self.at[image]), self._arc(other, -self.at[other])])
        count = int(sign.sum())
        phases = [("direction", count), ("angle", len(sent) - count)]
        reply = self.oracle.adversarial(sent, torch.cat([image, other]), phases)
        first, second = reply[: len(image)], reply[len(image) :]
        self.mirrored[image] = False
        self.mirrored[other] = second == 1
        ok = (first != REFUSED) & ~torch.isin(image, other[second == REFUSED])
        image, hit, state = image[ok], first[ok] == 1, self.state[image[ok]]
        for which, step in ((SIGN, self._sign), (OUT, self._out), (MIDDLE, self._middle)):
            mine = state == which
            if bool(mine.any()):
                step(image[mine], hit[mine])

    def _arc(self, image: Tensor, theta: Tensor) -> Tensor:
        """z(θ), clipped."""
        x0 = self.oracle.x0[image]
        away = self.x[image] - x0
        turned = per_image(theta.cos(), x0) * unit(away) + per_image(theta.sin(), x0) * self.v[image]
        return (x0 + per_image(theta.cos() * norms(away), x0) * turned).clamp_(0.0, 1.0)

    # -- one answer ------------------------------------------------------------------------------------------

    def _sign(self, image: Tensor, hit: Tensor) -> None:
        """Whether z is adversarial at ±θ_max, ±θ_max (T-1)/T, …; the first that is begins the search of the angle."""
        o = self.o
        self.j[image] += 1
        failed = ~hit & (self.j[image] >= 2 * o.angles)
        self.theta_max[image[failed]] *= o.rho
        self._next(image[failed])
        self._ask_sign(image[~hit & ~failed])
        image = image[hit]
        self.theta_max[image] = (self.theta_max[image] / o.rho).clamp(max=RIGHT)
        self.inner[image], self.step[image] = self.at[image], 0
        if o.orthogonal:
            self._double(image)
        else:
            self.both[image] = self.inner[image] > 0
            outer = self.inner[image] + self.inner[image].sign() * self.theta_max[image] / o.angles
            self.outer[image] = outer.clamp(-RIGHT, RIGHT)
            self._settle(image)

    def _ask_sign(self, image: Tensor) -> None:
        share = 1 - self.j[image].div(2, rounding_mode="floor") / self.o.angles
        self.at[image] = self.theta_max[image] * share * (1 - 2 * (self.j[image] % 2))
        self.state[image] = SIGN

    def _double(self, image: Tensor) -> None:
        self.at[image] = (2 * self.inner[image]).clamp(-RIGHT, RIGHT)
        self.state[image] = OUT

    def _out(self, image: Tensor, hit: Tensor) -> None:
        ends = ~hit | (self.at[image].abs() >= RIGHT)
        self.inner[image[hit]], self.outer[image[ends]] = self.at[image[hit]], self.at[image[ends]]
        self._double(image[~ends])
        self._settle(image[ends])

    def _middle(self, image: Tensor, hit: Tensor) -> None:
        """The authors ask about the other side too, as long as no answer has turned them there."""
        turned = image[~hit & self.mirrored[image]]
        self.both[turned] = False
        self.at[turned] *= -1
        self.outer[turned] *= -1
        found = hit | self.mirrored[image]
        self.inner[image[found]], self.outer[image[~found]] = self.at[image[found]], self.at[image[~found]]
        self.step[image] += 1
        self._settle(image)

    def _settle(self, image: Tensor) -> None:
        """The next middle of the angles between; where they are close enough, the closer point and a new direction."""
        inner, outer = self.inner[image], self.outer[image]
        self.at[image], self.state[image] = (inner + outer) / 2, MIDDLE
        if self.o.orthogonal:
            narrow = (outer - inner).abs() <= inner.abs() / 6
        else:
            narrow = ((outer.cos() - inner.cos()).abs() <= self.o.gamma) | (self.step[image] >= self.o.bisections)
        done = image[narrow]
        z = self._arc(done, self.inner[done])
        closer = self.oracle.distance(z, done) < self.oracle.distance(self.x[done], done)
        self.x[done[closer]] = z[closer]
        submit_closer(self.oracle, z[closer], done[closer], self.reached)
        self._next(done)

    def _next(self, image: Tensor) -> None:
        """Draws the next direction, and asks about its first angle."""
        self.oracle.retire(image[self.oracle.distance(self.x[image], image) < COLLAPSED], "collapsed")
        self.oracle.retire(image[self.iteration[image] >= self.o.iterations], "exhausted")
        image = image[self.oracle.active[image]]
        if len(image):
            self.iteration[image] += 1
            self.j[image], self.both[image] = 0, False
            self.v[image] = self.direction(image, self.x[image])
            self._ask_sign(image)


def scales(o: Options, d: int, distance: float, sigma: float) -> Scales:  # noqa: ARG001
    """No probes but steps along circles; a search of an angle ends at about γ times the distance."""
    return None, o.gamma * distance


EXAMPLE = Options(rho=0.98, bisections=10, history=10, constant=True)
SOURCE = "Maho, Furon, Le Merrer, CVPR 2021"
SPEC = AttackSpec(
    name="surfree",
    access="labels",
    norms=("l2",),
    presets={
        "authors": Preset(Options(), source=SOURCE, note="as in their code"),
        "example": Preset(EXAMPLE, source=SOURCE, note="their example of settings"),
        "full": Preset(replace(EXAMPLE, frequencies=1.0), source=SOURCE, note="as `example`, of all frequencies"),
        "orthogonal": Preset(
            Options(frequencies=1.0, constant=True, orthogonal=True),
            ours=True,
            note="of all frequencies, orthogonal to those before, angles searched to the end",
        ),
    },
    summary="SurFree: circles through the boundary, no gradient (Maho, Furon, Le Merrer 2021)",
    run=run,
    scales=scales,
    relatives={"hsja-na": None},
    uses_eps=False,
)
