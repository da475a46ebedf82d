"""Wherever units are done, a run has the same bits; and no worker's end loses what was finished."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from conftest import Done
from crew import SIZE, Mortal, config, experiment, images
from test_interruption import same

from sndcli.errors import ConfigError, IncompleteError
from sndcli.models.classifier import Classifier, Normalisation
from sndcli.models.opaque import Facts, OpaqueModel
from sndcli.runs import results
from sndcli.runs.accuracy import accuracy, accuracy_by
from sndcli.runs.config import RunConfig
from sndcli.runs.executors import spread
from sndcli.runs.executors.processes import Processes
from sndcli.runs.executors.sent import Opened, Recipe, part_of
from sndcli.runs.executors.spread import Load, Wish, automatic
from sndcli.runs.gathered import Gathered
from sndcli.runs.meter import Tick

Snd = Callable[..., Done]
CPU = torch.device("cpu")


def ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_worker_that_is_killed_is_replaced_and_the_bits_are_the_same(tmp_path: Path) -> None:
    """Two workers, of which one dies of SIGKILL in its unit."""
    whole = experiment(tmp_path / "here.parquet", config()).run()
    lives = tmp_path / "lives"
    lives.mkdir()
    (lives / "one").touch()
    crew, told, ticks = Processes(["cpu", "cpu"], 1), list[str](), list[Tick]()
    try:
        run = experiment(tmp_path / "crew.parquet", config(), crew, Mortal(lives), warn=told.append)
        table = run.run(progress=ticks.append)
        processes = [worker.process for worker in crew._crew]
    finally:
        crew.close()
    assert same(table, whole)
    assert told == ["a worker died (signal 9, as when the memory is full); its images are done again"]
    assert [*lives.iterdir()] == []
    assert results.run_of(table)["unit"] == 3
    assert results.run_of(table)["fingerprint"] == results.run_of(whole)["fingerprint"] != ""
    assert {process.exitcode for process in processes} <= {
        -signal.SIGTERM,
        0,
    }  # told to end, or ended
    assert (ticks[-1].images, ticks[-1].total, ticks[-1].share) == (6, 6, 1.0)
    assert ticks[-1].queries == sum(table.column("queries").to_pylist())


@pytest.mark.slow
def test_workers_that_die_again_and_again_end_the_run_and_what_is_finished_stays(tmp_path: Path) -> None:
    lives = tmp_path / "lives"
    lives.mkdir()
    for k in range(9):
        (lives / str(k)).touch()
    crew, run = Processes(["cpu", "cpu"], 1), config(unit=2)
    try:
        with pytest.raises(IncompleteError, match="Workers died 3 times at the same images"):
            experiment(tmp_path / "a.parquet", run, crew, Mortal(lives, 40)).run()
    finally:
        crew.close()
    whole = experiment(tmp_path / "b.parquet", run).run()
    assert same(experiment(tmp_path / "a.parquet", run).run(), whole)


@pytest.mark.slow
def test_an_error_of_a_worker_is_the_same_error_here(tmp_path: Path) -> None:
    """Workers are kept from one run to the next, and one that failed is not."""
    crew = Processes(["cpu", "cpu"], 1)
    try:
        bad = experiment(tmp_path / "a.parquet", config(), crew, debug=True)
        bad.attacker = replace(bad.attacker, config=replace(bad.config, preset="nosuch"))
        with pytest.raises(ConfigError, match="nosuch"):
            bad.run()
        one = experiment(tmp_path / "b.parquet", config(), crew).run()
        first = {worker.process.pid for worker in crew._crew}
        two = experiment(tmp_path / "c.parquet", config("hsja-na"), crew).run()
        assert {worker.process.pid for worker in crew._crew} == first
    finally:
        crew.close()
    assert same(one, experiment(tmp_path / "d.parquet", config()).run())
    assert same(two, experiment(tmp_path / "e.parquet", config("hsja-na")).run())


@pytest.mark.slow
def test_an_accuracy_by_workers_is_the_same() -> None:
    run = config()
    one = experiment(Path("unused"), run)
    recipe = Recipe.of(one.victim, run.defense, run.precision, run.compiled)
    opened, crew, done = Opened(one.opened.model), Processes(["cpu", "cpu"], 1), list[int]()
    try:
        found = accuracy_by(crew, one.victim, opened, recipe, images(6), [0, 1, 2], done.append)
    finally:
        crew.close()
    assert found == accuracy(one.victim.defended, images(6), [0, 1, 2])
    assert done == [6, 12, 18]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_end_with_the_command_and_finished_units_stay(number: int, snd: Snd, tmp_path: Path) -> None:
    command = [
        "attack",
        "null",
        "--images",
        "24",
        "--budget",
        "60",
        "--verify",
        "2",
        "--no-boundary",
        "--sigma",
        "0.01",
    ]
    command += ["--unit", "4", "--batch-size", "64", "--no-progress"]
    out = tmp_path / "a.parquet"
    process = subprocess.Popen(
        [sys.executable, "-m", "sndcli", *command, "--workers", "2", "--out", out], stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    parts = tmp_path / "a.parts"
    for _ in range(1200):
        if [*parts.glob("*.parquet")]:
            break
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 128 + number, told
    assert told.count("snd: ") == 1
    assert "Traceback" not in told
    assert len(children) >= 2
    for _ in range(100):
        if all(ended(int(pid)) for pid in children):
            break
        time.sleep(0.1)
    assert all(ended(int(pid)) for pid in children)
    assert [*parts.glob("*.parquet")]
    assert snd(*command, "--out", out).returncode == 0
    assert snd(*command, "--out", tmp_path / "b.parquet").returncode == 0
    assert same(results.read(out), results.read(tmp_path / "b.parquet"))


class Asked(OpaqueModel):
    """A model that can only be asked."""

    def __init__(self, name: str) -> None:
        super().__init__(Facts(name=name, input_size=SIZE, classes=3, digest="x"))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(x), 3)


def test_auto_is_one_worker_where_more_would_not_pay_or_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "cores", lambda: 8)
    model = Classifier(torch.nn.Identity(), Normalisation((0.0,), (1.0,)), (3, 32, 32), "x")
    long, short = config(images=100, budget=10_000), config(images=100)

    def chosen(run: RunConfig, source: str | None = "resnet20", device: str = "cpu") -> int:
        return automatic([Load.of(run, model, source)], torch.device(device))

    assert chosen(long) == 6
    assert chosen(replace(long, images=1000)) == 8
    assert chosen(short) == 1
    assert chosen(long, "py:a:b") == 1
    assert chosen(long, None) == 1
    assert automatic([Load.of(long, Asked("onnx"), "onnx:x")], CPU) == 1
    assert chosen(replace(long, attack="hsja", engine="foolbox")) == 1
    large = Classifier(torch.nn.Identity(), Normalisation((0.0,), (1.0,)), (3, 224, 224), "x")
    assert automatic([Load.of(short, large, "resnet20")], CPU) == 6
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert chosen(short, "py:a:b", "cuda") == 1
    assert chosen(short, device="cuda") == 4
    assert chosen(short, device="cuda:1") == 1
    assert spread.devices(torch.device("cuda"), 5) == ["cuda:0", "cuda:1", "cuda:2", "cuda:3", "cuda:0"]
    assert spread.devices(torch.device("cuda:1"), 2) == ["cuda:1", "cuda:1"]


def test_a_remote_model_belongs_to_one_process() -> None:
    asked = Load(Asked("http://x"), "http://x", 1, 1)
    for wish in (Wish(2), Wish(kind="ray")):
        with pytest.raises(ConfigError, match="http"), spread.spread(wish, [asked], CPU):
            pass
    with spread.spread(Wish(1), [asked], CPU) as executor:
        assert executor.workers == 1


def test_images_of_a_worker_are_the_same_bits() -> None:
    data = images(6)
    index = torch.tensor([4, 1])
    assert torch.equal(part_of(data, index).pixels(), data.pixels(index))
    assert part_of(data, index).images.dtype == torch.uint8
    soft = replace(data, images=data.pixels() * 0.999)
    assert torch.equal(part_of(soft, index).pixels(), soft.pixels(index))


def test_ticks_of_several_units_are_added() -> None:
    ticks, told = list[Tick](), list[str]()
    gathered = Gathered(10, ticks.append, told.append)
    rows = pa.table({"seen": [[False, True]] * 2, "noisy": [[True, False], [False, True]], "queries": [7, 8]})
    gathered.there(rows)
    gathered.hear(0, Tick(30, 0, 4, 1, 0.5, "attack"))
    gathered.hear(1, Tick(10, 0, 4, 2, 0.25, "verification"))
    assert ticks[-1] == Tick(40, 2, 10, 5, 0.5, "verification", 1)
    gathered.hear(0, "a warning")
    gathered.ended(1, pa.table({"seen": [[True]] * 4, "noisy": [[True], [False], [None], [True]], "queries": [5] * 4}))
    assert ticks[-1] == Tick(50, 6, 10, 7, 0.8, "attack", 3)
    assert ticks[-1].provisional == "seen on 7 of 10 images (70 %) so far, noisy on 3 of 6 finished (50 %)"
    assert told == ["a warning"]
