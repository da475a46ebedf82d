"""``--compile auto|on|off``: how it is written, when networks are compiled, and that a run keeps what it began with."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import crew
import pytest
import torch
from conftest import CPU, Done

from sndcli.cli.compiling import spelled, wished
from sndcli.defenses.parse import parse
from sndcli.models.classifier import CIFAR10, Classifier, Normalisation
from sndcli.models.inference import BUCKETS, compiled, pieces, sizes_to_compile
from sndcli.runs import compiling, results
from sndcli.runs.compiling import pays, settled
from sndcli.runs.config import RunConfig

Snd = Callable[..., Done]
MODEL = Classifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10)), CIFAR10)


def large(**changes: object) -> RunConfig:
    return replace(crew.config(images=100, budget=10_000, budgets=()), **changes)  # type: ignore[arg-type]


@pytest.fixture
def with_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "compiler", lambda device: True)


@pytest.mark.parametrize(("given", "read"), [
    (["hsja", "--compile"], ["hsja", "--compile=on"]), (["--compile", "hsja"], ["--compile=on", "hsja"]),
    (["--compile", "auto", "hsja"], ["--compile=auto", "hsja"]), (["--compile=off"], ["--compile=off"]),
    (["--no-compile", "--compile"], ["--compile=off", "--compile=on"]), ([], []),
])  # fmt: skip
def test_the_value_may_be_left_out(given: list[str], read: list[str]) -> None:
    assert spelled(given) == read


def test_what_is_parted_among_machines_is_not_compiled_unasked() -> None:
    assert [wished(choice, parted=True) for choice in ("auto", "on", "off")] == [False, True, False]
    assert wished("auto") is None


def test_another_value_is_refused(snd: Snd) -> None:
    done = snd("attack", "null", "--compile=always")
    assert done.returncode == 2
    assert "expected auto, on or off but got `always`" in done.stderr


def test_large_runs_are_compiled(tmp_path: Path, with_compiler: None) -> None:
    run = large()
    assert settled(run, MODEL, "resnet20", tmp_path, False).compiled
    assert settled(run, MODEL, "resnet20", tmp_path / "a.parquet", False).compiled
    assert not settled(replace(run, images=99), MODEL, "resnet20", tmp_path, False).compiled
    assert settled(replace(run, images=50, repeats=2), MODEL, "resnet20", tmp_path, False).compiled
    picture = Classifier(MODEL.network, CIFAR10, (3, 224, 224))
    assert pays(replace(run, images=3), picture, "torchvision:resnet50")


def test_networks_that_may_not_be_compilable_are_left(with_compiler: None) -> None:
    run = large()
    assert pays(run, MODEL, "resnet20")
    assert not pays(run, MODEL, "py:mine:factory")
    assert not pays(replace(run, defense=parse("rse", None, None)), MODEL, "resnet20")
    assert not pays(replace(run, defense=parse("pni+snd", 0.01, None)), MODEL, "resnet20")
    assert not pays(run, object(), "onnx:m.onnx")  # type: ignore[arg-type]


def test_without_a_compiler_nothing_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert not settled(large(), MODEL, "resnet20", tmp_path, False).compiled


def test_a_run_keeps_what_it_began_with(tmp_path: Path, with_compiler: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result of before, when nothing was compiled unasked, is found; so is a run that was cut short."""
    model = Classifier(crew.Linear(), Normalisation((0.0,), (1.0,)), crew.SIZE, "linear")
    run = crew.config("null")
    monkeypatch.setattr(compiling, "PAYS", 1)
    assert settled(run, model, "linear", tmp_path, False).compiled
    crew.experiment(tmp_path, run).run()
    assert settled(run, model, "linear", tmp_path, False) == run
    assert settled(run, model, "linear", tmp_path, True).compiled
    monkeypatch.setattr(compiling, "PAYS", 10**9)
    other, begun = tmp_path / "other", replace(run, compiled=True)
    cut_short = crew.experiment(other, begun)
    with cut_short.files.alone():
        cut_short.files.make_folder(print)
        cut_short._units(1, alone=True)
    assert settled(run, model, "linear", other, False) == begun
    file = tmp_path / "named.parquet"
    crew.experiment(file, run).run()
    assert settled(run, model, "linear", file, False) == run


def test_pieces_are_of_few_sizes_and_waste_little() -> None:
    assert sizes_to_compile(CPU, 128) == (16,)
    assert sizes_to_compile(CPU, 8) == (8,)
    sizes = sizes_to_compile(torch.device("cuda"), 4096)
    assert sizes == BUCKETS
    for rows in (1, 16, 17, 100, 128, 129, 1000, 4096, 5000, 12_345):
        found = pieces(rows, sizes)
        assert rows <= sum(found) < max(17, 2 * rows + 64)
        assert len(found) <= rows // 4096 + 1


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="compiling needs a C++ compiler")
def test_an_automatic_run_says_so_and_goes_on_with_it(
    snd: Snd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("attack", "null", "--images", 2, "--budget", 4, "--sigma", 0.01, "--out", tmp_path)
    monkeypatch.setattr(compiling, "PAYS", 1)
    first = snd(*arguments)
    assert "is compiled" in first.stderr
    (path,) = tmp_path.glob("*.parquet")
    assert results.run_of(results.read(path))["config"]["compiled"] is True
    monkeypatch.setattr(compiling, "PAYS", 10**9)
    assert "already there" in snd(*arguments).stderr
    assert "already there" not in snd(*arguments, "--no-compile").stderr
    assert len([*tmp_path.glob("*.parquet")]) == 2


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="compiling needs a C++ compiler")
def test_a_model_is_compiled_once_for_all_defenses() -> None:
    assert compiled(MODEL, CPU, (16,), "fp32") is compiled(MODEL, CPU, (16,), "fp32")
    assert compiled(MODEL, CPU, (16,), "fp32") is not compiled(MODEL, CPU, (16,), "bf16")
