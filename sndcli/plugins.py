"""Attacks and defenses of other people: by the name that an installed package registered, or ``py:module:NAME``.

Both are imported only when they are asked for. ``py:`` finds modules in the working directory too, and runs their code.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sndcli.errors import ConfigError, first_line, unknown
from sndcli.values import annotations_of, typed

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ATTACKS = "sndcli.attacks"
DEFENSES = "sndcli.defenses"
PATH = "py:"


def _points(group: str, name: str | None = None) -> list[EntryPoint]:
    """Entry points of `group`, of one name or all."""
    import importlib.metadata  # which `snd --help` need not wait for

    points = _registered(group, importlib.metadata.entry_points, tuple(sys.path))
    return [point for point in points if name in (None, point.name)]


@lru_cache(maxsize=8)
def _registered(
    group: str, look: Callable[..., Iterable[EntryPoint]], path: tuple[str, ...]  # noqa: ARG001
) -> list[EntryPoint]:  # fmt: skip
    """Entry points of `group` on a search path. A run asks dozens of times, and a look reads files of all packages."""
    return list(look(group=group))


def names(group: str) -> list[str]:
    """Names that installed packages registered in `group`; nothing is imported."""
    return sorted({point.name for point in _points(group)})


def known(group: str, name: str) -> bool:
    """Whether `name` is one of `group` that an installed package registered, or a ``py:`` path."""
    return name.startswith(PATH) or name in names(group)


def located(path: str) -> tuple[str, str, dict[str, str]]:
    """Module, attribute and parameters of ``py:module:NAME``, ``…?key=value&key=value`` or ``…:key=value``.

    Raises:
        ConfigError: it does not look like that.

    Example:
        >>> located("py:my_defenses:Gain?strength=0.2")
        ('my_defenses', 'Gain', {'strength': '0.2'})
    """
    place, _, query = path.removeprefix(PATH).partition("?")
    module, _, rest = place.partition(":")
    attribute, _, short = rest.partition(":")
    settings = [setting for setting in (query or short).replace(",", "&").split("&") if setting]
    if not module or not attribute or (query and short) or not all("=" in setting for setting in settings):
        raise ConfigError(f"Expected `py:module:NAME` or `py:module:NAME?key=value` but got `{path}`.")
    return module, attribute, dict(setting.split("=", 1) for setting in settings)


def imported(path: str, module: str, attribute: str) -> Any:
    """`attribute` of `module`, which is imported, from the working directory too. Stdout stays ours.

    Args:
        path: as the user wrote it.
        module: dotted name.
        attribute: dotted too.

    Raises:
        ConfigError: it cannot be imported, or has nothing of that name.
    """
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does; the module may import its neighbours later
    with contextlib.redirect_stdout(sys.stderr):
        try:
            found: Any = importlib.import_module(module)
            for part in attribute.split("."):
                found = getattr(found, part)
        except Exception as error:  # whatever the module does when it is imported
            raise ConfigError(f"`{path}` cannot be imported: {first_line(error)}.") from None
    return found


def parameters_of(path: str, made: Any, given: int) -> Mapping[str, object]:
    """The parameters in a ``py:`` path, parsed by the annotations (or defaults) of what they are for.

    Args:
        path: as the user wrote it.
        made: what is called with them.
        given: arguments that come before them.

    Raises:
        ConfigError: an unknown parameter, or a value that does not parse.
    """
    texts = located(path)[2]
    takes = list(inspect.signature(made).parameters.values())[given:]
    hints = annotations_of(made.__init__ if inspect.isclass(made) else made) if texts else {}
    found: dict[str, object] = {}
    for key, text in texts.items():
        parameter = next((p for p in takes if p.name == key), None)
        if parameter is None:
            raise unknown(f"parameter of {located(path)[1]}", key, [p.name for p in takes])
        usual = str if parameter.default in (parameter.empty, None) else type(parameter.default)
        found[key] = typed(text, hints.get(key, usual), f"`{key}` of `{path}`")
    return found


def load(group: str, name: str) -> Any:
    """What `name` of `group` stands for: an entry point, or a ``py:`` path without its parameters.

    Raises:
        ConfigError: no such entry point, two packages claim the name, or importing it fails.
    """
    if name.startswith(PATH):
        return imported(name, *located(name)[:2])
    points = _points(group, name)
    if len(points) != 1:
        raise ConfigError(f"Expected one installed package with `{name}` in {group} but found {len(points)}.")
    try:
        return points[0].load()
    except Exception as error:
        text = str(error).strip().splitlines()
        raise ConfigError(
            f"`{name}` ({points[0].value}) cannot be imported: {text[0] if text else repr(error)}."
        ) from None


def summary(made: Any) -> str:
    """The first line of the docstring of what a plug-in is; nothing where its author wrote none.

    Example:
        >>> summary(known)
        'Whether `name` is one of `group` that an installed package registered, or a ``py:`` path.'
    """
    told = vars(made).get("__doc__") if inspect.isclass(made) else getattr(made, "__doc__", None)
    return (inspect.cleandoc(told).splitlines() or [""])[0] if isinstance(told, str) else ""


def identities(attack: str, defenses: Sequence[str]) -> dict[str, str]:
    """What tells one version of a plug-in from another: ``{name: "PACKAGE VERSION SOURCE-HASH"}``, ours left out.

    A ``py:`` path has no package.

    The hash is of the module that the entry point names and of the one that an attack's `run` or a defense is defined
    in, so that a plug-in that is changed where it stands is another one, whether or not its version says so. What these
    modules import does not count.
    """
    found = {}
    for group, asked in ((ATTACKS, [attack]), (DEFENSES, list(defenses))):
        for name in asked:
            if not known(group, name):
                continue
            loaded = load(group, name)
            made = getattr(loaded, "run", loaded) if group == ATTACKS else loaded
            if name.startswith(PATH):
                package, module = "py:", located(name)[0]
            else:
                (point,) = _points(group, name)
                package, module = f"{point.dist.name} {point.dist.version}" if point.dist else "unknown", point.module
            modules = dict.fromkeys([module, getattr(made, "__module__", module)])
            found[name] = f"{package} {_source_hash(list(modules))}"
    return found


def packages(attack: str, defenses: Sequence[str]) -> dict[str, str]:
    """Name and version of the packages whose plug-ins these are; ours are left out."""
    found = {}
    for group, asked in ((ATTACKS, [attack]), (DEFENSES, list(defenses))):
        for name in asked:
            for point in _points(group, name):
                if point.dist is not None:
                    found[point.dist.name] = point.dist.version
    return found


def _source_hash(modules: Sequence[str]) -> str:
    """A short hash of the files of these modules."""
    import importlib.util

    h = hashlib.sha256()
    for module in modules:
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.origin and Path(spec.origin).is_file():
            h.update(Path(spec.origin).read_bytes())
    return h.hexdigest()[:12]
