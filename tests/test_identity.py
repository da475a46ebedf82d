"""What makes a run another run, what does not, and what a second call of a finished one says."""

from __future__ import annotations

import importlib.metadata
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from conftest import Done

import sndcli
from sndcli import plugins
from sndcli.defenses.parse import DefenseSpec
from sndcli.runs import columns, config, provenance, results
from sndcli.runs.config import PROTOCOL, RunConfig

Snd = Callable[..., Done]
QUICK = ("--budget", 60, "--budgets", 25, "--verify", 4, "--batch-size", 64, "--no-progress")
NOISY = ("--sigma", 0.01)
TINY = "py:tiny_model:tiny"  # linear: a run takes milliseconds

MODEL = """
import torch
from torch import nn

from sndcli import Classifier, Normalisation


def tiny():
    torch.manual_seed(0)
    network = nn.Sequential(nn.AdaptiveAvgPool2d(32), nn.Flatten(), nn.Linear(3072, 10))
    return Classifier(network.eval(), Normalisation((0.5,) * 3, (0.25,) * 3), (3, 32, 32), "tiny")
"""

ATTACK = """
from dataclasses import dataclass, replace

from sndcli.attacks.spec import AttackSpec, Preset


@dataclass(frozen=True)
class Options:
    pass


def run(oracle, streams, options):
    for _ in range(5):
        image = oracle.active.nonzero().squeeze(1)
        oracle.adversarial(oracle.x0[image] + 0.05 * streams.normal(image, oracle.x0), image, "walk")


PRESETS = {"default": Preset(Options())}
SPEC = AttackSpec(name="walk", access="labels", norms=("l2",), presets=PRESETS, summary="random points", run=run)
"""
DEFENSE = """
import torch

from sndcli.defenses.base import Defense


class Brightness(Defense):
    def forward(self, x):
        shift = torch.rand(len(x), 1, 1, 1, generator=self.generator) - 0.5
        return self.model(x + 0.1 * shift)


class Rows(Defense):
    per_image = True

    def forward(self, x):
        return self.model(x + 0.1 * self.normal(x))
"""


def run_config(**changes: Any) -> RunConfig:
    return replace(RunConfig("hsja", "cifar10", "s", "d", "m", "m", DefenseSpec("snd", 0.01)), **changes)


@pytest.fixture(autouse=True)
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module with the small model."""
    (tmp_path / "tiny_model.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tiny_model", raising=False)


def attacked(snd: Snd, out: Path, *arguments: object, model: str = TINY) -> pa.Table:
    """The table of an attack; `out` is a file, or a folder with one more file afterwards."""
    before = set(out.glob("*.parquet"))
    done = snd("attack", *arguments, "--model", model, *QUICK, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    if out.suffix == ".parquet":
        return results.read(out)
    (new,) = set(out.glob("*.parquet")) - before
    return results.read(new)


def bare(table: pa.Table) -> pa.Table:
    """Without what the file says of its run."""
    return table.replace_schema_metadata(None)


def rows_without_id(table: pa.Table) -> list[dict[str, Any]]:
    """Without what tells a run of few images or seeds from one of many."""
    rows: list[dict[str, Any]] = table.drop_columns(["run_id", "images", "first_seed", "repeats"]).to_pylist()
    return rows


# -- protocol and version ------------------------------------------------------------------------------------


def test_the_protocol_is_part_of_the_id_and_the_package_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = run_config()
    assert mine.as_dict()["protocol"] == PROTOCOL >= 2
    before, name = mine.run_id, mine.file_name
    monkeypatch.setattr(sndcli, "__version__", "9.9.9")
    monkeypatch.setattr(provenance, "__version__", "9.9.9")
    assert mine.run_id == before
    monkeypatch.setattr(config, "PROTOCOL", PROTOCOL + 1)
    assert mine.run_id != before
    assert mine.file_name != name


def test_the_file_has_both_and_a_finished_one_is_not_run_again(
    snd: Snd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("attack", "null", *NOISY, "--images", 2, "--model", TINY, *QUICK, "--out", tmp_path)
    first = snd(*options)
    assert re.search(r"^written: .*\.parquet$", first.stderr, re.MULTILINE)
    assert "already there" not in first.stderr
    (path,) = tmp_path.glob("*.parquet")
    run = results.run_of(results.read(path))
    assert (run["protocol"], run["config"]["protocol"]) == (PROTOCOL, PROTOCOL)
    assert run["versions"]["sndcli"] == sndcli.__version__
    assert "sndcli" not in run["config"]
    assert sndcli.__version__ not in json.dumps(run["config"])
    stamp = path.stat().st_mtime_ns

    monkeypatch.setattr(provenance, "__version__", "9.9.9")  # a patch release
    second = snd(*options)
    told = f"already there, made by snd {sndcli.__version__} on {run['made'][:10]}, not run again (--fresh)"
    assert told in second.stderr
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", run["made"][:10])
    assert "written" not in second.stderr
    assert second.stdout == first.stdout
    assert path.stat().st_mtime_ns == stamp

    anew = snd(*options, "--fresh")
    assert "written" in anew.stderr
    assert "already there" not in anew.stderr
    assert results.run_of(results.read(path))["versions"]["sndcli"] == "9.9.9"
    assert results.run_of(results.read(path))["id"] == run["id"]


def test_a_file_of_another_protocol_is_not_taken_for_one_of_ours(
    snd: Snd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.parquet"
    options = ("attack", "null", "--images", 1, "--model", TINY, *QUICK, "--out", out)
    assert snd(*options).returncode == 0
    monkeypatch.setattr(config, "PROTOCOL", PROTOCOL + 1)
    done = snd(*options)
    assert done.returncode == 2
    assert f"protocol: {PROTOCOL} there, {PROTOCOL + 1} here" in done.stderr


def test_a_file_with_more_in_its_config_says_so(snd: Snd, tmp_path: Path) -> None:
    out = tmp_path / "a.parquet"
    options = ("attack", "null", "--images", 1, "--model", TINY, *QUICK, "--out", out)
    assert snd(*options, "--eps", "1,2").returncode == 0
    done = snd(*options)
    assert done.returncode == 2
    assert "eps_also: [2.0] there, None here" in done.stderr


# -- units and subsets ---------------------------------------------------------------------------------------


def test_the_unit_is_no_part_of_a_config() -> None:
    one, two = run_config(unit=1), run_config(unit=100)
    assert one.run_id == two.run_id
    assert one.file_name == two.file_name
    fields = {*one.as_dict(), *columns.SCHEMA.names}
    assert not {"unit", "units", "workers", "devices", "executor", "batch_size"} & fields


def units_agree(snd: Snd, tmp_path: Path, arguments: tuple[object, ...], model: str = TINY) -> None:
    small, large = (
        attacked(snd, tmp_path / f"{unit}.parquet", *arguments, "--images", 3, "--unit", unit, model=model)
        for unit in (2, 100)
    )
    assert results.run_of(small)["id"] == results.run_of(large)["id"]
    assert (results.run_of(small)["unit"], results.run_of(large)["unit"]) == (2, 100)
    assert results.run_of(small)["streams"] == "image"
    assert bare(small).equals(bare(large))


def subset_is_a_prefix(snd: Snd, tmp_path: Path, arguments: tuple[object, ...], model: str = TINY) -> None:
    few, many = (attacked(snd, tmp_path, *arguments, "--images", count, model=model) for count in (3, 8))
    assert results.run_of(few)["id"] != results.run_of(many)["id"]
    assert rows_without_id(few) == rows_without_id(many)[:3]


@pytest.mark.parametrize("arguments", [
    ("hsja", *NOISY), ("square", *NOISY, "--norm", "linf"), ("sign-opt", *NOISY), ("bandit-td", *NOISY),
    ("ba", *NOISY), ("null", "--defense", "rnp+snd", *NOISY), ("hsja", "--engine", "foolbox", *NOISY),
    ("ba", "--engine", "foolbox", *NOISY),
])  # fmt: skip
def test_units_change_neither_id_nor_a_bit_of_the_table(
    arguments: tuple[object, ...], snd: Snd, tmp_path: Path
) -> None:
    units_agree(snd, tmp_path, arguments)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("hsja", *NOISY), ("hsja", "--defense", "rse"), ("square", "--defense", "pni")])
def test_units_change_nothing_of_a_network_with_layers_that_draw(
    arguments: tuple[object, ...], snd: Snd, tmp_path: Path
) -> None:
    units_agree(snd, tmp_path, arguments, "resnet20")


@pytest.mark.parametrize("name", ["hsja", "ba", "geoda", "simba", "nes"])
def test_a_subset_is_a_prefix(name: str, snd: Snd, tmp_path: Path) -> None:
    subset_is_a_prefix(snd, tmp_path, (name, *NOISY))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hsja", "subspace"])
def test_a_subset_of_a_network_is_a_prefix(name: str, snd: Snd, tmp_path: Path) -> None:
    subset_is_a_prefix(snd, tmp_path, (name, *NOISY), "resnet20")


def test_seeds_of_a_run_are_the_runs_of_these_seeds(snd: Snd, tmp_path: Path) -> None:
    """A seed of several draws for an image what a run with that seed alone draws for it."""
    given = ("hsja", *NOISY, "--select", "all", "--images", 40, "--no-boundary")
    both = rows_without_id(attacked(snd, tmp_path, *given, "--repeats", 2))
    alone = {row["image_id"]: row for row in rows_without_id(attacked(snd, tmp_path, *given, "--seed", 1))}
    assert {row["seed"] for row in both} == {0, 1}
    shared = [row for row in both if row["seed"] == 1 and row["image_id"] in alone]
    assert shared
    assert all(row == alone[row["image_id"]] for row in shared)


# -- plug-ins ------------------------------------------------------------------------------------------------


@dataclass
class Site:
    """Where the modules of a package are, and its name and version."""

    folder: Path
    package: SimpleNamespace


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Site:
    """An attack and two defenses, as if a package had installed them."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "walk_attack.py").write_text(ATTACK)
    (folder / "bright_defense.py").write_text(DEFENSE)
    package = SimpleNamespace(name="bright", version="1.0")
    entries = [
        importlib.metadata.EntryPoint("walk", "walk_attack:SPEC", plugins.ATTACKS),
        importlib.metadata.EntryPoint("brightness", "bright_defense:Brightness", plugins.DEFENSES),
        importlib.metadata.EntryPoint("rows", "bright_defense:Rows", plugins.DEFENSES),
    ]
    for entry in entries:
        vars(entry)["dist"] = package
    real = importlib.metadata.entry_points

    def entry_points(**select: Any) -> Any:
        mine = [e for e in entries if all(getattr(e, key) == value for key, value in select.items())]
        return [*real(**select), *mine]

    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    forget(monkeypatch)
    return Site(folder, package)


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As another process would start: with no module of the package imported."""
    for module in ("walk_attack", "bright_defense"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # a change within a second would go unseen


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_plug_in_is_known_by_package_version_and_source(installed: Site) -> None:
    first = plugins.identities("walk", ["brightness", "snd"])
    assert set(first) == {"walk", "brightness"}
    assert all(re.fullmatch(r"bright 1\.0 [0-9a-f]{12}", text) for text in first.values())
    assert plugins.identities("hsja", ["snd"]) == {}
    change(installed.folder / "bright_defense.py", "0.1 * shift", "1.0 * shift")
    second = plugins.identities("walk", ["brightness"])
    assert second["walk"] == first["walk"]
    assert second["brightness"] != first["brightness"]
    installed.package.version = "1.1"
    third = plugins.identities("walk", ["brightness"])
    assert third["brightness"] == second["brightness"].replace("1.0", "1.1")


@pytest.mark.parametrize(("file", "old", "new", "arguments"), [
    ("bright_defense.py", "0.1 * shift", "1.0 * shift", ("hsja", "--defense", "brightness")),
    pytest.param("walk_attack.py", "0.05 *", "0.5 *", ("walk", *NOISY), marks=pytest.mark.slow),
])  # fmt: skip
def test_a_changed_plug_in_is_run_anew(
    file: str, old: str, new: str, arguments: tuple[object, ...], snd: Snd, tmp_path: Path, installed: Site,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out = tmp_path / "results"
    first = attacked(snd, out, *arguments, "--images", 2)
    assert results.run_of(first)["config"]["plugins"]
    assert "already there" in snd("attack", *arguments, "--images", 2, "--model", TINY, *QUICK, "--out", out).stderr
    change(installed.folder / file, old, new)
    forget(monkeypatch)
    second = attacked(snd, out, *arguments, "--images", 2)
    assert results.run_of(second)["id"] != results.run_of(first)["id"]
    assert rows_without_id(second) != rows_without_id(first)


def test_a_plug_in_attack_draws_from_streams_of_images(snd: Snd, tmp_path: Path, installed: Site) -> None:
    few, many = (attacked(snd, tmp_path, "walk", *NOISY, "--images", count) for count in (2, 5))
    assert rows_without_id(few) == rows_without_id(many)[:2]
    assert few.column("status").to_pylist() == ["ok", "ok"]
    assert min(few.column("queries").to_pylist()) == 6


@pytest.mark.parametrize(("defense", "streams"), [
    ("brightness", "unit"), ("brightness+snd", "unit"), ("rows", "image"), ("rows+snd", "image"), ("snd", "image"),
    ("rnp", "image"), ("none", "image"),
])  # fmt: skip
def test_the_file_says_whose_the_streams_are(
    defense: str, streams: str, snd: Snd, tmp_path: Path, installed: Site
) -> None:
    tables = [
        attacked(snd, tmp_path / f"{unit}.parquet", "null", "--defense", defense, "--images", 2, "--unit", unit)
        for unit in ((1, 2) if streams == "image" else (2,))
    ]
    assert {results.run_of(table)["streams"] for table in tables} == {streams}
    assert all(bare(table).equals(bare(tables[0])) for table in tables)
