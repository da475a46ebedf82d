"""The terminal as a listener: notes, warnings and progress, always on stderr."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager

import typer

from sndcli.cli.progress import progress_bar
from sndcli.runs.listener import Listener, Update


class Console(Listener):
    """Prints on stderr.

    Args:
        quiet: no notes.
        progress: show progress: a bar on a terminal, a line now and then elsewhere.
    """

    def __init__(self, quiet: bool = False, progress: bool = False) -> None:
        self.quiet, self.shows = quiet, progress

    def note(self, text: str) -> None:
        """A line, unless quiet."""
        if not self.quiet:
            typer.echo(text, err=True)

    def warn(self, text: str) -> None:
        """A line, unless quiet."""
        self.note(f"warning: {text}")

    def progress(self, total: float, what: str) -> AbstractContextManager[Update]:
        """A bar or lines."""
        return progress_bar(total, what, self.shows and sys.stderr.isatty(), self.shows)
