"""What pages of the documentation show: files to write, and commands to type with what they print.

A file is a block of Python whose first line names it (`# my_defenses.py`). A session is a block of `console`: commands
stand after `$ `, below them what they print, where `…` stands for lines that are left out. A comment says how long a
command takes (`# 20 s`), and `$ echo $?` what the command before it ends with; without one that is 0.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

LIMIT = 600  # seconds for a command
LEFT_OUT = "…"


@dataclass(frozen=True)
class Step:
    """A command of a session.

    Attributes:
        command: as typed, on one line, without its comment.
        shown: lines of what it prints.
        seconds: how long it is said to take; None where nothing is said.
        code: its exit code.
    """

    command: str
    shown: tuple[str, ...]
    seconds: int | None
    code: int = 0


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """(language, content) of each fenced block; the language is empty where none is named."""
    yield from re.findall(r"^ *```(\w*)\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)


def files(text: str) -> dict[str, str]:
    """Name and content of every file that a page has."""
    named = (
        (re.match(r"# (\w+\.py)\n", content), content) for language, content in blocks(text) if language == "python"
    )
    return {name[1]: content for name, content in named if name}


def typed(session: str) -> list[str]:
    """The commands of a `console` block, each on one line, with their comments."""
    return re.findall(r"^\$ (.*)$", session.replace("\\\n", " "), re.MULTILINE)


def steps(text: str) -> list[Step]:
    """All commands of a page's sessions, in order."""
    found: list[Step] = []
    for session in (content for language, content in blocks(text) if language == "console"):
        for part in re.split(r"^\$ ", session.replace("\\\n", " "), flags=re.MULTILINE)[1:]:
            typed, *shown = part.rstrip("\n").split("\n")
            if typed == "echo $?":
                found[-1] = replace(found[-1], code=int(shown[0]))
                continue
            command, _, comment = typed.partition(" # ")
            seconds = re.search(r"(\d+) s\b", comment)
            lines = tuple(line for line in shown if line.strip())
            found.append(Step(" ".join(command.split()), lines, int(seconds[1]) if seconds else None))
    return found


def stable(text: str) -> str:
    """A text without what differs from machine to machine: figures, the width of columns and where lines break."""
    return re.sub(r"\s+", " ", re.sub(r"([─━═-])\1+", r"\1", re.sub(r"\d+(?:[.,]\d+)*", "#", text))).strip()


def missing(shown: tuple[str, ...], printed: str) -> list[str]:
    """Parts of what is shown, between lines that are left out, that are not printed in this order; figures aside."""
    rest = stable(printed)
    for part in re.split(rf"^{LEFT_OUT}$", "\n".join(shown), flags=re.MULTILINE):
        _, found, rest = rest.partition(stable(part)) if part.strip() else ("", " ", rest)
        if not found:
            return part.strip().split("\n")
    return []


def run(command: str, folder: Path | None = None, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Runs a command in a shell; its exit code and what it printed on both streams, in order."""
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=env, check=False, timeout=LIMIT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return done.returncode, done.stdout
