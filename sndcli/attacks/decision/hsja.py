"""HopSkipJump (Chen, Jordan and Wainwright, S&P 2020, algorithm 2), untargeted, L2 or L∞.

Differs from the authors' code: the gradient's last block shrinks so that the budget always ends on a projected
point; step halvings are capped at 25, after which the iterate stays; a vanishing gradient skips the iteration;
the closest iterate is submitted, not the last one; no query is spent on the label of the clean image.
Preset ``art``: ART's search width 0.01/√d (so probe radii 0.01·D), 100 start draws, and its output, which is the
stepped-out point and not the projected one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sndcli.attacks.common.geometry import (
    Draw,
    active,
    bisect,
    bisection_steps,
    block_size,
    box,
    gaussian,
    norms,
    per_image,
    straight,
    submit_closer,
    uniform_start,
    unit,
)
from sndcli.attacks.ranges import Count, NonNegative, Positive, Whole
from sndcli.attacks.spec import AttackSpec, Preset, Scales
from sndcli.ball import COLLAPSED
from sndcli.queries.oracle import REFUSED, Oracle
from sndcli.streams import Streams

MAX_HALVINGS = 25
FEWEST_PROBES = 30


@dataclass(frozen=True)
class Options:
    """Hyper-parameters.

    Attributes:
        iterations: T; 64 in the paper and the authors' driver.
        initial_evals: probes of the first gradient; iteration t uses this times √t.
        max_evals: most probes of one gradient.
        gamma: with `power`, the relative width θ = γ d^power of the projection (L∞: γ d^(power - 1/2)).
        power: -1.5 in the paper.
        first_radius: probe radius of the first iteration, δ₁.
        start_draws: uniform noise images tried, at most.
        projected: submit the projected point x_t, else the point stepped out to.
        probe_scale: factor of every probe radius but the first (ours; for noisy models).
        floor: the projections' last interval is at least this long (ours; for noisy models).
    """

    iterations: Whole = 64
    initial_evals: Count = 100
    max_evals: Count = 10_000
    gamma: Positive = 1.0
    power: float = -1.5
    first_radius: Positive = 0.1
    start_draws: Count = 10_000
    projected: bool = True
    probe_scale: Positive = 1.0
    floor: NonNegative = 0.0


def run(oracle: Oracle, streams: Streams, options: Options) -> None:
    """Attacks every active image of the oracle until its budget or its iterations end."""
    o, d = options, oracle.x0[0].numel()
    linf = oracle.norm == "linf"
    path = box if linf else straight
    theta = o.gamma * d ** (o.power - 0.5 if linf else o.power)
    scale = o.probe_scale * theta * (d if linf else math.sqrt(d))  # δ_t = scale · D̃

    def project(z: Tensor, image: Tensor) -> Tensor:
        width = (o.floor / oracle.distance(z, image).clamp_min(COLLAPSED)).clamp(theta, 1.0)
        return bisect(oracle, z, image, width if o.floor else theta, "projection", path)

    x, image = uniform_start(oracle, streams, o.start_draws)
    start = bisect(oracle, x[image], image, 1e-3, "start")
    x[image] = project(start, image)
    reached = torch.full((len(x),), float("inf"), dtype=torch.float64, device=x.device)
    distance = torch.zeros_like(reached)  # D̃: before the last projection
    distance[image] = oracle.distance(start, image)
    submit_closer(oracle, x[image], image, reached)

    for t in range(1, o.iterations + 1):
        _retire_collapsed(oracle, x)
        probes = torch.full_like(oracle.remaining, min(int(o.initial_evals * math.sqrt(t)), o.max_evals))
        probes = torch.minimum(probes, oracle.remaining - 1 - bisection_steps(theta))
        image = (oracle.active & (probes >= min(FEWEST_PROBES, o.initial_evals))).nonzero().squeeze(1)
        if not len(image):
            oracle.retire(active(oracle), "reserve")  # what is left is less than another iteration needs
            break
        delta = torch.full_like(distance[image], o.first_radius) if t == 1 else scale * distance[image]
        v = gradient_direction(oracle, x[image], image, delta, probes[image], streams, linf)
        z, moved = _step(oracle, x[image], image, v, t)
        image, z = image[moved], z[moved]
        distance[image] = oracle.distance(z, image)
        if not o.projected:
            submit_closer(oracle, z, image, reached)
        x[image] = project(z, image)
        if o.projected:
            submit_closer(oracle, x[image], image, reached)
    oracle.retire(active(oracle), "exhausted")


def gradient_direction(
    oracle: Oracle,
    x: Tensor,
    image: Tensor,
    delta: Tensor,
    probes: Tensor,
    streams: Streams,
    linf: bool = False,
    draw: Draw = gaussian,
) -> Tensor:
    """Estimated normal of the boundary at `x`, pointing into the adversarial side (paper, eq. 9 and 16).

    Args:
        oracle, x, image, delta, probes, streams: as of `gradient_sum`.
        linf: uniform directions and a sign step instead of Gaussian ones.
        draw: as of `gradient_sum`, in L2.

    Returns:
        ``[n, C, H, W]``, unit L2 norm (L∞: entries ±1); zero where no direction can be told.
    """
    v = gradient_sum(oracle, x, image, delta, probes, streams, uniform_direction if linf else draw)
    return torch.sign(v) if linf else unit(v)


def uniform_direction(streams: Streams, image: Tensor, like: Tensor) -> Tensor:
    """As `gaussian`, uniform on [-1, 1]."""
    share: Tensor = torch.special.ndtr(gaussian(streams, image, like))
    return 2 * share - 1


def gradient_sum(
    oracle: Oracle, x: Tensor, image: Tensor, delta: Tensor, probes: Tensor, streams: Streams, draw: Draw
) -> Tensor:
    """``Σ (φ - φ̄) u`` over the probes: along the normal it grows by as much for each, across it by chance alone.

    Args:
        oracle: asked about ``clip(x + δ u)``.
        x: ``[n, C, H, W]``, boundary points.
        image: ``[n]``.
        delta: ``[n]``, probe radius δ > 0.
        probes: int64 ``[n]``, number of probes of each image.
        streams: of the directions u.
        draw: of the directions u, before they are scaled to length 1 (ours; see `Prior`).

    Returns:
        ``[n, C, H, W]``; zero where no direction can be told.
    """
    n, d = len(image), x[0].numel()
    block = block_size(len(oracle.x0), d)
    radius = per_image(delta, x)
    sum_u, sum_phi_u = torch.zeros_like(x), torch.zeros_like(x)
    sum_phi, count = x.new_zeros(n), x.new_zeros(n)
    done = torch.zeros_like(probes)
    while bool((done < probes).any()):
        take = torch.minimum(probes - done, torch.full_like(probes, block))
        done += take
        nth = torch.repeat_interleave(torch.arange(n, device=x.device), take)
        u = draw(streams, image[nth], x)
        center, reach = x[nth], radius[nth]
        perturbed = (unit(u) * reach).add_(center).clamp_(0.0, 1.0)
        answer = oracle.adversarial(perturbed, image[nth], "gradient")
        u = (perturbed.sub_(center)).div_(reach)  # as the clipped point really lay
        ok = answer != REFUSED
        if not bool(ok.all()):
            nth, u, answer = nth[ok], u[ok], answer[ok]
        phi = (2 * answer - 1).to(x.dtype)
        sum_u.index_add_(0, nth, u)
        sum_phi_u.index_add_(0, nth, u.mul_(per_image(phi, u)))
        sum_phi.index_add_(0, nth, phi)
        count.index_add_(0, nth, torch.ones_like(phi))
    mean = sum_phi / count.clamp_min(1)
    baseline = torch.where(mean.abs() == 1.0, torch.zeros_like(mean), mean)  # all agree: Σφu itself
    v = sum_phi_u - per_image(baseline, x) * sum_u
    return torch.where(v.isfinite(), v, torch.zeros_like(v))


def _step(oracle: Oracle, x: Tensor, image: Tensor, v: Tensor, t: int) -> tuple[Tensor, Tensor]:
    """Geometric search: the first of ε = D/√t, ε/2, ... whose point is adversarial; x itself where none is."""
    epsilon = oracle.distance(x, image) / math.sqrt(t)
    moved = torch.zeros(len(image), dtype=torch.bool, device=x.device)
    z = x.clone()
    pending = (norms(v) > 0).nonzero().squeeze(1)
    for _ in range(MAX_HALVINGS):
        pending = pending[oracle.active[image[pending]]]
        if not len(pending):
            break
        trial = (x[pending] + per_image(epsilon[pending], x) * v[pending]).clamp_(0.0, 1.0)
        hit = oracle.adversarial(trial, image[pending], "step") == 1
        z[pending[hit]] = trial[hit]
        moved[pending[hit]] = True
        pending = pending[~hit]
        epsilon[pending] /= 2
    return z, moved


def _retire_collapsed(oracle: Oracle, x: Tensor) -> None:
    image = active(oracle)
    oracle.retire(image[oracle.distance(x[image], image) < COLLAPSED], "collapsed")


def scales(o: Options, d: int, distance: float, sigma: float) -> Scales:  # noqa: ARG001
    """Probes of δ = θ D̃ √d, and projections that end at θ D̃."""
    theta = o.gamma * d**o.power
    return o.probe_scale * theta * distance, max(theta * distance, o.floor)


SPEC = AttackSpec(
    name="hsja",
    access="labels",
    norms=("l2", "linf"),
    presets={
        "authors": Preset(Options(), source="Chen, Jordan, Wainwright, S&P 2020"),
        "art": Preset(
            Options(gamma=0.01, power=-0.5, start_draws=100, projected=False),
            source="Adversarial Robustness Toolbox",
            note="search width 0.01/√d, so probe radii of 0.01·D; submits the stepped-out point, as ART does",
        ),
    },
    summary="HopSkipJump (Chen, Jordan, Wainwright 2020)",
    run=run,
    targeted=True,
    scales=scales,
    wider=("probe_scale=30", "probe_scale=1000"),
    floor="floor={}",
    relatives={"hsja-na": None, "popskipjump": "share"},
    uses_eps=False,
)
