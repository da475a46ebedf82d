"""Why small noise works, and where it stops: the quantities of the paper's argument, measured.

Byun, Go and Kim (arXiv 2101.04829), sections 3.2 to 3.4, 4.2 and Appendix E. Everything here is white-box and unpaid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from sndcli.attacks.common.geometry import norms, per_image, unit
from sndcli.attacks.decision.hsja import gradient_direction
from sndcli.attacks.registry import ATTACKS, spec_of
from sndcli.ball import bisected
from sndcli.datasets.base import ImageSet
from sndcli.paper.closed_forms import decision_cosine, quadratic_error, relu_expectation, score_cosine
from sndcli.queries.criterion import Misclassified
from sndcli.queries.draws import Logits, fresh_labels, repeated
from sndcli.queries.oracle import Oracle
from sndcli.runs.victim import Victim
from sndcli.streams import UnitStreams

IMAGES_AT_ONCE = 64  # in memory, where many clean images are asked about


@dataclass(frozen=True)
class Fact:
    """One measured figure.

    Attributes:
        quantity: ``sigma_hat``, ``p_mis``, ``gradient_share``, ``cosine``, ``ratio`` or ``expectation_error``; of
            `price`: ``margin_noise``, ``agreement``, ``curvature``, ``trace``, ``price`` or ``least_price``.
        what: the variant: clean or boundary, grey or middle, score or decision, quadratic or relu, attack or defense.
        sigma: σ of the defense; None where `what` says which defense it is.
        probe: a, standard deviation of a probe along any direction; None where there is none.
        n: images, or draws.
        value: mean.
        std: over images; None for a single figure.
        theory: closed form, None where there is none.
    """

    quantity: str
    what: str
    sigma: float | None
    probe: float | None
    n: int
    value: float
    std: float | None = None
    theory: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON and Parquet."""
        return asdict(self)


# -- on a model ----------------------------------------------------------------------------------------------


def spread_and_mismatch(victim: Victim, images: Tensor, labels: Tensor, draws: int) -> tuple[list[float], list[float]]:
    """σ̂ and P_mis of section 4.2 for each image, from the same draws.

    σ̂ is the standard deviation over draws of ``f(x)_y - max_{c≠y} f(x)_c``, f being probabilities; P_mis the share of
    defended labels that are not the undefended one.
    """
    spreads, shares = [], []
    bare = victim.undefended(images).argmax(1)
    passes = repeated(victim.defended, images, torch.arange(len(images)), draws, None, 1)
    for (_, _, answers), y, b in zip(passes, labels.tolist(), bare, strict=True):
        f = answers[0].softmax(1)
        others = torch.cat([f[:, :y], f[:, y + 1 :]], 1).amax(1)
        spreads.append(float((f[:, y] - others).std()))
        shares.append(float((f.argmax(1) != b).double().mean()))
    return spreads, shares


def margin_std(victim: Victim, images: Tensor, labels: Tensor, draws: int) -> list[float]:
    """σ̂ for each image (see `spread_and_mismatch`). Restarts the defense's randomness."""
    victim.reseed(0)
    return spread_and_mismatch(victim, images, labels, draws)[0]


def mismatch(victim: Victim, points: Tensor, draws: int) -> list[float]:
    """P_mis for each point: share of defended labels that are not the undefended one."""
    bare = victim.undefended(points).argmax(1)
    labels = fresh_labels(victim.defended, points, torch.arange(len(points)), draws)
    return (labels != bare[:, None]).double().mean(1).tolist()


def margin_gradient(model: torch.nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """True gradient of ``max_{j≠y} z_j - z_y`` of the undefended model, ``[n, C, H, W]``."""
    place = next(iter([*model.parameters(), *model.buffers()]), x).device
    with torch.enable_grad():
        there = x.detach().to(place, copy=True).requires_grad_(True)
        margins = Misclassified(y.to(place)).margin(model(there).softmax(1), torch.arange(len(y), device=place))
        (gradient,) = torch.autograd.grad(margins.sum(), there)
    return gradient.to(x.device)


def boundary_points(victim: Victim, x: Tensor, y: Tensor, reach: float = 8.0, steps: int = 30) -> tuple[Tensor, Tensor]:
    """Points of the undefended boundary along the gradient of the margin, from images that are classified right.

    Returns:
        (points ``[n, C, H, W]``, bool ``[n]``: whether the label changes within L2 length `reach`).
    """
    direction = unit(margin_gradient(victim.classifier, x, y))

    def wrong(length: Tensor) -> Tensor:
        return victim.undefended((x + per_image(length, x) * direction).clamp(0.0, 1.0)).argmax(1) != y

    lo, hi = torch.zeros(len(x), dtype=torch.float64), torch.full((len(x),), reach / 64, dtype=torch.float64)
    for _ in range(6):
        short = ~wrong(hi)
        lo, hi = torch.where(short, hi, lo), torch.where(short, 2 * hi, hi)
    found = wrong(hi)
    _, hi = bisected(lo, hi, wrong, steps)
    return (x + per_image(hi, x) * direction).clamp(0.0, 1.0), found


def gradient_shares(gradient: Tensor) -> dict[str, tuple[list[float], float]]:
    """How much of each gradient's squared length lies where `Prior` expects it, and what it is of white noise.

    Returns:
        ``grey``: in what the colour channels have in common (absent with one channel); ``middle``: in the quarter of
        the image around its middle. The values of all images, and the value of white noise.
    """
    squared = gradient.flatten(1).square().sum(1).clamp_min(1e-30)
    channels, height, width = gradient.shape[1:]
    middle = gradient[:, :, height // 4 : height - height // 4, width // 4 : width - width // 4]
    parts = {"middle": (middle, middle[0].numel() / gradient[0].numel())}
    if channels > 1:
        parts = {"grey": (gradient.mean(1) * math.sqrt(channels), 1 / channels)} | parts
    return {name: ((v.flatten(1).square().sum(1) / squared).tolist(), white) for name, (v, white) in parts.items()}


def score_gradient(
    defended: Logits, x: Tensor, y: Tensor, probe: float, pairs: int, generator: torch.Generator
) -> Tensor:
    """Antithetic estimate of the margin's gradient, ``Σ (L(x + a u) - L(x - a u)) u``, ``[n, C, H, W]``.

    Differs from eq. 3 of the paper, which takes one-sided differences: pairs cancel the curvature.
    """
    found = []
    for k in range(len(x)):
        u = torch.randn((pairs, *x.shape[1:]), generator=generator)
        both = torch.cat([x[k] + probe * u, x[k] - probe * u])
        image = torch.full((2 * pairs,), k, device=y.device)
        loss = Misclassified(y).margin(defended(both).softmax(1), image)
        found.append((per_image(loss[:pairs] - loss[pairs:], u) * u).sum(0))
    return torch.stack(found)


def decision_gradient(
    defended: Logits, b: Tensor, x0: Tensor, y: Tensor, probe: float, probes: int, generator: torch.Generator
) -> Tensor:
    """HopSkipJump's estimate of the boundary's normal at `b` (its eq. 9 and 16), probes of radius δ = a√d."""
    n, d = len(b), b[0].numel()
    oracle = Oracle(defended, x0, y, budget=probes)
    delta = torch.full((n,), probe * math.sqrt(d), dtype=torch.float64)
    streams = UnitStreams(int(torch.randint(2**62, (), generator=generator)), b.device)
    return gradient_direction(oracle, b, torch.arange(n), delta, torch.full((n,), probes), streams)


def cosines(one: Tensor, two: Tensor) -> list[float]:
    """Cosine of each pair of rows; 0 where one of them vanishes."""
    scale = (norms(one) * norms(two)).clamp_min(1e-30)
    found: list[float] = ((one * two).flatten(1).sum(1) / scale).tolist()
    return found


def expectation_errors(sigma: float, dimensions: Sequence[int], generator: torch.Generator, draws: int) -> list[Fact]:
    """The two examples of section 3.4, closed form beside Monte Carlo; ReLU with W = 1 at μ = 0, σ and 2σ."""
    facts = []
    for d in dimensions:
        # xᵀx of Gaussian noise is σ² times a χ² of d degrees of freedom, which is Gamma(d/2, 2)
        shape = torch.full((draws,), d / 2, dtype=torch.float64)
        sums = 2 * sigma**2 * torch._standard_gamma(shape, generator=generator)
        value, std = float(sums.mean()), float(sums.std())
        facts.append(
            Fact("expectation_error", f"quadratic d={d}", sigma, None, draws, value, std, quadratic_error(d, sigma))
        )
    for steps in (0, 1, 2):
        mu = steps * sigma
        y = mu + sigma * torch.randn(draws, generator=generator, dtype=torch.float64)
        relu = y.clamp_min(0.0) - mu
        theory = relu_expectation(mu, sigma) - mu
        facts.append(
            Fact("expectation_error", f"relu μ={steps}σ", sigma, None, draws, float(relu.mean()), float(relu.std()),
                 theory)
        )  # fmt: skip
    return facts


def ratios(sigma: float, d: int, distance: float) -> list[Fact]:
    """σ√d/δ = σ/a of the first preset of each attack at an L2 distance; above one, noise drowns its probes."""
    facts = []
    for name in ATTACKS:
        spec = spec_of(name)
        for preset in spec.presets_for("l2"):
            probe, _ = spec.scales_at(spec.presets[preset].options, d, distance, sigma)
            if probe:
                facts.append(Fact("ratio", f"{name} {preset}", sigma, probe, 1, sigma / probe))
    return facts


def on_clean_images(victim: Victim, data: ImageSet, index: Tensor, sigma: float, draws: int, seed: int) -> list[Fact]:
    """The paper's σ̂ and P_mis: means over clean images that the undefended model classifies correctly.

    They are cheap beside `gather` and made by a few hard images, so they want many: 15 can be off by a factor of four.

    Args:
        victim: bare and defended.
        data: where the images are.
        index: which they are.
        sigma: σ of the defense.
        draws: answers for each image.
        seed: restarts the defense's randomness.
    """
    victim.reseed(seed)
    spreads: list[float] = []
    shares: list[float] = []
    for block in index.split(IMAGES_AT_ONCE):
        found = spread_and_mismatch(victim, data.pixels(block), data.labels[block], draws)
        spreads += found[0]
        shares += found[1]
    return [_mean("sigma_hat", "clean", sigma, None, spreads), _mean("p_mis", "clean", sigma, None, shares)]


def gather(
    victim: Victim,
    x: Tensor,
    y: Tensor,
    sigma: float,
    *,
    probes: Sequence[float],
    queries: int,
    draws: int,
    eps: float,
    seed: int,
) -> list[Fact]:
    """The facts about one defense that take gradients or boundaries; `on_clean_images` has the others.

    Args:
        victim: bare and defended.
        x: clean images ``[n, C, H, W]``, right on the undefended model.
        y: their labels.
        sigma: σ of the defense.
        probes: a, standard deviations of the probes.
        queries: behind each estimate of a gradient.
        draws: behind each rate and spread.
        eps: distance at which attacks' probes are compared with the noise.
        seed: of the probes; restarts the defense's randomness.
    """
    generator, d = torch.Generator().manual_seed(seed), x[0].numel()
    victim.reseed(seed)
    b, found = boundary_points(victim, x, y)
    b, x0, labels = b[found], x[found], y[found]
    facts = [_mean("p_mis", "boundary", sigma, None, mismatch(victim, b, draws))]
    score_truth, decision_truth = (margin_gradient(victim.classifier, p, t) for p, t in ((x, y), (b, labels)))
    for what, (shares, white) in gradient_shares(decision_truth).items():
        facts.append(_mean("gradient_share", what, sigma, None, shares, white))
    for probe in probes:
        estimate = score_gradient(victim.defended, x, y, probe, max(1, queries // 2), generator)
        theory = score_cosine(max(1, queries // 2), d, probe, sigma)
        facts.append(_mean("cosine", "score", sigma, probe, cosines(estimate, score_truth), theory))
        estimate = decision_gradient(victim.defended, b, x0, labels, probe, queries, generator)
        theory = decision_cosine(queries, d, probe, sigma)
        facts.append(_mean("cosine", "decision", sigma, probe, cosines(estimate, decision_truth), theory))
    facts += ratios(sigma, d, eps)
    return facts + expectation_errors(sigma, (d,), generator, 100_000)


def _mean(
    quantity: str, what: str, sigma: float, probe: float | None, values: Sequence[float], theory: float | None = None
) -> Fact:
    value = torch.tensor(values, dtype=torch.float64)
    n = len(value)
    mean = float(value.mean()) if n else math.nan
    return Fact(quantity, what, sigma, probe, n, mean, float(value.std()) if n > 1 else None, theory)
