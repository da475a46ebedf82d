"""NATTACK (Li, Li, Wang, Zhang and Gong, ICML 2019), untargeted, L∞ or L2.

It learns the mean μ of a Gaussian in a latent space of at most 32 x 32 pixels whose samples, mapped into the ball, are
adversarial: ``x = ½ + ½ tanh(artanh(2 x0 - 1) + μ + 0.1 ε_i)``, projected, and μ follows the z-scored losses. It
compares nothing with a stored best point, its probes are wide, and a step averages a population, so that noise only
makes a population worth less. Its authors broke RSE and R&P with it.

Differs from the authors' code: the loss is the paper's margin (theirs takes the best wrong class of the first sample
for that of all, which leaves ``py``); the mean is asked about, and paid for, in every iteration and not for nothing in
every tenth; the last population shrinks to the budget, and one of fewer than 30 is not sent; the ball is around x0
itself, not around its image under the maps, 5e-7 away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sndcli.attacks.common.geometry import active, block_size, per_image, unit
from sndcli.attacks.common.scores import project, stop_at_success
from sndcli.attacks.ranges import Count, NonNegative, Positive, Whole
from sndcli.attacks.spec import AttackSpec, Preset, Scales
from sndcli.queries.oracle import Oracle
from sndcli.streams import Streams

SIDE = 32  # of the latent space
INSIDE = 1 - 1e-6  # keeps artanh finite
FEWEST = 30  # samples


@dataclass(frozen=True)
class Options:
    """Hyper-parameters.

    Attributes:
        population: n, samples an iteration.
        lr: α.
        spread: σ_N, standard deviation of the samples in latent space.
        iterations: at most.
        init: standard deviation of μ at first.
        loss: ``margin``, half of what the true class leads by, at least 0; or ``py``, half of log p_y.
        confirm: further answers, at most, most of which must be wrong before an attack ends (ours); 0 asks none.
    """

    population: Count = 300
    lr: Positive = 0.02
    spread: Positive = 0.1
    iterations: Count = 500
    init: NonNegative = 0.001
    loss: Literal["margin", "py"] = "margin"
    confirm: Whole = 0


def run(oracle: Oracle, streams: Streams, options: Options) -> None:
    """Attacks every active image until success or until too few queries for a population are left."""
    o, x0 = options, oracle.x0
    h = torch.atanh((2 * x0 - 1) * INSIDE)
    clean = 0.5 + 0.5 * torch.tanh(h)
    latent = x0.new_empty(1, x0.shape[1], min(SIDE, x0.shape[2]), min(SIDE, x0.shape[3]))

    def moved(mu: Tensor, image: Tensor) -> Tensor:
        """How far the image of μ lies from that of 0."""
        if mu.shape[2:] != x0.shape[2:]:
            mu = F.interpolate(mu, size=x0.shape[2:], mode="bilinear", align_corners=False)
        return torch.tanh(h[image] + mu).mul_(0.5).add_(0.5).sub_(clean[image])

    def at(mu: Tensor, image: Tensor) -> Tensor:
        return project(x0[image] + moved(mu, image), x0[image], oracle.eps, oracle.norm)

    def sample(mu: Tensor, image: Tensor) -> Tensor:
        if oracle.norm == "linf":
            return at(mu, image)
        return (x0[image] + oracle.eps * unit(moved(mu, image))).clamp_(0.0, 1.0)  # inside too they go to the surface

    def loss(scores: Tensor, image: Tensor) -> Tensor:
        if o.loss == "py":
            return -oracle.criterion.cross_entropy(scores, image) / 2
        return (-oracle.criterion.margin(scores, image)).clamp_min(0.0) / 2

    everyone = torch.arange(len(x0), device=x0.device)
    mu = o.init * streams.normal(everyone, latent)
    here = x0.new_zeros(len(x0))  # the mean's loss; its distance from the samples' is what counts
    oracle.submit(x0, everyone)
    for _ in range(o.iterations):
        image = active(oracle)
        x = at(mu[image], image)
        oracle.submit(x, image)
        scores = oracle.scores(x, image, "iterate")
        here[image] = loss(scores, image).nan_to_num()
        stop_at_success(oracle, x, image, scores, o.confirm)
        count = oracle.remaining.clamp(max=o.population)
        oracle.retire((count < min(FEWEST, o.population)).nonzero().squeeze(1), "budget")
        image = active(oracle)
        if not len(image):
            break
        sums = _Sums(mu)
        for whose in _blocks(image, count, block_size(len(x0), x0[0].numel())):
            epsilon = streams.normal(whose, latent)
            points = sample(mu[whose] + o.spread * epsilon, whose)
            sums.add(whose, loss(oracle.scores(points, whose, "population"), whose) - here[whose], epsilon)
        mu[image] += o.lr / o.spread * sums.ascent()[image]
        oracle.submit(at(mu[image], image), image)
    oracle.retire(active(oracle), "exhausted")


def _blocks(image: Tensor, count: Tensor, size: int) -> list[Tensor]:
    """Indices of images, `count` ``[N]`` rows for each of `image` ``[n]``, at most `size` of one at a time."""
    found, left = [], count[image]
    while bool((left > 0).any()):
        take = left.clamp(max=size)
        found.append(image.repeat_interleave(take))
        left = left - take
    return found


class _Sums:
    """What a step needs of a population, so that it need not be kept."""

    def __init__(self, like: Tensor) -> None:
        self.epsilon, self.weighted = torch.zeros_like(like), torch.zeros_like(like)
        self.count, self.loss, self.squares = (like.new_zeros(len(like), dtype=torch.float64) for _ in range(3))

    def add(self, whose: Tensor, loss: Tensor, epsilon: Tensor) -> None:
        """Losses ``[M]`` of the samples `epsilon` ``[M, ...]``; NaN counts for nothing."""
        told = ~loss.isnan()
        whose, loss, epsilon = whose[told], loss[told], epsilon[told]
        self.epsilon.index_add_(0, whose, epsilon)
        self.weighted.index_add_(0, whose, epsilon * per_image(loss, epsilon))
        for sums, power in ((self.count, 0), (self.loss, 1), (self.squares, 2)):
            sums.index_add_(0, whose, loss.double() ** power)

    def ascent(self) -> Tensor:
        """``[N, ...]``: (1/n) Σ A_i ε_i with A_i = (mean f - f_i) / (std f + 1e-7)."""
        count = self.count.clamp_min(1)
        mean = self.loss / count
        std = (self.squares / count - mean.square()).clamp_min(0).sqrt() + 1e-7
        return (self.epsilon * per_image(mean, self.epsilon) - self.weighted) / per_image(count * std, self.epsilon)


def scales(o: Options, d: int, distance: float, sigma: float) -> Scales:  # noqa: ARG001
    """A sample moves a grey pixel by half its latent change. It searches nothing."""
    return o.spread / 2, None


SOURCE = "Li, Li, Wang, Zhang, Gong, ICML 2019"
SPEC = AttackSpec(
    name="nattack",
    access="scores",
    norms=("linf", "l2"),
    presets={
        "authors": Preset(Options(), source=SOURCE, note="their attack on RSE: 300 samples, α = 0.02"),
        "slow": Preset(Options(lr=0.008, iterations=400), source=SOURCE, note="their attack on R&P: α = 0.008"),
        "na": Preset(Options(confirm=25), noise_aware=True, ours=True, note="success must be confirmed"),
    },
    summary="NATTACK (Li, Li, Wang, Zhang, Gong 2019)",
    run=run,
    targeted=True,
    scales=scales,
)
