"""Every score attack against a slow one-image form of our own: three images together, or each by itself.

At σ = 0 both send the same points in the same order and submit the same; under noise they get equally far.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from conftest import generator
from reference import bandit, nattack, nes, nes_na, simba, square, subspace
from reference.score_common import Ask, Draw, margin
from torch import Tensor

from sndcli.attacks.registry import spec_of
from sndcli.attacks.spec import options_of
from sndcli.queries.oracle import Oracle
from sndcli.streams import ImageStreams, current_rows, drawing

SEED, CLASSES = 5, 10
SHAPE = (3, 20, 20)
Victim = Callable[[Tensor], Tensor]


class Curved:
    """Logits ``a (m_k + b n_k²)`` with linear m and n; with `sigma`, of the image with noise.

    Where it is told whose images it sees, the k-th query of an image meets the same noise whoever asks it.
    """

    def __init__(self, shape: tuple[int, ...] = SHAPE, sigma: float = 0.0, gain: float = 5.0) -> None:
        d = shape[0] * shape[1] * shape[2]
        self.w = torch.randn(2, CLASSES, d, generator=generator(1), dtype=torch.float64)
        self.w /= self.w.norm(dim=2, keepdim=True)
        self.sigma, self.gain, self.generator = sigma, gain, generator(2)

    def __call__(self, z: Tensor) -> Tensor:
        d = z.flatten(1) - 0.5
        if self.sigma:
            rows = current_rows()
            if rows is None:
                noise = torch.randn(d.shape, generator=self.generator, dtype=d.dtype)
            else:
                noise = rows.streams.normal(rows.image, d)
            d = d + self.sigma * noise
        return self.gain * (d @ self.w[0].T + 0.5 * (d @ self.w[1].T).square())

    def referred(self, z: Tensor) -> Tensor:
        """Logits of a reference model: curved, so that its gradients turn, and wrong about the classes."""
        d, w = z.flatten(1) - 0.5, self.w[0].roll(1, 0)
        return d @ w.T + 2 * (d @ self.w[1].T).square()

    def vjp(self, x: Tensor, s: Tensor, *_: object) -> Tensor:
        """``Jᵀ s`` of `referred`."""
        z = x.clone().requires_grad_()
        return torch.autograd.grad(self.referred(z), z, s)[0]

    def gradient(self, x: Tensor, wrong: int, y: int) -> Tensor:
        z = x[None].clone().requires_grad_()
        logits = self.referred(z)[0]
        return torch.autograd.grad(logits[wrong] - logits[y], z)[0][0]


class Turning(Curved):
    """Three classes, of which 0 is right; the others take turns at being the best wrong one on the way to them."""

    def __call__(self, z: Tensor) -> Tensor:
        t = (z.flatten(1) - 0.5) @ self.w[0, 0]
        wave = (15 * t).sin() / 15
        return self.gain * torch.stack([torch.full_like(t, 1.5), t + wave, t - wave], 1)

    def referred(self, z: Tensor) -> Tensor:
        """Curved, because along a straight gradient both probes soon are one point, and rounding decides."""
        d, (common, *own) = z.flatten(1) - 0.5, self.w[0, :3]
        waves = [(3 * (d @ direction)).sin() for direction in own]  # of every wrong class it says something else
        return torch.stack([torch.zeros_like(waves[0]), *(d @ common + wave for wave in waves)], 1)


class Recording(Oracle):
    """Keeps what each image's queries were."""

    def _ask(self, sent: Tensor, image: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        if not hasattr(self, "sent"):
            self.sent: list[list[Tensor]] = [[] for _ in self.x0]
        for point, k in zip(sent, image.tolist(), strict=True):
            self.sent[k].append(point)
        return super()._ask(sent, image, *rest)


@dataclass(frozen=True)
class Case:
    """An attack, a norm and a preset beside its reference; `settings` go to both."""

    name: str
    norm: str
    preset: str
    reference: Callable[..., Tensor]
    given: dict[str, Any] = field(default_factory=dict)
    settings: tuple[str, ...] = ()
    budget: int = 300
    models: bool = False
    shape: tuple[int, int, int] = SHAPE

    def __str__(self) -> str:
        shape = ["x".join(map(str, self.shape))] if self.shape != SHAPE else []
        model = ["model"] if self.models else []
        return "-".join([self.name, self.norm, self.preset, *self.settings[:1], *model, *shape])

    @property
    def eps(self) -> float:
        return 1.0 if self.norm == "l2" else 0.03

    def together(self, victim: Curved, x0: Tensor, y: Tensor, ids: list[int], budget: int) -> Recording:
        noise = ImageStreams(SEED, ids, "defense")
        oracle = Recording(victim, x0, y, budget=budget, norm=self.norm, eps=self.eps, streams=noise)
        oracle.check(scores=True)
        options = options_of(spec_of(self.name), self.preset, self.settings, self.norm)
        references = ([victim] if self.models else [],) if spec_of(self.name).references else ()
        spec_of(self.name).run(oracle, ImageStreams(SEED, ids, "attack"), options, *references)
        oracle.close()
        return oracle

    def alone(
        self, victim: Curved, x0: Tensor, y: int, image_id: int, budget: int, noise_seed: int = SEED
    ) -> tuple[Ask, Tensor]:
        noise, given = ImageStreams(noise_seed, [image_id], "defense"), dict(self.given)

        def drawn(z: Tensor) -> Tensor:
            with drawing(noise, torch.tensor([0])):
                return victim(z)

        ask = Ask(drawn, budget)
        if self.models:
            given["gradient"] = victim.gradient
        norm = () if self.reference is simba.attack else (self.norm,)
        return ask, self.reference(x0, y, Draw(SEED, image_id), ask, self.eps, *norm, **given)


TD = {"fd_eta": 0.01, "exploration": 0.01, "online_lr": 0.1, "image_lr": 0.5}
TD_LINF = {"fd_eta": 0.1, "exploration": 1.0, "online_lr": 100.0, "image_lr": 0.01}
NES = {"pairs": 25, "probe": 0.001, "momentum": 0.9, "loss": "cross-entropy", "plateau": 5}
NES_MARGIN = {"pairs": 15, "probe": 0.01, "momentum": 0.0, "loss": "margin"}
AUTOATTACK, PAPER = {"p_init": 0.8, "rescale": False}, {"p_init": 0.1, "rescale": True}
STRIDED = ("order=strided", "freq_dims=4", "stride=2")
AUTHORS = {"population": 60, "lr": 0.02}
SLOW = {"population": 50, "lr": 0.008, "loss": "py"}
SPREAD = {"score": "spread", "sigma_hat": "0.03"}
WIDE, GREY = (3, 12, 20), (1, 14, 14)

AVERAGED = {"requery": True, "confirm": 25}
AWARE = [
    Case("simba", "l2", "na", simba.attack, {**AVERAGED, "draws": 4}),
    Case("simba-dct", "l2", "dct-na", simba.attack, {**AVERAGED, "draws": 4, "basis": "dct", "first": 2, "stride": 1}),
    Case("square", "l2", "na", square.attack, {**PAPER, **AVERAGED, "draws": 2}),
    Case("square", "linf", "na", square.attack, {**PAPER, **AVERAGED, "draws": 2}),
    Case("nattack", "linf", "na", nattack.attack, {**AUTHORS, "confirm": 25}, ("population=60",)),
    Case("nattack", "l2", "na", nattack.attack, {**AUTHORS, "confirm": 25}, ("population=60",)),
    Case("nes-na", "l2", "near", nes_na.attack, budget=500),
    Case("nes-na", "linf", "near", nes_na.attack, budget=500),
    Case("nes-na", "l2", "near", nes_na.attack, {"share": 0.6}, ("share=0.6",), budget=500),
    Case("nes-na", "l2", "first", nes_na.attack, {"shrink": False}),
    Case("nes-na", "l2", "near", nes_na.attack, SPREAD, ("score=spread", "sigma_hat=0.03")),
    Case("nes-na", "linf", "near", nes_na.attack, {"score": "logit", "late": 3}, ("score=logit", "late=3")),
]
CASES = [
    Case("simba", "l2", "pixel", simba.attack),
    Case("simba", "l2", "fitted", simba.attack, {"step": 0.05}),
    Case("simba-dct", "l2", "dct", simba.attack, {"basis": "dct"}),
    Case("simba-dct", "l2", "dct", simba.attack, {"basis": "dct", "first": 4, "stride": 2}, STRIDED),
    Case("bandit-td", "l2", "l2", bandit.attack, {**TD, "tiles": 8}, ("tiles=8",)),
    Case("bandit-td", "linf", "linf", bandit.attack, {**TD_LINF, "tiles": 20}),
    Case("nes", "linf", "authors", nes.attack, {**NES, "lr": 0.01}, budget=600),
    Case("nes", "l2", "authors", nes.attack, {**NES, "lr": 0.1}, budget=600),
    Case("nes", "linf", "margin", nes.attack, {**NES_MARGIN, "lr": 0.01}),
    Case("nes", "l2", "margin", nes.attack, {**NES_MARGIN, "lr": 0.1}),
    Case("square", "l2", "autoattack", square.attack, AUTOATTACK, budget=200),
    Case("square", "linf", "autoattack", square.attack, AUTOATTACK, budget=200),
    Case("square", "l2", "paper", square.attack, PAPER, budget=200),
    Case("square", "linf", "paper", square.attack, PAPER, budget=200),
    Case("nattack", "linf", "authors", nattack.attack, AUTHORS, ("population=60",)),
    Case("nattack", "l2", "slow", nattack.attack, SLOW, ("population=50", "loss=py")),
    *AWARE,
    Case("subspace", "linf", "linf", subspace.attack, {"image_lr": 1 / 255}),
    Case("subspace", "l2", "l2", subspace.attack, {"image_lr": 0.1}),
    Case("subspace", "linf", "linf", subspace.attack, {"image_lr": 1e-4}, ("image_lr=0.0001",), models=True),
    Case("subspace", "l2", "l2", subspace.attack, {"image_lr": 0.003}, ("image_lr=0.003",), models=True),
]
OTHER_SHAPES = [
    Case("simba", "l2", "pixel", simba.attack, shape=WIDE),
    Case("simba-dct", "l2", "dct", simba.attack, {"basis": "dct"}, shape=WIDE),
    Case("simba-dct", "l2", "dct", simba.attack, {"basis": "dct", "first": 4, "stride": 2}, STRIDED, shape=WIDE),
    Case("simba-dct", "l2", "dct", simba.attack, {"basis": "dct"}, shape=GREY),
    Case("bandit-td", "l2", "l2", bandit.attack, {**TD, "tiles": 12}, shape=WIDE),
    Case("bandit-td", "linf", "linf", bandit.attack, {**TD_LINF, "tiles": 14}, shape=GREY),
    *(Case("square", norm, "autoattack", square.attack, AUTOATTACK, budget=100, shape=shape)
      for norm in ("l2", "linf") for shape in (WIDE, GREY)),
]  # fmt: skip


def images(victim: Curved, n: int, shape: tuple[int, ...] = SHAPE) -> tuple[Tensor, Tensor]:
    """Images, a fifth of whose pixels lie at the ends of [0, 1], and the classes that the victim sees in them."""
    x0 = torch.randn(n, *shape, generator=generator(3), dtype=torch.float64).mul(0.4).add(0.5).clamp(0, 1)
    return x0, victim(x0).argmax(1)


def compare(case: Case, victim: Curved, quiet: Curved | None = None) -> None:
    x0, y = images(quiet or victim, 3, case.shape)
    oracle = case.together(victim, x0, y, [7, 0, 41], case.budget)
    for image, image_id in enumerate([7, 0, 41]):
        ask, handed = case.alone(victim, x0[image], int(y[image]), image_id, case.budget)
        sent = oracle.sent[image]
        for k, (one, other) in enumerate(zip(sent, ask.sent, strict=False)):
            assert (one - other).abs().max().item() < 1e-4, f"image {image}, query {k}"
        assert len(sent) == len(ask.sent)
        assert (oracle.ledger.submitted[-1][image] - handed).abs().max().item() < 1e-4


@pytest.mark.parametrize("case", [*CASES, *OTHER_SHAPES], ids=str)
def test_queries_and_points_are_those_of_the_reference(case: Case) -> None:
    compare(case, Curved(case.shape))


@pytest.mark.parametrize("case", AWARE, ids=str)
def test_those_that_know_of_noise_do_so_under_noise(case: Case) -> None:
    """Where an incumbent's mean moves, and where success is not confirmed."""
    for sigma in (0.03, 0.1):
        compare(case, Curved(sigma=sigma), Curved())


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_subspace_follows_the_best_wrong_class_where_it_changes(norm: str) -> None:
    lr = 0.01 if norm == "l2" else 3e-4
    case = Case("subspace", norm, norm, subspace.attack, {"image_lr": lr}, (f"image_lr={lr}",), models=True)
    victim = Turning()
    compare(case, victim)
    x0, y = images(victim, 3)
    for image, image_id in enumerate([7, 0, 41]):
        ask, _ = case.alone(victim, x0[image], int(y[image]), image_id, case.budget)
        iterates = torch.stack([ask.sent[0], *ask.sent[3::3]])
        best_wrong = victim(iterates)[:, 1:].argmax(1)
        assert best_wrong.diff().count_nonzero() >= 2


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_under_noise_both_get_equally_far(case: Case) -> None:
    """Median over 20 seeds of the margin at the point submitted, in standard errors of their difference."""
    quiet, n = Curved(), 20
    x0, y = (values.expand(n, *values.shape[1:]) for values in images(quiet, 1))
    oracle = case.together(Curved(sigma=0.01), x0, y, list(range(n)), case.budget)
    victim = Curved(sigma=0.01)
    alone = torch.stack([case.alone(victim, x0[k], int(y[k]), k, case.budget, SEED + 1)[1] for k in range(n)])
    found = {
        who: torch.tensor([margin(quiet(point[None]).softmax(1)[0], int(y[0])) for point in handed])
        for who, handed in (("together", oracle.ledger.submitted[-1]), ("alone", alone))
    }
    difference = abs(float(found["together"].median() - found["alone"].median()))
    error = 1.25 * float(torch.stack(list(found.values())).std(1).square().sum().div(n).sqrt())
    assert difference <= 3 * error + 1e-6
