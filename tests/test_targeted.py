"""Targeted runs: a criterion of one label, starts from a pool of images, and what a run is called and pooled by."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SHAPE, D, Done, half_space, oracle_on, streams
from torch import Tensor

from sndcli.analysis.setting import setting_of
from sndcli.attacks.registry import ATTACKS, spec_of
from sndcli.attacks.spec import options_of
from sndcli.datasets import cifar10
from sndcli.errors import ConfigError
from sndcli.queries.criterion import Misclassified, TargetedMisclassified
from sndcli.queries.oracle import Oracle
from sndcli.runs import results
from sndcli.runs.targets import attackable, check_target, goal_of, labels_wanted

TARGETED = [name for name in ATTACKS if spec_of(name).targeted]
NEAR, FAR = 0.1, 0.3


class Three:
    """Label 1 beyond a plane at 0.1, and 2 beyond one at right angles to it at 0.3, whichever is further exceeded."""

    def __init__(self) -> None:
        normals = torch.linalg.qr(torch.randn(D, 2, generator=torch.Generator().manual_seed(4))).Q.T
        self.near, self.far = normals

    def __call__(self, z: Tensor) -> Tensor:
        centred = (z - 0.5).flatten(1)
        near, far = centred @ self.near - NEAR, centred @ self.far - FAR
        return torch.stack([torch.zeros_like(near), near, far], 1) * 30

    def starts(self, n: int) -> Tensor:
        """One that is not of the wanted class, then one that is."""
        offered = torch.stack([0.5 + self.near.view(SHAPE), 0.5 + self.far.view(SHAPE) - 0.1 * self.near.view(SHAPE)])
        return offered.expand(n, 2, *SHAPE)


def attacked(name: str, budget: int, norm: str | None = None) -> tuple[Oracle, Three]:
    victim, spec, n = Three(), spec_of(name), 2
    norm = norm or spec.norms[0]
    wanted = TargetedMisclassified(torch.full((n,), 2))
    eps = 1.0 if norm == "l2" else 0.05
    oracle = oracle_on(victim, n, budget, norm=norm, eps=eps, criterion=wanted, starts=victim.starts(n))
    oracle.check(scores=spec.access == "scores")
    settings = ("colour=0", "window=0") if name.endswith("-na") else ()
    spec.run(oracle, streams(), options_of(spec, None, settings, norm))
    oracle.close()
    return oracle, victim


def test_the_attacks_that_can_be_targeted() -> None:
    assert set(TARGETED) == {
        "ba", "hsja", "hsja-na", "popskipjump", "sign-opt", "cgba", "square", "simba", "nes", "nes-na", "bandit-td",
        "nattack",
    }  # fmt: skip


@pytest.mark.parametrize("name", TARGETED)
def test_an_attack_is_after_its_label_and_spends_no_more_than_it_may(name: str) -> None:
    """What is nearer and of another class never counts: no point closer than 0.3 does."""
    budget = 150 if name in ("hsja-na", "ba", "cgba", "hsja", "sign-opt", "popskipjump") else 400
    oracle, victim = attacked(name, budget)
    assert int(oracle.ledger.used.max()) <= budget
    assert float(oracle.ledger.best.min()) >= (FAR if oracle.norm == "l2" else FAR / float(victim.far.abs().sum()))
    if spec_of(name).access == "labels":
        assert bool(oracle.ledger.has_submitted.all())
        assert bool((victim(oracle.ledger.submitted[-1]).argmax(1) == 2).all())
        assert oracle.ledger.phases["start"].min() >= 1


@pytest.mark.parametrize("name", ["hsja-na", "nes-na"])
def test_it_comes_near_the_boundary_of_the_class_wanted(name: str) -> None:
    oracle, victim = attacked(name, 1500)
    found = (oracle.ledger.submitted[-1] - 0.5).flatten(1)
    assert bool((victim(oracle.ledger.submitted[-1]).argmax(1) == 2).all())
    assert float((found.norm(dim=1)).max()) < 1.0


def test_with_two_classes_and_one_start_both_goals_are_one_run() -> None:
    h = half_space(1, sigma=0.01)
    start = (0.5 + h.w.view(SHAPE)).expand(2, 1, *SHAPE)
    ends = []
    for goal in (Misclassified(torch.zeros(2, dtype=torch.int64)), TargetedMisclassified(torch.ones(2).long())):
        oracle = oracle_on(half_space(1, sigma=0.01), 2, 150, criterion=goal, starts=start, eps=1.0)
        oracle.check()
        spec_of("hsja-na").run(oracle, streams(), options_of(spec_of("hsja-na"), None))
        ends.append(oracle.close().submitted[-1])
    assert torch.equal(*ends)


def test_a_pool_without_a_start_ends_an_image() -> None:
    wanted = TargetedMisclassified(torch.full((1,), 2))
    oracle = oracle_on(Three(), 1, 100, criterion=wanted, starts=torch.full((1, 3, *SHAPE), 0.5))
    oracle.check()
    spec_of("hsja").run(oracle, streams(), options_of(spec_of("hsja"), None))
    assert oracle.ledger.stop_reason == ["init_failed"]
    assert oracle.ledger.used.tolist() == [1 + 3]
    assert not bool(oracle.close().has_submitted.any())


def test_losses_of_the_goal() -> None:
    scores, image = torch.tensor([[0.2, 0.5, 0.3], [0.2, 0.5, 0.3]]), torch.arange(2)
    goal = TargetedMisclassified(torch.tensor([2, 1]))
    torch.testing.assert_close(goal.margin(scores, image), torch.tensor([0.3 / 0.5, 0.5 / 0.3]).log())
    torch.testing.assert_close(goal.cross_entropy(scores, image), torch.tensor([0.3, 0.5]).log())
    torch.testing.assert_close(goal.probability(scores, image), torch.tensor([-0.3, -0.5]))
    assert goal.surrogate(image)[0].tolist() == [2, 1]


# -- which labels, and which images ---------------------------------------------------------------------------


def test_labels_wanted() -> None:
    y, ids = torch.tensor([0, 9, 3]), [5, 6, 7]
    assert labels_wanted("next", y, ids, 0).tolist() == [1, 0, 4]
    assert labels_wanted("cat", y, ids, 0).tolist() == [3, 3, 3]
    drawn = labels_wanted("random", y.repeat(200), list(range(600)), 0)
    assert bool((drawn != y.repeat(200)).all())
    assert set(drawn[::3].tolist()) == {*range(1, 10)}
    assert drawn[:3].tolist() == labels_wanted("random", y, [0, 1, 2], 0).tolist()  # of the image and the seed alone
    assert drawn.tolist() != labels_wanted("random", y.repeat(200), list(range(600)), 1).tolist()


def test_the_pool_is_never_attacked_and_its_images_are_of_the_label_wanted() -> None:
    data, pool = cifar10.load_shipped(), cifar10.load_pool()
    assert torch.bincount(pool.labels).tolist() == [20] * 10
    left = attackable(data, "next")
    assert len(left) == 1000
    assert not bool(torch.isin(left.ids, pool.ids).any())
    assert 3 not in attackable(data, "cat").labels
    goal = goal_of("next", torch.tensor([2, 2]), [11, 12], 0, lambda x, label: torch.arange(len(x)) % 2 == 0)
    assert goal.labels.tolist() == [3, 3]
    assert goal.starts.shape == (2, 20, *SHAPE)
    own = pool.pixels((pool.labels == 3).nonzero().squeeze(1))
    first = [(own == start).flatten(1).all(1).nonzero().item() for start in goal.starts[0]]
    assert sorted(first) == [*range(20)]
    assert [k % 2 for k in first] == [0] * 10 + [1] * 10  # 60 + k is even where the bare model is right
    assert not torch.equal(goal.starts[0], goal.starts[1])


@pytest.mark.parametrize(
    ("target", "name", "dataset", "said"),
    [
        ("next", "rays", "cifar10", "no targeted form"),
        ("next", "hsja", "imagenet", "is for cifar10"),
        ("kat", "hsja", "cifar10", "cat"),
        ("10", "hsja", "cifar10", "10"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(target: str, name: str, dataset: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_target(target, spec_of(name), dataset)


def test_a_class_is_called_by_its_name() -> None:
    assert check_target("3", spec_of("hsja"), "cifar10") == check_target("cat", spec_of("hsja"), "cifar10") == "cat"
    assert check_target("", spec_of("rays"), "imagenet") == ""


# -- a whole run ----------------------------------------------------------------------------------------------


def test_a_targeted_run_and_its_file(snd: Callable[..., Done], tmp_path: Path) -> None:
    """Kept apart from the untargeted one by words, id and setting."""
    given = ["attack", "hsja-na", "--images", 2, "--budget", 60, "--sigma", 0.01, "--no-boundary", "--json"]
    done = snd(*given, "--target", "next", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)["rows"][0]
    assert row["target"] == "next"
    (path,) = tmp_path.glob("*.parquet")
    assert "to-next" in path.name
    table = results.read(path)
    labels, wanted = table.column("label").to_pylist(), table.column("target_label").to_pylist()
    assert wanted == [(label + 1) % 10 for label in labels]
    assert {*table.column("start_image").to_pylist()} <= {*cifar10.pool_ids().tolist()}
    assert not {*table.column("image_id").to_pylist()} & {*cifar10.pool_ids().tolist()}
    assert {*table.column("target").to_pylist()} == {"next"}
    config = results.run_of(table)["config"]
    targeted, other = setting_of(config), setting_of({k: v for k, v in config.items() if k != "target"})
    assert targeted != other
    assert targeted.attacked == "hsja-na to next"
    assert other.attacked == "hsja-na"
    refused = snd("attack", "rays", "--target", "next", "--images", 2, "--out", tmp_path)
    assert refused.returncode == 2
    assert len(refused.stderr.strip().splitlines()) <= 2


@pytest.mark.slow
def test_foolbox_starts_from_the_pool_too(snd: Callable[..., Done], tmp_path: Path) -> None:
    pytest.importorskip("foolbox")
    given = ["attack", "ba", "--engine", "foolbox", "--images", 1, "--budget", 120, "--target", "next", "--no-boundary"]
    done = snd(*given, "--out", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("*.parquet")
    table = results.read(path)
    assert table.column("status").to_pylist() == ["ok"]
    assert table.column("distance_submitted").to_pylist()[0][-1] < 30
