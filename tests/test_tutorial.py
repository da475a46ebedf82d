"""docs/tutorial.md: its files are valid, and its commands do as shown."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pages
import pytest
from conftest import Done

Snd = Callable[..., Done]
PAGE = (Path(__file__).parents[1] / "docs" / "tutorial.md").read_text(encoding="utf-8")
STEPS = pages.steps(PAGE)
COLUMNS = "100"  # the width that the page is shown at
LONGEST = 120  # seconds; what takes longer has no place in the first hour
AT_ONCE = ("--version", "explain", "ls")  # commands that are run every day
SMALL = ("--images", 1, "--budget", 20, "--verify", 4, "--no-boundary", "--no-progress", "--json")


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder, but for the page's files."""
    for name, content in pages.files(PAGE).items():
        (tmp_path / name).write_text(content)
        monkeypatch.delitem(sys.modules, name.removesuffix(".py"), raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_has_what_a_first_hour_needs() -> None:
    commands = " ".join(step.command for step in STEPS)
    for part in ("--version", "ls", "accuracy", "explain", "--details", "--html", "--format md", "--fail-if", "compare",
                 "doctor", "--defense py:", "attack py:", "--model py:"):  # fmt: skip
        assert part in commands, part
    assert {step.code for step in STEPS} == {0, 1}
    assert all(step.command.startswith("snd ") and step.shown for step in STEPS)
    assert all(step.seconds is not None and step.seconds <= LONGEST for step in STEPS)
    assert sum(step.seconds or 0 for step in STEPS) < 3600
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    assert any(f"uv run {step.command}\n" in readme for step in STEPS), "README's first command"


def test_the_pages_files_are_those_that_its_commands_name() -> None:
    named = {f"{word.split(':')[1]}.py" for step in STEPS for word in shlex.split(step.command) if word[:3] == "py:"}
    assert named == {*pages.files(PAGE)}


@pytest.mark.parametrize("step", [s for s in STEPS if s.command.split()[1] in AT_ONCE], ids=lambda step: step.command)
def test_a_short_command_prints_what_is_shown(snd: Snd, step: pages.Step) -> None:
    done = snd(*shlex.split(step.command)[1:], env={"COLUMNS": COLUMNS})
    assert done.returncode == step.code
    assert not pages.missing(step.shown, done.stdout)


def test_the_pages_files_are_valid(snd: Snd, written: Path) -> None:
    """Attack, defense and model at once, in a run as small as can be."""
    words = [word for step in STEPS for word in shlex.split(step.command)]
    parts = {words[k - 1]: word for k, word in enumerate(words) if word.startswith("py:")}
    done = snd("attack", parts["attack"], "--defense", parts["--defense"], "--model", parts["--model"], *SMALL)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert (row["failed"], row["n"]) == (0, 1)


def test_lines_are_told_apart() -> None:
    """What is compared of a page: words and their order, not figures and widths."""
    printed = "none   10.0 [2.8, 30.1]\n━━━━\nsnd 0.01  1,234\nbreaks 2 of 20\nimages"
    assert not pages.missing(("none 5 [1, 9]", "━━", "snd 0.02 3"), printed)
    assert not pages.missing(("none 5 [1, 9]", "…", "breaks 19 of 20 images"), printed)
    assert not pages.missing(("…", "snd 0.01 1,234", "…"), printed)
    assert pages.missing(("none 5 [1, 9]", "snd 0.02 3"), printed)  # without a sign that a line is left out
    assert pages.missing(("snd 0.01 1,234", "…", "none 5 [1, 9]"), printed) == ["none 5 [1, 9]"]
    assert pages.missing(("rnp 0.01 1,234",), printed) == ["rnp 0.01 1,234"]


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_whole_page(written: Path, shell: dict[str, str]) -> None:
    """Its commands one after the other in an empty folder, as printed."""
    env = shell | {"COLUMNS": COLUMNS, "PYTHONUNBUFFERED": "1"}
    env["PYTHONPATH"] = str(Path(__file__).parents[1])
    for step in STEPS:
        code, printed = pages.run(step.command, written, env)
        assert code == step.code, f"{step.command}\n{printed}"
        assert not pages.missing(step.shown, printed), f"{step.command}\n{printed}"
    code, printed = pages.run("snd report results --json -q", written, env)
    assert code == 0
    noisy = {(row["attack"], row["sigma"]): row["success_noisy"]["value"] for row in json.loads(printed)["rows"]}
    assert noisy["hsja-na", 0.01] > noisy["hsja", 0.01] + 0.2  # the contrast that the page speaks of
