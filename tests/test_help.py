"""Help of the commands that run a model: options in panels, lines that can be read, names of installed packages."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import Done

from sndcli import plugins
from sndcli.cli.app import app
from sndcli.cli.panels import EPILOG, PANELS, Panelled

Snd = Callable[..., Done]
COMMANDS: dict[str, Any] = {
    name: command
    for name, command in typer.main.get_command(app).commands.items()  # type: ignore[attr-defined]
    if isinstance(command, Panelled)
}


def options_of(command: Any) -> list[Any]:
    return [each for each in command.params if each.param_type_name == "option" and not each.hidden]


def test_every_option_has_a_panel() -> None:
    assert {"attack", "adaptive", "sigma-sweep", "accuracy"} <= {*COMMANDS}
    without = {
        (name, o.name) for name, command in COMMANDS.items() for o in options_of(command) if not o.rich_help_panel
    }
    assert not without, "they belong in sndcli/cli/panels.py"
    places = [name for names in PANELS.values() for name in names]
    assert len(places) == len({*places})


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_at_80_columns(snd: Snd, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    text = snd(name, "--help").stdout
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line[:-1] for line in lines if line[:1].isupper() and line.endswith(":")] == [
        "Arguments"] * (name not in ("accuracy", "audit")) + [
        panel for panel, names in PANELS.items() if any(o.name in names for o in options_of(COMMANDS[name]))
    ]  # fmt: skip
    assert [line for line in lines if line.endswith("-")] == []
    for option in options_of(COMMANDS[name]):
        assert sum(line.startswith(f"  {option.opts[0]}") for line in lines) >= 1, option.opts
        for word in (option.help or "").split():
            if word.startswith("--"):
                assert any(word.strip(".,;'") in line for line in lines), word
    assert EPILOG.split(".md", maxsplit=1)[0] in text
    assert "\ue000" not in text


def test_names_and_summaries_of_installed_packages(snd: Snd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dimming.py").write_text(
        "from sndcli.defenses.base import Defense\n\n"
        "class Dim(Defense):\n    '''Makes each picture darker by a random part.\n\n    More words.'''\n"
    )
    group = plugins.DEFENSES
    points = [importlib.metadata.EntryPoint("dim", "dimming:Dim", group),
              importlib.metadata.EntryPoint("gone", "no_such_module:Gone", group)]  # fmt: skip
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(
        importlib.metadata,
        "entry_points",
        lambda **select: [p for p in points if all(getattr(p, key) == value for key, value in select.items())],
    )
    helped = " ".join(snd("attack", "--help").stdout.split())
    assert "Installed: dim, gone." in helped
    assert "dimming" not in sys.modules
    listed = snd("ls", "defenses")
    assert listed.returncode == 0
    assert "dim         Makes each picture darker by a random part.\n" in listed.stdout
    assert "`gone` (no_such_module:Gone) cannot be imported" in listed.stdout
    sys.modules.pop("dimming")
