"""Attacks and defenses of other packages, found by entry points and imported only when their name is asked for."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Sequence
from pathlib import Path
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


def identities(attack: str, defenses: Sequence[str]) -> dict[str, str]:
    """What tells one version of a plug-in from another: ``{name: "PACKAGE VERSION SOURCE-HASH"}``, ours left out.

    The hash is of the module that the entry point names and of the one that an attack's `run` or a defense is defined
    in, so that a plug-in that is changed where it stands is another one, whether or not its version says so. What these
    modules import does not count.
    """
    found = {}
    for group, wanted in ((ATTACKS, [attack]), (DEFENSES, list(defenses))):
        for name in wanted:
            if name not in names(group):
                continue
            (point,) = importlib.metadata.entry_points(group=group, name=name)
            loaded = load(group, name)
            made = loaded.run if group == ATTACKS else loaded
            where = getattr(made, "__module__", point.module)
            modules = dict.fromkeys([point.module, where])
            package = f"{point.dist.name} {point.dist.version}" if point.dist else "unknown"
            found[name] = f"{package} {_source_hash(list(modules))}"
    return found


def packages(attack: str, defenses: Sequence[str]) -> dict[str, str]:
    """Name and version of the packages whose plug-ins these are; ours are left out."""
    found = {}
    for group, wanted in ((ATTACKS, [attack]), (DEFENSES, list(defenses))):
        for name in wanted:
            for point in importlib.metadata.entry_points(group=group, name=name):
                if point.dist is not None:
                    found[point.dist.name] = point.dist.version
    return found


def _source_hash(modules: Sequence[str]) -> str:
    """A short hash of the files of these modules."""
    h = hashlib.sha256()
    for module in modules:
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.origin and Path(spec.origin).is_file():
            h.update(Path(spec.origin).read_bytes())
    return h.hexdigest()[:12]
