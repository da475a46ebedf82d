"""PopSkipJump (Simon-Gabriel, Sheikh and Krause, ICML 2021), untargeted, L2.

HopSkipJump for a model whose answers are random. On the segment from a far point x̃ (u = 0) to the clean image (u = 1)
the chance of the true label is modelled as e + (1 - 2e) S(4s(u - t)); position t, slope s and floor e are found by
queries of most expected information (`infomax`), and they decide how many probes the gradient needs.

Differs from the authors' code: starts from uniform noise by a majority of five answers (theirs is given an image of
another class); one grid of G + 1 values of t for all searches; the mean over all probes is the gradient's baseline,
not one a chunk; a search that ends at t = 1 is not repeated; an exact budget.
Where the gradient asks for more probes than the rest of the budget, it gets what is left beyond `reserve`, if that is
at least what the noise-free attack would use, and else the attack ends. Preset ``share`` (ours) never spends more than
a quarter of what is left on one gradient, so that a noisy model does not eat the whole budget in the first, and submits
a point `outward` of the estimate of p = ½, where it is adversarial rather than so half of the time (as the authors', it
is not asked about).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sndcli.attacks.common.geometry import active, per_image, straight, uniform_start
from sndcli.attacks.common.noise import voted
from sndcli.attacks.decision.hsja import gradient_direction
from sndcli.attacks.decision.infomax import infomax, sigmoids_of
from sndcli.attacks.ranges import Count, NonNegative, Odd, PositiveShare, Whole
from sndcli.attacks.spec import AttackSpec, Preset, Scales
from sndcli.ball import COLLAPSED
from sndcli.queries.oracle import Oracle
from sndcli.streams import Streams

ALPHA_DET = math.sqrt(2 / math.pi) * math.exp(-0.5)  # α of a noise-free probe, one standard deviation off


@dataclass(frozen=True)
class Options:
    """Hyper-parameters.

    Attributes:
        grid: G, resolution of the search; the probe radius is D̃√d/G. 300 for CIFAR, 100 for MNIST.
        iterations: T, at most; the authors use 32.
        initial_evals: probes of the noise-free attack's first gradient; iteration t uses this times √t.
        max_evals: most probes of one gradient.
        max_share: most of what is left of the budget that one gradient may take.
        reserve: queries kept for the search after a gradient.
        outward: how far before the estimate the point submitted lies, in units of the grid's cell 1/G or of 1/(6s),
            whichever is more; 0 is the authors' point.
        start_draws: uniform noise images tried, at most.
        start_votes: answers behind a start.
    """

    grid: Count = 300
    iterations: Count = 10_000
    initial_evals: Count = 100
    max_evals: Count = 50_000
    max_share: PositiveShare = 1.0
    reserve: Whole = 100
    outward: NonNegative = 0.0
    start_draws: Count = 10_000
    start_votes: Odd = 5


def alpha(s: Tensor, theta: float) -> Tensor:
    """α(s', θ'): mean answer, in units of the probe's standard deviation, behind a boundary of slope s' at offset θ'.

    ``s'[erf((θ' + 1/2s')/√2) - erf((θ' - 1/2s')/√2)]``: a piecewise linear stand-in for the sigmoid; it tends to
    √(2/π) exp(-θ'²/2) for s' → ∞ and to 2s' for s' → 0.
    """
    half = 1 / (2 * s)
    return s * (torch.erf((theta + half) / math.sqrt(2)) - torch.erf((theta - half) / math.sqrt(2)))


def probes_needed(n_det: int, s: Tensor, e: Tensor, options: Options) -> Tensor:
    """int64 ``[n]``: probes whose direction is as good as `n_det` noise-free ones."""
    loss = ALPHA_DET / ((1 - 2 * e) * alpha(s / options.grid, 1.0))
    return (n_det * loss**2).clamp(max=options.max_evals).long()


def run(oracle: Oracle, streams: Streams, options: Options) -> None:
    """Attacks every active image of the oracle until its budget or its iterations end."""
    o, n, root_d = options, len(oracle.x0), math.sqrt(oracle.x0[0].numel())
    sigmoids = sigmoids_of(o.grid, oracle.x0.device, oracle.x0.dtype)
    s, e = (torch.zeros(n, dtype=torch.float64, device=oracle.x0.device) for _ in range(2))
    floor = torch.full((n,), -1, dtype=torch.int64, device=oracle.x0.device)  # index of ê; -1: not yet known

    def search(image: Tensor) -> None:
        found = infomax(oracle, far[image], image, sigmoids, floor[image], streams)
        done = oracle.active[image] | found.finished
        image = image[done]
        t = found.t[done].clamp(max=1 - 1 / (2 * o.grid))
        s[image], floor[image] = found.s[done], found.floor[done]
        e[image] = sigmoids.e[floor[image]]
        x[image] = straight(oracle.x0[image], far[image], 1 - t)
        before = o.outward * torch.clamp(1 / (6 * s[image]), min=1 / o.grid)
        oracle.submit(straight(oracle.x0[image], far[image], 1 - (t - before).clamp_min(0.0)), image)

    far, image = uniform_start(oracle, streams, o.start_draws, voted(o.start_votes))  # x̃
    x = far.clone()
    search(image)
    for t in range(1, o.iterations + 1):
        image = active(oracle)
        oracle.retire(image[oracle.distance(x[image], image) < COLLAPSED], "collapsed")
        image = active(oracle)
        n_det = int(o.initial_evals * math.sqrt(t))
        wanted = probes_needed(n_det, s[image], e[image], o)
        left = oracle.remaining[image] - o.reserve
        share = torch.maximum((o.max_share * left).long(), torch.full_like(left, n_det))
        probes = torch.minimum(torch.minimum(wanted, share), left)
        enough = probes >= n_det
        oracle.retire(image[~enough], "reserve")  # what is left is less than another iteration needs
        image, probes = image[enough], probes[enough]
        if not len(image):
            break
        delta = root_d * oracle.distance(far[image], image) / o.grid
        v = gradient_direction(oracle, x[image], image, delta, probes, streams)
        z = x[image] + per_image(oracle.distance(x[image], image) / math.sqrt(t), x) * v
        z = z.clamp_(0.0, 1.0)
        far[image] = (z + 0.5 * (z - oracle.x0[image])).clamp_(0.0, 1.0)
        search(image)
    oracle.retire(active(oracle), "exhausted")


def scales(o: Options, d: int, distance: float, sigma: float) -> Scales:  # noqa: ARG001
    """A cell of the grid, for both."""
    return distance / o.grid, distance / o.grid


SPEC = AttackSpec(
    name="popskipjump",
    access="labels",
    norms=("l2",),
    presets={
        "authors": Preset(Options(), noise_aware=True, source="Simon-Gabriel, Sheikh, Krause, ICML 2021"),
        "share": Preset(
            Options(max_share=0.25, outward=1.5),
            noise_aware=True,
            ours=True,
            note="one gradient takes at most a quarter of what is left, and the point submitted lies outward of the "
            "estimate",
        ),
    },
    summary="PopSkipJump (Simon-Gabriel, Sheikh, Krause 2021)",
    run=run,
    targeted=True,
    scales=scales,
    uses_eps=False,
)
