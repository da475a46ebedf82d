"""Options from files and variables: what goes before what, and what each is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import Done, commands

from sndcli.cli import defaults
from sndcli.cli.app import app

Snd = Callable[..., Done]
ROOT = commands(app)
RUN = """
sigma = 0.01
seed = 7
data-dir = "data"
quiet = true

[attack]
seed = 8
images = 200
budgets = [1000, "2k"]
boundary = false
set = {gamma = 2.0, projected = true}

[report]
format = "md"
fail_if = ["success_seen > 0.5", "success_noisy@2000 > 0.25"]
where = "attack=hsja"
"""


def chosen(*arguments: str) -> Mapping[str, Any]:
    """The values that a command's options get."""
    with ROOT.make_context("snd", list(arguments)) as ctx:
        name, command, rest = ROOT.resolve_command(ctx, list(arguments))
        with command.make_context(name, rest, parent=ctx) as inner:
            found: Mapping[str, Any] = inner.params
            return found


@pytest.fixture
def run_toml(tmp_path: Path) -> str:
    path = tmp_path / "run.toml"
    path.write_text(RUN)
    return str(path)


def test_a_file(run_toml: str) -> None:
    found = chosen("attack", "hsja", "--config", run_toml)
    assert (found["name"], found["sigma"], found["data_dir"], found["quiet"]) == ("hsja", "0.01", Path("data"), True)
    assert (found["seed"], found["images"], found["budgets"], found["boundary"]) == (8, 200, "1000,2k", False)
    assert list(found["settings"]) == ["gamma=2.0", "projected=true"]
    assert (found["verify"], found["config"]) == (100, Path(run_toml))


def test_a_table_is_for_its_command_and_the_top_for_all_that_have_the_option(run_toml: str) -> None:
    found = chosen("report", "a.parquet", "--config", run_toml)
    assert found["format"] == "md"
    assert list(found["fail_if"]) == ["success_seen > 0.5", "success_noisy@2000 > 0.25"]
    assert list(found["where"]) == ["attack=hsja"]
    assert chosen("evidence", "--config", run_toml)["seed"] == 7
    assert list(chosen("accuracy", "--config", run_toml)["sigma"]) == [0.01]


def test_the_command_line_goes_before_a_variable_before_the_file_before_the_default(
    run_toml: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seed(*arguments: str) -> object:
        return chosen("attack", "hsja", *arguments)["seed"]

    assert seed() == 0
    assert seed("--config", run_toml) == 8
    monkeypatch.setenv("SND_SEED", "9")
    assert seed("--config", run_toml) == 9
    assert seed("--config", run_toml, "--seed", "10") == 10
    monkeypatch.setenv("SND_SEED", "")
    monkeypatch.setenv("SND_CONFIG", run_toml)
    assert seed() == 8


def test_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "SND_SIGMA": "0.02", "SND_BUDGET": "2kx10", "SND_SET": "gamma=2 projected=false", "SND_BOUNDARY": "0",
        "SND_BATCH_SIZE": "64", "SND_DATA": "old", "SND_JSON": "true", "SND_COMPILE": "1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    found = chosen("attack", "hsja")
    assert (found["sigma"], found["budget"], found["boundary"], found["json"]) == ("0.02", "2kx10", False, True)
    assert (list(found["settings"]), found["batch_size"]) == (["gamma=2", "projected=false"], "64")
    assert (found["data_dir"], found["compiled"]) == (Path("old"), "on")
    monkeypatch.setenv("SND_DATA_DIR", "new")
    assert chosen("attack", "hsja")["data_dir"] == Path("new")


def test_no_two_options_of_a_command_share_a_variable() -> None:
    for command in ROOT.commands.values():
        variables = [name for each in command.params for name in each.envvar or ()]
        assert len(variables) == len(set(variables))
        options = defaults.options_of(command)
        assert all(variables.count(defaults.variable(name)) == 1 for name in options if name != "help")


def test_variables_of_other_programs_are_left_alone(snd: Snd) -> None:
    assert snd("ls", "datasets", env={"SND_CARD_ID": "x", "SND_TOKEN_OF_CI": "y"}).returncode == 0
