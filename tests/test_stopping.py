"""What ends an image's attack: lucky answers, paid repeats, unpaid draws; and images that are named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import CPU, Done, generator
from scipy.stats import binom
from torch import Tensor

from sndcli.attacks.score import square
from sndcli.cli import image_ids
from sndcli.datasets import cifar10
from sndcli.datasets.base import ImageSet
from sndcli.defenses.parse import DefenseSpec
from sndcli.errors import ConfigError
from sndcli.models.classifier import Classifier, Normalisation
from sndcli.models.inference import Forward
from sndcli.queries.criterion import Misclassified
from sndcli.queries.oracle import REFUSED, Oracle
from sndcli.queries.stopping import ENOUGH, FIRST, MORE, PROMISING, VOTES, Verified, grid
from sndcli.runs.config import RunConfig
from sndcli.runs.experiment import Experiment
from sndcli.runs.victim import Victim
from sndcli.streams import HALF, PURPOSES, SITES, ImageStreams, seed_of

SIZE = (1, 8, 8)
EPS = 1.0


class Coin:
    """Label 1 (wrong) with probability p beyond a distance from grey, else 0; counts its rows."""

    def __init__(self, p: float, beyond: float = 0.0, seed: int = 0) -> None:
        self.p, self.beyond, self.draws, self.rows = p, beyond, generator(seed), 0

    def __call__(self, z: Tensor) -> Tensor:
        self.rows += len(z)
        far = (z - 0.5).flatten(1).norm(dim=1) > self.beyond
        wrong = far & (torch.rand(len(z), generator=self.draws) < self.p)
        return torch.stack([torch.where(wrong, -1.0, 1.0), torch.where(wrong, 1.0, -1.0)], 1)


def verified(coin: Coin, n: int, budget: int = 1000, random: bool = True) -> Verified:
    criterion = Misclassified(torch.zeros(n, dtype=torch.int64))
    grey = torch.full((n, *SIZE), 0.5)
    return Verified(
        coin, grey, criterion, eps=EPS, norm="l2", quantize=False, budget=budget, streams=None, random=random
    )


def oracle_of(coin: Coin, n: int = 4, budget: int = 1000, **given: Any) -> Oracle:
    grey = torch.full((n, *SIZE), 0.5)
    return Oracle(coin, grey, torch.zeros(n, dtype=torch.int64), budget=budget, eps=EPS, **given)


def at(distance: float, n: int = 4) -> Tensor:
    point = torch.full((n, *SIZE), 0.5)
    point += distance / 8
    return point


def test_the_grid() -> None:
    points = grid(10_000)
    assert (points[:4], points[-2:], len(points)) == ([50, 71, 100, 141], [9051, 10_000], 17)
    assert grid(50) == [50]
    assert grid(20) == [20]


@pytest.mark.parametrize("p", [0.45, 0.5, 0.6, 0.7])
def test_a_point_is_confirmed_as_often_as_its_draws_say(p: float) -> None:
    first = np.arange(PROMISING, FIRST + 1)
    expected = float((binom.pmf(first, FIRST, p) * binom.sf(ENOUGH - first - 1, MORE, p)).sum())
    assert expected == pytest.approx({0.45: 0.002, 0.5: 0.028, 0.6: 0.54, 0.7: 0.986}[p], abs=0.005)
    n = 600
    oracle = oracle_of(Coin(0.0), n, verified=verified(Coin(p), n))
    oracle.submit(at(0.4, n), torch.arange(n))
    oracle.close()
    share = sum(reason == "confirmed" for reason in oracle.ledger.stop_reason) / n
    assert share == pytest.approx(expected, abs=4 * (expected * (1 - expected) / n) ** 0.5)


def test_a_confirmed_image_is_asked_no_more_and_keeps_its_point() -> None:
    model = Coin(0.0)
    oracle = oracle_of(model, 2, verified=verified(Coin(1.0, beyond=0.9), 2))
    one = torch.tensor([0])
    oracle.labels(at(0.1, 30), torch.zeros(30, dtype=torch.int64), "a")
    oracle.submit(at(0.3, 1), one)  # moved out it is wrong
    oracle.labels(at(0.1, 20), torch.zeros(20, dtype=torch.int64), "a")
    assert oracle.active.tolist() == [True, True]  # 50 queries are paid: the point of the grid is not passed yet
    answers = oracle.labels(at(0.1, 6), torch.tensor([0, 1, 0, 1, 1, 0]), "a")
    assert (answers == REFUSED).tolist() == [True, False, True, False, False, True]
    assert (oracle.ledger.used.tolist(), model.rows) == ([50, 3], 53)
    oracle.submit(at(0.2, 1), one)
    ledger = oracle.close()
    assert ledger.stop_reason == ["confirmed", "budget"]
    assert torch.equal(ledger.submitted[-1][:1], at(0.3, 1))


def test_draws_are_made_only_of_new_points_inside_the_bound() -> None:
    coin = Coin(0.0)
    oracle = oracle_of(Coin(0.0), 1, verified=verified(coin, 1))
    one, asked = torch.tensor([0]), []
    for distance in (None, 1.2, 0.5, 0.5, 0.4):
        if distance:
            oracle.submit(at(distance, 1), one)
        oracle.labels(at(0.1, 60), torch.zeros(60, dtype=torch.int64), "a")
        asked.append(coin.rows)
    assert asked == [0, 0, FIRST, FIRST, 2 * FIRST]
    sure = Coin(1.0)
    oracle = oracle_of(Coin(0.0), 1, verified=verified(sure, 1, random=False))
    oracle.submit(at(0.5, 1), one)
    oracle.close()
    assert (oracle.ledger.stop_reason, sure.rows) == (["confirmed"], 1)


def test_a_lucky_answer_does_not_end_an_attack_that_must_confirm() -> None:
    def ended(p: float, confirm: int) -> list[str]:
        oracle = oracle_of(Coin(p, beyond=0.1), 4, 200, confirm=confirm)
        oracle.check(scores=True)
        square.run(oracle, ImageStreams(0, range(4), "attack"), square.Options())
        assert oracle.ledger.used.max() <= 200
        assert ("confirm" in oracle.ledger.phases) == bool(confirm)
        return oracle.close().stop_reason

    assert ended(0.2, 0) == ["success"] * 4
    assert ended(0.2, VOTES).count("success") <= 1
    assert ended(0.9, VOTES) == ["success"] * 4


# -- runs ----------------------------------------------------------------------------------------------------


class Step(torch.nn.Module):
    """Wrong where the first pixel is above a half by `margin`; always wrong on the brightest images."""

    def forward(self, z: Tensor) -> Tensor:
        value = torch.maximum(z[:, 0, 0, 0] - 0.8, z[:, 0, 1, 1] - 0.9)
        return torch.stack([-value, value], 1)


def images(count: int = 3) -> ImageSet:
    pixels = torch.full((count, *SIZE), 128, dtype=torch.uint8)
    pixels[-1, 0, 1, 1] = 255  # the model errs there
    labels = torch.zeros(count, dtype=torch.int64)
    return ImageSet("grey", "made here", pixels, labels, 10 + torch.arange(count), ("right", "wrong"))


def run(out: Path, **changes: Any) -> tuple[dict[str, list[Any]], RunConfig]:
    model = Classifier(Step(), Normalisation((0.0,), (1.0,)), SIZE, "step")
    victim = Victim(model, Forward(model, CPU), Forward(model, CPU))
    config = replace(
        RunConfig("hsja", "cifar10", "made here", "", "step", "", eps=3 * EPS, budget=200, budgets=(200,), images=3,
                  select="all", verify=5, boundary=False),
        **changes,
    )  # fmt: skip
    return Experiment(config, images(), victim, out, debug=True).run().to_pydict(), config


def test_a_run_that_stops_when_it_is_verified(tmp_path: Path) -> None:
    rows, config = run(tmp_path, stop="verified")
    at_clean = rows["image_id"].index(12)
    others = [k for k in range(3) if k != at_clean]
    assert (rows["stop_reason"][at_clean], rows["queries"][at_clean]) == ("clean_wrong", 1)
    assert rows["noisy"][at_clean] == [True]
    assert [rows["stop_reason"][k] for k in others] == ["confirmed"] * 2
    assert all(1 < rows["queries"][k] < 200 and rows["noisy"][k] == [True] for k in others)
    assert config.as_dict()["stop"] == "verified"
    plain, usual = run(tmp_path)
    assert min(plain["queries"]) > max(rows["queries"])
    assert usual.run_id != config.run_id
    named, _ = run(tmp_path, image_ids=(11, 10), images=2)
    assert named["image_id"] == [11, 10]
    both = {image: k for k, image in enumerate(plain["image_id"])}
    assert [plain["queries"][both[image]] for image in (11, 10)] == named["queries"]


def test_ids_of_runs_from_before_stay() -> None:
    config = RunConfig("hsja", "cifar10", "s", "d", "m", "m", DefenseSpec("snd", 0.01))
    assert not {"stop", "image_ids"} & config.as_dict().keys()
    assert config.run_id == "731c09aecaf4"
    for stop in ("confirmed", "verified"):
        assert replace(config, stop=stop).run_id != config.run_id


def test_draws_that_confirm_share_no_seed_with_others() -> None:
    others = {seed_of(3, 7, purpose, site) for purpose in PURPOSES if purpose != "final" for site in range(SITES)}
    mine = {seed_of(3, 7, purpose, site) for purpose in ("final", "confirm") for site in range(HALF)}
    assert len(mine) == SITES
    assert not mine & others
    with pytest.raises(ConfigError, match="at most 128 places"):
        seed_of(3, 7, "confirm", HALF)


@pytest.mark.parametrize(
    ("text", "expected"), [("3,17, 42", (3, 17, 42)), ("5", (5,)), ("ids.txt", (8, 9)), (None, ())]
)
def test_image_ids(
    text: str | None, expected: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ids.txt").write_text("8\n9\n")
    assert image_ids.read(text) == expected


def test_image_ids_that_cannot_be(snd: Any, tmp_path: Path) -> None:
    (tmp_path / "words").write_text("3 four")
    first = int(cifar10.load_shipped().ids[0])
    for options, told in (
        (["--image-ids", "no-such-file"], "numbers such as 3,17,42"),
        (["--image-ids", tmp_path / "words"], "whole numbers but got `four`"),
        (["--image-ids", f"{first},{first}"], "each image once"),
        (["--image-ids", "3", "--images", 1], "no --images"),
        (["--image-ids", "99999999"], "has no image 99999999"),
        (["--stop", "never"], "seen or confirmed or verified"),
        (["--stop", "verified", "--engine", "foolbox"], "ends by its own rules"),
    ):
        done: Done = snd("attack", "hsja", *options, "--budget", 20, "--out", tmp_path)
        assert done.returncode == 2
        assert told in done.stderr
