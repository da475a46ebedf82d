"""Every `snd` command in a code block of the documentation is parsed, and those that can run here are run."""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pages
import pytest
from conftest import Done, commands
from linear_victim import MODEL

from sndcli.cli.app import app

Snd = Callable[..., Done]
ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
COMMAND = re.compile(r'(?:^|[;&|)] *|run |do )(snd (?:"[^"]*"|[^;&|"])*?)(?=;|&&|\||$)')
ELSEWHERE = (
    "DIR",
    "my_",
    "my.",
    "mine",
    "imagenet",
    "timm:",
    "runs/",
    "http://",
    "https://",
)  # not in the package


def documented(page: Path) -> list[str]:
    """The commands of a page's code blocks; loops over shell variables are unrolled."""
    found: list[str] = []
    for language, block in pages.blocks(page.read_text(encoding="utf-8")):
        loops: dict[str, list[str]] = {}
        lines = pages.typed(block) if language == "console" else re.sub(r"\\\n\s*", " ", block).splitlines()
        for line in lines:
            loops |= {name: values.split() for name, values in re.findall(r"for (\w+) in ([^;]+);", line)}
            for command in re.findall(COMMAND, line.strip()):
                used = [name for name in loops if f"${name}" in command]
                for values in itertools.product(*(loops[name] for name in used)):
                    text = command
                    for name, value in zip(used, values, strict=True):
                        text = text.replace(f"${name}", value)
                    found.append(re.sub(r"[\[\]]", "", text) if " [--" in text else text)
    return list(dict.fromkeys(found))


COMMANDS = [
    (page.relative_to(ROOT).as_posix(), text)
    for page in PAGES
    for text in documented(page)
    if "--config" not in text  # needs the file that it names
]


def words(text: str) -> list[str]:
    """As a shell splits them, but for `|` and `;`, which only stand in quotes here; without `snd` and comments."""
    return shlex.split(text, comments=True)[1:]


def test_the_pages_have_commands() -> None:
    assert len(COMMANDS) > 40
    assert ("README.md", "snd attack hsja,hsja-na --sigma 0,0.01 --images 20 --budget 600") in COMMANDS


@pytest.mark.parametrize(("page", "text"), COMMANDS)
def test_documented_command_is_understood(page: str, text: str) -> None:
    group: Any = commands(app)
    name, *arguments = words(text)
    if name.startswith("-"):
        group.make_context("snd", [name], resilient_parsing=True)
        return
    assert name in group.commands, f"{page}: {text}"
    group.commands[name].make_context(name, arguments)  # raises on an unknown option or a bad value


DRY = [
    text
    for page, text in COMMANDS
    if "/results/" not in page
    and words(text)[0] in ("attack", "adaptive", "sigma-sweep", "reproduce")
    and "--out" not in text
    and "--details" not in text  # more of what a run shows that is here without it
    and not any(part in text for part in ELSEWHERE)
]


STARTED = sorted({text.split(" #")[0].strip() for text in DRY})
LONG = [text for text in STARTED if words(text)[0] in ("reproduce", "sigma-sweep")] + STARTED[3:]  # some for every day


@pytest.mark.default_model
@pytest.mark.parametrize("text", [pytest.param(t, marks=[pytest.mark.slow] if t in LONG else []) for t in STARTED])
def test_documented_run_would_start(snd: Snd, tmp_path: Path, text: str) -> None:
    done = snd(*words(text), "--dry-run", "--out", tmp_path)
    assert done.returncode == 0, done.stderr


REPORTS = sorted({text.split(" #")[0].strip() for _, text in COMMANDS if "results/*.parquet" in text})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `results/*.parquet` and `old/*.parquet` are what a user would have."""
    from typer.testing import CliRunner

    where = tmp_path_factory.mktemp("reports")
    options = "--sigma 0.01 --images 2 --budget 3000 --budgets 1500,2000 --verify 4 --no-boundary --save-points -q"
    words = [
        "attack",
        "hsja",
        "--model",
        MODEL,
        *options.split(),
        "--batch-size",
        "64",
        "--out",
        str(where / "results"),
    ]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    shutil.copytree(where / "results", where / "old")
    return where


@pytest.mark.parametrize("text", REPORTS)
def test_documented_report_runs(snd: Snd, folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(folder)
    arguments: list[str] = []
    for word in words(text):
        arguments += sorted(str(path) for path in Path().glob(word)) if "*" in word else [word]
    done = snd(*arguments)
    assert done.returncode == (1 if "--fail-if" in text and "gate failed" in done.stderr else 0), done.stderr
