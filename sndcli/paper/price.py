"""What a defense makes an attacker pay, measured on a network and as theory expects it (docs/theory.md).

White-box and unpaid. At points of the boundary: how far the defense moves the margin (σ_m), how far the gradients of
two draws agree (ρ), how much the boundary bends (h); from these the price of a direction (`bounds.drawn_price`); and
the price itself, from answers to probes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sndcli.attacks.common.geometry import norms, per_image, unit
from sndcli.ball import bisected
from sndcli.paper.bounds import drawn_price
from sndcli.paper.evidence import Fact, boundary_points, margin_gradient
from sndcli.queries.criterion import Misclassified
from sndcli.queries.draws import labels_of
from sndcli.runs.victim import Victim

DRAWS, PROBES = 8, 8  # behind an agreement: draws of the defense, probes for each half of a draw's gradient
CURVED = 64  # pairs of probes behind a curvature
REACH = 2.0  # how far behind the boundary a balanced point is sought, in L2
STEPS, ANSWERS = 10, 128  # of that search


@dataclass(frozen=True)
class Points:
    """Points of the undefended boundary, from right images.

    Attributes:
        at: ``[n, C, H, W]``.
        labels: of the images, int64 ``[n]``.
        outward: unit direction from the image to its point, ``[n, C, H, W]``.
        slope: G, length of the margin's gradient there, float64 ``[n]``.
    """

    at: Tensor
    labels: Tensor
    outward: Tensor
    slope: Tensor

    @classmethod
    def of(cls, victim: Victim, x: Tensor, y: Tensor) -> Points:
        """Those that are found along the gradients of images `x` ``[n, C, H, W]`` with labels `y`."""
        b, found = boundary_points(victim, x, y)
        b, x, y = b[found], x[found], y[found]
        slope = norms(margin_gradient(victim.classifier, b, y))
        kept = slope > 0
        return cls(b[kept], y[kept], unit(b - x)[kept], slope[kept].double())


def _margins(answers: Tensor, y: Tensor) -> Tensor:
    """``max_{j≠y} z_j - z_y`` of logits ``[M, K]``, float64 ``[M]``."""
    return Misclassified(y).margin(answers.double().softmax(1), torch.arange(len(y)))


def margin_noise(victim: Victim, points: Points, draws: int) -> Tensor:
    """σ_m for each point: standard deviation of the defended margin over draws, over G; ``[n]``, L2 of pixels."""
    found = torch.stack([_margins(victim.defended(points.at), points.labels) for _ in range(draws)])
    return found.std(0) / points.slope


def agreement(victim: Victim, points: Points, a: float, generator: torch.Generator) -> Tensor:
    """ρ for each point: how far the gradients of two draws agree, each a mean over probes of width `a`; ``[n]``.

    ``⟨g_i, g_j⟩`` over ``⟨g_i, g_i⟩``, both from two means over probes of their own, so that neither is off by the
    noise of a mean. ρ is taken at the probes' width because gradients of a ReLU network change from kink to kink,
    which no probe of that width feels.
    """
    halves = torch.stack(
        [torch.stack([_mean_gradient(victim, points, a, draw, generator) for _ in range(2)]) for draw in range(DRAWS)]
    )  # [draws, 2, n, d]
    inner = torch.einsum("ind,jnd->ijn", halves[:, 0], halves[:, 1]).double()
    own = inner.diagonal(0, 0, 1).mean(1)
    others = (inner.sum((0, 1)) - inner.diagonal(0, 0, 1).sum(1)) / (DRAWS * (DRAWS - 1))
    return others / own.clamp_min(1e-30)


def _mean_gradient(victim: Victim, points: Points, a: float, draw: int, generator: torch.Generator) -> Tensor:
    """Mean over `PROBES` probes of the gradient behind one draw of the defense for each point, over G; ``[n, d]``."""
    total = torch.zeros_like(points.at)
    for _ in range(PROBES):
        victim.reseed(draw)  # the same draw for all probes
        probes = points.at + a * torch.randn(points.at.shape, generator=generator)
        total += margin_gradient(victim.defended.model, probes, points.labels)
    return (total / PROBES).flatten(1) / points.slope[:, None].float()


def curvature(victim: Victim, points: Points, a: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(h, trace) for each point: of the undefended margin's second derivative over G, at the width `a`; ``[n]`` each.

    From ``(t(x+aξ) + t(x-aξ) - 2t(x))/a²``, whose mean over Gaussian ξ is the trace and whose variance is 2h².
    """

    def distance(x: Tensor) -> Tensor:
        return _margins(victim.undefended(x), points.labels) / points.slope

    here, found = distance(points.at), []
    for _ in range(CURVED):
        probe = a * torch.randn(points.at.shape, generator=generator)
        found.append((distance(points.at + probe) + distance(points.at - probe) - 2 * here) / a**2)
    second = torch.stack(found)
    return (second.var(0) / 2).sqrt(), second.mean(0)


def balanced(victim: Victim, points: Points, a: float, generator: torch.Generator) -> Tensor:
    """Points on the line from the image through the boundary where half of the answers to probes are wrong.

    There a label says most (`bounds.label_information`). ``[n, C, H, W]``.
    """

    def mostly_wrong(length: Tensor) -> Tensor:
        where = points.at + per_image(length, points.at) * points.outward
        return _wrong(victim, where, points.labels, a, ANSWERS, generator)[1].double().mean(1) > 0.5

    lo = torch.zeros(len(points.at), dtype=torch.float64)
    _, hi = bisected(lo, torch.full_like(lo, REACH), mostly_wrong, STEPS)
    return points.at + per_image(hi, points.at) * points.outward


def _wrong(
    victim: Victim, x: Tensor, y: Tensor, a: float, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Probes ξ ``[n, count, d]`` around `x` and whether each of their answers is wrong, bool ``[n, count]``."""
    noise = torch.randn((len(x), count, *x.shape[1:]), generator=generator)
    rows = (x[:, None] + a * noise).flatten(0, 1)
    labels = labels_of(victim.defended(rows)).view(len(x), count)
    return noise.flatten(2), labels != y[:, None]


def directness(victim: Victim, points: Points, a: float, probes: int, generator: torch.Generator) -> Tensor:
    """α² = ‖E[Zξ]‖²/(p(1-p)) at balanced points, Z being a wrong answer to a probe aξ; ``[n]``, 2/π at best.

    The price of a direction is ``(2/π)/α²``. Without bias: the product of two halves of `probes` each.
    """
    x = balanced(victim, points, a, generator)
    halves, shares = [], []
    for _ in range(2):
        total, wrong = torch.zeros(len(x), x[0].numel()), torch.zeros(len(x), dtype=torch.float64)
        for k in range(len(x)):
            noise, z = _wrong(victim, x[k : k + 1], points.labels[k : k + 1], a, probes, generator)
            wrong[k] = z.double().mean()
            total[k] = (z[0].float() - wrong[k].float()) @ noise[0] / probes
        halves.append(total.double())
        shares.append(wrong)
    p = (shares[0] + shares[1]) / 2
    alpha2 = (halves[0] * halves[1]).sum(1) / (p * (1 - p)).clamp_min(1e-12)
    return torch.where((p > 0) & (p < 1), alpha2, 0.0)


def prices(
    victim: Victim, x: Tensor, y: Tensor, words: str, widths: Sequence[float], queries: int, draws: int, seed: int
) -> list[Fact]:
    """σ_m, and for each width ρ, h and the price, measured beside predicted; then the least price.

    Args:
        victim: bare and defended.
        x: clean images ``[n, C, H, W]``, right on the undefended model.
        y: their labels.
        words: what the defense is called.
        widths: a, standard deviations of the probes.
        queries: answers behind each direction.
        draws: behind σ_m.
        seed: of the probes and of the defense's draws.
    """
    generator = torch.Generator().manual_seed(seed)
    victim.reseed(seed)
    points = Points.of(victim, x, y)
    n = len(points.at)
    facts = [_over_points("margin_noise", words, None, margin_noise(victim, points, draws))]
    noise = facts[0].value
    least: list[Fact] = []
    for a in widths:
        rho = _over_points("agreement", words, a, agreement(victim, points, a, generator))
        bend, trace = curvature(victim, points, a, generator)
        h = _over_points("curvature", words, a, bend)
        victim.reseed(seed)
        alpha2 = directness(victim, points, a, max(1, queries // 2), generator)
        mean, spread = float(alpha2.mean()), float(alpha2.std()) if n > 1 else math.nan
        measured = (2 / math.pi) / mean if mean > 0 else math.inf
        expected = drawn_price(a, noise, min(1.0, rho.value), h.value) if rho.value > 0 else math.inf
        price = Fact("price", words, None, a, n, measured, measured * spread / mean if mean > 0 else None, expected)
        facts += [rho, h, _over_points("trace", words, a, trace), price]
        least.append(price)
    best = min(least, key=lambda fact: fact.value)
    theory = min(fact.theory or math.inf for fact in least)
    return [*facts, Fact("least_price", words, None, best.probe, n, best.value, best.std, theory)]


def _over_points(quantity: str, words: str, a: float | None, values: Tensor) -> Fact:
    spread = float(values.std()) if len(values) > 1 else None
    return Fact(quantity, words, None, a, len(values), float(values.mean()), spread)
