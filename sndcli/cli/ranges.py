"""Where the values of options may lie: told in their annotations, and checked before a command runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Annotated, Any, get_args, get_type_hints

from typer.models import ArgumentInfo, OptionInfo


@dataclass(frozen=True)
class Range:
    """Bounds of an option; as `annotated_types.Interval`, whose import every ``--help`` would wait for."""

    ge: int | None = None
    gt: int | None = None
    lt: int | None = None
    le: int | None = None


COUNT = Range(ge=1, lt=2**31)  # how many, at least one
WHOLE = Range(ge=0, lt=2**31)
SEED = Range(ge=0, lt=2**63)
POSITIVE = Range(gt=0)
POINTS = Range(ge=0, le=100)  # percentage points


def check(command: object) -> None:
    """Refuses a command with an option out of its range; a number without one must at least be finite.

    Raises:
        ConfigError: says what was expected.
    """
    from annotated_types import Interval
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    from sndcli.errors import ConfigError, wanted

    assert is_dataclass(command)
    hints = get_type_hints(type(command), include_extras=True)
    for field in fields(command):
        told, value = get_args(hints[field.name])[1:], getattr(command, field.name)
        bounds = [each for each in told if isinstance(each, Range)]
        if value == "":
            raise ConfigError(f"Expected `{_name(field.name, told)}` to be no empty text.")
        if value is None or not (bounds or isinstance(value, float)):
            continue
        kind: Any = type(value)
        for bound in bounds:
            kind = Annotated[kind, Interval(**asdict(bound))]
        try:
            TypeAdapter(kind, config=ConfigDict(allow_inf_nan=False)).validate_python(value)
        except ValidationError as error:
            name = _name(field.name, told)
            raise ConfigError(f"Expected `{name}` to be {wanted(error)} but got `{value}`.") from None
    seed, repeats = (getattr(command, name, 1) for name in ("seed", "repeats"))
    if isinstance(seed, int) and isinstance(repeats, int) and seed + repeats > 2**63:
        raise ConfigError(f"Expected `--seed` and the repeats after it to be below 2^63 but got `{seed}`.")


def _name(field: str, told: Sequence[object]) -> str:
    """An option as it is written on the command line."""
    if any(isinstance(each, ArgumentInfo) for each in told):
        return field.upper()
    declared = [name for each in told if isinstance(each, OptionInfo) for name in each.param_decls or ()]
    names = [name for name in declared if name.startswith("--")]
    return names[0].split("/")[0] if names else "--" + field.replace("_", "-")
