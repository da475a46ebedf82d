"""Choosing runs: ``key=value``, as ``--where`` and ``snd compare`` have it.

Keys are the columns of a run, ``run`` (its id) and ``options.NAME`` (a hyper-parameter). Ids and digests may be cut to
their first characters, numbers compare as numbers, ``none`` is a missing value, and of a list one member is enough.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Mapping, Sequence

from sndcli.analysis.frame import Frame
from sndcli.errors import ConfigError, DataError, unknown
from sndcli.runs.columns import OF_RUN, of_config

Pair = tuple[str, str]

RUN, OPTION = "run", "options."
KEYS = (RUN, *(column.name for column in OF_RUN))  # `budget` chooses report points
CUT = {RUN, "model_digest", "dataset_digest", "weights_digest"}  # their first characters are enough
SHORTEST = 4


def pair_of(text: str, keys: Sequence[str] = KEYS, option: str = "--where") -> Pair:
    """``key=value`` as a pair.

    Args:
        text: of it.
        keys: those that can be chosen by.
        option: whose it is.

    Raises:
        ConfigError: an unknown key, or no ``=``.
    """
    key, separator, value = (part.strip() for part in text.partition("="))
    if not separator:
        raise ConfigError(f"Expected `{option}` such as attack=hsja but got `{text}`.")
    if key not in keys and not (key.startswith(OPTION) and "options" in keys):
        raise unknown(f"key of `{option}`", key, keys)
    return key, value


def filters(texts: Iterable[str], keys: Sequence[str] = KEYS) -> list[Pair]:
    """``--where key=value`` options as pairs.

    Raises:
        ConfigError: as `pair_of`.
    """
    return [pair_of(text, keys) for text in texts]


def facts(frame: Frame) -> dict[str, object]:
    """What a run can be chosen by."""
    config = frame.run["config"]
    options = config.get("options") or {}
    return {RUN: frame.run["id"], **of_config(config), **{OPTION + key: value for key, value in options.items()}}


def choose(frames: Sequence[Frame], pairs: Sequence[Pair]) -> list[Frame]:
    """The runs that have all these values.

    Raises:
        DataError: there are none; says which values there are, and the nearest.
    """
    known = [facts(frame) for frame in frames]
    kept = [frame for frame, told in zip(frames, known, strict=True) if matches(told, pairs)]
    if not kept:
        raise DataError(_none(known, pairs))
    return kept


def _none(known: Sequence[Mapping[str, object]], pairs: Sequence[Pair]) -> str:
    text = f"No result has {' and '.join('='.join(pair) for pair in pairs)}."
    for key, value in pairs:
        if not any(matches(told, [(key, value)]) for told in known):
            there = sorted({_text(told.get(key)) for told in known})
            near = difflib.get_close_matches(value, there, n=1, cutoff=0.4)
            hint = f" Did you mean `{key}={near[0]}`?" if near else ""
            return f"{text}{hint}\nThere, {key} is {', '.join(there[:8])}{' and so on' if len(there) > 8 else ''}."
    return f"{text}\nEach of these is there, but not together."


def matches(told: Mapping[str, object], pairs: Sequence[Pair]) -> bool:
    """Whether a run, described by `facts` or the like, has all these values."""
    return all(_equal(told.get(key), value, key in CUT) for key, value in pairs)


def _equal(actual: object, wanted: str, cut: bool) -> bool:
    if isinstance(actual, list | tuple):
        return wanted == _text(actual) or any(_equal(part, wanted, cut) for part in actual)
    if actual is None:
        return wanted == "none"
    if isinstance(actual, str):
        return actual == wanted or (cut and len(wanted) >= SHORTEST and actual.startswith(wanted))
    if isinstance(actual, bool):
        return str(actual).lower() == wanted.lower()
    if not isinstance(actual, int | float):
        return json.dumps(actual) == wanted
    return math.isclose(actual, _number(wanted), rel_tol=1e-9)


def _number(text: str) -> float:
    """A number or a fraction such as 8/255; not a number, where it is neither."""
    above, _, below = text.partition("/")
    try:
        return float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError):
        return math.nan


def _text(value: object) -> str:
    """A value as it is written after the ``=``."""
    if value is None or value in ([], ()):
        return "none"
    if isinstance(value, list | tuple):
        return ",".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
