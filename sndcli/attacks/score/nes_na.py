"""NES-NA (ours): a score attack for a model that adds noise to its input, L2 or L∞.

The gradient is estimated from antithetic pairs of probes, as in NES (`nes`). What changes is what noise of scale σ
breaks, and what large probes allow:

1. a pair's difference is 2a gᵀu + O(a³) + noise, so its error σ²/2a² + s a⁴ is least at a probe scale a ∝ σ^⅓. The
   constant, a = 0.02 at σ̂ = 0.01, is from the ResNet-20 on CIFAR-10, and a stays in [0.01, 0.04];
2. probes lie where gradients of image classifiers do (`Prior`), differences are clipped at twice their spread and
   divided by it, and momentum averages over some twenty blocks;
3. there is no step size: the iterate is the point of the ball's surface in the direction of the estimate;
4. a lucky answer is no success. Where the probes' mean score says that the iterate before was near, a vote of up to
   25 answers decides, of which five are enough where it is lost. Its answers also tell σ̂ (`ScoreNoise`);
5. then (preset ``near``) the ray is bisected by votes to its boundary, three blocks are sent around the point found,
   and so on. The closest point that further answers confirm is submitted. Preset ``first`` ends at step 4.

With reference networks it begins at the point of the ball's surface that these mistake most. A vote decides whether it
is a success already; if not, the first block is sent around it, with a pair along its direction, whose difference says
how much of the gradient lies there: so a direction that leads nowhere counts for nothing.

Not a published attack.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from sndcli.attacks.common.confirm import WITHIN, Confirmed
from sndcli.attacks.common.geometry import active, bisect, norms, per_image, unit
from sndcli.attacks.common.noise import ESTIMATE, check_scale, jittered, known_scale, voted
from sndcli.attacks.common.prior import Prior
from sndcli.attacks.common.score_noise import ScoreNoise, robust, score_of
from sndcli.attacks.common.scores import project
from sndcli.attacks.common.trend import Trend
from sndcli.attacks.common.warm import pair_along, transferred
from sndcli.attacks.ranges import Count, Inner, NonNegative, Odd, Rate, Share, Whole
from sndcli.attacks.spec import LATER, AttackSpec, Preset, Scales
from sndcli.ball import COLLAPSED
from sndcli.models.reference import Reference
from sndcli.queries.oracle import Oracle
from sndcli.streams import Streams

PROBE, AT_SIGMA, NARROWEST, WIDEST = 0.02, 0.01, 0.01, 0.04
OVERSHOOT, SAFETY, LINE_VOTES, LINE_LEAD = 0.02, 2.0, 9, 2
FINENESS, GRID = 0.6, 400  # a line search ends at 0.6 σ̂ or a 400th of the ray


@dataclass(frozen=True)
class Options:
    """Hyper-parameters.

    Attributes:
        sigma_hat: the noise's standard deviation on the [0, 1] pixel scale, or ``estimate`` to measure it.
        repeats: answers about the clean image that begin the measurement.
        score: what is followed: ``margin``, ``spread`` or ``logit`` (`score_of`).
        pairs: P, antithetic pairs a block.
        probe: a, scale of the probes in every pixel; 0 means 0.02 (σ̂/0.01)^⅓ within [0.01, 0.04].
        momentum: β, weight of the blocks before,
        late: blocks after which, without success, it is
        late_momentum: this.
        votes: answers, at most, that must confirm a point.
        lead: the lead that ends such a vote.
        share: of adversarial answers that a point must have; ¾ where the defense has few states, since at ½ a point
            may fool one of two and never the other.
        gate: how many of their spreads the probes' mean score may be below 0 for a vote to be worth its price.
        every: blocks, at most, without a vote.
        trend: blocks over which the probes' mean score must rise, or they grow (`Trend`); 0 never.
        shrink: go on after success, and bring the point nearer.
        blocks: between two line searches.
        colour: correlation between the colour channels of the probes (`Prior`).
        window: 0, or how narrowly they lie around the middle of the image.
        jitter: standard deviation of Gaussian noise on every question of a vote, for defenses that remember questions.
    """

    sigma_hat: str = ESTIMATE
    repeats: Whole = 3
    score: Literal["margin", "spread", "logit"] = "margin"
    pairs: Count = 20
    probe: NonNegative = 0.0
    momentum: Rate = 0.9
    late: Whole = 25
    late_momentum: Rate = 0.98
    votes: Odd = 25
    lead: Whole = 5
    share: Inner = field(default=0.5, metadata=LATER)
    gate: NonNegative = 3.0
    every: Count = 4
    trend: Whole = 0
    shrink: bool = True
    blocks: Count = 3
    colour: Share = 0.8
    window: NonNegative = 0.6
    jitter: NonNegative = field(default=0.0, metadata=LATER)

    def __post_init__(self) -> None:
        check_scale(self.sigma_hat)


def run(oracle: Oracle, streams: Streams, options: Options, references: Sequence[Reference] = ()) -> None:
    """Attacks every active image until the end of its budget, or, without `shrink`, until success.

    `references` are the attacker's own models.
    """
    o, x0, x, G = options, oracle.x0, oracle.x0.clone(), torch.zeros_like(oracle.x0)
    prior, score, estimated = Prior(o.colour, o.window), score_of(oracle.criterion, o.score), o.sigma_hat == ESTIMATE
    jitter = jittered(streams, o.jitter)
    gain, sigma = prior.gain(x.shape[1]), known_scale(o.sigma_hat, AT_SIGMA)
    noise = ScoreNoise(oracle, score, o.votes, o.lead, gain, o.share, sigma, jitter)
    submit_near = Confirmed(oracle, OVERSHOOT, SAFETY, o.votes, o.lead, o.share, jitter)
    on_ray = voted(LINE_VOTES, LINE_LEAD, o.share, jitter)
    trend = Trend(len(x0), o.trend, x0.device)
    mean, voted_at, broken_at = (torch.full_like(noise.sigma, fill) for fill in (torch.inf, 0, torch.inf))
    image = active(oracle)
    oracle.submit(x[image], image)
    if estimated and o.repeats:
        noise.ask(x[image], image, o.repeats, oracle.clean_scores[image])
    if references:
        image = active(oracle)
        x[image] = transferred(oracle, references, image)
        oracle.submit(x[image], image)
        won = image[noise.confirmed(x[image], image)]
        broken_at[won] = 0
        if not o.shrink:
            oracle.retire(won, "success")
    known = pair_along(oracle, x, probe_scale(o, noise.sigma), score) if references else None

    for t in range(1, oracle.budget + 1):
        pairs = (oracle.remaining // 2).clamp(max=o.pairs)
        oracle.retire((pairs == 0).nonzero().squeeze(1), "budget")
        image = active(oracle)
        if not len(image):
            break
        a, broken = trend.applied(probe_scale(o, noise.sigma)), broken_at < torch.inf

        there = torch.arange(o.pairs, device=x.device) < pairs[image, None]  # [n, P]
        whose = image.repeat_interleave(pairs[image])
        u = prior.draw(streams, whose, x).mul_(per_image(a[whose], x))
        probes = torch.stack([x[whose] + u, x[whose] - u], 1).clamp_(0.0, 1.0)
        u = (probes[:, 0] - probes[:, 1]) / per_image(2 * a[whose], x)  # as clipped
        rows = whose.repeat_interleave(2)
        scores = oracle.scores(probes.flatten(0, 1), rows, "probe")
        told = noise.sigma.new_full((len(image), o.pairs, 2), torch.nan)
        told[there] = score(scores, rows).double().view(-1, 2)
        odd, even = (told[..., 0] - told[..., 1]) / 2, told.mean(2)
        beta = torch.where((t > o.late) & ~broken, o.late_momentum, o.momentum)
        G.mul_(per_image(beta, G)).index_add_(0, whose, u.mul_(per_image(robust(odd)[there], u)))
        if known is not None and t == 1:
            G[image] += known.compared_with(odd, image)
        hunting = ~broken[image]
        trend.see(image[hunting], even[hunting], odd[hunting])
        if estimated:
            noise.learn(image, a[image], odd)
        surface = on_surface(oracle, G)

        hunted = image[hunting]
        x[hunted] = surface[hunted]
        oracle.submit(x[hunted], hunted)
        near = worth_a_vote(o, mean, image, even)
        near[rows[oracle.criterion.met_by(scores, rows)]] = True
        asked = hunted[(near | (t - voted_at >= o.every))[hunted] & oracle.active[hunted]]
        voted_at[asked] = t
        won = asked[noise.confirmed(x[asked], asked)]
        broken_at[won] = t
        if not o.shrink:
            oracle.retire(won, "success")

        due = image[((t - broken_at) % o.blocks == 0)[image] & oracle.active[image]]
        length = norms(surface[due] - x0[due]).double().clamp_min(COLLAPSED)
        width = (FINENESS * noise.sigma[due] / length).clamp(1 / GRID, 0.5)
        x[due] = bisect(oracle, surface[due], due, width, "projection", ask=on_ray)
        due = due[oracle.distance(x[due], due) < WITHIN * oracle.eps]  # others are no nearer than what was confirmed
        distance, in_l2 = oracle.distance(x[due], due), norms(x[due] - x0[due]).double().clamp_min(COLLAPSED)
        submit_near(x[due], noise.sigma[due] * distance / in_l2, due)  # in units of the norm
        oracle.retire(due[distance < COLLAPSED], "collapsed")


def probe_scale(o: Options, sigma: Tensor) -> Tensor:
    """a for each σ̂."""
    if o.probe:
        return torch.full_like(sigma, o.probe)
    return (PROBE * (sigma / AT_SIGMA) ** (1 / 3)).clamp(NARROWEST, WIDEST)


def on_surface(oracle: Oracle, direction: Tensor) -> Tensor:
    """``[N, C, H, W]``: where the ball of ε, and then [0, 1], ends in these directions; their signs' for L∞."""
    step = direction.sign() if oracle.norm == "linf" else unit(direction)
    return project(oracle.x0 + oracle.eps * step, oracle.x0, oracle.eps, oracle.norm)


def worth_a_vote(o: Options, mean: Tensor, image: Tensor, even: Tensor) -> Tensor:
    """bool ``[N]``: whether the scores of pairs ``[n, P]`` let expect that the next iterate is not far from success.

    Their mean is the smoothed score of the iterate before. What it rose by since the block before, `mean` ``[N]``, it
    may rise by again.
    """
    now = even.nanmean(1)
    spread = (even - now[:, None]).square().nanmean(1).sqrt()
    near = torch.zeros_like(mean, dtype=torch.bool)
    near[image] = now + (now - mean[image]).clamp_min(0) > -o.gate * spread
    mean[image] = now
    return near


def scales(o: Options, d: int, distance: float, sigma: float) -> Scales:
    """With the prior's gain, since a gradient lies where the prior expects it."""
    noise = known_scale(o.sigma_hat, sigma)
    a = float(probe_scale(o, torch.tensor([noise]))[0])
    return Prior(o.colour).gain(3 if d % 3 == 0 else 1) ** 0.5 * a, max(FINENESS * noise, distance / GRID)


NEAR = "goes on after a confirmed success and brings the point nearer"
SPEC = AttackSpec(
    name="nes-na",
    access="scores",
    norms=("l2", "linf"),
    presets={
        "near": Preset(Options(), noise_aware=True, ours=True, note=NEAR),
        "first": Preset(Options(shrink=False), noise_aware=True, ours=True, note="ends at the first confirmed success"),
    },
    summary="NES that knows of the noise, and steps onto the surface of the ball (ours)",
    run=run,
    targeted=True,
    warm_start=True,
    scales=scales,
    told="sigma_hat={}",
)
