"""Score attacks on logistic and linear victims, where every step's effect is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from conftest import SHAPE, D, generator, streams
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sndcli.attacks.common import scores
from sndcli.attacks.common.dct import dct_rows
from sndcli.attacks.registry import ATTACKS, spec_of
from sndcli.attacks.score import bandit, simba, simba_dct, square
from sndcli.attacks.spec import options_of
from sndcli.ball import within
from sndcli.queries.oracle import Oracle

VARIANTS = [
    (name, norm, preset)
    for name, spec in sorted(ATTACKS.items())
    if spec.access == "scores"
    for norm in spec.norms
    for preset in spec.presets
    if preset not in ("l2", "linf") or preset == norm
]


class Linear:
    """Two classes with logit difference ``scale (w · (z - 0.5) - m)``; optional noise on the difference."""

    def __init__(self, margin: float = 1.0, sigma: float = 0.0, scale: float = 1.0, w: Tensor | None = None) -> None:
        random = torch.randn(D, generator=generator(1))
        self.w = w if w is not None else random / random.norm()
        self.margin, self.sigma, self.scale, self.rows = margin, sigma, scale, 0
        self.generator = generator(2)

    def __call__(self, z: Tensor) -> Tensor:
        self.rows += len(z)
        value = self.scale * ((z - 0.5).flatten(1) @ self.w - self.margin)
        if self.sigma:
            value = value + self.sigma * torch.randn(len(z), generator=self.generator)
        return torch.stack([torch.zeros_like(value), value], 1)


def attack(
    victim: Callable[[Tensor], Tensor], name: str, preset: str | None = None, n: int = 2, budget: int = 500,
    norm: str = "l2", eps: float = 1.0, budgets: list[int] | None = None, **changes: object,
) -> Oracle:  # fmt: skip
    x0 = torch.full((n, *SHAPE), 0.5)
    y = torch.zeros(n, dtype=torch.int64)
    oracle = Oracle(victim, x0, y, budget=budget, budgets=budgets, norm=norm, eps=eps)
    oracle.check(scores=True)
    options = options_of(spec_of(name), preset, tuple(f"{k}={v}" for k, v in changes.items()), norm)
    spec_of(name).run(oracle, streams(), options)
    return oracle


@pytest.mark.parametrize(("name", "norm", "preset"), VARIANTS)
@settings(max_examples=5, deadline=None)
@given(budget=st.integers(1, 120))
def test_budget_is_exact(name: str, norm: str, preset: str, budget: int) -> None:
    victim = Linear(margin=30.0)
    oracle = attack(victim, name, preset, budget=budget, norm=norm)
    used = oracle.close().used
    assert int(used.max()) <= budget
    assert victim.rows == int(used.sum())
    left = {"nes": 1, "nes-na": 1, "bandit-td": 1, "subspace": 1, "nattack": 29}  # too few for another block
    assert bool((used >= budget - left.get(name, 0)).all())


@pytest.mark.parametrize(("name", "norm", "preset"), VARIANTS)
@pytest.mark.parametrize("margin", [-0.01, 1e9])
def test_constant_and_misclassified_victims_end_cleanly(name: str, norm: str, preset: str, margin: float) -> None:
    oracle = attack(Linear(margin), name, preset, budget=60, norm=norm)
    assert oracle.close().has_submitted.all()
    assert bool((oracle.initially_wrong == (margin < 0)).all())


@pytest.mark.parametrize(("name", "norm", "preset"), [v for v in VARIANTS if not v[0].startswith("simba")])
def test_iterates_stay_in_the_ball(name: str, norm: str, preset: str) -> None:
    eps = 1.0 if norm == "l2" else 8 / 255
    oracle = attack(Linear(margin=30.0), name, preset, budget=120, norm=norm, eps=eps)
    submitted = oracle.close().submitted[0]
    assert float(oracle.distance(submitted, torch.arange(2)).max()) <= eps * (1 + 1e-4)
    assert submitted.min() >= 0
    assert submitted.max() <= 1


# -- SimBA ---------------------------------------------------------------------------------------------------


def test_simba_drops_the_margin_by_the_sum_of_its_steps() -> None:
    """After K directions the margin falls by ε Σ|⟨w, b_k⟩|, and each costs one query, or two for a right step."""
    victim = Linear(margin=3.0, w=torch.randn(D, generator=generator(7)) / 20)
    oracle = attack(victim, "simba", n=1, budget=4000, eps=math.inf, iterations=200)
    order = simba.directions(torch.arange(1), SHAPE, simba.Options(iterations=200), streams())
    w = victim.w[order[0]]
    moved = ((oracle.close().submitted[0] - 0.5).flatten(1) @ victim.w).item()
    assert moved == pytest.approx(0.2 * w.abs().sum().item(), rel=1e-4)
    # a left step (-ε) helps where w < 0
    assert int(oracle.ledger.used[0]) == 1 + int((w < 0).sum()) + 2 * int((w > 0).sum())
    assert oracle.ledger.stop_reason == ["exhausted"]


@pytest.mark.parametrize(("anywhere", "reason"), [(False, "exhausted"), (True, "misclassified")])
def test_simba_ends_outside_the_ball_only_where_asked_to(anywhere: bool, reason: str) -> None:
    """The boundary is reached at about 3.7, ε is 0.5: ours walks all directions, the authors' code ends there."""
    oracle = attack(Linear(margin=1.0), "simba", budget=7000, eps=0.5, anywhere=anywhere, iterations=600)
    assert oracle.ledger.stop_reason == [reason] * 2
    assert bool((oracle.ledger.best > 0.5).all())  # no success either way
    assert bool(((oracle.close().submitted[-1] - 0.5).flatten(1).norm(dim=1) > 0.5).all())
    assert bool((oracle.ledger.used < 700).all()) == anywhere


def test_simba_perturbation_has_length_epsilon_root_m() -> None:
    for name in ("simba", "simba-dct"):
        oracle = attack(Linear(margin=1.0), name, n=1, budget=4000, eps=math.inf, iterations=100, epsilon=0.02)
        length = oracle.distance(oracle.close().submitted[0], torch.tensor([0])).item()
        assert length == pytest.approx(0.02 * 100**0.5, rel=1e-3)


def test_dct_directions_are_orthonormal_and_low_frequencies_come_first() -> None:
    rows = dct_rows(32)
    torch.testing.assert_close(rows @ rows.T, torch.eye(32), atol=1e-5, rtol=0)
    options = options_of(simba_dct.SPEC, None, ("order=strided",))
    order = simba.directions(torch.arange(2), SHAPE, options, streams())
    assert torch.equal(order.sort(1).values, torch.arange(D).expand(2, D))
    assert not torch.equal(order[0], order[1])
    u, v = order // 32 % 32, order % 32
    assert bool((torch.maximum(u, v)[:, : 3 * 16] < 4).all())
    assert bool((torch.maximum(u, v)[:, 3 * 16 : 3 * 25] == 4).all())
    coefficient = simba.direction(order[:, 5], 3, rows, rows)
    torch.testing.assert_close(coefficient.flatten(1).norm(dim=1), torch.ones(2))


def test_simba_on_a_constant_model_pays_two_a_direction_and_stays() -> None:
    oracle = attack(Linear(margin=0.5, w=torch.zeros(D)), "simba", n=1, budget=401)
    assert float(oracle.distance(oracle.close().submitted[0], torch.tensor([0]))) == 0
    assert int(oracle.ledger.used[0]) == 401


@pytest.mark.parametrize(
    ("tau", "kept", "cost", "accepted", "curse"),
    [
        (0.0, 1.0, 1.50, 1.0, 0.0),
        (0.05, 0.94, 1.53, 0.87, 0.0),
        (0.2, 0.35, 1.83, 0.30, 0.37),
        (0.5, 0.014, 1.99, 0.014, 1.7),
    ],
)
@pytest.mark.slow
def test_simba_winners_curse(tau: float, kept: float, cost: float, accepted: float, curse: float) -> None:
    """A stored noisy minimum freezes the walk.

    Columns: share of the noiseless decrease, queries a direction, accepted directions, true score above the stored.
    """
    w = torch.randn(D, generator=generator(3))
    w = w / w.abs().mean() * 0.16 / 0.2  # a step changes the score by 0.16 on average
    victim = Linear(margin=0.0, sigma=tau, w=w)
    x0, n, steps = torch.full((2, *SHAPE), 0.5), 2, 2000
    lowest = torch.full((n,), torch.inf)  # what the attack stores: it accepts whatever is lower

    class Raw(Oracle):
        """Hands out the raw score of class 0 instead of a probability, which would saturate."""

        def scores(self, points: Tensor, image: Tensor, phase: object) -> Tensor:
            value = -victim(points)[:, 1]
            self.ledger.used.index_add_(0, image, torch.ones_like(image))
            lowest[image] = torch.minimum(lowest[image], value)
            return torch.stack([value, torch.full_like(value, -1e9)], 1)

    oracle = Raw(victim, x0, torch.zeros(n, dtype=torch.int64), budget=10**6)
    oracle.clean_scores = oracle.scores(x0, torch.arange(n), "check")
    simba.run(oracle, streams(), simba.Options(iterations=steps))
    order = simba.directions(torch.arange(n), SHAPE, simba.Options(iterations=steps), streams())
    best = 0.2 * w[order].abs().sum(1)
    moved = (oracle.ledger.submitted_now - 0.5).flatten(1) @ w
    assert (moved / best).mean().item() == pytest.approx(kept, abs=0.05)
    assert (oracle.ledger.used.float().mean().item() - 1) / steps == pytest.approx(cost, abs=0.04)
    taken = ((oracle.ledger.submitted_now - 0.5).flatten(1).abs() > 0.1).sum(1) / steps
    assert taken.mean().item() == pytest.approx(accepted, abs=0.04)
    spread = min(2.3 * tau, 0.6) + 0.01  # three standard errors of two images
    assert (-moved - lowest).mean().item() == pytest.approx(curse, abs=spread)


# -- Bandit --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sigma", "expected", "length"),
    [
        (0.0, (0.15, 0.53, 0.76, 0.96), 0.05),
        (1e-4, (None, None, None, 0.79), None),
        (1e-3, (0.03, 0.03, 0.03, 0.03), None),
    ],
)
def test_bandit_prior_aligns_with_the_gradient(
    sigma: float, expected: tuple[float | None, ...], length: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Image 3 x 20 x 20, prior 10 x 10, the image frozen: cosine after 10 / 100 / 300 / 1000 iterations.

    Noise of 1e-3 on the loss, a tenth of a probe, keeps it at 0.05 or less (a mean of eight images scatters by 0.02).
    """
    n, w, priors, update = 8, torch.randn(3, 20, 20, generator=generator(5)), [], bandit.update
    w /= w.norm()
    tiled = torch.nn.functional.avg_pool2d(w, 2) * 4
    # Misclassified by 10 logits, so that the cross-entropy is linear; a tiny ball keeps image and attack in place.
    victim = Linear(margin=-10.0, sigma=sigma, w=w.flatten())
    oracle = Oracle(victim, torch.full((n, 3, 20, 20), 0.5), torch.zeros(n, dtype=torch.int64), budget=2001, eps=1e-9)
    oracle.check(scores=True)

    def recording(*args: object) -> Tensor:
        priors.append(update(*args))  # type: ignore[arg-type]
        return priors[-1]

    monkeypatch.setattr(bandit, "update", recording)
    monkeypatch.setattr(bandit, "stop_at_iterate", lambda *_: None)  # it would end at the misclassified image
    bandit.run(oracle, streams(6), bandit.Options(tiles=10))
    assert oracle.ledger.used.tolist() == [2001] * n
    for step, value in zip((10, 100, 300, 1000), expected, strict=True):
        cosine = torch.nn.functional.cosine_similarity(priors[step - 1].flatten(1), tiled.flatten()[None]).mean()
        if value is not None:
            assert cosine.item() == pytest.approx(value, abs=0.06)
    if length is not None:
        assert priors[-1].flatten(1).norm(dim=1).mean().item() == pytest.approx(length, abs=0.01)


def test_bandit_estimate_is_the_gradient_of_the_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """At v = 0, E[G] = 2 Uᵀw / (k d_v), with Uᵀw the sums of w over k x k blocks."""
    n, w = 4000, torch.randn(3, 8, 8, generator=generator(5))
    w /= w.norm()
    estimates: list[Tensor] = []

    def keep(v: Tensor, g: Tensor, lr: float, norm: str) -> Tensor:
        estimates.append(g)
        return v

    oracle = Oracle(Linear(margin=-10.0, w=w.flatten()), torch.full((n, 3, 8, 8), 0.5),
                    torch.zeros(n, dtype=torch.int64), budget=3, eps=1e-9)  # fmt: skip
    oracle.check(scores=True)
    monkeypatch.setattr(bandit, "update", keep)
    bandit.run(oracle, streams(6), bandit.Options(tiles=4))
    expected = 2 * torch.nn.functional.avg_pool2d(w, 2) * 4 / (2 * 48)
    mean = estimates[0].mean(0)
    assert torch.nn.functional.cosine_similarity(mean.flatten(), expected.flatten(), dim=0).item() > 0.98
    assert (mean.norm() / expected.norm()).item() == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize(("name", "eps"), [("bandit-td", 1.0), ("nes", 0.5)])
def test_an_adversarial_iterate_on_the_ball_is_seen(name: str, eps: float) -> None:
    """Probes of an iterate on the surface lie outside the ball, so only the iterate itself can count."""
    oracle = attack(Linear(margin=0.2 * eps), name, eps=eps, budget=6000)
    assert oracle.ledger.stop_reason == ["success"] * 2
    assert within(float(oracle.ledger.best.max()), eps)
    spent = oracle.ledger.phases["iterate"]
    assert int(spent.min()) >= 1
    assert torch.equal(spent + oracle.ledger.phases["probe"] + 1, oracle.ledger.used)


@pytest.mark.parametrize(("norm", "length"), [("l2", 2.0), ("linf", float("inf"))])
def test_iterates_of_a_smaller_ball_stay_in_it(norm: str, length: float) -> None:
    oracle = attack(Linear(margin=3.0), "bandit-td", norm, norm=norm, eps=0.2, budget=100, ball=0.98)
    reached = torch.linalg.vector_norm(oracle.close().submitted[-1] - 0.5, length, dim=(1, 2, 3))
    torch.testing.assert_close(reached, torch.full_like(reached, 0.98 * 0.2), atol=1e-5, rtol=0)


def test_success_of_a_smaller_ball_counts_up_to_eps() -> None:
    """Wrong beyond 0.985: iterates at 0.98 are right, and of their probes those inside 1 count."""

    def victim(z: Tensor) -> Tensor:
        beyond = (z - 0.5).flatten(1).norm(dim=1) - 0.985
        return torch.stack([torch.zeros_like(beyond), beyond], 1)

    oracle = attack(victim, "bandit-td", budget=100, ball=0.98)
    assert oracle.ledger.stop_reason == ["success"] * 2
    assert bool((oracle.ledger.best > 0.985).all())


def test_bandit_exponentiated_gradient_does_not_overflow() -> None:
    v = bandit.update(torch.zeros(1), torch.full((1,), 1e6), 100.0, "linf")
    assert v.item() == pytest.approx(1.0)
    assert bandit.update(torch.tensor([0.3]), torch.tensor([0.0]), 100.0, "linf").item() == pytest.approx(0.3)


# -- Square --------------------------------------------------------------------------------------------------


def test_square_schedule() -> None:
    sides = [max(round((square.share(k, 10_000, square.Options()) * 1024) ** 0.5), 1)
             for k in (0, 11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001)]  # fmt: skip
    assert sides == [29, 20, 14, 10, 7, 5, 4, 3, 2, 1]


def test_square_points_lie_on_the_sphere_or_at_the_faces() -> None:
    x0, everyone = torch.full((3, *SHAPE), 0.5), torch.arange(3)
    l2 = square.mosaic(x0, 1.0, streams(), everyone)
    torch.testing.assert_close((l2 - x0).flatten(1).norm(dim=1), torch.ones(3), atol=1e-5, rtol=0)
    for p in (0.8, 0.1, 0.001):
        l2 = square.l2_step(x0, l2, 1.0, p, streams(), everyone)
        torch.testing.assert_close((l2 - x0).flatten(1).norm(dim=1), torch.ones(3), atol=1e-5, rtol=0)
    linf = square.linf_step(x0, square.stripes(x0, 0.03, streams(), everyone), 0.03, 0.1, streams(), everyone)
    torch.testing.assert_close((linf - x0).abs(), torch.full_like(x0, 0.03))


def test_square_margin_never_falls_and_reaches_its_share_of_the_optimum() -> None:
    """L∞, i.i.d. w: .08 / .14 / .19 of ε‖w‖₁ after 100 / 500 / 1000 queries."""
    victim = Linear(margin=30.0)
    oracle = attack(victim, "square", n=4, budget=1001, norm="linf", eps=0.03, budgets=[101, 501, 1001])
    best = 0.03 * victim.w.abs().sum().item()
    shares = [((submitted - 0.5).flatten(1) @ victim.w / best).mean().item() for submitted in oracle.close().submitted]
    assert shares == sorted(shares)
    assert shares == pytest.approx([0.08, 0.14, 0.19], abs=0.03)


@pytest.mark.slow
def test_square_rescaled_schedule_reaches_its_share_of_the_optimum() -> None:
    """With the schedule stretched to 5,000 queries: .08 / .17 / .25 / .60 of ε‖w‖₁ after 100 / 500 / 1000 / 5000."""
    victim = Linear(margin=30.0)
    oracle = attack(victim, "square", n=4, budget=5001, norm="linf", eps=0.03, budgets=[101, 501, 1001, 5001],
                    rescale=1)  # fmt: skip
    best = 0.03 * victim.w.abs().sum().item()
    shares = [((submitted - 0.5).flatten(1) @ victim.w / best).mean().item() for submitted in oracle.close().submitted]
    assert shares == pytest.approx([0.08, 0.17, 0.25, 0.60], abs=0.03)


# -- NES and shared ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pairs", "sigma", "expected"), [(15, 0.0, 0.070), (50, 0.0, 0.126), (50, 0.02, 0.0735)])
def test_nes_cosine(pairs: int, sigma: float, expected: float) -> None:
    """E cos(G, w) ≈ √(qκ / (qκ + D)); the first step goes along G. Noise: κ = 1 / (1 + σ² / (2 c²))."""
    victim = Linear(margin=3.0, sigma=sigma)
    oracle = attack(victim, "nes", "margin", n=24, budget=1 + 2 * pairs, pairs=pairs)
    step = (oracle.close().submitted[0] - 0.5).flatten(1)
    cosine = (step @ victim.w / step.norm(dim=1)).mean().item()
    assert cosine == pytest.approx(expected, abs=0.012)


def test_projection() -> None:
    x0 = torch.full((1, *SHAPE), 0.5)
    far = x0 + torch.randn(1, *SHAPE, generator=generator())
    assert (scores.project(far, x0, 1.0, "l2") - x0).norm().item() == pytest.approx(1.0, abs=1e-4)
    assert (scores.project(far, x0, 0.1, "linf") - x0).abs().max().item() == pytest.approx(0.1)
    near = x0 + 0.001
    torch.testing.assert_close(scores.project(near, x0, 1.0, "l2"), near)


def test_success_ends_an_attack_with_the_point_that_was_answered_wrong() -> None:
    victim = Linear(margin=0.05)
    oracle = attack(victim, "nes", budget=400)
    assert oracle.ledger.stop_reason == ["success"] * 2
    assert bool((victim(oracle.close().submitted[0]).argmax(1) == 1).all())
    assert bool((oracle.ledger.best <= 1.0).all())
