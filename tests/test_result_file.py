"""The result file: what its columns say, how older ones are read, and what it tells of where it comes from."""

from __future__ import annotations

import importlib.metadata
import json
import math
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import CPU, OLDEST, Done, write_as_schema_1
from linear_victim import MODEL

import sndcli
from sndcli.analysis import frame
from sndcli.ball import within
from sndcli.defenses.parse import DefenseSpec
from sndcli.runs import columns, provenance, results
from sndcli.runs.config import RunConfig

Snd = Callable[..., Done]
ROOT = Path(__file__).parents[1]
DATA = sorted((ROOT / "docs" / "results" / "data").glob("*.parquet"))
QUICK = ("--images", 3, "--budget", 120, "--budgets", 60, "--verify", 4, "--batch-size", 64, "--no-progress", "-q")
# fields of the config -> columns, where the names differ
ELSEWHERE = {"seed": "first_seed", "border": "boundary"}
DEFENSE = {"name": "defense", "weights": "weights"}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a decision attack, with several ε and seeds."""
    from typer.testing import CliRunner

    from sndcli.cli.app import app

    path = tmp_path_factory.mktemp("run") / "a.parquet"
    options = ["attack", "hsja", "--model", MODEL, "--sigma", "0.01", "--eps", "3,0.5", "--repeats", "2", "--quantize"]
    done = CliRunner().invoke(app, [*options, "--mismatch", *map(str, QUICK), "--out", str(path)])
    assert done.exit_code == 0, done.output
    return path


# -- columns -------------------------------------------------------------------------------------------------


def test_every_field_of_a_config_has_a_column() -> None:
    """But the unit, on which nothing depends but time; report points stand in `budgets`."""
    names = {ELSEWHERE.get(f.name, f.name) for f in fields(RunConfig)} - {"unit", "defense"}
    names |= {DEFENSE.get(f.name, f.name) for f in fields(DefenseSpec)}
    assert names <= {*columns.SCHEMA.names}
    assert len(columns.COLUMNS) == len({*columns.SCHEMA.names})


def test_columns_say_what_the_config_says(written: Path) -> None:
    table = results.read(written)
    first, last = table.slice(0, 1).to_pylist()[0], table.to_pylist()[-1]
    assert first["options"] == json.dumps(results.run_of(table)["config"]["options"], sort_keys=True)
    wanted = {"preset": None, "settings": [], "quantize": True, "mismatch": True, "boundary": True, "clip": False,
              "eps": 3.0, "eps_also": [0.5], "budget": 120, "budgets": [60, 120], "select": "correct",
              "precision": "fp32", "compiled": False,
              "verify": 4, "repeats": 2, "first_seed": 0, "images": 3,
              "weights": None,
              "references": [], "plugins": None, "protocol": 2}  # fmt: skip
    assert {name: first[name] for name in wanted} == wanted
    assert (first["seed"], last["seed"], last["first_seed"]) == (0, 1, 0)


def test_two_presets_can_be_told_apart() -> None:
    """As GeoDA's runs under docs/results/data, which differ in preset, settings or norm alone."""
    runs = [results.read(path).slice(0, 1).to_pylist()[0] for path in DATA if path.name.startswith("geoda")]
    told = {(run["preset"], tuple(run["settings"]), run["options"], run["norm"], run["select"]) for run in runs}
    assert len(told) == len(runs) > 1


def test_successes_are_those_of_distances_and_draws(written: Path) -> None:
    for row in results.read(written).to_pylist():
        inside = [within(d, row["eps"]) for d in row["distance_submitted"]]
        assert row["seen"] == [within(d, row["eps"]) for d in row["distance_best"]]
        assert row["noisy"] == [near and p >= 0.5 for near, p in zip(inside, row["p_adv"], strict=True)]
        assert row["as_submitted"] == [n and p >= 0.5 for n, p in zip(inside, row["p_adv_submitted"], strict=True)]
        assert row["clean"] == [near and wrong for near, wrong in zip(inside, row["adv_clean"], strict=True)]
        closest = [min((d for q, d in zip(row["event_query"], row["event_distance"], strict=True) if q <= b),
                       default=math.inf) for b in row["budgets"]]  # fmt: skip
        assert row["distance_best"] == closest


# -- older files ---------------------------------------------------------------------------------------------


def test_a_file_of_schema_1_reads_as_the_same_table(written: Path, tmp_path: Path) -> None:
    table = results.read(written)
    old = tmp_path / "old.parquet"
    write_as_schema_1(old, table)
    assert "best_l2" in pq.read_schema(old).names
    assert "preset" not in pq.read_schema(old).names
    assert results.read(old).replace_schema_metadata(None).equals(table.replace_schema_metadata(None))
    without = (*columns.EVENTS, "distance_boundary", "seen", "noisy", "as_submitted", "clean")
    assert results.read(old, without).column_names == [n for n in columns.SCHEMA.names if n not in without]


def test_what_the_oldest_files_do_not_know_is_null(written: Path, tmp_path: Path) -> None:
    table = results.read(written)
    old = tmp_path / "old.parquet"
    write_as_schema_1(old, table, OLDEST)
    read = results.read(old)
    for name in ("noisy", "clean", "p_adv", "adv_clean", "distance_boundary"):
        assert read.column(name).null_count == len(table), name
    assert read.column("seen").to_pylist() == table.column("seen").to_pylist()
    points = zip(table.column("distance_submitted").to_pylist(), table.column("p_adv").to_pylist(), strict=True)
    expected = [[within(d, 3.0) and p >= 0.5 for d, p in zip(*row, strict=True)] for row in points]
    assert read.column("as_submitted").to_pylist() == expected


@pytest.mark.slow
def test_parts_of_schema_1_are_continued(written: Path, tmp_path: Path, snd: Snd) -> None:
    """A run that was begun before: its finished part counts, and the result is of the present schema."""
    whole = results.read(written)
    out = tmp_path / "b.parquet"
    part = out.with_suffix(".parts") / "seed0-unit0000.parquet"
    part.parent.mkdir()
    write_as_schema_1(part, whole.slice(0, 3))
    options = ("--model", MODEL, "--sigma", 0.01, "--eps", "3,0.5", "--repeats", 2, "--quantize", "--mismatch", *QUICK)
    assert snd("attack", "hsja", *options, "--out", out).returncode == 0
    assert pq.read_schema(out).metadata[b"schema_version"] == b"2"
    assert results.read(out).replace_schema_metadata(None).equals(whole.replace_schema_metadata(None))


@pytest.mark.parametrize("path", DATA, ids=lambda path: path.name)
def test_published_files_are_read(path: Path) -> None:
    table = results.read(path)
    assert table.column_names == columns.SCHEMA.names
    read = frame.frame_of(table)
    assert np.array_equal(np.array(table.column("seen").to_pylist()), within(read.best, read.setting.eps))


# -- where it comes from -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_file_says_how_it_was_made(tmp_path: Path) -> None:
    command = ["attack", "ba", "--engine", "foolbox", "--sigma", "0.01", "--images", "1", "--budget", "30", "--verify",
               "2", "-q", "--out", "a b.parquet"]  # fmt: skip
    subprocess.run([sys.executable, "-m", "sndcli", *command], check=True, cwd=tmp_path, capture_output=True,
                   env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"})  # fmt: skip
    run = results.run_of(results.read(tmp_path / "a b.parquet"))
    assert run["command"] == shlex.join(["snd", *command])
    assert run["made"].endswith("+00:00")
    for name in ("torch", "torchvision", "numpy", "scipy", "pyarrow", "foolbox"):
        assert run["versions"][name].split("+")[0] == importlib.metadata.version(name).split("+")[0]
    assert run["versions"]["sndcli"] == sndcli.__version__


def test_foolbox_counts_where_it_is_used() -> None:
    native = RunConfig("hsja", "d", "", "", "m", "")
    assert "foolbox" not in provenance.versions(native, CPU)
    assert "foolbox" in provenance.versions(RunConfig("hsja", "d", "", "", "m", "", engine="foolbox"), CPU)


def test_a_program_is_named_without_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/opt/tools/bin/snd", "ls", "--where", "a=b c"])
    assert provenance.command_line() == "snd ls --where 'a=b c'"


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    done = subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_commit_is_that_of_the_checkout_and_says_whether_it_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "checkout" / "sndcli"
    package.mkdir(parents=True)
    monkeypatch.setattr(provenance, "PACKAGE", package)
    ask = provenance.commit.__wrapped__
    assert ask() is None
    (package / "a.py").write_text("1")
    git(package.parent, "init", "-q")
    git(package.parent, "add", "-A")
    git(package.parent, "commit", "-q", "-m", "a")
    head = git(package.parent, "rev-parse", "HEAD")
    assert ask() == head
    (package.parent / "notes.txt").write_text("not of the package")
    assert ask() == head
    (package / "a.py").write_text("2")
    assert ask() == f"{head}-dirty"
    monkeypatch.setattr(provenance, "PACKAGE", package / "inside")  # as a package installed into a folder of a checkout
    assert ask() is None
