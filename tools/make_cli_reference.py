"""Writes docs/cli.md: every command with its arguments and options, from the commands themselves.

python tools/make_cli_reference.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from sndcli.cli.app import app

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
HEAD = """# Commands

Made by `tools/make_cli_reference.py` from the commands; `snd COMMAND --help` prints the same. Exit codes: 0 done; 1 a
gate failed, and nothing else; 2 usage, config or missing data; 3 incomplete, can be resumed; 130 interrupted after
saving. Results go to stdout, everything else to stderr.
"""


def reference() -> str:
    """The page."""
    group: Any = typer.main.get_command(app)
    return HEAD + "".join(_command(name, command) for name, command in group.commands.items())


def _command(name: str, command: Any) -> str:
    lines = [f"\n## snd {name}\n", *(_paragraphs(command.help or ""))]
    for title, kind in (("argument", "argument"), ("option", "option")):
        found = [p for p in command.params if p.param_type_name == kind and p.name != "help" and not p.hidden]
        if found:
            lines += [f"\n| {title} | default | |", "| --- | --- | --- |", *map(_row, found)]
    return "\n".join(lines) + "\n"


def _paragraphs(text: str) -> list[str]:
    """The docstring, its example as a code block."""
    plain, _, example = text.partition("Example:")
    paragraphs = [" ".join(part.split()) for part in plain.strip().split("\n\n")]
    return ["\n\n".join(paragraphs), *([f"\n```\n{example.strip()}\n```"] if example else [])]


def _row(parameter: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    if parameter.param_type_name == "argument":
        names = f"`{parameter.name.upper()}`"
    default = parameter.default
    unset = default is None or callable(default) or default is False or type(default).__name__ == "Sentinel"
    shown = "" if unset else "on" if default is True else f"`{default}`"
    text = (getattr(parameter, "help", "") or "").replace("|", "\\|")
    return f"| {names} | {shown} | {' '.join(text.split())} |"


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
