"""Gates: conditions on a report that make a pipeline fail, and filters of its rows.

::

    gate    = measure [ "." ( "value" | "lo" | "hi" ) ] [ "@" budget ] operator number
    filter  = key "=" value

A measure is a figure of the JSON rows, a budget is written as on the command line (2000, 2k, 2kx10), a number may end
in ``%``. Without a budget a gate holds at every report point. Nothing is evaluated as code.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sndcli.analysis import distances
from sndcli.analysis.labels import defense_label
from sndcli.analysis.summary import RATES
from sndcli.errors import ConfigError, DataError, unknown

PLAIN = (
    "floor", "l2_last", "l2_best", *distances.NAMES, "p_mis", "p_mis_clean", "queries_mean", "queries_max",
    "initially_wrong", "failed", "n",
)  # fmt: skip
OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le,
}  # fmt: skip
KEYS = ("attack", "engine", "dataset", "model", "defense", "sigma", "beta", "votes", "norm", "eps", "preset", "budget")
GATE = re.compile(
    r"\s*(?P<measure>\w+)(?:\.(?P<part>\w+))?\s*(?:@\s*(?P<budget>\w+))?"
    r"\s*(?P<operator>>=|<=|>|<)\s*(?P<number>[^\s%]+)\s*(?P<percent>%?)\s*"
)


@dataclass(frozen=True)
class Gate:
    """Fails where ``measure.part @ budget operator number`` holds."""

    text: str
    measure: str
    part: str
    budget: int | None
    operator: str
    number: float

    def value(self, row: dict[str, Any]) -> float | None:
        """The gated figure of a summary; None where it was not measured."""
        found = row[self.measure]
        if isinstance(found, dict):
            found = found[self.part]
        if distances.unbounded(row, self.measure):
            return math.inf
        return None if found is None else float(found)


def parse(text: str, count: Callable[[str, str], int]) -> Gate:
    """A gate such as ``success_noisy@2000 > 0.25``.

    Args:
        text: see the grammar above.
        count: reads a budget, given its text and the name of the option.

    Raises:
        ConfigError: it is not one.
    """
    matched = GATE.fullmatch(text)
    if matched is None:
        raise ConfigError(f"Expected `--fail-if` such as 'success_noisy@2000 > 0.25' but got `{text}`.")
    measure, part = matched["measure"], matched["part"]
    if measure not in (*RATES, *PLAIN):
        raise unknown("measure", measure, (*RATES, *PLAIN))
    if part is not None and (measure not in RATES or part not in ("value", "lo", "hi")):
        raise ConfigError(f"Expected .value, .lo or .hi after a success rate but got `{measure}.{part}`.")
    try:
        number = float(matched["number"]) / (100 if matched["percent"] else 1)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise ConfigError(f"Expected a number at the end of `{text}` but got `{matched['number']}`.")
    if measure in RATES and not 0 <= number <= 1:
        raise ConfigError(f"Expected a share between 0 and 1 (or a percentage with %) in `{text}`.")
    budget = count(matched["budget"], "--fail-if") if matched["budget"] else None
    return Gate(text.strip(), measure, part or "value", budget, matched["operator"], number)


def check(gate: Gate, rows: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows that a gate fails on, and a line for each setting that it says nothing about.

    Raises:
        DataError: no row has the budget, or a row's figure was not measured: that is no pass.
    """
    mine = [row for row in rows if gate.budget in (None, row["budget"])]
    if not mine:
        known = ", ".join(f"{b:,}" for b in sorted({row["budget"] for row in rows}))
        raise DataError(f"The gate `{gate.text}` matches no row; there are figures at {known} queries.")
    unmeasured = [row for row in mine if gate.value(row) is None]
    if unmeasured:
        raise DataError(
            f"The gate `{gate.text}` cannot be checked: {gate.measure} of {name(unmeasured[0])} is not known."
        )
    covered = {_setting(row) for row in mine}
    missed = list(dict.fromkeys(name(row, False) for row in rows if _setting(row) not in covered))
    compare = OPERATORS[gate.operator]
    failed = [row for row in mine if compare(_known(gate.value(row)), gate.number)]
    return failed, [f"the gate `{gate.text}` says nothing about {setting}: no such report point." for setting in missed]


def _known(value: float | None) -> float:
    return math.nan if value is None else value


def filters(texts: Sequence[str], keys: Sequence[str] = KEYS) -> list[tuple[str, str]]:
    """``--where key=value`` options as pairs; `keys` are those that rows can be chosen by.

    Raises:
        ConfigError: an unknown key, or no ``=``.
    """
    pairs = []
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator:
            raise ConfigError(f"Expected `--where` such as attack=hsja but got `{text}`.")
        if key.strip() not in keys:
            raise unknown("key of `--where`", key.strip(), keys)
        pairs.append((key.strip(), value.strip()))
    return pairs


def matches(row: dict[str, Any], pairs: Sequence[tuple[str, str]]) -> bool:
    """Whether a summary (or a setting) has all these values. ``none`` is a missing one; numbers compare as numbers."""
    return all(_equal(row.get(key), value) for key, value in pairs)


def _equal(actual: Any, wanted: str) -> bool:
    if actual is None:
        return wanted == "none"
    if isinstance(actual, str):
        return actual == wanted
    try:
        return math.isclose(float(actual), float(wanted), rel_tol=1e-9)
    except ValueError:
        return False


def _setting(row: dict[str, Any]) -> str:
    return repr([row.get(key) for key in KEYS if key != "budget"] + [row.get("settings")])


def name(row: dict[str, Any], budget: bool = True) -> str:
    """A row in a few words."""
    text = f"{row['attack']} against {defense_label(row)} on {row['model']}, {row['norm']} ≤ {row['eps']:g}"
    return f"{text}, Q={row['budget']:,}" if budget else text


def offence(gate: Gate, row: dict[str, Any]) -> str:
    """A failed row with its figure."""
    part = f".{gate.part}" if gate.part != "value" else ""
    return f"gate failed: {gate.text}: {name(row)}: {gate.measure}{part} = {_known(gate.value(row)):.4g} (n={row['n']})"
