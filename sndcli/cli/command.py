"""What a command is: a dataclass of its options with a ``run`` that returns a result."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import traceback
from abc import ABC, abstractmethod
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from sndcli.cli.console import Console
from sndcli.cli.terminal import Terminated
from sndcli.errors import SndError, first_line

if TYPE_CHECKING:
    from sndcli.cli.output import Shown
    from sndcli.runs.listener import Listener

USAGE, INCOMPLETE, DEFECT, INTERRUPTED, TERMINATED = 2, 3, 70, 130, 143  # exit codes; 1: a gate failed
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
UNUSABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.ENOENT, errno.ENAMETOOLONG}


class Command(ABC):
    """A command with its options."""

    debug: bool

    @abstractmethod
    def run(self, listener: Listener) -> Shown:
        """Does it.

        Args:
            listener: told how it goes.

        Raises:
            SndError: what a user can act on.
        """

    @property
    def as_json(self) -> bool:
        """Whether the result is one JSON object."""
        return False

    def console(self) -> Console:
        """Who listens."""
        return Console()


class Runner(TyperCommand):
    """Typer makes the command of its options; this runs it and prints what it returns."""

    def invoke(self, ctx: Any) -> None:
        """Turns errors a user can act on into their lines and exit code, and Ctrl-C into 130."""
        command: Command = super().invoke(ctx)
        try:
            with redirect_stdout(sys.stderr):  # whatever a model or a library prints: stdout has the result alone
                shown = command.run(command.console())
            from sndcli.cli.output import show

            show(shown, command.as_json)
        except (typer.Exit, typer.Abort):
            raise
        except BrokenPipeError:  # whoever read us has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except KeyboardInterrupt as stop:
            typer.echo("snd: interrupted; what was finished is saved, the same command continues.", err=True)
            raise typer.Exit(TERMINATED if isinstance(stop, Terminated) else INTERRUPTED) from None
        except Exception as error:
            if command.debug:
                raise
            text, code = explained(error)
            typer.echo(f"snd: {text}", err=True)
            raise typer.Exit(code) from None


def explained(error: Exception) -> tuple[str, int]:
    """One or two lines on what went wrong, and the exit code: 1 is for gates, so that a defect never passes for one."""
    if isinstance(error, SndError):
        return str(error), error.exit_code
    if isinstance(error, MemoryError):
        return "the memory is full. What was finished is saved, the same command continues.", INCOMPLETE
    if isinstance(error, OSError) and error.errno in FULL:
        return f"{error.strerror}. What was finished is saved; with more room the same command continues.", INCOMPLETE
    if isinstance(error, OSError) and error.filename is not None and error.errno in UNUSABLE:
        return f"{error.filename} cannot be used: {error.strerror}.", USAGE
    with tempfile.NamedTemporaryFile("w", prefix="snd-", suffix=".traceback", delete=False, encoding="utf-8") as file:
        file.write("".join(traceback.format_exception(error)))
    return (
        f"this is a defect of snd: {type(error).__name__}: {first_line(error)}\n"
        f"The traceback is in {file.name}; --debug shows it."
    ), DEFECT
