"""HSJA-NA (ours): HopSkipJump for a model that adds noise to its input, L2 or L∞.

The gradient and the step sizes are HopSkipJump's (`hsja`). What changes is what noise of scale σ breaks:

1. the probe radius is δ = max(1.5 √d D̃/G, σ̂√d) in every iteration, PopSkipJump's with a floor: a probe that moves
   the margin by less than the noise does says next to nothing (its signal falls as a/√(a² + σ²), a = δ/√d);
2. every decision of the projection is a majority, and its last interval is no narrower than the noise allows;
3. there is no step search, which under noise either never ends or accepts by luck: the step is `step` times D/√t, and
4. the point stepped to is moved on outwards by half its distance before the projection, which needs a far end that
   is safely adversarial: a vote decides, and where it says no the step is halved.

In L∞ only the sign of a gradient counts, so that steps do not add up as in L2. There the gradients of all iterations
do, and the step leads to the corner that their sum points to. Lengths that noise is compared with are L2's everywhere.

Preset ``majority`` is that with nine answers, and hands the projected point over. Preset ``sequential`` expects the
gradient where those of image classifiers lie (`priors`); starts from such noise that grows until it is adversarial;
stops a vote as soon as one side leads by two; and submits a point a little further out, but not out of ε, that nine
more answers confirm. Where the boundary bends, large probes leave it: the best of them grow as √σ̂ (`bend`).

With reference networks it starts from the points that these mistake, as if some iterations were done. Not published.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sndcli.attacks.common import noise
from sndcli.attacks.common.confirm import Confirmed
from sndcli.attacks.common.geometry import active, per_image, uniform_start, unit
from sndcli.attacks.common.prior import Prior, priors
from sndcli.attacks.common.warm import warm_start
from sndcli.attacks.decision.hsja import FEWEST_PROBES, gradient_sum
from sndcli.attacks.decision.hsja_na_step import Projection, in_l2, stepped_out
from sndcli.attacks.ranges import Count, Inner, NonNegative, Odd, Positive, Rate, Share, Whole
from sndcli.attacks.spec import LATER, AttackSpec, Preset, Scales
from sndcli.ball import COLLAPSED
from sndcli.models.reference import Reference
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
        bend: 0, or the least probe radius in √(σ̂d), in the place of `floor`,
        widest: and 0, or the largest one, in √d.
        grid: G; the probe radius is at least 1.5 √d D̃/G and the projection no finer than 1.5/G of the segment.
        votes: answers behind a decision, at most.
        lead: 0, or the lead that ends a vote.
        share: of adversarial answers that a decision asks for; ¾ where a defense has few states: at ½ what fools one
            of two lies on a plateau.
        fineness: the projection's last interval in σ̂, if that is wider.
        initial_evals: probes of the first gradient; iteration t uses this times √t.
        max_evals: most probes of one gradient.
        step: length of the step, in D/√t.
        halvings: of a step whose far end a vote does not call adversarial, at most; 0: nobody asks.
        memory: in L∞, weight of the gradients before.
        outward: how far the stepped-out point is moved on, relative to its distance.
        overshoot: how far beyond the projected point the one submitted lies, relative to its distance,
        safety: and by how many σ̂ more.
        confirm: 0, or the answers, at most, that must confirm the point submitted.
        confirm_lead: the lead that ends such a vote.
        start_scale: 0 to start from uniform noise images, else the standard deviation of the first Gaussian noise
            tried around the clean image (`growing_start`).
        start_draws: starts tried, at most.
        colour: correlation between the colour channels of the probes, and of the start's noise (`Prior`),
        window: 0, or how narrowly they lie around the middle of the image,
        reduce: of which frequencies they are; each, where it is None, as measured on pictures of the size (`priors`).
        jitter: standard deviation of Gaussian noise on every question of a vote, for defenses that remember questions;
            no probe is narrower either.
    """

    sigma_hat: str = noise.ESTIMATE
    pairs: Count = noise.PAIRS
    floor: NonNegative = 1.0
    bend: NonNegative = 0.0
    widest: NonNegative = 0.0
    grid: Count = 300
    votes: Odd = 9
    lead: Whole = 0
    share: Inner = field(default=0.5, metadata=LATER)
    fineness: Positive = 0.2
    initial_evals: Count = 100
    max_evals: Count = 10_000
    step: Positive = 1.0
    halvings: Whole = 8
    memory: Rate = 0.95
    outward: NonNegative = 0.5
    overshoot: NonNegative = 0.0
    safety: NonNegative = 0.0
    confirm: Whole = 0
    confirm_lead: Whole = 3
    start_scale: NonNegative = 0.0
    start_draws: Count = 10_000
    colour: Share | None = 0.0
    window: NonNegative | None = 0.0
    reduce: Whole | None = 0
    jitter: NonNegative = field(default=0.0, metadata=LATER)

    def __post_init__(self) -> None:
        noise.check_scale(self.sigma_hat)


def run(oracle: Oracle, streams: Streams, options: Options, references: Sequence[Reference] = ()) -> None:
    """Attacks every active image of the oracle until its budget ends; `references` are the attacker's own models."""
    o, root_d, linf = options, math.sqrt(oracle.x0[0].numel()), oracle.norm == "linf"
    jitter = noise.jittered(streams, o.jitter)
    ask = noise.voted(o.votes, o.lead, o.share, jitter)
    of_probes, of_starts = priors(o.colour, o.window, o.reduce, max(oracle.x0.shape[2:]))
    submit = Confirmed(oracle, o.overshoot, o.safety, o.confirm, o.confirm_lead, o.share, jitter)
    sigma_hat = torch.full_like(submit.reached, noise.known_scale(o.sigma_hat, 0.0))
    project = Projection(oracle, sigma_hat, ask, o.fineness, o.grid, submit)
    answers = noise.votes_expected(o.votes, o.lead, o.share)
    others = noise.fewest(o.votes, o.lead, o.share) if o.halvings else 0
    others += noise.fewest(o.confirm, o.confirm_lead, o.share) + 1 if o.confirm else 0

    warm = warm_start(oracle, references, ask)
    if o.start_scale:  # x̃
        far, image = noise.growing_start(oracle, streams, o.start_scale, o.start_draws, ask, of_starts.draw, warm.begun)
    else:
        far, image = uniform_start(oracle, streams, o.start_draws)
    x = far.clone()
    x[image] = project(far[image], image)
    V, done = warm.gradient(x - oracle.x0), warm.iterations  # the sum of gradients so far, and how many
    if o.sigma_hat == noise.ESTIMATE:
        sigma_hat[image] = noise.measure(oracle, x[image], image, streams, o.pairs, jitter)

    for _ in range(oracle.budget):
        image = active(oracle)
        oracle.retire(image[oracle.distance(x[image], image) < COLLAPSED], "collapsed")
        done += 1
        root_t = done.double().sqrt()
        probes = (o.initial_evals * root_t).long().clamp(max=o.max_evals)
        ready = active(oracle)
        reserve = torch.ceil(answers * project.steps(far[ready], ready)).long() + others
        probes[ready] = torch.minimum(probes[ready], oracle.remaining[ready] - reserve)
        image = (oracle.active & (probes >= min(FEWEST_PROBES, o.initial_evals))).nonzero().squeeze(1)
        if not len(image):
            break
        delta = scale_of(o, in_l2(oracle, far[image], image), sigma_hat[image]) * root_d
        v = gradient_sum(oracle, x[image], image, delta, probes[image], streams, of_probes.draw)
        distance = oracle.distance(x[image], image)
        if linf:
            V[image] = o.memory * V[image] + v
            target = oracle.x0[image] + per_image(distance, x) * V[image].sign()
        else:
            target = x[image] + per_image(o.step * distance / root_t[image], x) * unit(v)
        z, moved = stepped_out(oracle, x[image], target.clamp_(0.0, 1.0), image, o.outward, o.halvings, ask)
        image = image[moved]
        far[image] = z[moved]
        x[image] = project(far[image], image)
    oracle.retire(active(oracle), "reserve")  # what is left is less than another iteration needs


def scale_of(o: Options, distance: Tensor, sigma: Tensor) -> Tensor:
    """Scale a of probes at an L2 distance D̃, for each σ̂."""
    a = torch.maximum(1.5 * distance / o.grid, o.bend * sigma.sqrt() if o.bend else o.floor * sigma)
    return a.clamp(min=o.jitter, max=o.widest or torch.inf)


def scales(o: Options, d: int, distance: float, sigma: float) -> Scales:
    """With the prior's gain, since a normal lies where the prior expects it."""
    sigma, channels = noise.known_scale(o.sigma_hat, sigma), 3 if d % 3 == 0 else 1
    prior, _ = priors(o.colour, o.window, o.reduce, math.isqrt(d // channels))
    a = float(scale_of(o, torch.tensor(distance), torch.tensor(sigma)))
    return Prior(prior.colour).gain(channels) ** 0.5 * a, max(1.5 * distance / o.grid, o.fineness * sigma)


SEQUENTIAL = Options(
    pairs=6, fineness=0.6, floor=0.4, grid=600, lead=2, initial_evals=50, step=1.5, outward=0.2, overshoot=0.02,
    safety=2.0, confirm=9, start_scale=0.01, colour=None, window=None, reduce=None,
)  # fmt: skip
SPEC = AttackSpec(
    name="hsja-na",
    access="labels",
    norms=("l2", "linf"),
    presets={
        "sequential": Preset(
            SEQUENTIAL, noise_aware=True, ours=True,
            note="probes where gradients of image classifiers lie, votes end early, a confirmed point is submitted",
        ),
        "majority": Preset(
            Options(), noise_aware=True, ours=True, note="probes of at least σ̂√d, nine votes, the projected point"
        ),
    },
    summary="HopSkipJump that knows of the noise (ours)",
    run=run,
    targeted=True,
    warm_start=True,
    scales=scales,
    told="sigma_hat={}",
    uses_eps="confirm",
)  # fmt: skip
