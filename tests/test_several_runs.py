"""Several attacks and σ in one call, what goes to stdout, completion, and pictures; on a model of a moment."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch
from conftest import Done
from PIL import Image

from sndcli.cli import complete
from sndcli.cli.app import app
from sndcli.cli.progress import Log
from sndcli.datasets import cifar10
from sndcli.defenses.parse import NAMES
from sndcli.errors import DataError
from sndcli.models.sources import PREFIXES
from sndcli.reports import pictures
from sndcli.runs import columns, points, results
from sndcli.runs.job import Job

Snd = Callable[..., Done]
MODEL = """
import torch
from torch import nn

from sndcli import Classifier, Normalisation

print("imported")


class Chatty(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3072, 10)

    def forward(self, x):
        print("asked")
        return self.linear(x.flatten(1))


def tiny():
    print("made")
    return Classifier(Chatty().eval(), Normalisation((0.5,) * 3, (0.25,) * 3), (3, 32, 32), "tiny")
"""
TINY = ("--model", "py:chatty:tiny", "--batch-size", 64)
SMALL = ("--images", 3, "--budget", 60, "--budgets", 25, "--verify", 4, "--no-boundary", *TINY, "--no-progress")


@pytest.fixture(autouse=True)
def _chatty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "chatty.py").write_text(MODEL)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "chatty", raising=False)


def rows_of(path: Path) -> list[dict[str, object]]:
    return results.read(path).to_pylist()  # type: ignore[no-any-return]


# -- several runs --------------------------------------------------------------------------------------------


def test_attacks_and_sigmas_are_all_their_combinations(snd: Snd, tmp_path: Path) -> None:
    """Each an ordinary run with its own file, the same as if it had been asked for alone."""
    done = snd("attack", "hsja,null", "--sigma", "0,0.01", *SMALL, "--out", tmp_path / "all", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    expected = [("hsja", 0.0), ("null", 0.0), ("hsja", 0.01), ("null", 0.01)]
    told = [(run["config"]["attack"], run["config"]["defense"]["sigma"]) for run in answer["runs"]]
    assert told == expected
    assert answer["run"] == answer["runs"][0]
    assert {(row["attack"], row["sigma"], row["budget"]) for row in answer["rows"]} == {
        (attack, sigma, budget) for attack, sigma in expected for budget in (25, 60)
    }
    assert len(list((tmp_path / "all").glob("*.parquet"))) == 4
    alone = snd("attack", "hsja", "--sigma", 0.01, *SMALL, "--out", tmp_path / "one", "--json")
    one = json.loads(alone.stdout)
    assert set(one) == {"schema", "sentence", "rows", "run", "flags"}
    assert one["rows"] == [row for row in answer["rows"] if (row["attack"], row["sigma"]) == ("hsja", 0.01)]
    name = Path(one["run"]["path"]).name
    assert rows_of(tmp_path / "one" / name) == rows_of(tmp_path / "all" / name)
    table = snd("attack", "hsja,null", "--sigma", "0,0.01", *SMALL, "--out", tmp_path / "all")
    assert table.stderr.count("already there") == 4
    assert "hsja" in table.stdout
    assert "null" in table.stdout


def test_a_dry_run_sums_the_cost(snd: Snd, tmp_path: Path) -> None:
    command = ("attack", "hsja,null", "--sigma", "0,0.01", *SMALL, "--out", tmp_path / "all", "--dry-run")
    answer = json.loads(snd(*command, "--json").stdout)
    assert [(row["name"], row["sigma"]) for row in answer["rows"]] == [
        ("hsja", 0.0), ("null", 0.0), ("hsja", 0.01), ("null", 0.01)
    ]  # fmt: skip
    assert answer["total"]["queries"] == sum(row["queries"] for row in answer["rows"]) == 4 * 3 * 60
    assert "all 4: at most 720 paid queries" in snd(*command).stdout
    assert not (tmp_path / "all").exists()


def test_an_interruption_keeps_finished_runs_and_a_failure_says_which(
    snd: Snd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("attack", "null,hsja", "--sigma", "0,0.01", *SMALL, "--out", tmp_path / "all")
    run = Job.run
    for error, code, said in (
        (KeyboardInterrupt(), 130, "interrupted"),
        (DataError("no."), 2, "hsja against snd: no."),
        (RuntimeError("no."), 70, "hsja against snd failed; the runs before it are finished"),
    ):

        def stopped(self: Job, *args: Any, error: BaseException = error) -> Any:
            if self.config.attack == "hsja":
                raise error
            return run(self, *args)

        with monkeypatch.context() as patched:
            patched.setattr(Job, "run", stopped)
            done = snd(*command)
        assert done.returncode == code
        assert said in done.stderr
        assert len(list((tmp_path / "all").glob("*.parquet"))) == 1
    assert snd(*command).returncode == 0
    assert len(list((tmp_path / "all").glob("*.parquet"))) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("hsja,null", "--out", "a.parquet"), "`--out` of 2 runs is a folder"),
        (("hsja", "--sigma", "0,0.1", "--out", "a.parquet"), "`--out` of 2 runs is a folder"),
        (("hsja,,null",), "the attacks separated by commas"),
        (("hsja,nul",), "Did you mean `null`"),
        (("hsja", "--sigma", "0,x"), "`--sigma` to be a number, or several"),
        (("hsja", "--sigma", "0,-1"), "`--sigma` to be a number >= 0"),
        (("hsja,null", "--preset", "art"), "preset of null `art`"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(snd: Snd, arguments: tuple[object, ...], message: str) -> None:
    done = snd("attack", *arguments, *SMALL)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""


def test_gates_leave_out_runs_in_progress(snd: Snd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table says how far they are; a gate on nothing else is incomplete, not passed."""
    one, two = tmp_path / "r" / "one.parquet", tmp_path / "r" / "two.parquet"
    for path, seed in ((one, 0), (two, 1)):
        assert snd("attack", "null", *SMALL, "--seed", seed, "--out", path).returncode == 0
    table = results.read(two)
    part = tmp_path / "r" / "two.parts" / "seed1-unit0000.parquet"
    results.write_table(part, table.slice(0, 2), results.run_of(table))
    two.unlink()
    told = snd("report", tmp_path / "r", "--json")
    assert "two.parquet: in progress, 2 of 3 images" in told.stderr
    assert [run.get("progress") for run in json.loads(told.stdout)["runs"]] == [None, {"images": 2, "of": 3}]
    gate = ("--fail-if", "success_noisy@60 > 1")
    judged = snd("report", tmp_path / "r", *gate, "--json")
    assert judged.returncode == 0
    assert "not judged" in judged.stderr
    assert len(json.loads(judged.stdout)["runs"]) == 1
    for arguments in ((two, *gate), (tmp_path / "r", *gate, "--strict")):
        done = snd("report", *arguments)
        assert done.returncode == 3
        assert "2 of 3 images" in done.stderr


# -- stdout --------------------------------------------------------------------------------------------------

COMMANDS: dict[str, tuple[object, ...]] = {
    "accuracy": (*TINY, "--sigma", 0.01, "--repeats", 1),
    "attack": ("hsja", "--sigma", 0.01, *SMALL),
    "adaptive": ("hsja", "--votes", 2, *SMALL),
    "sigma-sweep": ("hsja", "--sigmas", "0,0.01", "--accuracy-repeats", 1, *SMALL),
    "report": ("attack",),
    "reproduce": ("table1", "--dry-run", "--images", 2, "--budget", 20, *TINY[2:]),
    "evidence": ("--images", 2, "--queries", 20, "--draws", 4, "--noise-images", 2, "--sigmas", 0.01, "--probes", 0.03),
    "train": ("resnet20", "--epochs", 1, "--pgd-images", 0, "--data-dir", "data"),
    "ls": ("attacks",),
    "explain": ("floor",),
    "doctor": (),
}


@pytest.mark.slow
def test_stdout_has_the_result_alone(snd: Snd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every command: one JSON object, whatever models print."""
    monkeypatch.chdir(tmp_path)
    shipped = cifar10.load_shipped().part(torch.arange(128), "")
    monkeypatch.setattr(cifar10, "load", lambda *_: shipped)
    named = {str(command.name) for command in app.registered_commands}
    assert set(COMMANDS) <= named
    for name, arguments in COMMANDS.items():
        without = ("report", "reproduce", "evidence", "ls", "explain", "doctor", "accuracy")
        out = () if name in without else ("--out", name)
        done = snd(name, *arguments, *out, "--json")
        assert done.returncode == 0, (name, done.stderr)
        assert isinstance(json.loads(done.stdout), dict), name


def test_what_a_model_prints_goes_to_stderr(snd: Snd, tmp_path: Path) -> None:
    done = snd("attack", "null", *SMALL, "--out", tmp_path, "--json", "-q")
    assert set(json.loads(done.stdout)) == {"schema", "sentence", "rows", "run", "flags"}
    for word in ("imported", "made", "asked"):
        assert word in done.stderr


@pytest.mark.slow
def test_a_reader_of_tables_that_has_seen_enough(tmp_path: Path, snd: Snd) -> None:
    """``snd report | head -0`` ends with 0, a gate that fails with 1 all the same."""
    assert snd("attack", "null", *SMALL, "--out", tmp_path / "a.parquet").returncode == 0
    for gate, code in (((), 0), (("--fail-if", "queries_max@60 > 1"), 1)):
        command = [sys.executable, "-m", "sndcli", "report", str(tmp_path / "a.parquet"), *gate]
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False, timeout=300)
        os.close(write)
        assert done.returncode == code, done.stderr
        assert b"Traceback" not in done.stderr


# -- progress ------------------------------------------------------------------------------------------------


def test_a_log_has_a_line_for_each_tenth_and_not_many_more() -> None:
    log = Log(1.0, "hsja", 0.0)
    lines = [log.line(k / 1000, "x", k * 0.1) for k in range(1001)]  # 100 s
    told = [line for line in lines if line]
    assert len(told) == 10
    assert told[0] == "hsja: 10 %, x, about 2 min left"
    assert told[-1] == "hsja: 100 %, x"
    slow = Log(1.0, "hsja", 0.0)
    found = [k for k in range(36_000) if slow.line(k / 36_000, "x", float(k))]  # ten hours
    gaps = [b - a for a, b in zip([0, *found], found, strict=False)]
    assert max(gaps) <= 301
    assert min(gaps) >= 30
    assert len(found) < 160


def test_a_resumed_run_is_not_thought_fast() -> None:
    log = Log(1.0, "hsja", 0.0)
    assert log.line(0.5, "x", 0.1) is None
    assert log.line(0.6, "x", 10.1) == "hsja: 60 %, x, about 40 s left"


# -- completion ----------------------------------------------------------------------------------------------


def offered(line: str) -> list[str]:
    """What Bash offers for a line, by Typer's variable, and whether torch was imported for it."""
    code = (
        "import sys; from sndcli.cli.app import app\n"
        "try: app(prog_name='snd')\n"
        "finally: print('torch' in sys.modules, file=sys.stderr)"
    )
    words = line.split(" ")
    env = os.environ | {"_SND_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr.strip() == "False", done.stderr
    return done.stdout.split()


def test_a_shell_completes_names_without_torch() -> None:
    assert offered("snd attack hs") == ["hsja", "hsja-na"]
    assert offered("snd attack ba --preset a") == ["art", "art12", "art13"]


@pytest.mark.parametrize(
    ("complete_it", "begun", "expected"),
    [
        (complete.attacks, "hsja,hsj", ["hsja,hsja-na"]),
        (complete.defenses, "rnp+sn", ["rnp+snd"]),
        (complete.models, "resnet20-p", ["resnet20-pni"]),
        (complete.models, "time", []),
        (complete.models, "tim", ["timm:"]),
        (complete.datasets, "", ["cifar10", "imagenet", "folder:"]),
        (complete.kinds, "d", ["defenses", "datasets"]),
    ],
)
def test_names_are_completed(complete_it: Callable[[str], list[str]], begun: str, expected: list[str]) -> None:
    assert complete_it(begun) == expected


def test_what_completion_knows_without_torch_is_what_there_is() -> None:
    assert complete.DEFENSES == NAMES
    assert complete.PREFIXES == PREFIXES


# -- pictures ------------------------------------------------------------------------------------------------


def test_pictures_are_the_points_rounded(snd: Snd, tmp_path: Path) -> None:
    out, folder = tmp_path / "a.parquet", tmp_path / "png"
    done = snd("attack", "hsja", *SMALL, "--out", out, "--save-png", folder)
    assert done.returncode == 0, done.stderr
    assert f"written: {folder / 'a'}, pictures of 3 images" in done.stderr
    kept = points.read(points.path_of(out))
    index = list(csv.DictReader((folder / "a" / "index.csv").open()))
    assert [row["image_id"] for row in index] == [str(image) for image in kept.image_id.tolist()]
    from chatty import tiny  # type: ignore[import-not-found]

    model = tiny()
    for k, row in enumerate(index):
        name = f"seed{row['seed']}_image{int(row['image_id']):06d}"
        clean, attacked, difference = (
            np.asarray(Image.open(folder / "a" / f"{name}_{what}.png")) for what in ("clean", "attacked", "difference")
        )
        assert np.array_equal(clean, kept.clean[k].permute(1, 2, 0).numpy())
        point = kept.submitted[k].permute(1, 2, 0).numpy()
        assert np.abs(attacked / 255 - point).max() <= 0.5 / 255 + 1e-6
        with torch.no_grad():
            label = int(model(torch.from_numpy(attacked.copy()).permute(2, 0, 1)[None] / 255).argmax(1))
        assert row["picture_as"] == kept.classes[label]
        assert row["changed_by_rounding"] == ("yes" if label != int(kept.bare_label[k]) else "no")
        same = clean == attacked
        assert (difference[same] == 128).all()
        assert difference.max() == 255 or difference.min() == 1
    assert not list(folder.rglob("*.tmp"))
    again = snd("report", out, "--save-png", tmp_path / "again")
    assert again.returncode == 0
    for path in (folder / "a").iterdir():
        assert (tmp_path / "again" / "a" / path.name).read_bytes() == path.read_bytes()


def test_pictures_need_points_and_say_what_is_not_known(snd: Snd, tmp_path: Path) -> None:
    out = tmp_path / "a.parquet"
    assert snd("attack", "hsja", *SMALL, "--out", out).returncode == 0
    refused = snd("report", out, "--save-png", tmp_path / "png")
    assert refused.returncode == 2
    assert "--save-points" in refused.stderr
    kept = points.Points(
        torch.tensor([1, 2]), torch.zeros(2, dtype=torch.int64), torch.zeros(2, dtype=torch.int64),
        torch.full((2, 1, 4, 4), 100, dtype=torch.uint8), torch.full((2, 1, 4, 4), 100 / 255),
        torch.tensor([True, False]), torch.zeros(2, dtype=torch.int64), ("a", "b"), "r",
    )  # fmt: skip
    points.write(points.path_of(out), kept)
    saved = pictures.save(out, tmp_path / "png")
    assert (saved.images, saved.attacked, saved.changed) == (2, 1, None)
    assert "was not kept" in saved.text
    assert len(list((tmp_path / "png" / "a").glob("*.png"))) == 4  # grey; the image without a point has one
    wide = points.Points(**{**vars(kept), "clean": torch.zeros(2, 4, 4, 4, dtype=torch.uint8)})
    points.write(points.path_of(out), wide)
    with pytest.raises(DataError, match="4 channels are no pictures"):
        pictures.save(out, tmp_path / "png")


# -- what a file says of its run -----------------------------------------------------------------------------


def test_the_metadata_of_a_file_is_documented() -> None:
    told = [entry.name for entry in columns.METADATA]
    assert told == [name for name in get_type_hints(results.Metadata) if name != "progress"]
