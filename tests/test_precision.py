"""Rounding as noise: how it is measured, where it is refused, what is told of it; weights are cast once."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import CPU, Done, generator
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import sndcli
from sndcli.analysis.flags import flags
from sndcli.analysis.summary import summarise
from sndcli.cli.command import explained
from sndcli.datasets import cifar10
from sndcli.defenses.parse import DefenseSpec, build
from sndcli.defenses.small_noise import SmallNoise
from sndcli.errors import ConfigError
from sndcli.models.classifier import IDENTITY, Classifier, Normalisation
from sndcli.models.inference import Forward, lower, measure_batch_size, optimise
from sndcli.models.sources import load_model
from sndcli.runs import results
from sndcli.runs.config import RunConfig
from sndcli.runs.files import RunFiles
from sndcli.runs.rounding import check_rounding, measure
from sndcli.runs.victim import Victim
from sndcli.training.recipe import Recipe, recipe_of
from sndcli.training.robustness import PGD, robust_accuracy

DATA = Path(__file__).parents[1] / "docs" / "results" / "data"
BARE, NOISE = DefenseSpec(), DefenseSpec("snd", 0.01)


class Plane(nn.Module):
    """Logits ``(-m, m)`` with a margin 2m whose gradient is of length one, rounded to multiples of `step`."""

    def __init__(self, step: float) -> None:
        super().__init__()
        w = torch.randn(3 * 8 * 8, generator=generator(1))
        self.w, self.step = w / w.norm(), step

    def forward(self, x: Tensor) -> Tensor:
        margin = (x - 0.5).flatten(1) @ self.w + 1.0
        margin = torch.round(margin / self.step) * self.step if self.step else margin
        return torch.stack([margin, torch.zeros_like(margin)], 1)


def planes(step: float, defense: DefenseSpec) -> tuple[tuple[Forward, Forward], tuple[Forward, Forward]]:
    """Bare and defended, exact and rounded."""
    found = []
    for rounded in (0.0, step):
        model = Classifier(Plane(rounded), IDENTITY, (3, 8, 8), "plane")
        found.append((Forward(model, CPU), Forward(build(defense, model, CPU), CPU)))
    return found[0], found[1]


STEP = 0.005  # uniform rounding errors have a standard deviation of STEP / sqrt(12)


@pytest.mark.parametrize(
    ("defense", "share"),
    [
        (BARE, None),
        (NOISE, STEP / math.sqrt(12) / 0.01),
        (DefenseSpec("snd", 0.02, beta=1.0), STEP / math.sqrt(12) / (0.02 / math.sqrt(3))),  # noise times U(0, 1)
    ],
)
def test_the_noise_of_rounding_is_what_it_is(defense: DefenseSpec, share: float | None) -> None:
    exact, rounded = planes(STEP, defense)
    x = 0.5 + 0.1 * torch.randn(16, 3, 8, 8, generator=generator())
    found = measure(exact, rounded, defense, x, list(range(16)))
    assert found.sigma == pytest.approx(STEP / math.sqrt(12), rel=0.2)
    assert found.share == (None if share is None else pytest.approx(share, rel=0.25))
    same = measure(exact, exact, defense, x, list(range(16)))
    assert same.sigma == 0.0
    assert same.share in (None, 0.0)


def test_a_model_that_noise_does_not_move_has_no_such_figure() -> None:
    class Flat(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.ones(len(x), 2)

    forward = Forward(Classifier(Flat(), IDENTITY, (3, 8, 8), "flat"), CPU)
    found = measure((forward, forward), (forward, forward), NOISE, torch.rand(2, 3, 8, 8), [0, 1])
    assert found.as_dict() == {"sigma": None, "share": None}


class Counted(TorchDispatchMode):
    """Counts operators."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls[func.__name__.split(".")[0]] += 1
        return func(*args, **(kwargs or {}))


def test_weights_are_cast_once_with_the_bits_of_autocast_and_half_of_its_operators() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))
            self.norm = nn.BatchNorm2d(8)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x + self.two(torch.relu(self.norm(self.one(x)))))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 8, 3), *(Block() for _ in range(4)), nn.Flatten(), nn.Linear(288, 4))
    plain = optimise(Classifier(network, Normalisation((0.5,) * 3, (0.25,) * 3), (3, 8, 8), "blocks"), CPU)
    x = torch.rand(2, 3, 8, 8, generator=generator())
    with Counted() as autocast, torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        wanted = plain(x).float()
    exact = Forward(plain, CPU)(x)
    lower(plain, "bf16")
    with Counted() as cast, torch.no_grad():
        found = plain(x)
    assert found.dtype == torch.float32
    assert torch.equal(found, wanted)
    assert not torch.equal(found, exact)
    torch.testing.assert_close(found, exact, atol=0.05, rtol=0.05)
    assert cast.calls["_to_copy"] == 2  # images in, logits out
    assert cast.calls.total() <= 0.65 * autocast.calls.total()


def test_noise_on_images_is_added_before_anything_is_rounded() -> None:
    class Seen(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return x.flatten(1)[:, :2]

    seen: list[Tensor] = []
    model = Classifier(Seen(), IDENTITY, (3, 4, 4), "seen")
    defended = SmallNoise(model, 0.01, generator=generator())
    x = torch.rand(3, 3, 4, 4, generator=generator(1))
    lower(defended, "bf16")
    defended(x)
    noisy = SmallNoise(nn.Identity(), 0.01, generator=generator()).perturb(x)
    assert torch.equal(seen[0], noisy.to(torch.bfloat16))


@pytest.mark.slow
@pytest.mark.parametrize("defense", ["none", "rnp", "rse", "pni", "pni-shared"])
def test_every_defense_computes_in_bf16(defense: str) -> None:
    spec, data = DefenseSpec(defense), cifar10.load_shipped().part(torch.arange(16), "a few")
    victim = Victim.prepare(load_model("resnet20"), spec, CPU, 16, "bf16")
    victim.fit_to(data)
    assert victim.rounding.sigma is not None
    assert 3e-4 < victim.rounding.sigma < 2e-3  # two ways of measuring it give 0.0007 and 0.0009
    if defense == "none":
        assert victim.rounding.share is None
    else:
        assert victim.rounding.share is not None
        assert victim.rounding.share < 0.2
    assert bool(victim.defended(data.pixels()).isfinite().all())


# -- refused and told -----------------------------------------------------------------------------------------------


def test_a_reduced_precision_needs_a_defense_or_a_word() -> None:
    for defense in (BARE, DefenseSpec("snd", 0.0)):
        with pytest.raises(ConfigError, match="--allow-rounding"):
            check_rounding("bf16", defense, False)
        check_rounding("bf16", defense, True)
        check_rounding("fp32", defense, False)
    for defense in (NOISE, DefenseSpec("rnp"), DefenseSpec("pni+snd", 0.01)):
        check_rounding("bf16", defense, False)


@pytest.mark.parametrize(
    "command",
    ["attack hsja", "attack hsja --sigma 0,0.01", "adaptive hsja", "sigma-sweep hsja", "serve"],
)
def test_commands_refuse_it_in_one_line(snd: Callable[..., Done], tmp_path: Path, command: str) -> None:
    if command == "serve":
        pytest.importorskip("fastapi")
    out = [] if command == "serve" else ["--out", tmp_path / "out"]
    done = snd(*command.split(), "--precision", "bf16", *out)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "--allow-rounding" in done.stderr
    assert not (tmp_path / "out").exists()


MODEL = """
import torch
from sndcli.models.classifier import Classifier, Normalisation

def tiny():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.AvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(192, 10))
    return Classifier(network, Normalisation((0.5,) * 3, (0.25,) * 3), (3, 32, 32), "tiny")
"""


def test_what_was_measured_is_in_the_file_in_json_and_a_flag(
    snd: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rounding_tiny.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    common = ["attack", "null", "--model", "py:rounding_tiny:tiny", "--images", 2, "--select", "all", "--budget", 20,
              "--verify", 2, "--no-boundary", "--batch-size", 64, "--json"]  # fmt: skip
    told = {}
    for name, options in {
        "fp32": [], "bare": ["--precision", "bf16", "--allow-rounding"],
        "small": ["--precision", "bf16", "--sigma", "1e-4"], "large": ["--precision", "bf16", "--sigma", "0.05"],
    }.items():  # fmt: skip
        path = tmp_path / f"{name}.parquet"
        done = snd(*common, *options, "--out", path)
        assert done.returncode == 0, done.stderr
        table = results.read(path)
        rounding = results.run_of(table)["rounding"]
        (row,) = summarise([table])
        assert (row.scales.sigma_round, row.scales.rounding_share) == (rounding["sigma"], rounding["share"])
        assert '"sigma_round"' in done.stdout
        told[name] = (rounding, {flag.name for flag in flags([row])} & {"rounding_defends"})
    assert told["fp32"] == ({"sigma": 0.0, "share": 0.0}, set())
    assert told["bare"][0]["share"] is None
    sigma = told["bare"][0]["sigma"]
    assert sigma is not None
    assert sigma > 0
    assert sigma == told["small"][0]["sigma"]
    assert told["bare"][1] == told["small"][1] == {"rounding_defends"}
    assert told["large"][0]["share"] == pytest.approx(sigma / 0.05)
    assert told["large"][1] == set()


def test_the_python_api_refuses_it_too() -> None:
    x, y = torch.rand(1, 3, 8, 8), torch.zeros(1, dtype=torch.int64)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    with pytest.raises(ConfigError, match="--allow-rounding"):
        sndcli.attack("null", model, x, y, budget=2, precision="bf16", batch_rows=8)
    found = sndcli.attack("null", model, x, y, budget=2, precision="bf16", batch_rows=8, allow_rounding=True)
    assert len(found.labels) == 1


# -- devices --------------------------------------------------------------------------------------------------------


def test_the_type_of_device_is_part_of_a_run_where_it_is_not_the_cpu() -> None:
    here = RunConfig("hsja", "cifar10", "s", "d", "resnet20", "m")
    there = replace(here, device="cuda")
    assert "device" not in here.as_dict()
    assert there.as_dict() == here.as_dict() | {"device": "cuda"}
    assert here.run_id != there.run_id
    assert here.file_name != there.file_name


@pytest.mark.parametrize("part", [False, True])
def test_a_result_of_another_device_is_not_returned(tmp_path: Path, part: bool) -> None:
    """Files of version 0.1 have one id for all devices."""
    table = results.read(next(DATA.glob("hsja_*_q500_*.parquet"))).drop_columns(["device"])  # as it was written
    config = RunConfig("null", "cifar10", "s", "d", "m", "m", budget=2, images=1)
    files = RunFiles(tmp_path / "a.parquet", config)
    run: results.Metadata = {"id": config.run_id, "config": config.as_dict()}
    path = files.part("seed0-unit0") if part else files.path
    path.parent.mkdir(exist_ok=True)
    for device, fine in (("cpu x86_64", True), ("cuda NVIDIA H200", False)):
        results.write_table(path, table, {**run, "versions": {"device": device}})
        kept = results.read(path)
        assert set(kept["device"].to_pylist()) == {device.split()[0]}
        assert summarise([kept])[0].setting.device == device.split()[0]
        if fine:
            assert (files.rows_of(path, print) if part else files.finished()) is not None
            continue
        with pytest.raises(ConfigError, match="was made on cuda, and this run is on cpu"):
            files.rows_of(path, print) if part else files.finished()


def test_a_recipe_says_which_precision_is_really_used() -> None:
    recipe = recipe_of("resnet20")
    assert recipe.on("cpu") == recipe
    assert not recipe.bf16
    assert recipe.on("cuda") == replace(recipe, bf16=True)
    assert replace(recipe, bf16=True).on("cpu").bf16
    assert Recipe(**recipe.on("cuda").as_dict()).bf16  # type: ignore[arg-type]


def test_the_batch_search_goes_below_its_smallest_size_where_memory_is_short() -> None:
    """And the search of the CPU, which begins at 32, as that of CUDA, at 256."""

    class Small(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            tried.append(len(x))
            if len(x) > room:
                raise torch.cuda.OutOfMemoryError
            return x.flatten(1)[:, :2]

    for room in (40, 20, 9):
        tried: list[int] = []
        assert measure_batch_size(Small(), (3, 8, 8), CPU) == {40: 32, 20: 16, 9: 8}[room]
        assert max(tried[-2:]) <= room
    room = 7
    with pytest.raises(torch.cuda.OutOfMemoryError):
        measure_batch_size(Small(), (3, 8, 8), CPU)


@pytest.mark.parametrize("text", ["linf:8/255:2", "l2:0.5:2"])
def test_pgd_needs_no_certain_batch_and_survives_little_memory(text: str) -> None:
    class Narrow(nn.Module):
        """At most `room` rows."""

        room = 1000

        def forward(self, x: Tensor) -> Tensor:
            if len(x) > self.room:
                raise torch.cuda.OutOfMemoryError
            rows.append(len(x))
            logits: Tensor = plane(x)
            return logits

    rows: list[int] = []
    plane, model, pgd = Plane(0.0), Narrow(), PGD.parse(text)
    data = cifar10.load_shipped().part(torch.arange(250), "a few")
    small = replace(data, images=data.images[:, :, :8, :8], labels=torch.zeros(250, dtype=torch.int64))
    wanted = robust_accuracy(model, small, pgd, CPU, 250)
    assert wanted < 1 or pgd.norm == "linf"
    assert robust_accuracy(model, small, pgd, CPU, 250, batch_size=64) == wanted
    assert max(rows[-3:]) <= 64
    model.room = 30
    assert robust_accuracy(model, small, pgd, CPU, 250) == wanted
    model.room = 0
    with pytest.raises(torch.cuda.OutOfMemoryError):
        robust_accuracy(model, small, pgd, CPU, 250)


def test_a_full_device_is_one_line_and_exit_code_3() -> None:
    text, code = explained(torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."))
    assert code == 3
    assert "\n" not in text
    assert "--batch-size" in text

    class Full(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise torch.cuda.OutOfMemoryError

    with pytest.raises(torch.cuda.OutOfMemoryError):  # and not: fails on images of 8 x 8
        Victim.prepare(Classifier(Full(), IDENTITY, (3, 8, 8), "full"), BARE, CPU, 8)
