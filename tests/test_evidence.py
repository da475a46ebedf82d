"""Closed forms of `snd evidence` against simulation."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pyarrow.parquet as pq
import pytest
import torch
from conftest import SHAPE, D, Done, generator, half_space
from torch import Tensor

from sndcli import closed_forms, evidence

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
    assert found["hsja-na majority"] <= 1.0
    assert found["hsja-na sequential"] == pytest.approx(1 / (0.4 * 2.28**0.5))  # where the colours agree as expected
    assert found["geoda na"] <= 1.0


def test_shares_of_a_gradient() -> None:
    white = torch.randn(4, *SHAPE, generator=generator())
    grey = white[:, :1].expand(-1, 3, -1, -1).clone()
    inside = torch.zeros_like(white)
    inside[:, 0, 8:24, 8:24] = 1.0
    found = [{k: (sum(v) / 4, w) for k, (v, w) in evidence.gradient_shares(g).items()} for g in (white, grey, inside)]
    assert found[0]["grey"] == (pytest.approx(1 / 3, abs=0.02), 1 / 3)
    assert found[0]["middle"] == (pytest.approx(1 / 4, abs=0.02), 1 / 4)
    assert found[1]["grey"][0] == pytest.approx(1.0)
    assert found[2]["middle"][0] == pytest.approx(1.0)
    assert found[2]["grey"][0] == pytest.approx(1 / 3)
    assert set(evidence.gradient_shares(white[:, :1])) == {"middle"}


def test_evidence_command(snd: Snd, tmp_path) -> None:
    table, picture = tmp_path / "e.parquet", tmp_path / "e.svg"
    done = snd("evidence", "--sigmas", "0.02", "--probes", "1e-5,0.03", "--images", 3, "--queries", 200, "--draws", 20,
               "--out", table, "--plot", picture, "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)["facts"]
    found = {(f["quantity"], f["what"], f["probe"]): f["value"] for f in facts}
    assert found["sigma_hat", "clean", None] > 0
    assert found["p_mis", "boundary", None] > found["p_mis", "clean", None]
    for kind in ("score", "decision"):
        assert found["cosine", kind, 0.03] > found["cosine", kind, 1e-5]
        assert abs(found["cosine", kind, 1e-5]) < 0.1
    assert found["gradient_share", "grey", None] > 0.6  # what the prior of hsja-na counts on
    assert pq.read_table(table).to_pylist() == facts
    assert "<svg" in picture.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sigmas", "0"), "positive numbers"),
        (("--probes", "a"), "positive numbers"),
        (("--draws", 1), "at least 2"),
        (("--out", "a.csv"), ".parquet"),
        (("--plot", "a.gif"), ".svg or .png"),
    ],
)
def test_mistakes_are_told(snd: Snd, arguments: tuple[object, ...], message: str) -> None:
    done = snd("evidence", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
