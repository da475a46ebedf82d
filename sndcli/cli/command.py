"""What a command is: a dataclass of its options with a ``run`` that returns a result."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

from sndcli.cli import defaults
from sndcli.cli.compiling import spelled
from sndcli.cli.console import Console
from sndcli.cli.ranges import check
from sndcli.cli.terminal import Terminated
from sndcli.errors import FULL, SndError, first_line

if TYPE_CHECKING:
    from sndcli.cli.output import Shown
    from sndcli.runs.listener import Listener

USAGE, INCOMPLETE, DEFECT, INTERRUPTED, TERMINATED = 2, 3, 70, 130, 143  # exit codes; 1: a gate failed
UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # Click's, wherever this Typer has it from
UNUSABLE = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.ENOENT, errno.EEXIST, errno.ENAMETOOLONG,
    errno.ELOOP, errno.ENXIO,
}  # fmt: skip


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

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        defaults.name_variables(self)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Reads the arguments."""
        return super().parse_args(ctx, spelled(args))

    def invoke(self, ctx: Any) -> None:
        """Runs the command; what goes wrong becomes lines and an exit code."""
        command: Command = super().invoke(ctx)
        with ending(command.debug):
            check(command)
            with redirect_stdout(sys.stderr):  # where libraries tell of downloads; stdout is for the result
                shown = command.run(command.console())
            from sndcli.cli.output import show

            show(shown, command.as_json)
            sys.stdout.flush()  # a full disk is told here, and not by the interpreter's end


class Program(TyperGroup):
    """All commands, and the outer handler: nothing that goes wrong anywhere ends with exit code 1 or a traceback."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Runs the command that the arguments name, and ends the process."""
        run = partial(super().main, args, prog_name, complete_var, False, windows_expand_args, **extra)
        if not standalone_mode:
            return run()
        code: object = 0
        try:
            with ending(exits=True):
                code = run()
        except typer.Exit as end:
            code = end.exit_code
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        """Checks the environment before the command reads it."""
        commands: Any = self.commands
        defaults.check_variables(commands)
        return super().invoke(ctx)


@contextmanager
def ending(debug: bool = False, exits: bool = False) -> Iterator[None]:
    """Turns errors a user can act on into their lines and exit code, and Ctrl-C into 130.

    Raises:
        typer.Exit: with that code.
    """
    try:
        yield
    except typer.Exit:
        raise
    except BrokenPipeError:  # whoever read us has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except (KeyboardInterrupt, typer.Abort) as stop:
        typer.echo("snd: interrupted; what was finished is saved, the same command continues.", err=True)
        raise typer.Exit(TERMINATED if isinstance(stop, Terminated) else INTERRUPTED) from None
    except SystemExit as stop:  # Click's own, as of completion; or a model's or a plug-in's code ended the process
        if exits:
            raise
        typer.echo(f"snd: code of a model or plug-in asked to end the process: {first_line(stop)}", err=True)
        raise typer.Exit(USAGE) from None
    except UsageError as error:
        typer.echo(misused(error), err=True)
        raise typer.Exit(USAGE) from None
    except Exception as error:
        if debug:
            typer.echo("".join(traceback.format_exception(error)), err=True)
        text, code = explained(error, keep=not debug)
        typer.echo(f"snd: {text}", err=True)
        raise typer.Exit(code) from None


def misused(error: Exception) -> str:
    """What Click says of arguments that it cannot read, in two lines; the whole help where there were none."""
    ctx, param = getattr(error, "ctx", None), getattr(error, "param", None)
    told = str(error.format_message()) if hasattr(error, "format_message") else first_line(error)
    if type(error).__name__ == "NoArgsIsHelpError":
        return told
    line = " ".join(told.split())
    if ctx is not None and param is not None:
        source = getattr(ctx.get_parameter_source(param.name), "name", "")
        line += {
            "ENVIRONMENT": f" (from the variable {(param.envvar or ['?'])[0]})",
            "DEFAULT_MAP": f" (from {ctx.params.get('config')})",
        }.get(source, "")
    path = ctx.command_path if ctx is not None else "snd"
    return f"snd: {line}\n`{path} --help` says what there is."


def explained(error: Exception, keep: bool = True) -> tuple[str, int]:
    """One or two lines on what went wrong, and the exit code: 1 is for gates, so that a defect never passes for one.

    With `keep`, the traceback of a defect is kept in a file.
    """
    if isinstance(error, SndError):
        return str(error), error.exit_code
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which need not be imported
        return (
            "the memory of the device is full. What was finished is saved, the same command continues, with a smaller "
            "--batch-size where it has one."
        ), INCOMPLETE
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "allocate memory" in str(error)):
        return "the memory is full. What was finished is saved, the same command continues.", INCOMPLETE
    if isinstance(error, OSError) and error.errno in FULL:
        return f"{error.strerror}. What was finished is saved; with more room the same command continues.", INCOMPLETE
    if isinstance(error, OSError) and error.filename is not None and error.errno in UNUSABLE:
        return f"{error.filename} cannot be used: {error.strerror}.", USAGE
    if not keep:
        return f"this is a defect of snd: {type(error).__name__}: {first_line(error)}", DEFECT
    with tempfile.NamedTemporaryFile("w", prefix="snd-", suffix=".traceback", delete=False, encoding="utf-8") as file:
        file.write("".join(traceback.format_exception(error)))
    return (
        f"this is a defect of snd: {type(error).__name__}: {first_line(error)}\n"
        f"The traceback is in {file.name}; --debug shows it."
    ), DEFECT
