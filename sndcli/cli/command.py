"""What a command is: a dataclass of its options with a ``run`` that returns a result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from sndcli.cli.console import Console
from sndcli.errors import SndError

if TYPE_CHECKING:
    from sndcli.cli.output import Shown
    from sndcli.runs.listener import Listener


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
            shown = command.run(command.console())
            from sndcli.cli.output import show

            show(shown, command.as_json)
        except SndError as error:
            if command.debug:
                raise
            typer.echo(f"snd: {error}", err=True)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            typer.echo("snd: interrupted; what was finished is saved, the same command continues.", err=True)
            raise typer.Exit(130) from None
