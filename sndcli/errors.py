"""Errors that a user can act on; the command line prints them as one or two plain lines."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SndError(Exception):
    """What is wrong, what was expected, and what to do. `exit_code` is what the process returns."""

    exit_code = 2


class ConfigError(SndError):
    """An option, name or combination that cannot be."""


class DataError(SndError):
    """A data set, checkpoint or result file that is missing or corrupt."""


class IncompleteError(SndError):
    """The run stopped before its end and can be resumed."""

    exit_code = 3


def unknown(kind: str, name: str, known: Iterable[str]) -> ConfigError:
    """An error for a name that does not exist, with the nearest one that does."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f" Did you mean `{near[0]}`?" if near else ""
    return ConfigError(f"Unknown {kind} `{name}`.{hint}\nKnown: {', '.join(names)}.")


def first_line(error: BaseException) -> str:
    """What an exception says, in one line."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
