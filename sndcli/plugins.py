"""Attacks and defenses of other packages, found by entry points and imported only when their name is asked for."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from sndcli.errors import ConfigError

ATTACKS = "sndcli.attacks"
DEFENSES = "sndcli.defenses"


def names(group: str) -> list[str]:
    """Names that installed packages registered in `group`; nothing is imported."""
    return sorted({point.name for point in importlib.metadata.entry_points(group=group)})


def load(group: str, name: str) -> Any:
    """What the entry point `name` of `group` stands for.

    Raises:
        ConfigError: no such entry point, two packages claim the name, or importing it fails.
    """
    points = list(importlib.metadata.entry_points(group=group, name=name))
    if len(points) != 1:
        raise ConfigError(f"Expected one installed package with `{name}` in {group} but found {len(points)}.")
    try:
        return points[0].load()
    except Exception as error:
        text = str(error).strip().splitlines()
        raise ConfigError(
            f"`{name}` ({points[0].value}) cannot be imported: {text[0] if text else repr(error)}."
        ) from None
