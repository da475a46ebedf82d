"""NES-NA where everything is known: a half-space whose margin is noisy, and one whose scores mislead."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from conftest import SHAPE, D, generator, streams
from torch import Tensor

from sndcli.attacks.common.noise import known_scale
from sndcli.attacks.common.score_noise import ScoreNoise, robust, score_of
from sndcli.attacks.common.trend import Trend
from sndcli.attacks.score import nes_na
from sndcli.attacks.spec import options_of
from sndcli.queries.criterion import Misclassified
from sndcli.queries.oracle import Oracle

WHITE: dict[str, Any] = {"colour": 0, "window": 0}
STEEP = 30.0  # logits a unit of distance


class HalfSpace:
    """Two classes with the logit difference ``s (w·(z - ½) - m + σ N(0, 1))``; with τ, turned around on stairs of τ."""

    def __init__(self, margin: float, sigma: float = 0.0, steep: float = STEEP, stairs: float = 0.0) -> None:
        w = torch.randn(D, generator=generator(1))
        self.w, self.margin, self.sigma, self.steep, self.stairs = w / w.norm(), margin, sigma, steep, stairs
        self.generator = generator(2)

    def __call__(self, z: Tensor) -> Tensor:
        noise = self.sigma * torch.randn(len(z), generator=self.generator)
        value = self.steep * ((z - 0.5).flatten(1) @ self.w - self.margin + noise)
        if self.stairs:  # as AAA does: slope -1 on each stair, the sign kept
            value = 2 * self.stairs * (torch.floor(value / self.stairs) + 0.5) - value
        return torch.stack([torch.zeros_like(value), value], 1)


def run(victim: HalfSpace, preset: str, n: int = 8, budget: int = 2000, norm: str = "l2", eps: float = 1.0,
        budgets: list[int] | None = None, **changes: object) -> Oracle:  # fmt: skip
    x0, y = torch.full((n, *SHAPE), 0.5), torch.zeros(n, dtype=torch.int64)
    oracle = Oracle(victim, x0, y, budget=budget, budgets=budgets, norm=norm, eps=eps)
    oracle.check(scores=True)
    options = options_of(nes_na.SPEC, preset, tuple(f"{k}={v}" for k, v in changes.items()), norm)
    nes_na.run(oracle, streams(), options)
    oracle.close()
    return oracle


@pytest.mark.parametrize(
    ("sigma", "blocks", "late_momentum", "expected"),
    [(0.01, 1, 0.9, 0.076), (0.01, 5, 0.9, 0.166), (0.01, 20, 0.9, 0.282), (0.0, 5, 0.9, 0.18),
     (0.01, 60, 0.98, 0.45)],
)  # fmt: skip
def test_the_iterate_points_where_information_says(
    sigma: float, blocks: int, late_momentum: float, expected: float
) -> None:
    """cos = 1/√(1 + d/(n κ²)), with n = P [(1 - β^T)/(1 - β)]² (1 - β²)/(1 - β^2T) pairs remembered."""
    n = 2 if blocks > 20 else 8
    victim = HalfSpace(2.0, sigma)
    late = 0 if blocks > 20 else 25
    oracle = run(victim, "first", n, 1 + 40 * blocks, sigma_hat=0.01, probe=0.02, every=10**6, late=late,
                 late_momentum=late_momentum, **WHITE)  # fmt: skip
    step = (oracle.ledger.submitted[-1] - 0.5).flatten(1)
    assert oracle.ledger.phases["probe"].tolist() == [40 * blocks] * n
    assert ((step @ victim.w) / step.norm(dim=1)).mean().item() == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize(
    ("norm", "eps", "margin", "sigma", "expected"),
    [("l2", 1.0, 0.15, 0.0, 220), ("l2", 1.0, 0.15, 0.01, 220), ("linf", 0.031, 0.2, 0.01, 220)],
)
def test_queries_until_success(norm: str, eps: float, margin: float, sigma: float, expected: int) -> None:
    """Blocks of 40 queries and votes until ε cos exceeds m; in L∞, ε counts 44 times."""
    victim = HalfSpace(margin, sigma)
    oracle = run(victim, "first", 8, norm=norm, eps=eps, **WHITE)
    assert oracle.ledger.stop_reason == ["success"] * 8
    assert oracle.ledger.used.double().median().item() == pytest.approx(expected, rel=0.4)
    reached = (oracle.ledger.submitted[-1] - 0.5).flatten(1) @ victim.w
    assert float(reached.min()) > margin - 0.02
    assert bool(oracle.inside(oracle.ledger.submitted[-1], torch.arange(8)).all())


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("sigma", [0.0, 0.01])
def test_it_comes_nearer_afterwards(norm: str, sigma: float) -> None:
    """With three times the queries, nearer; never nearer than the boundary, and beyond it by what was asked for."""
    victim = HalfSpace(0.15, sigma)
    eps = 1.0 if norm == "l2" else 0.03
    oracle = run(victim, "near", 3, 1200, norm, eps, [400, 1200], **WHITE)
    least = 0.15 if norm == "l2" else 0.15 / float(victim.w.abs().sum())
    image = torch.arange(3)
    early, late = (oracle.distance(points, image) for points in oracle.ledger.submitted)
    assert float(late.median()) < 0.85 * float(early.median())
    assert float(late.min()) > least
    reached = (oracle.ledger.submitted[-1] - 0.5).flatten(1) @ victim.w
    assert float(reached.min()) > 0.15 - sigma
    ledger = oracle.ledger
    assert torch.equal(ledger.used, torch.stack(list(ledger.phases.values())).sum(0))
    assert set(ledger.phases) == {"check", "estimate", "probe", "confirm", "projection"}


def test_a_bare_model_is_asked_no_more_than_twice_for_a_success() -> None:
    oracle = run(HalfSpace(0.15), "first", 6)
    assert set((oracle.ledger.phases["confirm"] % 2).tolist()) == {0}
    assert float(oracle.ledger.phases["confirm"].float().mean()) < 12


def test_a_point_that_is_wrong_by_luck_is_not_taken() -> None:
    """The whole ball is out of reach by 2 σ: one answer in forty is wrong, and no vote is won."""
    oracle = run(HalfSpace(1.02, 0.01, steep=300.0), "first", 4, 2000, sigma_hat=0.01, late=1, late_momentum=0.99)
    assert oracle.ledger.stop_reason == ["budget"] * 4


@pytest.mark.parametrize("sigma", [0.0, 0.005, 0.02])
def test_the_noise_is_measured_from_answers_that_were_paid_anyway(sigma: float) -> None:
    """From 30 answers about the clean image and 200 pairs, within a third."""
    n, victim, a = 4, HalfSpace(0.3, sigma), 0.02
    x, image = torch.full((n, *SHAPE), 0.5), torch.arange(n)
    oracle = Oracle(victim, x, torch.zeros(n, dtype=torch.int64), budget=1000)
    oracle.check(scores=True)
    noise = ScoreNoise(oracle, oracle.criterion.margin, 25, 5, 1.0, 0.5, 0.01)
    noise.ask(x, image, 29, oracle.clean_scores)
    u = a * torch.randn(n * 200, *SHAPE, generator=generator(4))
    rows, center = image.repeat_interleave(200), x.repeat_interleave(200, 0)
    up, down = (oracle.criterion.margin(oracle.scores(center + s * u, rows, "probe"), rows) for s in (1, -1))
    noise.learn(image, torch.full((n,), a), ((up - down) / 2).view(n, 200).double())
    assert noise.sigma.tolist() == pytest.approx([sigma] * n, rel=0.35)
    assert noise.quiet.tolist() == [sigma == 0] * n
    noise.learn(image, torch.full((n,), a), torch.full((n, 2), 7.0, dtype=torch.float64))  # nothing was asked since
    assert noise.sigma.tolist() == pytest.approx([sigma] * n, rel=0.35)


def test_probes_grow_with_the_cube_root_of_the_noise() -> None:
    sigma = torch.tensor([0.0, 0.00125, 0.01, 0.02, 0.08, 1.0], dtype=torch.float64)
    found = nes_na.probe_scale(nes_na.Options(), sigma).tolist()
    assert found == pytest.approx([0.01, 0.01, 0.02, 0.02 * 2 ** (1 / 3), 0.04, 0.04])
    assert nes_na.probe_scale(nes_na.Options(probe=0.3), sigma).tolist() == pytest.approx([0.3] * 6)
    assert known_scale("estimate", 0.01) == 0.01


def test_weights_are_clipped_at_twice_their_spread() -> None:
    odd = torch.tensor([[1.0, -1.0, 1.0, 100.0, math.nan], [0.0, 0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    weights = robust(odd)
    limit = 2 / 0.6745
    rms = ((3 + limit**2) / 4) ** 0.5
    assert weights[0].tolist() == pytest.approx([1 / rms, -1 / rms, 1 / rms, limit / rms, 0.0])
    assert weights[1].tolist() == [0.0] * 5


def test_scores_that_can_be_followed() -> None:
    z, image = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.3, -2.0]]), torch.tensor([0, 1])
    criterion = Misclassified(torch.tensor([0, 1]))
    p, scaled = z.softmax(1), (4 * z).softmax(1)
    assert score_of(criterion, "margin")(p, image).tolist() == pytest.approx([-1.5, -0.2], abs=1e-5)
    torch.testing.assert_close(score_of(criterion, "spread")(p, image), score_of(criterion, "spread")(scaled, image))
    mine = p[image, image]
    torch.testing.assert_close(score_of(criterion, "logit")(p, image), ((1 - mine) / mine).log())


def test_scores_that_mislead_are_followed_with_wider_probes() -> None:
    """Stairs of 4 logits, of which probes of 0.01 see 0.3: unless they grow, the way is the wrong one."""
    victim = HalfSpace(0.18, steep=30.0, stairs=4.0)
    misled = (run(victim, "first", 2, 84, **WHITE).ledger.submitted[-1] - 0.5).flatten(1) @ victim.w
    assert float(misled.max()) < 0
    assert run(victim, "first", 2, trend=6, **WHITE).ledger.stop_reason == ["success"] * 2
    assert run(victim, "first", 2, **WHITE).ledger.stop_reason == ["budget"] * 2


def test_the_trend_of_an_honest_score_widens_nothing() -> None:
    trend, image = Trend(2, 3, torch.device("cpu")), torch.tensor([0, 1])
    for k in range(5):
        even = torch.tensor([[float(k)], [-float(k)]], dtype=torch.float64)
        trend.see(image, even, torch.full((2, 1), 0.1, dtype=torch.float64))
    assert trend.wider.tolist() == pytest.approx([1.0, 1.3**3])
    assert trend.applied(torch.tensor([0.01, 0.05], dtype=torch.float64)).tolist() == pytest.approx([0.01, 0.06])
