"""Transfer on linear victims and references, whose best point is known, and on the shipped network."""

from __future__ import annotations

import pytest
import torch
from conftest import SHAPE, D, generator, oracle_on, streams
from torch import Tensor, nn

from sndcli.attacks.common.scores import project
from sndcli.attacks.decision import transfer
from sndcli.attacks.decision.transfer import Options, ascend
from sndcli.ball import length
from sndcli.datasets import cifar10
from sndcli.models.classifier import Classifier, Normalisation
from sndcli.models.reference import Reference
from sndcli.models.sources import load_model
from sndcli.queries.oracle import Oracle

PLAIN = Normalisation((0.0,) * 3, (1.0,) * 3)


class Plane(nn.Module):
    """Label 1 where ``w · (z - ½) > m``."""

    def __init__(self, w: Tensor, m: float) -> None:
        super().__init__()
        self.w, self.m = nn.Parameter(w), m

    def forward(self, z: Tensor) -> Tensor:
        value = (z - 0.5).flatten(1) @ self.w - self.m
        return torch.stack([-value, value], 1)


def direction(seed: int) -> Tensor:
    w = torch.randn(D, generator=generator(seed))
    unit: Tensor = w / w.norm()
    return unit


def reference(w: Tensor, m: float = 0.5) -> Reference:
    return Reference(Classifier(Plane(w, m), PLAIN, SHAPE, "plane"), torch.device("cpu"))


def attack(victim: nn.Module, references: list[Reference], eps: float, norm: str = "l2", confirm: int = 1) -> Oracle:
    oracle = oracle_on(victim, 2, 50, norm=norm, eps=eps)
    oracle.check()
    transfer.run(oracle, streams(), Options(confirm=confirm), references)
    return oracle


@pytest.mark.parametrize(("norm", "reach"), [("l2", 1.0), ("linf", None)])
def test_a_reference_equal_to_the_victim_reaches_the_surface(norm: str, reach: float | None) -> None:
    """On a plane the best point of the ball is ε w, or ε sign(w), and the ascent ends there."""
    w = direction(0)
    eps = 0.55 if norm == "l2" else 0.55 / float(w.abs().sum())
    oracle = attack(Plane(w, 0.5).requires_grad_(False), [reference(w)], eps, norm)
    best = eps * (w if norm == "l2" else w.sign())
    assert torch.allclose((oracle.ledger.submitted_now - 0.5).flatten(1), best.expand(2, -1), atol=1e-5)
    assert oracle.ledger.used.tolist() == [2, 2]
    assert bool((oracle.ledger.best < eps * 1.001).all())
    assert oracle.ledger.stop_reason == ["exhausted"] * 2
    short = attack(Plane(w, 0.5).requires_grad_(False), [reference(w)], 0.9 * 0.5 / 0.55 * eps, norm)
    assert bool(short.ledger.best.isinf().all())  # the boundary lies outside of the ball


def test_a_reference_that_knows_nothing_of_the_victim_is_of_no_use() -> None:
    w, other = direction(0), direction(1)
    other = other - (other @ w) * w
    oracle = attack(Plane(w, 0.05).requires_grad_(False), [reference(other / other.norm())], 1.0)
    assert bool(oracle.ledger.best.isinf().all())
    assert oracle.ledger.used.tolist() == [2, 2]


def test_votes_are_paid_and_no_reference_is_no_attack() -> None:
    w = direction(0)
    oracle = attack(Plane(w, 0.5).requires_grad_(False), [reference(w)], 1.0, confirm=3)
    assert oracle.ledger.phases["confirm"].tolist() == [2, 2]  # two of three agree
    oracle = attack(Plane(w, 0.5).requires_grad_(False), [], 1.0)
    assert oracle.ledger.stop_reason == ["init_failed"] * 2
    assert oracle.ledger.used.tolist() == [1, 1]


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_it_is_its_plain_form(norm: str) -> None:
    """MI-FGSM of one image at a time, on one network."""
    data, eps, o = cifar10.load_shipped(), 1.0 if norm == "l2" else 8 / 255, Options(steps=5)
    x0, y = data.pixels(torch.arange(3)), data.labels[:3]
    model = load_model("ref-vgg")
    together = ascend(x0, y, [Reference(load_model("ref-vgg"), torch.device("cpu"))], o, eps, norm)
    for i in range(3):
        x, g = x0[i : i + 1], torch.zeros_like(x0[:1])
        for _ in range(5):
            z = x.clone().requires_grad_(True)
            loss = -model(z).log_softmax(1)[0, y[i]]
            (slope,) = torch.autograd.grad(loss, z)
            g = g + slope / slope.abs().sum()
            step = g.sign() if norm == "linf" else g / g.norm()
            x = x + 0.5 * eps * step
            if norm == "linf":
                x = torch.minimum(torch.maximum(x, x0[i : i + 1] - eps), x0[i : i + 1] + eps).clamp(0, 1)
            else:
                x = project(x, x0[i : i + 1], eps, norm)
        assert float((x - together[i : i + 1]).abs().max()) < (2e-3 if norm == "l2" else 2 * eps + 1e-6)
        assert float(((x - together[i : i + 1]).abs() > 2e-3).double().mean()) < 0.02
        assert float(length(together[i : i + 1] - x0[i : i + 1], norm)) <= eps * (1 + 1e-5)
