"""Progress of a run: a bar on a terminal, a plain line now and then elsewhere. Always on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

EVERY_S = 30.0


@contextmanager
def progress_bar(total: float, what: str, bar: bool, lines: bool) -> Iterator[Callable[[float, str], None]]:
    """Yields ``update(done, text)``.

    Args:
        total: value of `done` at the end.
        what: leads the line.
        bar: draw a bar with percentage and remaining time.
        lines: instead, print a line at most every half minute.
    """
    if bar:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
        )  # fmt: skip
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(what, total=total, text="")
            yield lambda done, text: progress.update(task, completed=done, text=text)
        return

    start = last = time.monotonic()

    def update(done: float, text: str) -> None:
        nonlocal last
        now = time.monotonic()
        if not lines or (now - last < EVERY_S and done < total):
            return
        last = now
        left = (now - start) * (total - done) / done if done else 0.0
        typer.echo(f"{what}: {100 * done / total:.0f} %, {text}, about {left:.0f} s left", err=True)

    yield update
