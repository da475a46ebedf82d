"""What a sweep recommends, and the length of the noise."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from conftest import Done

from sndcli.analysis import statistics, sweep
from sndcli.analysis.measures import Interval
from sndcli.analysis.setting import Setting
from sndcli.analysis.summary import Summary
from sndcli.attacks.registry import ATTACKS, noise_aware
from sndcli.datasets.base import ImageSet
from sndcli.defenses.parse import DefenseSpec
from sndcli.defenses.small_noise import SmallNoise
from sndcli.paper.closed_forms import gaussian_length
from sndcli.paper.noise import noise_length

Snd = Callable[..., Done]


def point(sigma: float, noisy: Sequence[Sequence[bool]], accuracy: float = 0.91) -> sweep.Point:
    """A setting with these outcomes, one list a seed."""
    outcomes = {(s, k): hit for s, of_seed in enumerate(noisy) for k, hit in enumerate(of_seed)}
    share = sum(outcomes.values()) / len(outcomes)
    setting = Setting("hsja-na", "native", "d", "m", "snd", sigma, None, 1, "l2", 1.0)
    row = Summary(setting, (0,), 100, {"success_noisy": Interval(share, share, share)})
    return sweep.Point(
        f"snd {sigma:g}" if sigma else "none", sigma, None, accuracy, 0.0, 0.0, 0.0,
        [row],
        outcomes={100: {"success_noisy": outcomes, "success_seen": outcomes}},
    )  # fmt: skip


def first(broken: int, of: int = 40) -> list[list[bool]]:
    return [[k < broken for k in range(of)]]


def advice(points: Sequence[sweep.Point], aware: bool = True) -> sweep.Advice:
    sweep.pair(points)
    return sweep.advise(points, 0.913, 0.01, aware)


def test_what_does_not_differ_from_none_is_not_recommended() -> None:
    """Δ = 0, with the interval that some images not drawn might differ."""
    found = advice([point(0, first(40)), point(0.001, first(40)), point(0.01, first(40))])
    assert (found.verdict, found.best) == ("none_helps", None)
    assert "no σ tested helps" in found.text


def test_chance_is_no_gain_and_neither_is_harm() -> None:
    assert advice([point(0, first(40)), point(0.01, first(39))]).verdict == "none_helps"
    assert advice([point(0, first(10)), point(0.01, first(30))]).verdict == "none_helps"


def test_a_published_attack_decides_nothing() -> None:
    found = advice([point(0, first(40)), point(0.01, first(0))], aware=False)
    assert (found.verdict, found.best) == ("undecided", None)
    assert found.text.startswith("Not decided: published attack only")


def test_a_real_gain_is_recommended() -> None:
    points = [point(0, first(40)), point(0.001, first(38)), point(0.01, first(15)), point(0.02, first(5), 0.87)]
    found = advice(points)
    assert found.verdict == "recommended"
    assert found.best is points[2]  # 0.02 helps more and costs too much
    assert "Recommended: snd 0.01" in found.text
    assert "-62.5" in found.text
    dear = advice([points[0], points[3]])
    assert (dear.verdict, dear.best) == ("too_costly", None)
    assert dear.as_dict() == {"verdict": "too_costly", "setting": None, "text": dear.text}


def test_settings_are_compared_with_none_wherever_it_stands() -> None:
    points = [point(0.01, first(15)), point(0, first(40))]
    assert advice(points).best is points[0]
    assert points[1].differences[100]["success_noisy"] == {"value": 0, "lo": 0, "hi": 0, "p": 1}
    assert points[0].differences[100]["success_noisy"]["value"] == pytest.approx(-25 / 40)
    alone = advice([point(0.01, first(15)), point(0.02, first(5))])
    assert alone.verdict == "undecided"
    assert "σ = 0 is not among the settings" in alone.text


def test_seeds_of_an_image_are_not_independent_images() -> None:
    """Five seeds that agree on every image say as much as one."""
    once = [point(0, first(20, 20)), point(0.01, first(12, 20))]
    often = [point(0, first(20, 20) * 5), point(0.01, first(12, 20) * 5)]
    for points in (once, often):
        sweep.pair(points)
    assert often[1].differences == once[1].differences
    as_if = statistics.paired_difference([float(k < 12) - 1.0 for k in range(20)] * 5)
    mine = often[1].differences[100]["success_noisy"]
    assert mine["hi"] - mine["lo"] > 1.8 * (as_if[2] - as_if[1])


def test_which_attacks_know_of_the_noise() -> None:
    """What is not listed does not know, whatever it is called."""
    aware = {(name, preset) for name, spec in ATTACKS.items() for preset in spec.presets if noise_aware(name, preset)}
    assert aware == {
        ("hsja-na", "sequential"), ("hsja-na", "majority"), ("popskipjump", "authors"), ("popskipjump", "share"),
        ("ba", "na"), ("sign-opt", "na"), ("geoda", "na"), ("rays", "na"), ("simba", "na"), ("simba-dct", "dct-na"),
        ("square", "na"), ("nattack", "na"), ("nes-na", "near"), ("nes-na", "first"),
    }  # fmt: skip
    assert {name for name in ATTACKS if noise_aware(name)} == {"hsja-na", "nes-na", "popskipjump"}
    assert not noise_aware("of-a-plug-in", "na")


@pytest.mark.slow
def test_the_command_says_so(snd: Snd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sndcli.runs.accuracy.accuracy", lambda forward, data, seeds: [0.9] * len(seeds))
    options = ("--images", 3, "--budget", 40, "--budgets", 20, "--verify", 4, "--accuracy-repeats", 1, "--no-boundary",
               "--no-progress", "--batch-size", 64, "--sigmas", "0,0.01")  # fmt: skip
    for name, verdict, text in (("null", "undecided", "published attack only"), ("hsja-na", "none_helps", "no σ")):
        done = snd("sigma-sweep", name, *options, "--json", "--out", tmp_path)
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert answer["recommended"] is None
        assert answer["recommendation"]["verdict"] == verdict
        assert text in answer["recommendation"]["text"]
        assert answer["recommendation"]["text"] in snd("sigma-sweep", name, *options, "-q", "--out", tmp_path).stdout


# -- the length of the noise ------------------------------------------------------------------------------------


def images(value: int, count: int = 200) -> ImageSet:
    plain = torch.full((count, 3, 32, 32), value, dtype=torch.uint8)
    return ImageSet("made up", "here", plain, torch.zeros(count, dtype=torch.int64), torch.arange(count), ("a",))


def test_the_length_of_gaussian_noise_is_its_closed_form() -> None:
    everyone = torch.arange(200)
    for sigma in (0.001, 0.01, 0.02):
        found = noise_length(DefenseSpec("snd", sigma), images(128), everyone)
        assert found == pytest.approx(sigma * math.sqrt(3072) * (1 - 1 / (4 * 3072)), rel=1e-6)
    assert gaussian_length(1, 1.0) == pytest.approx(math.sqrt(2 / math.pi))
    assert gaussian_length(2, 1.0) == pytest.approx(math.sqrt(math.pi / 2))
    assert noise_length(DefenseSpec(), images(128), everyone) == 0


def test_the_length_of_scaled_noise_is_half_of_it() -> None:
    spec = DefenseSpec("snd", 0.01, 2.0)
    found = noise_length(spec, images(128), torch.arange(200))
    draws = SmallNoise(torch.nn.Identity(), 0.01, 2.0, generator=torch.Generator().manual_seed(1))
    drawn = draws.perturb(torch.zeros(2000, 3, 32, 32)).flatten(1).norm(dim=1)
    assert found == pytest.approx(float(drawn.mean()), rel=3 * float(drawn.std() / drawn.mean()) / math.sqrt(2000))


def test_clipped_noise_is_shorter_where_images_touch_the_ends() -> None:
    spec, everyone = DefenseSpec("snd", 0.01, clip=True), torch.arange(200)
    whole = gaussian_length(3072, 0.01)
    assert noise_length(spec, images(128), everyone) == pytest.approx(whole, rel=1e-3)
    assert noise_length(spec, images(0), everyone) == pytest.approx(whole / math.sqrt(2), rel=2e-3)
