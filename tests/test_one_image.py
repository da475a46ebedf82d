# ruff: noqa: NPY002, the global generator is what the code here is about
"""Attacks on one image behind the oracle, and plug-ins from a file: exact budgets, own randomness, clear refusals."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Done, half_space, oracle_on, streams, submitted_distance
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sndcli.attacks.one_image import Predict, one_image
from sndcli.attacks.registry import AnyAttack
from sndcli.attacks.spec import options_of
from sndcli.errors import ConfigError
from sndcli.plugins import located
from sndcli.queries.oracle import Oracle

Snd = Callable[..., Done]


def shrinking(predict: Predict, x: Tensor, y: int, *, radius: float = 4.0, tries: int = 5) -> Tensor:
    """Random directions, halved on the way in."""
    best = x
    while True:
        for _ in range(tries):
            step = torch.randn(x.shape) * random.uniform(0.5, 1) + torch.from_numpy(np.random.randn(*x.shape)).float()
            point = (x + radius * step / step.norm()).clamp(0, 1)
            if int(predict(point)) != y:
                best, radius = point, radius / 2
                break
        else:
            radius *= 1.5
        if radius < 1e-3:
            return best


SPEC = one_image(shrinking)


def attacked(oracle: Oracle, spec: AnyAttack = SPEC, seed: int = 0, *changes: str) -> Oracle:
    oracle.check(scores=spec.access == "scores")
    spec.run(oracle, streams(seed), options_of(spec, None, changes))
    oracle.close()
    return oracle


@settings(max_examples=15, deadline=None)
@given(budget=st.integers(1, 120), votes=st.integers(1, 3))
def test_budget_is_exact(budget: int, votes: int) -> None:
    if votes > budget:
        return
    h = half_space()
    oracle = attacked(oracle_on(h, 3, budget, votes=votes))
    used = oracle.ledger.used
    assert int(used.max()) <= budget
    assert h.rows == int(used.sum())
    assert used.tolist() == [budget // votes * votes] * 3


def test_an_image_depends_on_nothing_but_itself_and_the_seed() -> None:
    found = []
    for n, state in ((1, 1), (4, 2)):
        torch.manual_seed(state)
        np.random.seed(state)
        random.seed(state)
        before = (torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate())  # type: ignore[index]
        found.append(submitted_distance(attacked(oracle_on(half_space(), n, 200)))[0].tolist())
        assert torch.equal(before[0], torch.get_rng_state())
        assert before[1:] == (np.random.get_state()[1].tolist(), random.getstate())  # type: ignore[index]
    assert found[0] == found[1]
    other = submitted_distance(attacked(oracle_on(half_space(), 1, 200), SPEC, 1))[0].tolist()
    assert other != found[0]


@pytest.mark.slow
def test_it_succeeds_and_options_are_settings() -> None:
    oracle = attacked(oracle_on(half_space(margin=0.02), 3, 1500))
    assert submitted_distance(oracle).max() < 4.0
    assert options_of(SPEC, None, ("radius=2", "tries=7")) == type(options_of(SPEC, None))(radius=2.0, tries=7)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="tries"):
        options_of(SPEC, None, ("tries=many",))


def test_arrays_scores_none_and_wrong_shapes() -> None:
    asked: list[Any] = []

    def by_score(predict: Predict, x: Tensor, y: int) -> None:
        """Asks with arrays."""
        assert (predict.norm, predict.budget) == ("l2", 50)
        answer = predict(np.repeat(x.numpy()[None], 3, 0))
        asked.append(answer)
        with pytest.raises(ValueError, match="Expected points of shape"):
            predict(x[:, :2])
        try:
            while True:
                predict(x[None])
        except Exception:
            asked.append("swallowed")

    oracle = attacked(oracle_on(half_space(), 2, 50), one_image(by_score, access="scores"))
    assert [type(a) for a in asked] == [np.ndarray, np.ndarray]  # the end of a budget is no Exception
    assert np.shape(asked[0]) == (3, 2)
    assert oracle.ledger.used.tolist() == [50, 50]
    assert oracle.ledger.stop_reason == ["budget"] * 2

    def returns_nonsense(predict: Predict, x: Tensor, y: int) -> Tensor:
        return x[:1]

    oracle = attacked(oracle_on(half_space(), 2, 50), one_image(returns_nonsense))
    assert all(r.startswith("raised: ValueError expected a point of shape") for r in oracle.ledger.stop_reason)


def test_what_is_no_attack_is_refused() -> None:
    def needs(predict: Predict, x: Tensor, y: int, *, steps: int) -> Tensor:
        return x

    with pytest.raises(ConfigError, match="a default for `steps`"):
        one_image(needs)
    with pytest.raises(ConfigError, match="takes 1 arguments"):
        one_image(lambda x: x)


FILE = '''
import torch
from sndcli.defenses.base import Defense

print("printed by the module")


class Gain(Defense):
    """Multiplies each image by a random factor."""

    def __init__(self, model, generator, strength: float = 0.1):
        super().__init__(model, generator)
        self.strength = strength

    def forward(self, x):
        factor = 1 + self.strength * (2 * torch.rand(len(x), 1, 1, 1, generator=self.generator) - 1)
        return self.model(x * factor)


def grey(predict, x, y, *, steps: int = 4):
    """Towards grey."""
    for k in range(1, steps + 1):
        point = x + (0.5 - x) * k / steps
        if int(predict(point)) != y:
            return point


number = 3
'''


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_file.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


SMALL = ("--images", 3, "--budget", 20, "--verify", 4, "--no-progress", "-q", "--no-boundary")


def test_from_a_file_without_a_package(snd: Snd, here: Path) -> None:
    done = snd("attack", "py:my_file:grey", "--set", "steps=6", "--defense", "py:my_file:Gain?strength=0.2", *SMALL,
               "--out", "out", "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["rows"][0]["failed"] == 0
    assert found["run"]["config"]["options"] == {"steps": 6}
    assert set(found["run"]["config"]["plugins"]) == {"py:my_file:grey", "py:my_file:Gain?strength=0.2"}
    (file,) = (here / "out").glob("*.parquet")
    assert file.name.startswith("py-my_file-grey-steps6_cifar10_linear_py-my_file-Gain-strength0.2_q20_")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("py:my_file:grey?steps=6",), "--set key=value"),
        (("py:my_file:number",), "Expected `py:my_file:number` to be an AttackSpec or a function"),
        (("py:no_such_file:x",), "No module named 'no_such_file'"),
        (("py:my_file",), "Expected `py:module:NAME`"),
        (("hsja", "--defense", "py:my_file:Gain?strenth=0.2"), "`strength`"),
        (("hsja", "--defense", "py:my_file:Gain:strength=much"), "Expected `strength`"),
        (("hsja", "--defense", "py:my_file:Missing"), "has no attribute 'Missing'"),
        (("hsja", "--defense", "py:my_file:number"), "my_file:number"),
    ],
)
def test_what_cannot_be_had_is_one_line(snd: Snd, here: Path, arguments: tuple[str, ...], said: str) -> None:
    done = snd("attack", *arguments, *SMALL, "--out", "out")
    assert done.returncode == 2, done.stderr
    assert said in " ".join(done.stderr.split())


def test_paths() -> None:
    assert located("py:a.b:C.d:x=1,y=2") == ("a.b", "C.d", {"x": "1", "y": "2"})
    for wrong in ("py:", "py:a", "py::b", "py:a:b?c", "py:a:b:c=1?d=2"):
        with pytest.raises(ConfigError):
            located(wrong)
