"""Values that a user writes as text, by the annotation of what they are for."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from sndcli.errors import ConfigError, wanted


def typed(text: str, annotation: Any, what: str) -> object:
    """The value that `text` stands for; a list is written with commas, ``none`` is None where it may be that.

    Args:
        text: as a user writes it.
        annotation: its type, and its range where it has one; numbers must be finite.
        what: it is for, in errors.

    Raises:
        ConfigError: it is not of the type, or out of the range.

    Example:
        >>> typed("0.5,1", tuple[float, ...], "`schedule`"), typed("none", int | None, "`n`")
        ((0.5, 1.0), None)
    """
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    adapter: TypeAdapter[object] = TypeAdapter(annotation, config=ConfigDict(allow_inf_nan=False))
    try:
        return adapter.validate_python(_value(text, annotation))
    except ValidationError as error:
        raise ConfigError(f"Expected {what} to be {wanted(error)} but got `{text}`.") from None


def annotations_of(made: Any) -> Mapping[str, Any]:
    """name -> annotation, with its range; empty where they cannot be told (names that only type checkers see)."""
    try:
        return get_type_hints(made, include_extras=True)
    except (NameError, TypeError):
        return {}


def _value(text: str, annotation: object) -> object:
    """What pydantic is to make a value of: None, a list, or the text."""
    parts = _alternatives(annotation)
    if NoneType in parts and text.lower() == "none":
        return None
    if any((get_origin(part) or part) in (tuple, list, set, frozenset) for part in parts):
        return [part.strip() for part in text.strip("()[] ").split(",") if part.strip()]
    return text


def _alternatives(annotation: object) -> tuple[object, ...]:
    """The types of a union, or the one type."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    parts = get_args(annotation)
    return parts if NoneType in parts else (annotation,)
