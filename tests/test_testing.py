"""The conformance kit: ours pass it, and each fault is found by the check that is for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import pytest
import torch
from conftest import Done
from torch import Tensor

from sndcli.attacks.registry import ATTACKS, AnyAttack, spec_of
from sndcli.attacks.spec import AttackSpec, Preset
from sndcli.defenses.base import Defense
from sndcli.defenses.resize_pad import ResizePad
from sndcli.defenses.small_noise import SmallNoise
from sndcli.queries.oracle import Oracle
from sndcli.streams import Streams
from sndcli.testing import attack_checks, check_attack, check_defense, defense_checks

FAST = ("hsja",)
OURS = [
    pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow])
    for name, entry in ATTACKS.items()
    if name not in ("null", "subspace", "transfer")
]


@pytest.mark.parametrize("name", OURS)
def test_our_attacks_conform(name: str) -> None:
    failed = {check.name for check in attack_checks(spec_of(name)) if not check.good}
    scheduled = {"the first queries do not depend on the budget"}  # its squares shrink over the budget, as published
    assert failed == (scheduled if name == "square" else set())


@dataclass(frozen=True)
class Options:
    """None."""

    length: float = 0.5


def walk(oracle: Oracle, streams: Streams, options: Options) -> None:
    """Random points around the image."""
    while oracle.active.any():
        image = oracle.active.nonzero().squeeze(1)
        step = streams.normal(image, oracle.x0)
        step = step * options.length / step.flatten(1).norm(dim=1)[:, None, None, None] + step.sign() * 0.02
        points = oracle.x0[image] + step
        fooled = oracle.adversarial(points, image, "walk") == 1
        oracle.submit(points[fooled], image[fooled])


WALK = AttackSpec[Options](
    name="walk", access="labels", norms=("l2",), presets={"": Preset(Options())}, summary="a walk", run=walk, api=1
)  # fmt: skip


def faults(spec: AttackSpec[Options]) -> set[str]:
    return {check.name for check in attack_checks(cast("AnyAttack", spec)) if not check.good}


@pytest.mark.slow
def test_a_walk_conforms() -> None:
    assert faults(WALK) == set()


@pytest.mark.slow
def test_faults_of_attacks_are_told_apart() -> None:
    def lazy(oracle: Oracle, streams: Streams, options: Options) -> None:
        for _ in range(20):
            image = oracle.active.nonzero().squeeze(1)
            oracle.labels(oracle.x0[image], image, "walk")

    def global_rng(oracle: Oracle, streams: Streams, options: Options) -> None:
        while oracle.active.any():
            image = oracle.active.nonzero().squeeze(1)
            points = oracle.x0[image] + 0.05 * torch.randn(len(image), 3, 32, 32).sign()
            fooled = oracle.adversarial(points, image, "walk") == 1
            oracle.submit(points[fooled], image[fooled])

    def lockstep(oracle: Oracle, streams: Streams, options: Options) -> None:
        while oracle.active.any():
            image = oracle.active.nonzero().squeeze(1)
            points = oracle.x0[image] + 0.05 * streams.normal(image, oracle.x0).mean(0, keepdim=True).sign()
            fooled = oracle.adversarial(points, image, "walk") == 1
            oracle.submit(points[fooled], image[fooled])

    def hurried(oracle: Oracle, streams: Streams, options: Options) -> None:
        walk(oracle, streams, replace(options, length=0.5 + 10 / oracle.budget))

    def breaks(oracle: Oracle, streams: Streams, options: Options) -> None:
        image = torch.arange(len(oracle.x0))
        while oracle.active.any():
            assert (oracle.labels(oracle.x0, image, "walk") >= 0).all(), "an answer is missing"
            oracle.retire(image[:1], "exhausted")

    idle = "goes on until the budget is spent, or says why not"
    submits = "finds a wrong answer on a half-space in 2,000 queries, and submits it"
    assert faults(replace(WALK, run=lazy)) == {idle, submits}
    assert "draws from its streams alone" in faults(replace(WALK, run=global_rng))
    assert faults(replace(WALK, run=lockstep)) == {"an image does not depend on its batch"}
    assert faults(replace(WALK, run=hurried)) == {"the first queries do not depend on the budget"}
    assert faults(replace(WALK, run=breaks)) == {"ends at any budget"}
    with pytest.raises(AssertionError, match=r"oracle\.retire"):
        check_attack(cast("AnyAttack", replace(WALK, run=lazy)))


def test_our_defenses_conform() -> None:
    check_defense(lambda model, generator: SmallNoise(model, 0.01, generator=generator))
    check_defense(lambda model, generator: SmallNoise(model, 0.0, generator=generator))
    check_defense(lambda model, generator: ResizePad(model, generator=generator))


class OneDraw(Defense):
    """One draw a batch, from the global generator."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x + 0.01 * torch.randn(1, *x.shape[1:]))
        return out


class InPlace(Defense):
    """Changes its input."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x.add_(self.normal(x)))
        return out


class Frozen(Defense):
    """Draws once for all."""

    def forward(self, x: Tensor) -> Tensor:
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
        out: Tensor = self.model(x + noise)
        return out


class Pretends(Defense):
    """Says that it draws for each image, and does not."""

    per_image = True

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x + torch.randn(x.shape, generator=self.generator))
        return out


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (OneDraw, {"draws from its own generator alone", "each row of a batch has a draw of its own"}),
        (InPlace, {"leaves its input as it is"}),
        (Frozen, {"each pass draws anew"}),
        (Pretends, {"an image's draws do not depend on its batch"}),
    ],
)
def test_faults_of_defenses_are_told_apart(make: type[Defense], found: set[str]) -> None:
    failed = {check.name for check in defense_checks(make) if not check.good}
    assert found <= failed, failed
    with pytest.raises(AssertionError, match=make.__name__):
        check_defense(make)


@pytest.mark.default_model
def test_doctor_makes_the_same_checks(
    snd: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one_draw.py").write_text(
        "import torch\nfrom sndcli.defenses.base import Defense\n\nclass OneDraw(Defense):\n"
        "    def forward(self, x):\n        return self.model(x + torch.randn(1, *x.shape[1:]))\n"
    )
    monkeypatch.chdir(tmp_path)
    done = snd("doctor", "--attack", "hsja", "--defense", "snd", "--json")
    assert done.returncode == 0, done.stderr
    assert all(json.loads(done.stdout)["checks"].values())
    done = snd("doctor", "--defense", "py:one_draw:OneDraw")
    assert done.returncode == 2
    assert "fails 3 of" in done.stderr
    assert "pass `generator=self.generator`" in done.stderr


def test_a_draw_a_batch_of_the_global_generator_is_refused_before_a_run(
    snd: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gave one command another figure each time."""
    (tmp_path / "of_a_batch.py").write_text(
        "import torch\nfrom sndcli.defenses.base import Defense\n\nclass Global(Defense):\n"
        "    def forward(self, x):\n        return self.model(x + 0.1 * torch.randn(1, *x.shape[1:]))\n\n"
        "class Own(Defense):\n    def forward(self, x):\n"
        "        return self.model(x + 0.1 * torch.randn(1, *x.shape[1:], generator=self.generator))\n"
    )
    monkeypatch.chdir(tmp_path)
    attack = ("attack", "null", "--budget", 2, "--images", 2, "--out", tmp_path, "--batch-size", 8)
    for command in (attack, ("sigma-sweep", *attack[1:], "--sigmas", "0.01"), ("accuracy", "--batch-size", 256)):
        sweep = command[0] == "sigma-sweep"
        done = snd(*command, "--defense", "py:of_a_batch:Global" + ("+snd" if sweep else ""))
        assert done.returncode == 2, done.stderr
        assert "draws from its own generator alone" in done.stderr
    done = snd(*attack, "--defense", "py:of_a_batch:Own")
    assert done.returncode == 0, done.stderr
    assert "each row of a batch has a draw of its own" in done.stderr
