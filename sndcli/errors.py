"""Errors that a user can act on; the command line prints them as one or two plain lines."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # of an OSError: with more room the same command goes on
WANTED = {  # type of pydantic's errors -> what was expected
    "greater_than": "more than {gt}", "greater_than_equal": "at least {ge}", "less_than": "less than {lt}",
    "less_than_equal": "at most {le}", "finite_number": "a finite number", "int_parsing": "a whole number",
    "int_parsing_size": "a smaller whole number", "int_from_float": "a whole number", "int_type": "a whole number",
    "float_parsing": "a number", "float_type": "a number", "string_type": "text", "bool_type": "true or false",
    "bool_parsing": "true or false", "missing": "given", "dict_type": "a table", "list_type": "a list",
    "string_too_short": "no empty text",
}  # fmt: skip


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


def wanted(error: ValidationError) -> str:
    """What pydantic expected at the first place where it was not met, to follow "Expected … to be"."""
    first = error.errors()[0]
    context = {k: f"{v:g}" if isinstance(v, float) else v for k, v in first.get("ctx", {}).items()}
    expected = str(context.get("expected", "")).replace("'", "")
    return expected or WANTED.get(first["type"], "").format(**context) or first["msg"]
