"""Who is told how a run goes. Nothing below the command line prints."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

Update = Callable[[float, str], None]  # how much is done, and what to say of it


class Listener:
    """Hears nothing; the command line has one that prints."""

    def note(self, text: str) -> None:
        """Something that a user may want to know."""

    def warn(self, text: str) -> None:
        """Something that went wrong and does not end the run."""

    def progress(self, total: float, what: str) -> AbstractContextManager[Update]:  # noqa: ARG002
        """While it is entered: how far something is that ends at `total`."""
        return nullcontext(_silent)


def _silent(_done: float, _text: str) -> None:
    pass
