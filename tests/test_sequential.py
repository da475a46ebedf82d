"""Answers that are asked until a verdict is certain: unbiased shares, the verdict of all, and the same draws."""

from __future__ import annotations

from pathlib import Path

import crew
import numpy as np
import pytest
import torch
from conftest import CPU, SHAPE
from numpy.typing import NDArray
from scipy.stats import binom
from torch import Tensor

from sndcli.defenses.parse import DefenseSpec, parse
from sndcli.models.classifier import Classifier, Normalisation
from sndcli.queries.criterion import Criterion, Misclassified
from sndcli.queries.draws import Logits, fresh_labels, share_met
from sndcli.queries.sequential import expected, share_that_errs, shares, stages
from sndcli.runs import boundary, verification
from sndcli.runs.victim import Victim
from sndcli.streams import Streams

ZERO = torch.zeros(1, dtype=torch.int64)


def ends(draws: int, p: float) -> list[tuple[int, NDArray[np.float64]]]:
    """For each stage, how likely the asking ends there with 0, 1, … adversarial answers."""
    found, asked, chances = [], 0, np.array([1.0])
    for stage in stages(draws):
        chances = np.convolve(chances, binom.pmf(np.arange(stage.asked - asked + 1), stage.asked - asked, p))
        asked = stage.asked
        over = stage.ends(torch.arange(asked + 1)).numpy()
        found.append((asked, np.where(over, chances, 0.0)))
        chances = np.where(over, 0.0, chances)
    return found


@pytest.mark.parametrize("draws", [1, 9, 20, 25, 100, 1000])
@pytest.mark.parametrize("p", [0.0, 0.003, 0.2, 0.5, 0.93])
def test_the_share_has_the_mean_of_a_single_answer(draws: int, p: float) -> None:
    mean = sum(float((chance * np.nan_to_num(shares(draws)[asked])).sum()) for asked, chance in ends(draws, p))
    assert mean == pytest.approx(p, abs=1e-9)
    asked = sum(asked * float(chance.sum()) for asked, chance in ends(draws, p))
    assert expected(draws, p) == pytest.approx(asked)


def test_a_share_of_half_is_half_of_the_answers() -> None:
    for draws in (*range(1, 40), 100):
        for asked, chance in ends(draws, 0.5):
            (reached,) = (chance > 0).nonzero()
            share = shares(draws)[asked][reached]
            assert np.array_equal(share >= 0.5, 2 * reached >= asked), (draws, asked)
            assert bool(((share >= 0) & (share <= 1)).all())


@pytest.mark.parametrize("draws", [25, 100, 1000])
def test_the_rest_hardly_ever_turns_a_verdict(draws: int) -> None:
    """One time in 500 on the boundary, where the verdict is a coin's; never where it matters."""

    def turned(p: float) -> float:
        total = 0.0
        for asked, chance in ends(draws, p)[:-1]:
            s = np.arange(asked + 1)
            later = binom.cdf(np.ceil(draws / 2) - 1 - s, draws - asked, p)  # fewer than half in the end
            total += float((chance * np.where(2 * s >= asked, later, 1 - later)).sum())
        return total

    assert 0 < turned(0.5) < 1 / 500
    assert turned(0.4) < 1 / 1000
    assert turned(0.3) < 1e-4
    assert turned(0.9) < 1e-7


def test_certain_points_take_few_answers_and_doubtful_ones_all() -> None:
    """Points with different chances in one question; what is asked of one is not decided by another."""
    rate = torch.tensor([0.0, 1.0, 0.5, 0.1])
    noise = torch.Generator().manual_seed(0)
    rows: dict[float, int] = {}

    def logits(x: Tensor) -> Tensor:
        for p in x[:, 0, 0, 0].tolist():
            rows[round(p, 3)] = rows.get(round(p, 3), 0) + 1
        wrong = (torch.rand(len(x), generator=noise) < x[:, 0, 0, 0]).float()
        return torch.stack([0.5 - wrong, wrong - 0.5], 1)

    points = rate.view(-1, 1, 1, 1).expand(-1, *SHAPE)
    found = share_that_errs(logits, points, torch.arange(4), 100, Misclassified(torch.zeros(4, dtype=torch.int64)))
    assert (rows[0.0], rows[1.0]) == (12, 12)
    assert rows[0.1] < 50 < rows[0.5] <= 100
    assert found.tolist() == pytest.approx([0.0, 1.0, 0.5, 0.1], abs=0.2)
    assert share_that_errs(logits, points[:0], torch.arange(0), 100, Misclassified(ZERO)).tolist() == []


def test_what_is_not_answered_ends_nothing() -> None:
    rows = 0

    def logits(x: Tensor) -> Tensor:
        nonlocal rows
        found = torch.tensor([[0.0, 1.0]]).repeat(len(x), 1)
        if not rows:
            found[0] = float("nan")
        rows += len(x)
        return found

    assert share_that_errs(logits, torch.rand(1, *SHAPE), ZERO, 30, Misclassified(ZERO)).tolist() == [1.0]
    assert rows == 30
    silence = torch.full((9, 2), float("nan"))
    silent = share_that_errs(lambda _: silence, torch.rand(1, *SHAPE), ZERO, 9, Misclassified(ZERO))
    assert silent.isnan().all()


@pytest.mark.parametrize("defense", ["snd", "aug:shift=1+snd", "logit:tau=0.05", "smooth:n=3,sigma=0.02"])
def test_later_draws_are_those_after_all_answers(defense: str) -> None:
    """Two questions about points that are certain: the draws of the second are as if all of the first were asked."""
    model = Classifier(crew.Linear(), Normalisation((0.0,), (1.0,)), crew.SIZE, "linear")
    victim = Victim.prepare(model, parse(defense, 0.01 if "snd" in defense else None, None), CPU, 64)
    x, image, ids = torch.full((3, *crew.SIZE), 0.5), torch.arange(3), torch.arange(7, 10)
    x[0, 0, 0, 0], x[1, 0, 0, 0] = 0.0, 1.0
    y = victim.undefended(x).argmax(1)

    def after(ask: object) -> tuple[Tensor, Tensor]:
        draws = victim.streams(0, ids, 0, "verification")
        before = victim.defended.rows
        ask(victim.defended, x, image, 60, Misclassified(y), draws)  # type: ignore[operator]
        rows.append(victim.defended.rows - before)
        return fresh_labels(victim.defended, x, image, 40, draws, 1), draws.normal(image, x)

    rows: list[int] = []
    few, all_of_them = after(share_that_errs), after(of_all)
    assert rows[0] < rows[1] == 180
    assert torch.equal(few[0], all_of_them[0])
    assert torch.equal(few[1], all_of_them[1])


def of_all(
    logits: Logits, points: Tensor, image: Tensor, draws: int, criterion: Criterion, streams: Streams | None = None,
    memory: int = 0,
) -> Tensor:  # fmt: skip
    """As `share_that_errs`, with no end before the last answer."""
    labels = fresh_labels(logits, points, image, draws, streams, 1)
    return share_met(criterion.met(labels, image), labels).cpu()


def test_a_run_says_the_same_of_its_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verdicts and boundaries are the bits that all answers give; fewer rows were asked."""
    run = crew.config(verify=60, boundary=True, defense=DefenseSpec("snd", 0.003))
    rows, tables = [], []
    for folder, ask in (("few", share_that_errs), ("all", of_all)):
        monkeypatch.setattr(verification, "share_that_errs", ask)
        monkeypatch.setattr(boundary, "share_that_errs", ask)
        experiment = crew.experiment(tmp_path / folder, run)
        before = experiment.victim.defended.rows
        tables.append(experiment.run())
        rows.append(experiment.victim.defended.rows - before)
    few, every = tables
    aside = 6 * (60 + 3 * 60)  # queries, and draws at clean images
    assert rows[0] - aside < 0.75 * (rows[1] - aside)
    for name in ("noisy", "as_submitted", "distance_boundary", "p0", "distance_best", "event_query"):
        assert few.column(name).equals(every.column(name)), name
    for name in ("p_adv", "p_adv_submitted"):
        apart = np.array(few.column(name).to_pylist()) - np.array(every.column(name).to_pylist())
        assert float(np.abs(apart).max()) < 0.35
        assert float(np.abs(apart.mean())) < 0.1
