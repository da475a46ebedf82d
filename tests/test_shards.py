"""Shares of a run: each does its own without knowing of the others, and together they are the run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Done
from crew import config, experiment
from test_interruption import same

from sndcli.errors import ConfigError, IncompleteError
from sndcli.runs import layout, overview, points, results, shard
from sndcli.runs.lock import LOCK, alone, holders
from sndcli.runs.shard import Shard

Snd = Callable[..., Done]


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_shares_are_the_run(snd: Snd, tmp_path: Path) -> None:
    """Three shares of which one is last; holes are told with their places and exit code 3, and then filled."""
    whole = experiment(tmp_path / "whole.parquet", config(), save_points=True).run()
    out, shared = tmp_path / "shares" / "a.parquet", tmp_path / "shares"
    for number, units in ((1, 1), (3, 1)):
        share = experiment(out, config(), save_points=True).share(Shard(number, 3))
        assert (share.units, share.of) == (units, 3)
    assert share.finished == 2
    status = json.loads(snd("status", shared, "--json").stdout)["rows"]
    assert [(row["state"], row["missing"], row["images"], row["images_of"]) for row in status] == [("begun", [1], 4, 6)]
    refused = snd("merge", shared, "--json")
    assert refused.returncode == 3
    assert json.loads(refused.stdout)["rows"] == [{"path": str(out), "merged": False, "units": 3, "missing": [1]}]
    assert "1 of 3 units are missing: 1\n" in refused.stderr
    assert not out.exists()
    experiment(out, config(), save_points=True).share(Shard(2, 3))
    assert "snd merge" in snd("status", shared).stdout
    assert snd("merge", shared).returncode == 0
    assert everything(shared) == {"a.parquet", "a.points.safetensors"}
    assert same(results.read(out), whole)
    assert points.read(points.path_of(out)).submitted.equal(
        points.read(tmp_path / "whole.points.safetensors").submitted
    )
    assert results.run_of(results.read(out))["unit"] == 2
    assert snd("status", shared).stdout == f"{out}: finished\n"
    assert experiment(out, config(), save_points=True).share(Shard(1, 3)).of == 0
    assert "Nothing to merge" in snd("merge", shared).stdout


def test_a_run_goes_on_with_the_units_of_its_shares_and_a_share_with_those_of_others(tmp_path: Path) -> None:
    out = tmp_path / "a.parquet"
    experiment(out, config()).share(Shard(1, 2))
    begun = layout.read(tmp_path / "a.parts")
    assert begun is not None
    assert [len(unit.index) for unit in begun.units] == [3, 3]
    assert experiment(out, config()).share(Shard(2, 6)).of == 2  # another number of shares later on
    with pytest.raises(ConfigError, match="`--unit` to be 3"):
        experiment(out, config(unit=2)).share(Shard(2, 2))
    table = experiment(out, config()).run()
    assert same(table, experiment(tmp_path / "b.parquet", config()).run())
    assert everything(tmp_path) == {"a.parquet", "b.parquet"}


def test_where_two_shares_begin_at_once_one_layout_counts(tmp_path: Path) -> None:
    one = layout.Layout("a", 3, ())
    one.write(tmp_path, over=False)
    layout.Layout("b", 2, ()).write(tmp_path, over=False)
    assert layout.read(tmp_path) == one
    assert everything(tmp_path) == {layout.FILE}


def test_shares_have_their_own_locks_and_the_whole_excludes_all(tmp_path: Path) -> None:
    folder = tmp_path / "a.parts"
    with alone(folder, tmp_path, "1-of-2"), alone(folder, tmp_path, "2-of-2"):
        assert [*holders(folder)] == ["1-of-2", "2-of-2"]
        assert str(os.getpid()) in holders(folder)["1-of-2"]
        for share in ("1-of-2", ""):
            with pytest.raises(IncompleteError, match=str(os.getpid())), alone(folder, tmp_path, share):
                pass
        assert [*holders(folder)] == ["1-of-2", "2-of-2"]
    assert everything(tmp_path) == set()
    folder.mkdir()
    (folder / f"{LOCK}-1-of-2").touch()  # of a process that was killed
    assert holders(folder) == {}
    with alone(folder, tmp_path):
        assert [*holders(folder)] == [""]
    assert everything(tmp_path) == set()


def test_a_share_waits_for_no_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sndcli.runs.lock.DOOR_S", 0.05)
    with alone(tmp_path, tmp_path), pytest.raises(IncompleteError), alone(tmp_path, tmp_path, "1-of-2"):
        pass


def test_parts_that_were_computed_otherwise_are_told(tmp_path: Path) -> None:
    out = tmp_path / "a.parquet"
    for number in (1, 2):
        experiment(out, config()).share(Shard(number, 2))
    part = tmp_path / "a.parts" / "seed0-unit0001.parquet"
    table = results.read(part)
    results.write_table(part, table, {**results.run_of(table), "fingerprint": "0123456789ab"})
    told = list[str]()
    experiment(out, config(), warn=told.append).share(Shard(1, 2))  # only its own parts
    assert told == []
    (run,) = overview.begun_in(tmp_path)
    merged = overview.merge(run, told.append)
    assert len(told) == 1
    assert "0123456789ab" in told[0]
    assert set(results.run_of(merged)["fingerprint"].split()) > {"0123456789ab"}


def test_a_resumed_run_tells_of_parts_that_were_computed_otherwise(tmp_path: Path) -> None:
    out, told = tmp_path / "a.parquet", list[str]()
    experiment(out, config()).share(Shard(2, 2))
    part = tmp_path / "a.parts" / "seed0-unit0001.parquet"
    table = results.read(part)
    results.write_table(part, table, {**results.run_of(table), "fingerprint": "0123456789ab"})
    experiment(out, config(), warn=told.append).run()
    assert len(told) == 1
    assert "0123456789ab" in told[0]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "0"}, Shard(1, 4)),
        ({"SLURM_ARRAY_TASK_ID": "4", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "1"}, Shard(4, 4)),
        ({"SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "5",
          "SLURM_ARRAY_TASK_STEP": "2"}, Shard(3, 3)),
        ({"JOB_COMPLETION_INDEX": "7", "JOB_COMPLETIONS": "8"}, Shard(8, 8)),
    ],
)  # fmt: skip
def test_shares_of_job_arrays(environment: dict[str, str], expected: Shard) -> None:
    assert shard.parse("auto", environment) == expected


@pytest.mark.parametrize(
    "environment",
    [{}, {"JOB_COMPLETION_INDEX": "1"}, {"JOB_COMPLETION_INDEX": "4", "JOB_COMPLETIONS": "4"},
     {"SLURM_ARRAY_TASK_ID": "x", "SLURM_ARRAY_TASK_COUNT": "4"}],
)  # fmt: skip
def test_variables_that_say_no_share(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="--shard auto"):
        shard.parse("auto", environment)


def test_the_command_line_runs_a_share(snd: Snd, tmp_path: Path) -> None:
    run = ("attack", "null", "--images", 2, "--budget", 2, "--verify", 2, "--batch-size", 8, "--no-boundary", "--quiet")
    for k in (1, 2):
        done = snd(*run, "--out", tmp_path, "--shard", f"{k}/2", "--json")
        (row,) = json.loads(done.stdout)["rows"]
        assert (row["units_of_share"], row["units_finished"], row["units"]) == (1, k, 2)
    assert snd("merge", tmp_path).returncode == 0
    assert json.loads(snd(*run, "--out", tmp_path, "--json").stdout)["run"]["unit"] == 1
    job = {"JOB_COMPLETION_INDEX": "0", "JOB_COMPLETIONS": "2"}
    assert "finished" in snd(*run, "--out", tmp_path, "--shard", "auto", env=job).stdout
    assert snd(*run, "--out", tmp_path, "--shard", "1/2", "--fresh").returncode == 2
