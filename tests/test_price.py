"""σ_m, ρ, h and the price of a direction, where all of them are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from sndcli.defenses.base import Defense
from sndcli.defenses.parse import parse
from sndcli.models.classifier import IDENTITY, Classifier
from sndcli.models.inference import Forward
from sndcli.paper import bounds
from sndcli.paper.price import Points, agreement, curvature, directness, margin_noise, prices
from sndcli.runs.victim import Victim

SHAPE, D, SIGMA = (3, 6, 6), 108, 0.02


class Bowl(nn.Module):
    """Two logits ∓(⟨w, x - ½⟩ - 0.1): a plane, or with `bend` = ‖H‖ a saddle without trace."""

    w: Tensor
    h: Tensor

    def __init__(self, bend: float = 0.0) -> None:
        super().__init__()
        w = torch.zeros(D)
        w[0] = 1.0
        signs = torch.ones(D)
        signs[1::2] = -1.0
        self.register_buffer("w", w)
        self.register_buffer("h", bend * signs / math.sqrt(D))

    def forward(self, x: Tensor) -> Tensor:
        z = (x - 0.5).flatten(1)
        margin = z @ self.w - 0.1 + 0.5 * z.square() @ self.h
        return torch.stack([-margin, margin], 1)


def victim_of(bend: float = 0.0, sigma: float | None = None) -> Victim:
    network = Classifier(Bowl(bend), IDENTITY, input_size=SHAPE).eval()
    return Victim.prepare(network, parse(None, sigma, None), torch.device("cpu"), 256)


def images(n: int = 6) -> tuple[Tensor, Tensor]:
    return torch.full((n, *SHAPE), 0.5), torch.zeros(n, dtype=torch.int64)


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
def test_noise_in_front_of_a_plane(ratio: float) -> None:
    """σ_m is σ, ρ is 1, h is 0, and the price 1 + σ²/a²."""
    victim, a = victim_of(sigma=SIGMA), ratio * SIGMA
    facts = {f.quantity: f for f in prices(victim, *images(), "snd", [a], queries=4000, draws=400, seed=0)}
    assert facts["margin_noise"].value == pytest.approx(SIGMA, rel=0.06)
    assert facts["agreement"].value == pytest.approx(1.0, abs=1e-3)
    assert facts["curvature"].value * a < 0.02
    assert facts["price"].theory == pytest.approx(bounds.price(a, SIGMA), rel=0.1)
    assert facts["price"].value == pytest.approx(bounds.price(a, SIGMA), rel=0.15)
    assert facts["least_price"].value == facts["price"].value
    assert facts["least_price"].probe == a


def test_a_bent_boundary() -> None:
    """h is ‖H‖ over the slope; the bare model's price is 1 + a²h²/2."""
    h, a = 40.0, 0.02
    victim, g = victim_of(bend=h), torch.Generator().manual_seed(0)
    with torch.no_grad():
        points = Points.of(victim, *images())
        bend, trace = curvature(victim, points, a, g)
        alpha2 = directness(victim, points, a, 2000, g)
    slope = float(points.slope[0]) / 2  # of the margin per unit of the logits' difference
    assert float(bend.mean()) == pytest.approx(h / slope, rel=0.15)
    assert abs(float(trace.mean())) < h
    assert (2 / math.pi) / float(alpha2.mean()) == pytest.approx(bounds.price(a, 0.0, h / slope), rel=0.15)


class Either(Defense):
    """One of two planes for each row, whose normals have cosine ρ."""

    def __init__(self, rho: float) -> None:
        super().__init__(nn.Identity())
        self.rho = rho

    def forward(self, x: Tensor) -> Tensor:
        z = (x - 0.5).flatten(1)
        second = math.sqrt((1 - self.rho) / 2) * z[:, 1]
        first = math.sqrt((1 + self.rho) / 2) * z[:, 0]
        coin = torch.rand(len(x), generator=self.generator) < 0.5
        margin = first + torch.where(coin, second, -second) - 0.1 * math.sqrt((1 + self.rho) / 2)
        return torch.stack([-margin, margin], 1)


def test_a_choice_between_two_planes() -> None:
    """ρ = (1 + cos)/2 with itself half of the time; the price is `set_price(2, cos)`."""
    rho, a = 0.2, 0.02
    victim, g = victim_of(), torch.Generator().manual_seed(0)
    victim.defended = Forward(Either(rho), torch.device("cpu"), 256)
    with torch.no_grad():
        points = Points.of(victim, *images(16))
        found = float(agreement(victim, points, a, g).mean())
        alpha2 = float(directness(victim, points, a, 2000, g).mean())
        assert float(margin_noise(victim, points, 50).mean()) == pytest.approx(0.0, abs=1e-6)  # on both planes
    assert found == pytest.approx((1 + rho) / 2, abs=0.1)
    assert (2 / math.pi) / alpha2 == pytest.approx(bounds.set_price(2, rho), rel=0.15)
