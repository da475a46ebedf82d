"""What the presets of the score attacks are: as published, or ours and named so. And images of every shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import Done, generator
from torch import Tensor

from sndcli.attacks.registry import ATTACKS, spec_of
from sndcli.attacks.score import nes, simba, simba_dct
from sndcli.attacks.spec import options_of
from sndcli.errors import ConfigError
from sndcli.queries.oracle import Oracle
from sndcli.streams import ImageStreams

EVERY = [(name, norm) for name, spec in sorted(ATTACKS.items()) for norm in spec.norms if name != "transfer"]


class HalfSpace:
    """Two classes; the boundary is `distance` away from the grey image."""

    def __init__(self, shape: tuple[int, ...], distance: float) -> None:
        w = torch.randn(shape, generator=generator(1)).flatten()
        self.w, self.distance = w / w.norm(), distance

    def __call__(self, z: Tensor) -> Tensor:
        value = (z - 0.5).flatten(1) @ self.w - self.distance
        return torch.stack([-value, value], 1)


def attacked(
    name: str, norm: str, shape: tuple[int, ...], budget: int, eps: float, distance: float = 0.5, **settings: Any
) -> Oracle:
    x0, y = torch.full((2, *shape), 0.5), torch.zeros(2, dtype=torch.int64)
    oracle = Oracle(HalfSpace(shape, distance), x0, y, budget=budget, norm=norm, eps=eps)
    oracle.check(scores=ATTACKS[name].access == "scores")
    options = options_of(spec_of(name), None, tuple(f"{k}={v}" for k, v in settings.items()), norm)
    spec_of(name).run(oracle, ImageStreams(0, [3, 4], "attack"), options)
    return oracle


@pytest.mark.parametrize("shape", [(3, 24, 40), (1, 28, 28), (1, 40, 24)], ids=str)
@pytest.mark.parametrize(("name", "norm"), EVERY)
def test_every_attack_takes_images_of_any_shape(name: str, norm: str, shape: tuple[int, ...]) -> None:
    oracle = attacked(name, norm, shape, 120, 1.0 if norm == "l2" else 0.05, distance=5.0)
    ledger = oracle.close()
    assert int(ledger.used.max()) <= 120
    assert int(ledger.used.min()) >= 2
    assert ledger.submitted[-1].shape == oracle.x0.shape
    assert "non_finite" not in ledger.stop_reason


@pytest.mark.parametrize(("name", "norm", "preset"), [
    ("square", "l2", "paper"), ("square", "linf", "autoattack"), ("nes", "l2", "authors"), ("nes", "linf", "authors"),
    ("simba", "l2", "pixel"), ("simba-dct", "l2", "dct"), ("bandit-td", "linf", "linf"), ("subspace", "l2", "l2"),
])  # fmt: skip
def test_default_presets(name: str, norm: str, preset: str) -> None:
    assert options_of(spec_of(name), None, (), norm) == options_of(spec_of(name), preset)
    assert spec_of(name).default_preset(norm) == preset


def test_the_list_of_attacks_says_what_a_norm_defaults_to(snd: Callable[..., Done]) -> None:
    assert "presets: paper, autoattack (default of linf), na" in snd("ls", "attacks").stdout


# -- NES as published ----------------------------------------------------------------------------------------


def test_nes_has_the_authors_constants() -> None:
    o = options_of(nes.SPEC, None, (), "linf")
    assert (2 * o.pairs, o.probe, o.momentum, o.loss, o.plateau) == (50, 0.001, 0.9, "cross-entropy", 5)
    oracle = attacked("nes", "linf", (3, 8, 8), 51, 0.05, distance=2.0)
    moved = (oracle.close().submitted[0] - 0.5).abs()
    assert float((moved - 0.01).abs().max()) < 1e-6  # one step, of 0.01 a pixel


def test_nes_probes_at_the_published_scale() -> None:
    sent: list[Tensor] = []
    oracle = attacked("nes", "l2", (3, 16, 16), 2, 1.0)
    victim = oracle._defended
    oracle = Oracle(lambda z: sent.append(z) or victim(z), oracle.x0, oracle.y, budget=51, eps=1.0)  # type: ignore[func-returns-value]
    oracle.check(scores=True)
    nes.run(oracle, ImageStreams(0, [3, 4], "attack"), nes.SPEC.presets["authors"].options)
    probes = sent[1].view(2, 25, 2, -1) - 0.5
    assert float((probes[:, :, 0] + probes[:, :, 1]).abs().max()) < 1e-6
    assert probes.std().item() == pytest.approx(0.001, rel=0.02)


def test_nes_steps_along_a_running_mean_of_estimates() -> None:
    """The twentieth step has ten times the information of one estimate of 25 pairs."""

    def cosine(momentum: float) -> float:
        x0, y = torch.full((4, 3, 16, 16), 0.5), torch.zeros(4, dtype=torch.int64)
        victim = HalfSpace((3, 16, 16), 3.0)
        oracle = Oracle(victim, x0, y, budget=1001, budgets=[951, 1001], eps=1e3)
        oracle.check(scores=True)
        options = options_of(nes.SPEC, None, (f"momentum={momentum}", "lr=0.001"), "l2")
        nes.run(oracle, ImageStreams(0, [0, 1, 2, 3], "attack"), options)
        before, after = oracle.close().submitted
        step = (after - before).flatten(1)
        return float((step @ victim.w / step.norm(dim=1)).mean())

    assert cosine(0.0) == pytest.approx((25 / (25 + 768)) ** 0.5, abs=0.05)
    assert cosine(0.9) > 2 * cosine(0.0)


def test_nes_halves_its_step_where_the_loss_falls() -> None:
    steps = nes._Steps(torch.zeros(2, 1), 0.01, 3)
    both, found = torch.tensor([0, 1]), []
    for k in range(7):
        found.append(steps.after(both, torch.tensor([-float(k), float(k)])))
    assert torch.stack(found)[:, 0].tolist() == pytest.approx([0.01, 0.01, 0.005, 0.005, 0.005, 0.0025, 0.0025])
    assert torch.stack(found)[:, 1].tolist() == pytest.approx([0.01] * 7)
    for k in range(60):
        last = steps.after(both[:1], torch.tensor([-float(k)]))
    assert last.item() == pytest.approx(0.01 / 200)


def test_nes_margin_is_the_stronger_form_of_before() -> None:
    o = nes.SPEC.presets["margin"].options
    assert (o.pairs, o.probe, o.momentum, o.loss, o.plateau) == (15, 0.01, 0.0, "margin", 0)
    with pytest.raises(ConfigError, match="margin"):
        options_of(nes.SPEC, None, ("loss=margins",))


# -- SimBA ---------------------------------------------------------------------------------------------------


def orders(size: tuple[int, int, int], preset: str) -> Tensor:
    streams = ImageStreams(0, [0, 1], "attack")
    return simba.directions(torch.tensor([0, 1]), size, simba_dct.SPEC.presets[preset].options, streams)


def test_simba_dct_tries_all_frequencies_of_small_images_in_random_order() -> None:
    small, large = orders((3, 32, 32), "dct"), orders((3, 224, 224), "dct")
    assert torch.equal(small.sort(1).values, torch.arange(3072).expand(2, 3072))
    shell = torch.maximum(small // 32 % 32, small % 32)
    assert shell[:, :48].double().mean() > 15
    shell = torch.maximum(large // 224 % 224, large % 224)
    assert int(shell[:, : 3 * 28**2].max()) == 27
    assert int(shell[:, 3 * 28**2 : 3 * 35**2].min()) == 28


@pytest.mark.parametrize("name", ["simba", "simba-dct"])
@pytest.mark.parametrize("eps", [1.0, 4.0])
def test_fitted_steps_are_a_twentieth_of_epsilon(name: str, eps: float) -> None:
    preset = {"simba": "fitted", "simba-dct": "dct-fitted"}[name]
    x0, y = torch.full((1, 3, 16, 16), 0.5), torch.zeros(1, dtype=torch.int64)
    oracle = Oracle(HalfSpace((3, 16, 16), 3.0), x0, y, budget=1000, eps=eps)
    oracle.check(scores=True)
    options = options_of(spec_of(name), preset, ("iterations=16",))
    spec_of(name).run(oracle, ImageStreams(0, [0], "attack"), options)
    assert oracle.distance(oracle.close().submitted[0], torch.tensor([0])).item() == pytest.approx(
        0.05 * eps * 4, rel=1e-3
    )


def test_fitted_steps_need_an_epsilon() -> None:
    with pytest.raises(ConfigError, match="finite --eps"):
        attacked("simba", "l2", (3, 8, 8), 20, float("inf"), relative=1)
