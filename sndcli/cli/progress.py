"""Progress of a run: a bar on a terminal, a plain line now and then elsewhere. Always on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

STEP = 0.1  # a line where so much more is done,
LEAST_S, MOST_S, QUIET_S = 2.0, 300.0, 30.0  # never sooner than the first; at least as often as the second
PATIENCE = 0.1  # in between, lines are this share of the time so far apart, but at least `QUIET_S`


@contextmanager
def progress_bar(total: float, what: str, bar: bool, lines: bool) -> Iterator[Callable[[float, str], None]]:
    """Yields ``update(done, text)``.

    Args:
        total: value of `done` at the end.
        what: leads the line.
        bar: draw a bar with percentage and remaining time.
        lines: instead, print a line for each tenth, and where that takes long, every half minute, later every tenth of
            the time so far, at least every five minutes.
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
    log = Log(total, what, time.monotonic())

    def update(done: float, text: str) -> None:
        line = log.line(done, text, time.monotonic()) if lines else None
        if line is not None:
            typer.echo(line, err=True)

    yield update


class Log:
    """Says when a line is due in a log, and what it says.

    Args:
        total: value of `done` at the end.
        what: leads the line.
        start: seconds on some clock.
    """

    def __init__(self, total: float, what: str, start: float) -> None:
        self._total, self._what, self._start = total, what, start
        self._last, self._at = start, 0.0  # time and share of the last line
        self._first: float | None = None  # what was there before we began

    def line(self, done: float, text: str, now: float) -> str | None:
        """The line, where one is due at `now` seconds; the end has one."""
        from sndcli.reports.published import duration

        share = done / self._total
        if self._first is None:
            self._first = self._at = share if share < 1 else 0.0
        gap, since = min(MOST_S, max(QUIET_S, PATIENCE * (now - self._start))), now - self._last
        step = share - self._at >= STEP - 1e-9 and since >= LEAST_S
        if not (step or since >= gap or (share >= 1 > self._at)):
            return None
        here = share - self._first  # the share that took the time so far
        left = f", about {duration((now - self._start) * (1 - share) / here)} left" if here > 0 and share < 1 else ""
        self._last, self._at = now, share
        return f"{self._what}: {100 * share:.0f} %, {text}{left}"
