"""Options from elsewhere than the command line: a TOML file (``--config``) and environment variables (``SND_…``).

The command line goes before the environment, that before the file, and that before an option's own default. Click does
the looking up; here it is told what each variable is called and what a file says.
"""

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from sndcli.errors import ConfigError, unknown

if TYPE_CHECKING:
    from typer.core import TyperCommand, TyperOption

PREFIX = "SND_"
FORMER_NAMES = {"data-dir": ("SND_DATA",)}  # further variables of an option
ELSEWHERE = ("SND_DATA",)
LIKE = 0.8  # a variable that is so similar to one of ours is a slip of the pen, and another program's below
NEVER = ("help", "config")  # what a file does not say
TABLES = ("set",)  # options of key=value, which a file may have as a table


def option_name(option: "TyperOption") -> str:
    """Its name in a file: that of the command line without its dashes, as ``data-dir``."""
    return max(option.opts, key=len).lstrip("-")


def variable(name: str) -> str:
    """The environment variable of an option, as ``SND_DATA_DIR``."""
    return PREFIX + name.upper().replace("-", "_")


def options_of(command: "TyperCommand") -> "Mapping[str, TyperOption]":
    """The options of a command by their names in a file."""
    options = cast("list[TyperOption]", [each for each in command.params if each.param_type_name == "option"])
    return {option_name(each): each for each in options}


def name_variables(command: "TyperCommand") -> None:
    """Tells Click from which environment variables the command's options are read."""
    for name, option in options_of(command).items():
        if name != "help":
            option.show_envvar = False  # the same for all
            option.envvar = [variable(name), *FORMER_NAMES.get(name, ())]


def check_variables(commands: "Mapping[str, TyperCommand]") -> None:
    """Refuses a variable that can only be meant as one of ours.

    Raises:
        ConfigError: a name that is none of an option, but nearly.
    """
    known = {variable(name) for command in commands.values() for name in options_of(command)} | {*ELSEWHERE}
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known:
            short = {each.removeprefix(PREFIX): each for each in known}
            near = difflib.get_close_matches(name.removeprefix(PREFIX), short, n=1, cutoff=LIKE)
            if near:
                raise ConfigError(f"No option is read from the variable `{name}`. Did you mean `{short[near[0]]}`?")


def read(path: Path, command: str, commands: "Mapping[str, TyperCommand]") -> dict[str, str | list[str]]:
    """What a file says of a command's options, by the names of its parameters.

    Options stand at the top, for every command that has them, or in a table of one command's name, which goes first.

    Args:
        path: of the file.
        command: the one that runs.
        commands: all by their names.

    Raises:
        ConfigError: no TOML, a key that is no option, or a value that is none.
        OSError: the file cannot be read.
    """
    import tomllib

    try:
        with path.open("rb") as file:
            told = tomllib.load(file)
    except ValueError as error:
        raise ConfigError(f"{path} is not TOML: {error}.") from None
    known = {name: options_of(each) for name, each in commands.items()}
    anywhere = {key for options in known.values() for key in options} - {*NEVER}
    shared = {key: value for key, value in told.items() if not (key in known and isinstance(value, dict))}
    _check_keys(path, "option", shared, anywhere, [*anywhere, *known])
    for key in shared.keys() & known.keys() - known[command].keys():
        raise ConfigError(f"{path}: expected `{key}` to be a table, as in `[{key}]`, but got `{shared[key]}`.")
    for name in told.keys() - shared.keys():
        _check_keys(path, f"option of {name}", told[name], known[name].keys() - {*NEVER}, None)
    options = known[command]
    mine = {key: value for key, value in _named(shared).items() if key in options}
    mine |= _named(told[command]) if command in told.keys() - shared.keys() else {}
    return {options[key].name: _text(path, key, value, options[key].multiple) for key, value in mine.items()}


def _named(table: Mapping[str, object]) -> dict[str, object]:
    return {key.replace("_", "-"): value for key, value in table.items()}


def _check_keys(
    path: Path, what: str, table: Mapping[str, object], known: "set[str]", near: Sequence[str] | None
) -> None:
    for key in _named(table):
        if key not in known:
            raise ConfigError(f"{path}: {str(unknown(what, key, near or known)).splitlines()[0]}")


def _text(path: Path, key: str, value: object, multiple: bool) -> str | list[str]:
    """A value as it would stand on the command line; Click reads it as it reads that."""
    if isinstance(value, dict) and key in TABLES:
        value = [f"{name}={_one(path, key, each)}" for name, each in value.items()]
    if isinstance(value, list):
        parts = [_one(path, key, each) for each in value]
        return parts if multiple else ",".join(parts)
    return [_one(path, key, value)] if multiple else _one(path, key, value)


def _one(path: Path, key: str, value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list):
        return ",".join(_one(path, key, each) for each in value)
    raise ConfigError(f"{path}: expected `{key}` to be a value, or a list of them, but got `{value}`.")


def _use(ctx: typer.Context, value: Path | None) -> Path | None:
    """Makes what the file says the defaults of the options that are read after this one."""
    if value is not None and not ctx.resilient_parsing:
        commands: Any = getattr(ctx.parent.command, "commands", {}) if ctx.parent is not None else {}
        ctx.default_map = dict(read(value, str(ctx.info_name), commands))
    return value


ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", is_eager=True, callback=_use, metavar="FILE",
                 help="Options from a TOML file; those of the command line and of SND_… variables go first. See "
                      "docs/config.md."),
]  # fmt: skip
