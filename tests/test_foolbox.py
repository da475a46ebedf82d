"""Foolbox's own attacks behind the oracle: exact budgets, no shared randomness, and agreement with ours."""

from __future__ import annotations

import pytest
import torch
from conftest import SHAPE, half_space, oracle_on, streams, submitted_distance
from hypothesis import given, settings
from hypothesis import strategies as st

from sndcli.attacks.decision import foolbox_engine, hsja
from sndcli.datasets import cifar10
from sndcli.datasets.load import choose
from sndcli.models.inference import Forward, optimise
from sndcli.models.sources import load_model
from sndcli.queries.oracle import Oracle

pytest.importorskip("foolbox")


@pytest.mark.parametrize("name", ["hsja", "ba"])
@settings(max_examples=5, deadline=None)
@given(budget=st.integers(1, 300))
def test_budget_is_exact(name: str, budget: int) -> None:
    h = half_space()
    oracle = oracle_on(h, 2, budget)
    oracle.check()
    foolbox_engine.run(oracle, streams(), name)
    assert oracle.close().used.tolist() == [budget] * 2
    assert h.rows == 2 * budget


@pytest.mark.parametrize("name", ["hsja", "ba"])
def test_global_random_state_is_left_alone_and_not_used(name: str) -> None:
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        oracle = oracle_on(half_space(), 3, 400)
        foolbox_engine.run(oracle, streams(5), name)
        assert torch.equal(before, torch.get_rng_state())
        found.append(submitted_distance(oracle).tolist())
    assert found[0] == found[1]


def test_an_image_does_not_depend_on_its_neighbours() -> None:
    alone, together = oracle_on(half_space(), 1, 500), oracle_on(half_space(), 3, 500)
    foolbox_engine.run(alone, streams(5), "ba")
    foolbox_engine.run(together, streams(5), "ba")
    assert submitted_distance(alone)[0].tolist() == submitted_distance(together)[0].tolist()


def test_an_attack_that_raises_is_a_reason() -> None:
    oracle = oracle_on(lambda z: torch.tensor([[1.0, 0.0]]).repeat(len(z), 1), 2, 3000)
    foolbox_engine.run(oracle, streams(), "ba")
    assert all(reason.startswith("raised: ValueError") for reason in oracle.ledger.stop_reason)


@pytest.mark.slow
def test_foolbox_and_native_hsja_agree_without_noise() -> None:
    """Median distance of 20 images at 2,000 queries within 15 %."""
    model = load_model("resnet20")
    forward = Forward(optimise(model, torch.device("cpu")), torch.device("cpu"))
    data = cifar10.load_shipped()
    index = choose(data, 20, "correct", 0, lambda x: forward(x).argmax(1))
    medians = []
    for native in (True, False):
        oracle = Oracle(forward, data.pixels(index), data.labels[index], budget=2000)
        if native:
            hsja.run(oracle, streams(1), hsja.Options())
        else:
            foolbox_engine.run(oracle, streams(1), "hsja")
        medians.append(oracle.ledger.best.median().item())
    assert medians[0] == pytest.approx(medians[1], rel=0.15)
    assert data.images.shape[1:] == SHAPE
