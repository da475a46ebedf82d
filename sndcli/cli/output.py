"""The one printer: what a command found, as one JSON object or for people, on stdout."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import typer
from rich.console import Console, RenderableType


@dataclass(frozen=True)
class Shown:
    """What a command found.

    Attributes:
        answer: the JSON object; None where a command has none.
        body: makes the same for people: tables, or text, which is printed as it is. Called only where it is shown.
        aside: makes what goes to stderr, beside a body that a program reads.
        failures: lines of gates that failed; with any the exit code is 1.
        unchecked: lines of gates that could not be checked, which is no pass; with any the exit code is 2.
        incomplete: lines on what is missing; with any the exit code is 3.
    """

    answer: Mapping[str, object] | None
    body: Callable[[], Iterable[RenderableType]]
    aside: Callable[[], Iterable[RenderableType]] = tuple
    failures: tuple[str, ...] = field(default=())
    unchecked: tuple[str, ...] = field(default=())
    incomplete: tuple[str, ...] = field(default=())


def show(shown: Shown, as_json: bool) -> None:
    """Prints it.

    Raises:
        typer.Exit: 1, where a gate failed; 2, where one could not be checked; 3, where something is missing.
    """
    try:
        if as_json and shown.answer is not None:
            typer.echo(json.dumps(shown.answer))
        else:
            _print(shown.body(), Output())
            _print(shown.aside(), Output(stderr=True))
    except BrokenPipeError:  # whoever reads us has seen enough; gates fail all the same
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    for line in (*shown.failures, *(f"snd: {text}" for text in (*shown.unchecked, *shown.incomplete))):
        typer.echo(line, err=True)
    if shown.incomplete:
        raise typer.Exit(3)
    if shown.unchecked:
        raise typer.Exit(2)
    if shown.failures:
        raise typer.Exit(1)


class Output(Console):
    """Rich's console, but that a reader who has seen enough is no failure: Rich would end the process with 1."""

    def on_broken_pipe(self) -> None:
        """Leaves it to the printer."""
        raise BrokenPipeError


def _print(parts: Iterable[RenderableType], console: Console) -> None:
    for part in parts:
        if isinstance(part, str):
            typer.echo(part, err=console.stderr)
        else:
            console.print(part)
