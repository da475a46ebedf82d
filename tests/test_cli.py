"""The command line as a process, on the shipped images and weights."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from conftest import Done

from sndcli.runs import results
from sndcli.runs.unit import Attacker

Snd = Callable[..., Done]
QUICK = ("--no-boundary", "--batch-size", 64, "--no-progress")
SMALL = ("--images", 4, "--budget", 150, "--budgets", "50", "--verify", 8, "--unit", 2, *QUICK)
UNPAIRED = {"run_id", "defense"}


def rows_of(path: Path, drop: set[str] | None = None) -> list[dict[str, object]]:
    rows = results.read(path).to_pylist()
    return [{k: v for k, v in row.items() if k not in (drop or set())} for row in rows]


def only_file(folder: Path) -> Path:
    (path,) = folder.glob("*.parquet")
    return path


def test_help_is_fast_and_imports_no_torch() -> None:
    code = "import sys; from sndcli.cli.app import app; sys.exit(any(m == 'torch' for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    start = time.monotonic()
    helped = subprocess.run([sys.executable, "-m", "sndcli", "--help"], check=True, capture_output=True, text=True)
    assert "sigma-sweep" in helped.stdout
    assert time.monotonic() - start < 3  # 0.3 s on an idle machine; CI machines are not


def test_attack_writes_parquet_and_one_json_object(snd: Snd, snd_process: Snd, tmp_path: Path) -> None:
    done = snd_process("attack", "hsja", "--sigma", 0.01, *SMALL, "--out", tmp_path, "--json", "--mismatch")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["schema"] == 2
    assert [row["budget"] for row in answer["rows"]] == [50, 150]
    row = answer["rows"][-1]
    assert {"attack", "engine", "dataset", "model", "defense", "sigma", "beta", "votes", "norm", "eps", "seed", "n",
            "budget", "success_seen", "success_seen_net", "success_noisy", "success_clean", "floor",
            "distance_last", "distance_best", "distance_submitted", "distance_verified", "distance_boundary",
            "p_mis", "p_mis_clean", "queries_mean", "queries_max"} <= set(row)  # fmt: skip
    assert set(row["success_seen"]) == {"value", "lo", "hi"}
    assert row["n"] == 4
    assert row["queries_max"] <= 150
    assert row["p_mis"] is not None
    assert {"id", "config", "wall_s", "queries", "queries_per_s", "versions"} <= set(answer["run"])
    table = pq.read_table(only_file(tmp_path))
    assert table.num_rows == 4
    for record in table.to_pylist():
        assert record["queries"] == sum(count for _, count in record["queries_by_phase"]) <= 150
        assert record["event_query"] == sorted(record["event_query"])
        assert record["event_distance"] == sorted(record["event_distance"], reverse=True)
    again = snd("report", only_file(tmp_path), "--json")
    assert json.loads(again.stdout)["rows"] == answer["rows"]
    for form in ("table", "md", "csv"):
        assert "hsja" in snd("report", tmp_path, "--format", form).stdout


def test_zero_sigma_equals_no_defense(snd: Snd, tmp_path: Path) -> None:
    for name, options in (("none", ("--defense", "none")), ("zero", ("--sigma", 0))):
        assert snd("attack", "hsja", *SMALL, *options, "--out", tmp_path / f"{name}.parquet").returncode == 0
    assert rows_of(tmp_path / "none.parquet", UNPAIRED) == rows_of(tmp_path / "zero.parquet", UNPAIRED)


SLOWER = [
    pytest.param(name, marks=pytest.mark.slow) for name in ("square", "geoda", "ba", "sign-opt", "rays", "subspace")
]


@pytest.mark.parametrize("name", ["hsja", *SLOWER])
def test_batch_size_changes_nothing(snd: Snd, tmp_path: Path, name: str) -> None:
    for size in (8, 64):
        done = snd(
            "attack",
            name,
            "--sigma",
            0.01,
            "--beta",
            2,
            *SMALL,
            "--images",
            2,
            "--unit",
            2,
            "--batch-size",
            size,
            "--out",
            tmp_path / f"{size}.parquet",
        )
        assert done.returncode == 0, done.stderr
    assert rows_of(tmp_path / "8.parquet") == rows_of(tmp_path / "64.parquet")


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(snd: Snd, tmp_path: Path) -> None:
    options = ("attack", "hsja", "--sigma", "0.01", *map(str, SMALL), "--unit", "1", "--budget", "250")
    whole, killed = tmp_path / "whole.parquet", tmp_path / "killed.parquet"
    assert snd(*options, "--out", whole).returncode == 0
    process = subprocess.Popen([sys.executable, "-m", "sndcli", *options, "--out", str(killed)])
    deadline = time.monotonic() + 120
    while not list(killed.with_suffix(".parts").glob("*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(killed.with_suffix(".parts").glob("*.parquet"))
    assert not killed.exists()
    assert snd(*options, "--out", killed).returncode == 0
    assert rows_of(whole) == rows_of(killed)
    assert not killed.with_suffix(".parts").exists()


@pytest.mark.parametrize(("before", "after"), [(4, 2), (2, 4)])
def test_a_run_continued_with_another_unit_has_every_image_once(
    snd: Snd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int, after: int
) -> None:
    """The unit is no part of a run's id, so parts of the one lie where the other looks for its own."""
    options = ("attack", "null", "--sigma", 0.01, "--images", 8, "--budget", 5, "--budgets", 5, "--verify", 4, *QUICK)
    assert snd(*options, "--out", tmp_path / "whole.parquet").returncode == 0
    attack, ended = Attacker.__call__, list[int]()

    def killed_late(self: Attacker, *args: Any) -> Any:
        if sum(ended) >= 4:
            raise KeyboardInterrupt
        finished = attack(self, *args)
        ended.append(len(finished.rows))
        return finished

    out = tmp_path / "a.parquet"
    with monkeypatch.context() as patched:
        patched.setattr(Attacker, "__call__", killed_late)
        assert snd(*options, "--unit", before, "--out", out).returncode == 130
    done = snd(*options, "--unit", after, "--out", out)
    assert done.returncode == 0
    assert "another --unit" in done.stderr
    assert rows_of(out) == rows_of(tmp_path / "whole.parquet")
    assert not out.with_suffix(".parts").exists()


def test_interrupt_saves_and_exits_130(snd: Snd, tmp_path: Path) -> None:
    out = tmp_path / "a.parquet"
    options = [
        "attack",
        "hsja",
        "--images",
        "40",
        "--unit",
        "1",
        "--budget",
        "1000",
        "--out",
        str(out),
        *map(str, QUICK),
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "sndcli", *options], stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 (ignored in the background)
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(out.with_suffix(".parts").glob("*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert process.stderr is not None
    assert "interrupted" in process.stderr.read()
    assert list(out.with_suffix(".parts").glob("*.parquet"))


def test_a_finished_run_is_only_read_and_another_config_never_overwrites(snd: Snd, tmp_path: Path) -> None:
    out = tmp_path / "a.parquet"
    assert snd("attack", "null", *SMALL, "--out", out).returncode == 0
    stamp = out.stat().st_mtime_ns
    assert snd("attack", "null", *SMALL, "--out", out).returncode == 0
    assert out.stat().st_mtime_ns == stamp
    other = snd("attack", "null", *SMALL, "--seed", 1, "--out", out)
    assert other.returncode == 2
    assert "seed: 0 there, 1 here" in other.stderr
    assert snd("attack", "null", *SMALL, "--seed", 1, "--out", out, "--fresh").returncode == 0


def test_foolbox_engine(snd: Snd, tmp_path: Path) -> None:
    """Under noise Foolbox's attacks may raise; that is a row with its reason, and the others go on."""
    done = snd(
        "attack", "hsja", "--engine", "foolbox", "--sigma", 0.05, *SMALL, "--images", 6, "--out", tmp_path, "--json"
    )
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    records = rows_of(only_file(tmp_path))
    assert len(records) == 6
    for record in records:
        reason = str(record["stop_reason"])
        assert reason.startswith(("budget", "raised", "exhausted"))
        assert record["status"] == ("failed" if reason.startswith("raised") else "ok")
        assert int(str(record["queries"])) <= 150


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("attack", "hsjaa"), 2, "Did you mean `hsja`"),
        (("attack", "hsja", "--budget", 0), 2, "`--budget` to be at least 1"),
        (("attack", "hsja", "--budget", "many"), 2, "whole number"),
        (("attack", "hsja", "--sigma=-0.01"), 2, "`--sigma` to be a number >= 0"),
        (("attack", "hsja", "--dataset", "cifar"), 2, "Did you mean `cifar10`"),
        (("attack", "hsja", "--data-dir", "/nowhere"), 2, "No CIFAR-10 under /nowhere"),
        (("attack", "hsja", "--model", "resnet"), 2, "Did you mean `resnet20`"),
        pytest.param(
            ("attack", "hsja", "--model", "torchvision:resnet18/random"),
            2,
            "Expected images of (3, 224, 224)",
            marks=pytest.mark.slow,
        ),
        (("attack", "hsja", "--images", 5000), 2, "Expected `--images` of at most"),
        (("attack", "hsja", "--images", 0), 2, "at least 1"),
        (("attack", "hsja", "--norm", "l1"), 2, "l2 or linf"),
        (("attack", "ba", "--norm", "linf"), 2, "--norm"),
        (("adaptive", "hsja", "--votes", 10, "--budget", 5), 2, "one question of 10"),
        (("attack", "null", "--out", "/proc/nowhere/a.parquet"), 2, "cannot be written"),
        (("adaptive", "hsja", "--votes", 0), 2, "`--votes` to be at least 1"),
        (("sigma-sweep", "hsja", "--sigmas", "a,b"), 2, "numbers separated by commas"),
        (("sigma-sweep", "hsja", "--sigmas=-1"), 2, "`--sigma` to be a number >= 0"),
        (("sigma-sweep", "hsja", "--out", "a.parquet"), 2, "is a folder"),
        (("sigma-sweep", "hsja", "--plot", "a.gif"), 2, ".svg or .png"),
        (("attack", "null", "--engine", "foolbox"), 2, "hsja and ba"),
        (("attack", "hsja", "--preset", "arts"), 2, "Did you mean `art`"),
        (("attack", "hsja", "--set", "gama=2"), 2, "Did you mean `gamma`"),
        (("attack", "hsja", "--set", "gamma=x"), 2, "to be a number"),
        (("attack", "hsja", "--device", "cuda:99"), 2, "not available"),
        (("attack", "hsja", "--batch-size", "0"), 2, "at least 1"),
        (("attack", "hsja", "--bugdet", "1"), 2, "--budget"),
        (("accuracy", "--repeats", "0"), 2, "at least 1"),
        (("train", "resnet20"), 2, "--data-dir"),
        (("ls", "attack"), 2, "attacks"),
        (("report", "/nowhere.parquet"), 2, "does not exist"),
    ],
)
def test_mistakes_get_one_clear_line_and_exit_code_2(
    snd: Snd, arguments: tuple[object, ...], code: int, message: str
) -> None:
    done = snd(*arguments, env={"SND_DATA": ""})
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_broken_weights_are_told(snd: Snd, tmp_path: Path) -> None:
    from sndcli.models.sources import load_model

    state = load_model("resnet20").network.state_dict()
    state["conv1.weight"] = torch.full_like(state["conv1.weight"], float("nan"))
    torch.save(state, tmp_path / "nan.pt")
    done = snd("attack", "hsja", "--model", f"file:{tmp_path}/nan.pt?arch=resnet20", "--out", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "NaN" in done.stderr


def test_unreadable_result_files_are_named_and_skipped(snd: Snd, tmp_path: Path) -> None:
    good, cut, foreign = tmp_path / "a.parquet", tmp_path / "cut.parquet", tmp_path / "other.parquet"
    assert snd("attack", "null", *SMALL, "--out", good).returncode == 0
    cut.write_bytes(good.read_bytes()[:-100])
    pq.write_table(pq.read_table(good).replace_schema_metadata(None), foreign)
    done = snd("report", tmp_path, "--json")
    assert done.returncode == 0
    assert len(json.loads(done.stdout)["rows"]) == 2
    assert "cut.parquet is not a readable Parquet file" in done.stderr
    assert "other.parquet was not written by snd" in done.stderr
    assert snd("report", tmp_path, "--strict").returncode == 2
    resumed = snd("attack", "null", *SMALL, "--out", cut)
    assert resumed.returncode == 2
    assert "not a readable Parquet file" in resumed.stderr


def test_accuracy(snd: Snd) -> None:
    done = snd("accuracy", "--sigma", 0, "--sigma", 0.2, "--repeats", 2, "--json", "-q")
    answer = json.loads(done.stdout)
    rows, run = answer["rows"], answer["run"]
    assert len(run["data_digest"]) == len(run["model_digest"]) == 16
    assert [row["sigma"] for row in rows] == [0, 0.2]
    assert len(rows[0]["accuracy"]["values"]) == 1
    assert len(set(rows[1]["accuracy"]["values"])) == 2
    assert rows[1]["accuracy"]["mean"] < rows[0]["accuracy"]["mean"] - 0.1
    assert done.stderr == ""


def test_ls_and_version(snd: Snd) -> None:
    assert "hsja" in snd("ls", "attacks").stdout
    assert "resnet20" in snd("ls", "models").stdout
    assert snd("--version").stdout.startswith("snd 0.")


@pytest.mark.default_model
def test_doctor(snd: Snd) -> None:
    done = snd("doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout


def test_adaptive_pays_for_every_vote(snd: Snd, tmp_path: Path) -> None:
    options = ("--sigma", 0.01, "--images", 3, "--verify", 4, *QUICK, "--json", "--out", tmp_path)
    done = snd("adaptive", "null", "--votes", 5, "--budget", "40x5", "--budgets", "20x5", *options)
    rows = json.loads(done.stdout)["rows"]
    assert [(row["votes"], row["budget"]) for row in rows] == [(5, 100), (5, 200)]
    for record in rows_of(only_file(tmp_path)):
        assert record["queries"] == 200
        assert dict(record["queries_by_phase"]) == {"check": 5, "resend": 195}  # type: ignore[call-overload]
    same = snd("adaptive", "null", "--votes", 5, "--budget", 40, "--budgets", 20, "--per-vote-budget", *options)
    assert json.loads(same.stdout)["rows"] == rows


@pytest.mark.slow
def test_sigma_sweep_pairs_its_settings(snd: Snd, tmp_path: Path) -> None:
    picture = tmp_path / "sweep.svg"
    options = ("--images", 2, "--budget", 150, "--budgets", "50", "--verify", 8, *QUICK, "--json")
    done = snd("sigma-sweep", "hsja", "--sigmas", "0,0.05", "--betas", "none,2", "--accuracy-repeats", 1, *options,
               "--out", tmp_path, "--plot", picture)  # fmt: skip
    answer = json.loads(done.stdout)
    assert [(p["sigma"], p["beta"]) for p in answer["sweep"]] == [(0, None), (0.05, None), (0.05, 2)]
    assert answer["sweep"][0]["noise_l2"] == 0
    assert answer["sweep"][1]["noise_l2"] == pytest.approx(0.05 * 3072**0.5, rel=0.01)
    assert answer["sweep"][1]["accuracy"] < answer["sweep"][0]["accuracy"]
    assert answer["sweep"][0]["differences"]["150"]["success_seen"] == {"value": 0, "lo": 0, "hi": 0, "p": 1}
    assert len(list(tmp_path.glob("*.parquet"))) == 3
    assert "<svg" in picture.read_text()
    alone = snd("attack", "hsja", "--sigma", 0, *options, "--out", tmp_path / "alone")
    mine = [row for row in answer["rows"] if row["sigma"] == 0]
    assert json.loads(alone.stdout)["rows"] == mine
