"""RayS (Chen and Gu, KDD 2020): a search over sign vectors, untargeted, made for L∞.

The state is a sign vector s and a radius ρ; the point asked is ``clip(x + ρ s / √d)``, so ρ is an L2 length and the
L∞ distance is ρ/√d. Blocks of the flattened (channel-first) image are flipped, halves, quarters and so on; a flip
that is still adversarial is kept and its radius found by bisection.

Differs from the authors' code: while ρ is infinite the corner of the box is asked, which is what theirs does too; a
radius that collapses ends the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sndcli.attacks.common.confirm import submitting
from sndcli.attacks.common.geometry import active, per_image
from sndcli.attacks.common.noise import majority
from sndcli.attacks.ranges import Odd, Positive, Whole
from sndcli.attacks.spec import AttackSpec, Preset, Scales
from sndcli.ball import COLLAPSED
from sndcli.queries.oracle import REFUSED, Oracle
from sndcli.streams import Streams

FAR = 1e9  # stands for an infinite radius: every pixel ends at 0 or 1


@dataclass(frozen=True)
class Options:
    """Hyper-parameters.

    Attributes:
        tolerance: width of the bisections of ρ.
        votes: odd, answers behind every decision (ours; for noisy models); with more than one a new radius is
            checked by as many more before it is kept.
        retest: the incumbent is asked again after so many flips, and ρ grows by 5 % while it fails (ours); 0: never.
        confirm: with a number, a point 2 % further out than a new incumbent is submitted that so many answers
            confirm (ours).
    """

    tolerance: Positive = 1e-3
    votes: Odd = 1
    retest: Whole = 0
    confirm: Whole = 0


def run(oracle: Oracle, streams: Streams, options: Options) -> None:  # noqa: ARG001
    """Attacks every active image until its budget ends. Deterministic: no randomness of its own."""
    x0, device = oracle.x0, oracle.x0.device
    n, d = len(x0), x0[0].numel()
    s = torch.ones(n, d, device=device)
    trial = s.clone()
    rho = torch.full((n,), torch.inf, dtype=torch.float64, device=device)
    lo, hi = torch.zeros_like(rho), torch.zeros_like(rho)
    level, block = (torch.zeros(n, dtype=torch.int64, device=device) for _ in range(2))
    halving = torch.zeros(n, dtype=torch.bool, device=device)
    flips = torch.zeros_like(level)  # since the incumbent was last confirmed
    submit = submitting(oracle, options.confirm, safety=0.0)

    def point(image: Tensor, radius: Tensor, signs: Tensor) -> Tensor:
        reach = per_image((radius / d**0.5).clamp(max=FAR), x0)
        return (x0[image] + reach * signs[image].view(-1, *x0.shape[1:])).clamp_(0.0, 1.0)

    for _ in range(oracle.budget + 1):
        image = active(oracle)
        if not len(image):
            break
        if options.retest:
            due = image[~halving[image] & rho[image].isfinite() & (flips[image] >= options.retest)]
            reply = majority(oracle, point(due, rho[due], s), due, "retest", options.votes)
            failed = due[reply == 0]
            flips[due[reply == 1]] = 0
            rho[failed] = (1.05 * rho[failed]).clamp(max=d**0.5)
            submit(point(failed, rho[failed], s), torch.zeros_like(rho[failed]), failed)
            image = image[~torch.isin(image, failed)]
        flipping, narrowing = image[~halving[image]], image[halving[image]]
        trial[flipping] = flip(s[flipping], level[flipping], block[flipping])
        middle = (lo[narrowing] + hi[narrowing]) / 2
        sent = torch.cat([point(flipping, rho[flipping], trial), point(narrowing, middle, trial)])
        phases = [("flip", len(flipping)), ("bisection", len(narrowing))]
        reply = majority(oracle, sent, torch.cat([flipping, narrowing]), phases, options.votes)

        first, second = reply.split([len(flipping), len(narrowing)])
        hit, miss = flipping[first == 1], flipping[first == 0]
        lo[hit], hi[hit], halving[hit] = 0.0, rho[hit].clamp(max=d**0.5), True
        flips[hit] += 1
        flips[miss] += 1
        advance(miss, level, block, d)

        hi[narrowing[second == 1]] = middle[second == 1]
        lo[narrowing[second == 0]] = middle[second == 0]
        told = narrowing[second != REFUSED]
        done = told[hi[told] - lo[told] <= options.tolerance]
        better = done[hi[done] < rho[done]]
        if options.votes > 1:
            better = better[majority(oracle, point(better, hi[better], trial), better, "verify", options.votes) == 1]
        rho[better], s[better] = hi[better], trial[better]
        submit(point(better, rho[better], s), torch.zeros_like(rho[better]), better)
        halving[done] = False
        advance(done, level, block, d)
        oracle.retire(done[rho[done] < COLLAPSED], "collapsed")


def flip(s: Tensor, level: Tensor, block: Tensor) -> Tensor:
    """`s` ``[n, d]`` with each row's block of ⌈d / 2^level⌉ entries negated."""
    d = s.shape[1]
    size = torch.ceil(d / 2.0**level).long().clamp_min(1)
    index = torch.arange(d, device=s.device)
    inside = (index >= (block * size)[:, None]) & (index < ((block + 1) * size)[:, None])
    return torch.where(inside, -s, s)


def advance(image: Tensor, level: Tensor, block: Tensor, d: int) -> None:
    """The next block; after the last of a level, the first of the next. Below one entry a sweep starts again."""
    block[image] += 1
    size = torch.ceil(d / 2.0 ** level[image]).clamp_min(1)
    over = image[(block[image] >= 2.0 ** level[image]) | (block[image] * size >= d)]
    level[over] += 1
    block[over] = 0


def scales(o: Options, d: int, distance: float, sigma: float) -> Scales:  # noqa: ARG001
    """It has no probes; a bisection of ρ is one of L2 lengths."""
    return None, o.tolerance


SPEC = AttackSpec(
    name="rays",
    access="labels",
    norms=("linf", "l2"),
    presets={
        "authors": Preset(Options(), source="Chen, Gu, KDD 2020"),
        "na": Preset(
            Options(tolerance=5e-3, votes=5, retest=20, confirm=9),
            noise_aware=True,
            ours=True,
            note="majorities of five, the incumbent is asked again, a confirmed point is submitted",
        ),
    },
    summary="RayS (Chen, Gu 2020)",
    run=run,
    scales=scales,
    floor="tolerance={}",
    uses_eps="confirm",
)
