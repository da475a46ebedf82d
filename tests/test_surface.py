"""Success on the surface of the ball: points a rounding outside ε count, in everything that reports success.

Each attack in each norm meets a network that is right at every point whose measured distance is at most ε, and wrong
only beyond, so that without the slack of `ball.within` no success can ever be seen. Defaults throughout.

Score attacks project to ε, and float32 puts such points up to a relative 1e-6 inside or outside; SimBA does not
project, so ε is four of its steps, less half of the slack. Label attacks end at a tolerance far coarser than 1e-6 from
the boundary. They meet a half-space first, and then a network that differs from it nowhere but inside the closest wrong
point that they found: it answers every question as before, and ε lies half of the slack below that point.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CPU, generator
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sndcli import ball
from sndcli.analysis.frame import frame_of
from sndcli.analysis.gates import check, parse
from sndcli.analysis.summary import Summary, summarise
from sndcli.attacks.registry import ATTACKS
from sndcli.ball import ROUNDING, SLACK, as_sent, length, reach, within
from sndcli.datasets.base import ImageSet
from sndcli.models.classifier import Classifier, Normalisation
from sndcli.models.inference import Forward
from sndcli.runs import results
from sndcli.runs.config import RunConfig
from sndcli.runs.experiment import Experiment
from sndcli.runs.meter import Tick
from sndcli.runs.victim import Victim

SIZE = (1, 8, 8)  # the smallest that every attack takes and that has a whole root
DAILY = (("hsja", "l2"), ("rays", "linf"), ("nes-na", "l2"), ("square", "linf"), ("bandit-td", "l2"))  # others are slow
EVERY = [pytest.param(name, norm, marks=[] if (name, norm) in DAILY else pytest.mark.slow)
         for name, spec in sorted(ATTACKS.items()) for norm in spec.norms
         if name not in ("null", "transfer")]  # fmt: skip
BORDER = {"l2": 0.15, "linf": 0.02}  # least distance of the half-space
STEP = 0.2  # of SimBA
HALF_SLACK = 1 - SLACK / 2


def weights() -> Tensor:
    w = torch.randn(64, generator=generator(3))
    w /= w.norm()
    return w


class Surface(nn.Module):
    """Scores rise linearly along w, but the label is right wherever the distance is at most ε, and wrong beyond."""

    def __init__(self, x0: Tensor, norm: str, eps: float) -> None:
        super().__init__()
        self.x0, self.norm, self.eps, self.w = x0, norm, eps, weights()

    def forward(self, z: Tensor) -> Tensor:
        slope = ((z - self.x0).flatten(1) @ self.w).clamp(-0.9, 0.9)
        outside = length(z - self.x0, self.norm) > self.eps
        return torch.stack([torch.zeros_like(slope), slope + torch.where(outside, 1.0, -1.0)], 1)


class HalfSpace(nn.Module):
    """Wrong where w·(z - x0) is at least the margin, but for points closer than `least`."""

    def __init__(self, x0: Tensor, norm: str, least: float = 0.0) -> None:
        super().__init__()
        self.x0, self.norm, self.least, self.w = x0, norm, least, weights()
        dual = self.w.norm() if norm == "l2" else self.w.abs().sum()
        self.margin = float(dual) * BORDER[norm]

    def forward(self, z: Tensor) -> Tensor:
        value = (z - self.x0).flatten(1) @ self.w - self.margin
        value = torch.where(length(z - self.x0, self.norm) < self.least, -1.0, value)
        return torch.stack([-value, value], 1)


@dataclass
class Ended:
    """What is told of a run."""

    row: dict[str, object]  # of the table
    summary: Summary
    seen: int  # of the last tick
    best: float
    reached: float  # queries until the first success by the events; infinite without
    gated: bool


def images(count: int) -> ImageSet:
    """The same grey speckles, several times."""
    pixels = torch.randint(110, 146, SIZE, generator=generator(4), dtype=torch.int64).to(torch.uint8)
    return ImageSet(
        "speckles", "made here", pixels.expand(count, *SIZE).clone(), torch.zeros(count, dtype=torch.int64),
        torch.arange(count), ("right", "wrong"),
    )  # fmt: skip


def run(network: nn.Module, name: str, norm: str, eps: float, out: Path, count: int, budget: int) -> Ended:
    model = Classifier(network, Normalisation((0.0,), (1.0,)), SIZE, "surface")
    victim = Victim(model, Forward(network, CPU), Forward(network, CPU))
    config = RunConfig(name, "cifar10", "made here", "", "surface", "", norm=norm, eps=eps, budget=budget,
                       budgets=(budget,), images=count, boundary=False, verify=1)  # fmt: skip
    ticks: list[Tick] = []
    table = Experiment(config, images(count), victim, out, debug=True).run(True, ticks.append)
    (summary,) = summarise([table])
    frame = frame_of(table)
    assert frame.events is not None
    failed, _ = check(parse("success_seen > 0.99", lambda text, _: int(text)), [summary])
    return Ended(
        table.to_pylist()[0], summary, ticks[-1].seen, float(frame.best.min()),
        float(frame.events.first(eps).max()), bool(failed),
    )  # fmt: skip


def victim_of(name: str, norm: str, out: Path) -> tuple[nn.Module, float, int, int]:
    """A network that breaks at the surface only, ε, and images and budget that suffice."""
    x0 = images(1).pixels()
    if ATTACKS[name].access == "labels":
        budget = 60 if name in ("ba", "popskipjump") else 150
        first = run(HalfSpace(x0, norm), name, norm, 1e-9, out, 1, budget)  # ε so small that no attack aims inside it
        return HalfSpace(x0, norm, first.best * (1 - 1e-9)), first.best * HALF_SLACK, 1, budget
    eps = {"l2": 0.3, "linf": 8 / 255}[norm] if not name.startswith("simba") else 2 * STEP * HALF_SLACK
    return Surface(x0, norm, eps), eps, 2, 1000 if name == "nattack" else 300


@pytest.mark.parametrize(("name", "norm"), EVERY)
def test_every_attack_succeeds_on_the_surface(
    name: str, norm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, eps, count, budget = victim_of(name, norm, tmp_path)
    with torch.no_grad():
        ended = run(network, name, norm, eps, tmp_path, count, budget)
    assert eps < ended.best <= reach(eps)
    assert ended.summary.number("success_seen") == 1.0
    assert ended.seen == count
    assert ended.gated
    assert ended.reached <= budget
    assert min(ended.row["event_distance"]) == pytest.approx(eps, rel=2 * SLACK)  # type: ignore[call-overload]
    scores = ATTACKS[name].access == "scores"
    if scores and name != "nattack":  # whose samples, on the surface, see nothing but rounding, and lead it nowhere
        # ended by `stop_at_success`, and the point it submits counts too
        assert ended.row["stop_reason"] == ("budget" if name == "nes-na" else "success")  # it goes on
        assert ended.summary.number("success_noisy") == 1.0
        assert ended.summary.number("success_clean") == 1.0

    monkeypatch.setattr(ball, "reach", lambda radius: radius)
    missed = run(network, name, norm, eps, tmp_path, count, budget)
    assert missed.summary.number("success_seen") == 0.0
    assert (missed.seen, missed.gated, missed.reached) == (0, False, math.inf)
    assert not scores or missed.row["stop_reason"] != "success"


@pytest.mark.parametrize("level", [1, 2, 4, 7, 8, 16])
def test_a_corner_of_the_cube_counts_at_every_radius(level: int) -> None:
    """x0 ± ε in float32, of 8-bit and of other images: a pixel that crosses 0.5 lands up to 3e-8 outside ε."""
    eps = level / 255
    for x0 in (torch.arange(256) / 255, torch.rand(4000, generator=generator(1))):
        for sign in (1.0, -1.0):
            for quantize in (False, True):
                clean = as_sent(x0, quantize).view(-1, 1, 1, 1)
                distance = length(as_sent(clean + sign * eps, quantize) - clean, "linf")
                assert bool(within(distance, eps).all())
    crossing = torch.arange(256).float().div(255).view(-1, 1, 1, 1)
    assert bool((length(crossing + eps - crossing, "linf") > eps).any())


@given(eps=st.floats(1e-3, 10), share=st.floats(0, 2))
def test_one_rule_for_numbers_tensors_and_arrays(eps: float, share: float) -> None:
    distance = share * eps
    one = within(distance, eps)
    assert one == bool(within(torch.tensor([distance], dtype=torch.float64), eps)[0])
    assert one == bool(within(np.array([distance]), eps)[0])
    assert one == (distance <= reach(eps))
    assert within(eps, eps)
    assert within(eps * (1 + 0.9 * SLACK), eps)
    assert not within(eps * (1 + 1.1 * SLACK) + ROUNDING, eps)
    assert not within(math.inf, eps)


def test_the_seen_bound_of_a_stored_file_is_the_same(tmp_path: Path) -> None:
    """What is read back from a file counts as what was computed in memory: distances are kept in float64."""
    network, eps, count, budget = victim_of("square", "linf", tmp_path)
    memory = run(network, "square", "linf", eps, tmp_path, count, budget)
    (path,) = tmp_path.glob("*.parquet")
    (stored,) = summarise([results.read(path)])
    assert stored.rate("success_seen") == memory.summary.rate("success_seen")
    (other,) = summarise([results.read(path)], eps=eps * (1 - 5 * SLACK))
    assert other.number("success_seen") == 0.0
