"""CGBA and CGBA-H (Reza, Rahmati, Wu and Dai, ICCV 2023), untargeted, L2: a boundary point found on a half-circle.

The plane of u (from the clean image x to the boundary point x_b at distance D) and of the estimated normal holds the
half-circle ``z(β) = x + D cos β (u cos β + p sin β)``, which begins at x_b. CGBA goes along it until the answer
changes and takes that point; CGBA-H goes back towards x_b until the answer is adversarial and then straight to x.

Differs from the authors' code: pixels are in [0, 1], where theirs are normalised; an iteration that the budget cannot
end is not begun, but with fewer probes where at least half of them are left; the closest point is submitted, not the
last; the angle is searched between the last two that were asked and not from 0; a start is looked for 1,000 times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sndcli.attacks.common.dct import LowFrequencies
from sndcli.attacks.common.geometry import (
    active,
    bisect,
    bisection_steps,
    block_size,
    first_start,
    per_image,
    submit_closer,
    unit,
)
from sndcli.attacks.ranges import Count, Positive, Side
from sndcli.attacks.spec import AttackSpec, Preset, Scales
from sndcli.ball import COLLAPSED
from sndcli.queries.oracle import REFUSED, Oracle
from sndcli.streams import Streams

TURNS = 40  # angles tried on the way along the half-circle, at most


@dataclass(frozen=True)
class Options:
    """Hyper-parameters.

    Attributes:
        iterations: at most; 93 take some 20,000 queries.
        initial_evals: N₀; iteration t has ⌊N₀ √t⌋ probes.
        probe: standard deviation of a probe's coefficients.
        tolerance: L2 length at which a search ends.
        reduce: probes have the lowest 1/`reduce` of the frequencies along each axis; 1: all.
        restricted: CGBA-H, for boundaries that curve.
        start_step: the k-th start has noise of so much times k.
        start_draws: starts tried, at most.
    """

    iterations: Count = 93
    initial_evals: Count = 30
    probe: Positive = 2e-4
    tolerance: Positive = 1e-4
    reduce: Side = 4
    restricted: bool = False
    start_step: Positive = 0.02
    start_draws: Count = 1000


def run(oracle: Oracle, streams: Streams, options: Options) -> None:
    """Attacks every active image of the oracle until its budget or its iterations end."""
    o, draw = options, LowFrequencies(options.reduce, oracle.x0)

    def noise(k: int, image: Tensor) -> Tensor:
        """Around the clean images, larger by the same amount at each try."""
        return (oracle.x0[image] + o.start_step * k * streams.normal(image, oracle.x0)).clamp_(0.0, 1.0)

    x, image = first_start(oracle, noise, o.start_draws)
    x[image] = _straight(oracle, x[image], image, o.tolerance, "start")
    reached = torch.full((len(x),), float("inf"), dtype=torch.float64, device=x.device)
    submit_closer(oracle, x[image], image, reached)
    for t in range(1, o.iterations + 1):
        image = active(oracle)
        near = oracle.distance(x[image], image)
        oracle.retire(image[near < COLLAPSED], "collapsed")
        wanted = int(o.initial_evals * math.sqrt(t))
        search = 3 + torch.tensor([bisection_steps(o.tolerance / max(d, 1.0)) for d in near.tolist()], device=x.device)
        probes = (oracle.remaining[image] - search).clamp(max=wanted)
        enough = (near >= COLLAPSED) & (probes >= max(1, wanted // 2))
        image, probes = image[enough], probes[enough]
        if not len(image):
            oracle.retire(active(oracle), "reserve")  # what is left is less than another iteration needs
            break
        normal = _normal(oracle, x[image], image, probes, streams, o.probe, draw)
        circle = _Circle(oracle.x0[image], x[image], normal)
        x[image] = (_back if o.restricted else _along)(oracle, circle, image, o.tolerance)
        submit_closer(oracle, x[image], image, reached)
    oracle.retire(active(oracle), "exhausted")


class _Circle:
    """The half-circles over the segments from `x0` to `x` ``[n, C, H, W]``, towards the normals."""

    def __init__(self, x0: Tensor, x: Tensor, normal: Tensor) -> None:
        self.x0, self.diameter = x0, torch.linalg.vector_norm((x - x0).flatten(1).double(), dim=1)
        self.x, self._u = x, unit(x - x0)
        along = (normal * self._u).flatten(1).sum(1)
        self.theta = torch.acos(along.double().clamp(-1, 1))  # angle between the normal and u
        self._p = unit(normal - per_image(along, x) * self._u)

    def at(self, beta: Tensor, rows: Tensor) -> Tensor:
        """The points at angles `beta` ``[k]`` of the half-circles `rows` ``[k]``, clipped."""
        u, p, reach = self._u[rows], self._p[rows], self.diameter[rows] * beta.cos()
        step = per_image(beta.cos(), u) * u + per_image(beta.sin(), u) * p
        return (self.x0[rows] + per_image(reach, u) * step).clamp_(0.0, 1.0)


def _straight(oracle: Oracle, z: Tensor, image: Tensor, tolerance: float, phase: str) -> Tensor:
    """The boundary point on the way from `z` to the clean image, to within `tolerance`."""
    width = (tolerance / oracle.distance(z, image).clamp_min(COLLAPSED)).clamp(max=1.0)
    return bisect(oracle, z, image, width, phase)


def _normal(
    oracle: Oracle, x: Tensor, image: Tensor, probes: Tensor, streams: Streams, scale: float, draw: LowFrequencies
) -> Tensor:
    """Estimated normal of the boundary at `x` ``[n, C, H, W]``, of unit length: from the mean of ±η at x + σ_p η."""
    n, total, done = len(image), torch.zeros_like(x), torch.zeros_like(probes)
    block = block_size(len(oracle.x0), x[0].numel())
    while bool((done < probes).any()):
        take = (probes - done).clamp(max=block)
        done += take
        nth = torch.repeat_interleave(torch.arange(n, device=x.device), take)
        eta = draw(streams, image[nth], x)
        answer = oracle.adversarial(x[nth] + scale * eta, image[nth], "gradient")
        sign = (2 * answer - 1).to(x.dtype) * (answer != REFUSED)
        total.index_add_(0, nth, eta * per_image(sign, eta))
    return unit(total)


def _along(oracle: Oracle, circle: _Circle, image: Tensor, tolerance: float) -> Tensor:
    """CGBA: the last adversarial point of the half-circle before the first that is not, from x_b on."""
    n, device = len(image), image.device
    inner = torch.zeros(n, dtype=torch.float64, device=device)  # β of an adversarial point, x_b at first
    outer, pending = inner.clone(), torch.arange(n, device=device)
    for k in range(1, TURNS + 1):
        pending = pending[oracle.active[image[pending]]]
        if not len(pending):
            break
        beta = torch.full((len(pending),), math.pi / 2 * (1 - 0.5**k), dtype=torch.float64, device=device)
        answer = oracle.adversarial(circle.at(beta, pending), image[pending], "angle")
        outer[pending[answer == 0]] = beta[answer == 0]
        inner[pending[answer == 1]] = beta[answer == 1]
        pending = pending[answer == 1]
    inner[pending] = 0.0  # adversarial all the way to the clean image: nothing is learned, x_b stays
    chord = circle.diameter * (outer - inner).clamp_min(0).sin()
    for _ in range(100):
        rows = ((chord > tolerance) & (outer > inner) & oracle.active[image]).nonzero().squeeze(1)
        if not len(rows):
            break
        middle = (inner[rows] + outer[rows]) / 2
        answer = oracle.adversarial(circle.at(middle, rows), image[rows], "angle")
        inner[rows[answer == 1]], outer[rows[answer == 0]] = middle[answer == 1], middle[answer == 0]
        chord = circle.diameter * (outer - inner).clamp_min(0).sin()
    moved = inner > 0
    found = circle.at(inner, torch.arange(n, device=device))
    return torch.where(per_image(moved, found).bool(), found, circle.x)


def _back(oracle: Oracle, circle: _Circle, image: Tensor, tolerance: float) -> Tensor:
    """CGBA-H: the first adversarial point at β = θ/2, θ/4, …, then the boundary straight on the way to x."""
    z, beta, pending = circle.x.clone(), circle.theta / 2, torch.arange(len(image), device=image.device)
    for _ in range(TURNS - 1):
        pending = pending[oracle.active[image[pending]]]
        if not len(pending):
            break
        tried = circle.at(beta[pending], pending)
        hit = oracle.adversarial(tried, image[pending], "angle") == 1
        z[pending[hit]] = tried[hit]
        pending = pending[~hit]
        beta[pending] /= 2
    moved = torch.ones(len(image), dtype=torch.bool, device=image.device)
    moved[pending] = False
    z[moved] = _straight(oracle, z[moved], image[moved], tolerance, "projection")
    return z


def scales(o: Options, d: int, distance: float, sigma: float) -> Scales:  # noqa: ARG001
    """Probes of σ_p on each coefficient, so as much along a normal that lies among them; searches to `tolerance`."""
    return o.probe, o.tolerance


SPEC = AttackSpec(
    name="cgba",
    access="labels",
    norms=("l2",),
    presets={
        "authors": Preset(Options(), source="Reza, Rahmati, Wu, Dai, ICCV 2023", note="probes of low frequencies"),
        "full": Preset(Options(reduce=1), source="Reza, Rahmati, Wu, Dai, ICCV 2023", note="probes of all frequencies"),
        "h": Preset(
            Options(restricted=True), source="Reza, Rahmati, Wu, Dai, ICCV 2023", note="CGBA-H, for curved boundaries"
        ),
    },
    summary="CGBA: a boundary point found on a half-circle (Reza, Rahmati, Wu, Dai 2023)",
    run=run,
    targeted=True,
    scales=scales,
    wider=("probe=0.003", "probe=0.02"),
    floor="tolerance={}",
    relatives={"hsja-na": None},
    uses_eps=False,
)
