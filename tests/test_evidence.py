"""Closed forms of `snd evidence` against simulation."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from conftest import SHAPE, D, Done, generator, half_space
from torch import Tensor

from sndcli.datasets.base import ImageSet
from sndcli.datasets.load import choose, load
from sndcli.defenses.parse import parse
from sndcli.errors import ConfigError
from sndcli.models.classifier import IDENTITY, Classifier
from sndcli.models.sources import load_model
from sndcli.paper import closed_forms, evidence
from sndcli.runs.victim import Victim

Snd = Callable[..., Done]


@pytest.mark.parametrize(("probe", "sigma"), [(0.01, 0.0), (0.01, 0.01), (0.005, 0.02)])
def test_cosine_of_decision_probes(probe: float, sigma: float) -> None:
    h = half_space(1, sigma=sigma)
    b = 0.5 + 0.1 * h.w.view(1, *SHAPE).expand(3, *SHAPE)
    x0, y = torch.full((3, *SHAPE), 0.5), torch.zeros(3, dtype=torch.int64)
    estimate = evidence.decision_gradient(h, b, x0, y, probe, 1500, generator())
    found = evidence.cosines(estimate, h.w.view(1, *SHAPE).expand(3, *SHAPE))
    assert sum(found) / 3 == pytest.approx(closed_forms.decision_cosine(1500, D, probe, sigma), abs=0.045)


def test_noise_costs_the_square_of_the_ratio() -> None:
    """1/κ² = 1 + (σ/a)² times the queries give the same cosine."""
    few = closed_forms.decision_cosine(100, D, 0.01, 0.0)
    assert closed_forms.decision_cosine(1000, D, 0.01, 0.03) == pytest.approx(few)


@pytest.mark.parametrize(("probe", "sigma"), [(0.01, 0.0), (0.01, 0.01), (0.003, 0.01)])
def test_cosine_of_score_pairs(probe: float, sigma: float) -> None:
    """A linear margin with input noise: its value varies by σ‖g‖ = σ."""
    h = half_space(1)
    g = generator(2)

    def linear(z: Tensor) -> Tensor:
        value = (z - 0.5).flatten(1) @ h.w + sigma * torch.randn(len(z), generator=g)
        return torch.stack([-value / 2, value / 2], 1)

    x, y = torch.full((3, *SHAPE), 0.5), torch.zeros(3, dtype=torch.int64)
    found = evidence.cosines(
        evidence.score_gradient(linear, x, y, probe, 600, generator()), h.w.view(1, *SHAPE).expand(3, *SHAPE)
    )
    assert sum(found) / 3 == pytest.approx(closed_forms.score_cosine(600, D, probe, sigma), abs=0.045)


def test_expectation_errors_agree_with_their_closed_forms() -> None:
    facts = evidence.expectation_errors(0.05, (12, 3072), generator(), 100_000)
    assert [fact.what for fact in facts] == [
        "quadratic d=12",
        "quadratic d=3072",
        "relu μ=0σ",
        "relu μ=1σ",
        "relu μ=2σ",
    ]
    for fact in facts:
        assert fact.theory is not None
        assert fact.std is not None
        assert abs(fact.value - fact.theory) < 5 * fact.std / math.sqrt(fact.n)
    assert facts[1].theory == pytest.approx(3072 * 0.05**2)
    assert facts[2].theory == pytest.approx(0.05 / math.sqrt(2 * math.pi))


def test_relu_expectation_has_its_limits() -> None:
    assert closed_forms.relu_expectation(1.0, 0.0) == 1.0
    assert closed_forms.relu_expectation(-1.0, 0.0) == 0.0
    assert closed_forms.relu_expectation(100.0, 1.0) == pytest.approx(100.0)
    assert closed_forms.relu_expectation(-100.0, 1.0) == pytest.approx(0.0, abs=1e-12)


def test_ratios_are_those_of_the_radii() -> None:
    """σ√d/δ at distance 1: 1703 for HSJA's D/d, 55 for ART's 0.01 D, 3.0 for PopSkipJump at σ = 0.01."""
    found = {fact.what: fact.value for fact in evidence.ratios(0.01, D, 1.0)}
    assert found["hsja authors"] == pytest.approx(1703, rel=1e-3)
    assert found["hsja art"] == pytest.approx(55.4, rel=1e-2)
    assert found["popskipjump authors"] == pytest.approx(3.0)
    assert found["hsja-na majority"] <= 1.0 + 1e-6
    assert found["hsja-na sequential"] == pytest.approx(1 / (0.4 * 2.28**0.5))  # where the colours agree as expected
    assert found["geoda na"] <= 1.0


def test_shares_of_a_gradient() -> None:
    white = torch.randn(4, *SHAPE, generator=generator())
    grey = white[:, :1].expand(-1, 3, -1, -1).clone()
    inside = torch.zeros_like(white)
    inside[:, 0, 8:24, 8:24] = 1.0
    found = [{k: (sum(v) / 4, w) for k, (v, w) in evidence.gradient_shares(g).items()} for g in (white, grey, inside)]
    for name, share in (("grey", 1 / 3), ("middle", 1 / 4)):
        assert found[0][name][0] == pytest.approx(share, abs=0.02)
        assert found[0][name][1] == share
    assert found[1]["grey"][0] == pytest.approx(1.0)
    assert found[2]["middle"][0] == pytest.approx(1.0)
    assert found[2]["grey"][0] == pytest.approx(1 / 3)
    assert set(evidence.gradient_shares(white[:, :1])) == {"middle"}


def test_evidence_command(snd: Snd, tmp_path: Path) -> None:
    table, picture = tmp_path / "e.parquet", tmp_path / "e.svg"
    done = snd("evidence", "--sigmas", "0.02", "--probes", "1e-5,0.03", "--images", 3, "--queries", 200, "--draws", 20,
               "--noise-images", 12, "--out", table, "--plot", picture, "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)["facts"]
    found = {(f["quantity"], f["what"], f["probe"]): f["value"] for f in facts}
    numbers = {(f["quantity"], f["what"]): f["n"] for f in facts}
    assert numbers["sigma_hat", "clean"] == numbers["p_mis", "clean"] == 12
    assert numbers["cosine", "score"] == 3
    assert found["sigma_hat", "clean", None] > 0
    assert found["p_mis", "boundary", None] > found["p_mis", "clean", None]
    for kind in ("score", "decision"):
        assert found["cosine", kind, 0.03] > found["cosine", kind, 1e-5]
        assert abs(found["cosine", kind, 1e-5]) < 0.1
    assert found["gradient_share", "grey", None] > 0.6  # what the prior of hsja-na counts on
    assert pq.read_table(table).to_pylist() == facts
    assert "<svg" in picture.read_text()


def test_fewer_images_than_asked_for_are_taken_all() -> None:
    """σ̂ and P_mis are of those that are right; other uses still say that there are too few."""
    data = load("cifar10").part(torch.arange(40), "")
    right = set(range(0, 40, 2))

    def predict(x: Tensor) -> Tensor:
        where = [int((data.pixels() == image).flatten(1).all(1).nonzero()[0]) for image in x]
        return torch.tensor([int(data.labels[k]) if k in right else -1 for k in where])

    found = choose(data, 1000, "correct", 0, predict, fewer=True)
    assert set(found.tolist()) == right
    assert choose(data, 5, "correct", 0, predict).tolist() == found[:5].tolist()
    with pytest.raises(ConfigError, match="at most 20"):
        choose(data, 1000, "correct", 0, predict)


def test_spread_and_mismatch_come_from_the_same_draws() -> None:
    """Of a linear margin: σ̂ is the standard deviation of the margin, P_mis the share of it beyond zero."""
    spec = parse("snd", 0.01, None)
    linear = torch.nn.Linear(D, 2)
    network = torch.nn.Sequential(torch.nn.Flatten(), linear)
    with torch.no_grad():
        weight = torch.randn(D, generator=generator(3))
        linear.weight.copy_(torch.stack([weight, -weight]) / weight.norm())
        linear.bias.copy_(torch.tensor([0.003, -0.003]) - linear.weight @ torch.full((D,), 0.5))
    victim = Victim.prepare(Classifier(network, IDENTITY).eval(), spec, torch.device("cpu"), 64)
    data = ImageSet("made up", "here", torch.full((3, *SHAPE), 128, dtype=torch.uint8),
                    torch.zeros(3, dtype=torch.int64), torch.arange(3), ("a", "b"))  # fmt: skip
    x = data.pixels() * 0 + 0.5
    with torch.no_grad():
        victim.reseed(0)
        spreads, shares = evidence.spread_and_mismatch(victim, x, data.labels, 4000)
        assert evidence.margin_std(victim, x, data.labels, 4000) == spreads
        facts = evidence.on_clean_images(victim, data, torch.arange(3), 0.01, 50, 0)
    # p_0 - p_1 = tanh of half the difference of the logits, which is 2 (0.003 + η), η ~ N(0, σ²)
    assert spreads == pytest.approx([0.01] * 3, rel=0.05)
    assert shares == pytest.approx([0.5 * math.erfc(0.3 / math.sqrt(2))] * 3, abs=0.03)
    assert [(f.quantity, f.what, f.n) for f in facts] == [("sigma_hat", "clean", 3), ("p_mis", "clean", 3)]


@pytest.mark.slow
def test_the_papers_spread_and_mismatch() -> None:
    """0.04 and 0.021 at σ = 0.01, of 1,000 images that the network classifies correctly."""
    spec = parse("snd", 0.01, None)
    victim = Victim.prepare(load_model("resnet20"), spec, torch.device("cpu"), 64)
    data = load("cifar10")
    index = choose(data, 1000, "correct", 0, lambda x: victim.undefended(x).argmax(1), fewer=True)
    assert len(index) == 1000
    with torch.no_grad():
        spread, missed = evidence.on_clean_images(victim, data, index, 0.01, 40, 0)
    assert spread.value == pytest.approx(0.04, abs=0.002)
    assert missed.value == pytest.approx(0.021, abs=0.002)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sigmas", "0"), "positive numbers"),
        (("--probes", "a"), "positive numbers"),
        (("--draws", 1), "at least 2"),
        (("--noise-images", 0), "at least 1"),
        (("--out", "a.csv"), ".parquet"),
        (("--plot", "a.gif"), ".svg or .png"),
    ],
)
def test_mistakes_are_told(snd: Snd, arguments: tuple[object, ...], message: str) -> None:
    done = snd("evidence", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
