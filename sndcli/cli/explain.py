"""``snd explain WORD``: what a word means."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from sndcli.cli import complete
from sndcli.cli import options as o

if TYPE_CHECKING:
    from sndcli.cli.output import Shown
    from sndcli.runs.listener import Listener


@dataclass(frozen=True, kw_only=True)
class Explain(o.Talk):
    """Say what a word means: a column, measure, flag, attack, preset or value of an option.

    Example: snd explain floor
    """

    word: Annotated[
        str,
        typer.Argument(help="As it stands in a table, a file or an option.", autocompletion=complete.words),
    ]

    def run(self, listener: "Listener") -> "Shown":  # noqa: ARG002
        """One line for each sense."""
        from sndcli.cli.output import Shown
        from sndcli.glossary import explain

        terms = explain(self.word)
        return Shown({"schema": 1, "rows": [term.as_dict() for term in terms]}, lambda: map(str, terms))
