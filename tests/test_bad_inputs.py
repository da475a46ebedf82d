"""Whatever is put in, a command ends in one clear way: what is wrong in a line or two, code 2 or 3, no traceback."""

from __future__ import annotations

import errno
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import bad_files
import bad_inputs
import pytest
from conftest import Done

from sndcli.runs.lock import alone

Snd = Callable[..., Done]
# Where something bad were taken, the run is short. Options in the environment are for every command that has them.
SHORT = {"SND_IMAGES": "2", "SND_BUDGET": "6", "SND_VERIFY": "2", "SND_BATCH_SIZE": "8", "SND_DATA": ""}
AS_PROCESSES = 40  # of all lines, evenly; the first few of them by default
BY_DEFAULT = 2


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """name -> path of the bad files, beside a good one and a busy one."""
    from typer.testing import CliRunner

    from sndcli.cli.app import app

    folder = tmp_path_factory.mktemp("bad")
    (folder / "bad_models.py").write_text(bad_files.MODELS)
    sys.path.insert(0, str(folder))
    good = folder / "good.parquet"
    run = ["attack", "hsja", "--model", "py:bad_models:tiny", "--sigma", "0.1", "--select", "all", "--out", str(good)]
    made = CliRunner().invoke(app, [*run, "--budgets", "3"], env=SHORT | {"SND_BUDGET": "40"})
    assert made.exit_code == 0, made.stderr
    found = dict(bad_files.make(folder, good))
    busy = folder / "busy.parquet"
    with alone(busy.with_suffix(".parts"), busy):
        yield found | {"busy": str(busy)}
    sys.path.remove(str(folder))


def taken_apart(line: str, files: dict[str, str]) -> tuple[int, dict[str, str], list[str], str]:
    """Exit code, variables, arguments and the word of a line."""
    text, _, word = line.rpartition(" => ")
    code = 3 if text.startswith("3:") else 2
    arguments = [re.sub(r"\{(.*?)\}", lambda m: files[m[1]], each) for each in shlex.split(text.removeprefix("3:"))]
    variables = {}
    while arguments and re.match(r"SND_[A-Z_]+=", arguments[0]):
        name, _, value = arguments.pop(0).partition("=")
        variables[name] = value
    if "--config" in arguments:  # before which variables go
        variables |= dict.fromkeys(SHORT, "")
    return code, variables, arguments, word.split()[0] if word.startswith("--") else word


def check(done: Done, code: int, word: str) -> None:
    told = done.stderr[done.stderr.find("snd: ") :] if "snd: " in done.stderr else ""
    assert done.returncode == code, done.stderr
    assert done.stdout == "" or told.startswith("snd: The gate")  # which is judged after the figures are shown
    assert "Traceback" not in done.stderr
    assert 1 <= len(told.strip().splitlines()) <= 2, done.stderr
    assert word in told


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if "__pycache__" not in path.parts)


LINES = [line for _, line in bad_inputs.lines()]
EVERY = 5  # of all lines, this many go by until the next that is run by default; -m slow runs the rest


@pytest.mark.parametrize(
    "line", [pytest.param(line, marks=[pytest.mark.slow] if k % EVERY else []) for k, line in enumerate(LINES)]
)
def test_bad_input(line: str, snd: Snd, files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, variables, arguments, word = taken_apart(line, files)
    there = everything(Path(files["folder"]))
    check(snd(*arguments, env=SHORT | variables), code, word)
    assert everything(tmp_path) == []
    assert everything(Path(files["folder"])) == there


def processes() -> list[object]:
    lines = [line for _, line in bad_inputs.lines()]
    chosen = lines[:: len(lines) // AS_PROCESSES][:AS_PROCESSES]
    few = chosen[:: AS_PROCESSES // BY_DEFAULT]
    return [pytest.param(line, marks=() if line in few else pytest.mark.slow) for line in chosen]


@pytest.mark.parametrize("line", processes())
def test_bad_input_of_a_process(line: str, files: dict[str, str], tmp_path: Path) -> None:
    code, variables, arguments, word = taken_apart(line, files)
    python_path = os.pathsep.join([files["folder"], os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "sndcli", *arguments], capture_output=True, text=True, check=False, timeout=120,
        env=os.environ | SHORT | variables | {"PYTHONPATH": python_path}, cwd=tmp_path,
    )  # fmt: skip
    check(Done(done.returncode, done.stdout, done.stderr), code, word)
    assert everything(tmp_path) == []


def test_there_are_enough_of_them_and_each_once() -> None:
    lines = [line for _, line in bad_inputs.lines()]
    assert len(lines) == len(set(lines)) >= 345


def test_a_folder_of_a_class_that_cannot_be_read(
    snd: Snd, files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root all can be read, so the system's answer is put in its place."""
    listed = os.scandir

    def scandir(path: str | os.PathLike[str] = ".") -> object:
        if str(path).endswith("dog"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr("sndcli.datasets.folder.os.scandir", scandir)
    monkeypatch.chdir(tmp_path)
    done = snd("attack", "null", "--model", "py:bad_models:two", "--dataset", f"folder:{files['pictures']}", env=SHORT)
    check(done, 2, "dog cannot be used: Permission denied")
