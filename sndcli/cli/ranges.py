"""Where the values of options may lie: told in their annotations, and checked before a command runs."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

import typer
from annotated_types import BaseMetadata, GroupedMetadata, Interval

COUNT = Interval(ge=1, lt=2**31)  # how many, at least one
WHOLE = Interval(ge=0, lt=2**31)
SEED = Interval(ge=0, lt=2**63)
POSITIVE = Interval(gt=0)
POINTS = Interval(ge=0, le=100)  # percentage points


def check(command: object) -> None:
    """Refuses a command with an option out of its range; a number without one must at least be finite.

    Raises:
        ConfigError: says what was expected.
    """
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    from sndcli.errors import ConfigError, wanted

    assert is_dataclass(command)
    hints = get_type_hints(type(command), include_extras=True)
    for field in fields(command):
        told = get_args(hints[field.name])[1:]
        bounds = [each for each in told if isinstance(each, BaseMetadata | GroupedMetadata)]
        value = getattr(command, field.name)
        if not (bounds or isinstance(value, float)) or value is None:
            continue
        kind: Any = float if isinstance(value, float) else int
        for bound in bounds:
            kind = _with(kind, bound)
        try:
            TypeAdapter(kind, config=ConfigDict(allow_inf_nan=False)).validate_python(value)
        except ValidationError as error:
            options = [each for each in told if isinstance(each, typer.models.OptionInfo)]
            names = [name for each in options for name in each.param_decls or () if name.startswith("--")]
            name = names[0].split("/")[0] if names else "--" + field.name.replace("_", "-")
            raise ConfigError(f"Expected `{name}` to be {wanted(error)} but got `{value:g}`.") from None


def _with(kind: Any, bound: object) -> Any:
    from typing import Annotated

    return Annotated[kind, bound]
