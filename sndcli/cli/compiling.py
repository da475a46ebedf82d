"""``--compile auto|on|off``: alone it means on, and ``--no-compile`` off."""

from collections.abc import Sequence
from typing import Annotated

import typer

NAME, WITHOUT = "--compile", "--no-compile"
CHOICES = {"auto": None, "on": True, "off": False}
SAME = {"true": "on", "yes": "on", "1": "on", "false": "off", "no": "off", "0": "off"}  # of variables and files


def spelled(arguments: Sequence[str]) -> list[str]:
    """Arguments with the option's value always written out, since it may be left out.

    Example:
        >>> spelled(["hsja", "--compile", "--sigma", "0.01"]), spelled(["--compile", "off"]), spelled(["--no-compile"])
        (['hsja', '--compile=on', '--sigma', '0.01'], ['--compile=off'], ['--compile=off'])
    """
    found: list[str] = []
    for argument in arguments:
        if found and found[-1] == NAME:
            valued = argument in CHOICES
            found[-1] = f"{NAME}={argument if valued else 'on'}"
            if valued:
                continue
        found.append(f"{NAME}=off" if argument == WITHOUT else argument)
    return [*found[:-1], f"{NAME}=on"] if found and found[-1] == NAME else found


def _choice(value: str) -> str:
    choice = SAME.get(value.lower(), value.lower())
    if choice not in CHOICES:
        raise typer.BadParameter(f"expected auto, on or off but got `{value}`.")
    return choice


def wished(choice: str, parted: bool = False) -> bool | None:
    """Whether networks are compiled; None: it is left open.

    For a run that is `parted` among machines it is not: one with a compiler and one without must choose alike.
    """
    return False if parted and choice == "auto" else CHOICES[choice]


Compile = Annotated[
    str,
    typer.Option(
        NAME, metavar="auto|on|off", callback=_choice,
        help="Compile the network (on the CPU: needs a C++ compiler). auto: in attacks that have a million queries and "
        "more and no --shard; --compile alone: on; also --no-compile.",
    ),
]  # fmt: skip
