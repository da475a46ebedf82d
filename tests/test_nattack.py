"""NATTACK on a noisy half-space, where its population's information is known."""

from __future__ import annotations

import pytest
import torch
from conftest import SHAPE, streams
from test_nes_na import HalfSpace

from sndcli.attacks.score import nattack
from sndcli.attacks.spec import options_of
from sndcli.queries.oracle import Oracle


def run(victim: HalfSpace, norm: str, eps: float, budget: int, n: int = 2, preset: str = "authors",
        **changes: object) -> Oracle:  # fmt: skip
    x0, y = torch.full((n, *SHAPE), 0.5), torch.zeros(n, dtype=torch.int64)
    oracle = Oracle(victim, x0, y, budget=budget, norm=norm, eps=eps)
    oracle.check(scores=True)
    options = options_of(nattack.SPEC, preset, tuple(f"{k}={v}" for k, v in changes.items()), norm)
    nattack.run(oracle, streams(), options)
    oracle.close()
    return oracle


@pytest.mark.parametrize(
    ("norm", "eps", "sigma", "iterations", "expected"),
    [("linf", 0.031, 0.0, 1, 0.27), ("linf", 0.031, 0.0, 5, 0.53), ("linf", 0.031, 0.02, 10, 0.58),
     ("l2", 1.0, 0.01, 4, 0.48)],
)  # fmt: skip
def test_the_mean_points_where_information_says(
    norm: str, eps: float, sigma: float, iterations: int, expected: float
) -> None:
    """cos = 1/√(1 + d/(n T κ²)), with κ the correlation of a sample's latent change and its answer."""
    victim = HalfSpace(2.0, sigma)
    oracle = run(victim, norm, eps, 1 + 301 * iterations)
    step = (oracle.ledger.submitted[-1] - 0.5).flatten(1)
    assert (step @ victim.w / step.norm(dim=1)).mean().item() == pytest.approx(expected, abs=0.05)
    if iterations == 1:  # half of (α/0.1) √(κ² + d/n), since tanh halves what it maps
        assert step.norm(dim=1).mean().item() == pytest.approx(0.67 / 2, rel=0.03)
    assert oracle.ledger.phases["population"].tolist() == [300 * iterations] * 2
    assert oracle.ledger.phases["iterate"].tolist() == [iterations] * 2


def test_success_at_the_third_mean() -> None:
    oracle = run(HalfSpace(0.25), "l2", 1.0, 2000)
    assert oracle.ledger.stop_reason == ["success"] * 2
    assert max(abs(used - 904) for used in oracle.ledger.used.tolist()) <= 301
    assert bool((oracle.ledger.used % 301 == 2).all())  # the clean image, whole iterations, and the mean that won


def test_a_constant_model_moves_nothing() -> None:
    oracle = run(HalfSpace(1e9), "linf", 0.03, 700, init=0)
    torch.testing.assert_close(oracle.ledger.submitted[-1], oracle.x0, atol=1e-6, rtol=0)


def test_a_last_population_of_fewer_than_thirty_is_not_sent() -> None:
    for budget, used in ((2 + 300 + 1 + 29, 303), (2 + 300 + 1 + 30, 333)):
        oracle = run(HalfSpace(2.0), "linf", 0.03, budget)
        assert oracle.ledger.used.tolist() == [used] * 2
        assert oracle.ledger.stop_reason == ["budget"] * 2


def test_samples_lie_on_the_sphere_and_in_the_cube() -> None:
    sent = []
    victim = HalfSpace(2.0)
    for norm, eps in (("l2", 1.0), ("linf", 0.031)):
        x0 = torch.full((1, *SHAPE), 0.5)
        oracle = Oracle(lambda z: sent.append(z) or victim(z), x0, torch.zeros(1, dtype=torch.int64), budget=400,  # type: ignore[func-returns-value]
                        norm=norm, eps=eps)  # fmt: skip
        nattack.run(oracle, streams(), nattack.Options(iterations=1))
        image = torch.zeros(300, dtype=torch.int64)
        points = torch.cat(sent)[1:]
        distance = oracle.distance(points, image)
        assert bool(oracle.inside(points, image).all())
        assert distance.tolist() == pytest.approx([eps] * 300, rel=1e-4)
        sent.clear()
