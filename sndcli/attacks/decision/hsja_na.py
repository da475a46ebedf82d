"""HSJA-NA (ours): HopSkipJump for a model that adds noise to its input, untargeted, L2.

The gradient and the step sizes are HopSkipJump's (`hsja`). What changes is what noise of scale σ breaks:

1. the probe radius is δ = max(1.5 √d D̃/G, σ̂√d) in every iteration, PopSkipJump's with a floor: a probe that moves
   the margin by less than the noise does says next to nothing (its signal falls as a/√(a² + σ²), a = δ/√d);
2. every decision of the projection is a majority, and its last interval is no narrower than the noise allows;
3. there is no step search, which under noise either never ends or accepts by luck: the step is `step` times D/√t, and
4. the point stepped to is moved on outwards by half its distance before the projection, which needs a far end that
   is safely adversarial.

Preset ``majority`` is that with nine answers, and hands the projected point over. Preset ``sequential`` expects the
gradient where those of image classifiers lie, mostly grey and around the middle (`Prior`); starts from such noise that
grows until it is adversarial; stops a vote as soon as one side leads by two; and submits a point a little further
out, but not out of ε, that nine more answers confirm. Its numbers are from CIFAR-10, where the boundary bends, so a
smaller probe radius and first gradient than those of ``majority`` serve better. Not a published attack.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sndcli.attacks.common.confirm import Confirmed
from sndcli.attacks.common.geometry import active, bisect, bisection_steps, per_image, uniform_start
from sndcli.attacks.common.noise import (
    ESTIMATE,
    PAIRS,
    check_scale,
    growing_start,
    known_scale,
    measure,
    voted,
    votes_expected,
)
from sndcli.attacks.common.prior import Prior
from sndcli.attacks.decision.hsja import FEWEST_PROBES, gradient_direction
from sndcli.attacks.ranges import Count, NonNegative, Odd, Positive, Share, Whole
from sndcli.attacks.spec import AttackSpec, Preset, Scales
from sndcli.ball import COLLAPSED
from sndcli.queries.oracle import Oracle
from sndcli.streams import Streams


@dataclass(frozen=True)
class Options:
    """Hyper-parameters.

    Attributes:
        sigma_hat: the noise's standard deviation on the [0, 1] pixel scale, or ``estimate`` to measure it from paid
            queries near the boundary,
        pairs: eight times this many.
        floor: least probe radius, in σ̂√d. 1 on a half-space; smaller where the boundary bends.
        grid: G; the probe radius is at least 1.5 √d D̃/G and the projection no finer than 1.5/G of the segment.
        votes: answers behind a decision of the projection, at most.
        lead: 0, or the lead that ends a vote.
        fineness: the projection's last interval in σ̂, if that is wider.
        initial_evals: probes of the first gradient; iteration t uses this times √t.
        max_evals: most probes of one gradient.
        step: length of the step, in D/√t.
        outward: how far the stepped-out point is moved on, relative to its distance.
        overshoot: how far beyond the projected point the one submitted lies, relative to its distance,
        safety: and by how many σ̂ more.
        confirm: 0, or the answers, at most, that must confirm the point submitted.
        confirm_lead: the lead that ends such a vote.
        start_scale: 0 to start from uniform noise images, else the standard deviation of the first Gaussian noise
            tried around the clean image (`growing_start`).
        start_draws: starts tried, at most.
        colour: correlation between the colour channels of the probes, and of the start's noise (`Prior`).
        window: 0, or how narrowly they lie around the middle of the image.
    """

    sigma_hat: str = ESTIMATE
    pairs: Count = PAIRS
    floor: NonNegative = 1.0
    grid: Count = 300
    votes: Odd = 9
    lead: Whole = 0
    fineness: Positive = 0.2
    initial_evals: Count = 100
    max_evals: Count = 10_000
    step: Positive = 1.0
    outward: NonNegative = 0.5
    overshoot: NonNegative = 0.0
    safety: NonNegative = 0.0
    confirm: Whole = 0
    confirm_lead: Whole = 3
    start_scale: NonNegative = 0.0
    start_draws: Count = 10_000
    colour: Share = 0.0
    window: NonNegative = 0.0

    def __post_init__(self) -> None:
        check_scale(self.sigma_hat)


def run(oracle: Oracle, streams: Streams, options: Options) -> None:
    """Attacks every active image of the oracle until its budget ends."""
    o, root_d = options, math.sqrt(oracle.x0[0].numel())
    ask, prior = voted(o.votes, o.lead), Prior(o.colour, o.window)
    submit = Confirmed(oracle, o.overshoot, o.safety, o.confirm, o.confirm_lead)
    sigma_hat = torch.zeros_like(submit.reached)
    if o.sigma_hat != ESTIMATE:
        sigma_hat += float(o.sigma_hat)

    def width_at(far: Tensor, image: Tensor) -> Tensor:
        """Relative width at which the projection of `far` ends."""
        noise = o.fineness * sigma_hat[image] / oracle.distance(far, image).clamp_min(COLLAPSED)
        return noise.clamp(1.5 / o.grid, 0.5)

    def reserve(image: Tensor) -> Tensor:
        """Queries that the projection after a gradient and its confirmation are expected to take."""
        steps = torch.tensor([bisection_steps(w) for w in width_at(far[image], image).tolist()], device=far.device)
        confirmation = o.confirm_lead + 1 if o.confirm else 0
        return torch.ceil(votes_expected(o.votes, o.lead) * steps).long() + confirmation

    def project(far: Tensor, image: Tensor) -> Tensor:
        found = bisect(oracle, far, image, width_at(far, image), "projection", ask=ask)
        submit(found, sigma_hat[image], image)
        return found

    if o.start_scale:
        far, image = growing_start(oracle, streams, o.start_scale, o.start_draws, ask, prior.draw)  # x̃
    else:
        far, image = uniform_start(oracle, streams, o.start_draws)
    x = far.clone()
    x[image] = project(far[image], image)
    if o.sigma_hat == ESTIMATE:
        sigma_hat[image] = measure(oracle, x[image], image, streams, o.pairs)

    for t in range(1, oracle.budget + 1):
        image = active(oracle)
        oracle.retire(image[oracle.distance(x[image], image) < COLLAPSED], "collapsed")
        probes = torch.full_like(oracle.remaining, min(int(o.initial_evals * math.sqrt(t)), o.max_evals))
        ready = active(oracle)
        probes[ready] = torch.minimum(probes[ready], oracle.remaining[ready] - reserve(ready))
        image = (oracle.active & (probes >= min(FEWEST_PROBES, o.initial_evals))).nonzero().squeeze(1)
        if not len(image):
            break
        delta = 1.5 * root_d * oracle.distance(far[image], image) / o.grid
        delta = torch.maximum(delta, o.floor * sigma_hat[image] * root_d)
        v = gradient_direction(oracle, x[image], image, delta, probes[image], streams, draw=prior.draw)
        x0, epsilon = oracle.x0[image], o.step * oracle.distance(x[image], image) / math.sqrt(t)
        z = (x[image] + per_image(epsilon, x) * v).clamp_(0.0, 1.0)
        far[image] = (z + o.outward * (z - x0)).clamp_(0.0, 1.0)
        x[image] = project(far[image], image)
    oracle.retire(active(oracle), "reserve")  # what is left is less than another iteration needs


def scales(o: Options, d: int, distance: float, sigma: float) -> Scales:
    """With the prior's gain, since a normal lies where the prior expects it."""
    noise, cell = known_scale(o.sigma_hat, sigma), 1.5 * distance / o.grid
    gain = Prior(o.colour).gain(3 if d % 3 == 0 else 1) ** 0.5
    return gain * max(cell, o.floor * noise), max(cell, o.fineness * noise)


SPEC = AttackSpec(
    name="hsja-na",
    access="labels",
    norms=("l2",),
    presets={
        "sequential": Preset(
            Options(
                pairs=6,
                fineness=0.6,
                floor=0.4,
                grid=600,
                lead=2,
                initial_evals=50,
                step=1.5,
                outward=0.2,
                overshoot=0.02,
                safety=2.0,
                confirm=9,
                start_scale=0.01,
                colour=0.8,
                window=0.6,
            ),
            noise_aware=True,
            ours=True,
            note="probes where gradients of image classifiers lie, votes end early, a confirmed point is submitted",
        ),
        "majority": Preset(
            Options(), noise_aware=True, ours=True, note="probes of at least σ̂√d, nine votes, the projected point"
        ),
    },
    summary="HopSkipJump that knows of the noise (ours)",
    run=run,
    scales=scales,
    told="sigma_hat={}",
    uses_eps="confirm",
)
