"""What an attack's options may be: an option is declared once, in its annotation, and errors and documentation read it.

A plain ``int`` or ``float`` has no bound, but must be finite.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from sndcli.errors import ConfigError, unknown
from sndcli.values import annotations_of, typed

LARGEST = 2**31 - 1  # of whole numbers: they are sizes, counts and loops


def _odd(value: object) -> object:
    text = str(value).strip()
    if not text.removeprefix("-").isdecimal() or int(text) % 2 == 0:
        raise PydanticCustomError("odd", "an odd whole number")
    return value


Count = Annotated[int, Ge(1), Le(LARGEST)]  # how many, at least one
Whole = Annotated[int, Ge(0), Le(LARGEST)]  # how many, or 0 for none or for a choice of the attack's own
Odd = Annotated[int, Ge(1), Le(999), BeforeValidator(_odd)]  # answers to vote on
Side = Annotated[int, Ge(0), Le(1024)]  # pixels or frequencies along an axis, or 0 for a choice of the attack's own
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]  # 0 for none, or for a choice of the attack's own
Share = Annotated[float, Ge(0), Le(1)]
Inner = Annotated[float, Gt(0), Lt(1)]
PositiveShare = Annotated[float, Gt(0), Le(1)]
Rate = Annotated[float, Ge(0), Lt(1)]
Factor = Annotated[float, Gt(1)]


def parsed(options: type[object], settings: Sequence[str], owner: str) -> Mapping[str, object]:
    """The values of ``key=value`` settings, each of the type and in the range of its option's annotation.

    A list is written with commas; ``none`` is None where an option may be that.

    Args:
        options: the dataclass of the options.
        settings: as a user writes them.
        owner: whose options they are, for errors.

    Raises:
        ConfigError: no ``=``, an unknown key, or a value that is not of the type or out of the range.
    """
    known = _annotations(options)
    found: dict[str, object] = {}
    for setting in settings:
        key, separator, text = setting.partition("=")
        key, text = key.strip(), text.strip()
        if not (key and separator):
            raise ConfigError(f"Expected `--set key=value` but got `{setting}`.")
        if key not in known:
            raise unknown(f"option of {owner}", key, known)
        found[key] = typed(text, known[key], f"`{key}` of {owner}")
    return found


def _annotations(options: type[object]) -> Mapping[str, Any]:
    """name -> annotation; where one cannot be told (a plug-in's own names), the type of the default."""
    default = options()
    names = [each.name for each in fields(default)] if is_dataclass(default) else []
    told = annotations_of(options)
    return {name: told.get(name, type(getattr(default, name))) for name in names}
