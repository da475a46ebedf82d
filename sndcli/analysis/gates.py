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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sndcli.analysis.measures import MEASURES, OLD, RATES, Interval
from sndcli.analysis.summary import Summary
from sndcli.errors import ConfigError, DataError, unknown
from sndcli.runs.columns import OF_RUN

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le,
}  # fmt: skip
KEYS = tuple(column.name for column in OF_RUN if not column.nested)  # to choose runs by; `budget` chooses report points
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

    def value(self, row: Summary) -> float | None:
        """The gated figure of a summary; None where it was not measured."""
        found = row.figures[self.measure]
        if isinstance(found, Interval):
            found = {"value": found.value, "lo": found.lo, "hi": found.hi}[self.part]
        return found


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
    measure, part = OLD.get(matched["measure"], matched["measure"]), matched["part"]
    if measure not in MEASURES:
        raise unknown("measure", measure, [*MEASURES])
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


def old_names(texts: Sequence[str]) -> list[str]:
    """A line for each gate or filter that has a measure's old name."""
    used = [(old, new) for old, new in OLD.items() if any(re.search(rf"\b{old}\b", text) for text in texts)]
    return [f"{old} is {new} now; the old name is understood in this version for the last time." for old, new in used]


def check(gate: Gate, rows: Sequence[Summary]) -> tuple[list[Summary], list[str]]:
    """The rows that a gate fails on, and a line for each setting that it says nothing about.

    Raises:
        DataError: no row has the budget, or a row's figure was not measured: that is no pass.
    """
    mine = [row for row in rows if gate.budget in (None, row.budget)]
    if not mine:
        known = ", ".join(f"{b:,}" for b in sorted({row.budget for row in rows}))
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


def matches(row: Mapping[str, object], pairs: Sequence[tuple[str, str]]) -> bool:
    """Whether a summary (or a setting) has all these values. ``none`` is a missing one; numbers compare as numbers."""
    return all(_equal(row.get(key), value) for key, value in pairs)


def _equal(actual: object, wanted: str) -> bool:
    if actual is None:
        return wanted == "none"
    if isinstance(actual, str):
        return actual == wanted
    if isinstance(actual, bool):
        return str(actual).lower() == wanted.lower()
    try:
        return isinstance(actual, int | float) and math.isclose(actual, float(wanted), rel_tol=1e-9)
    except ValueError:
        return False


def _setting(row: Summary) -> str:
    return repr(row.setting)


def name(row: Summary, budget: bool = True) -> str:
    """A row in a few words."""
    return f"{row.setting.label}, Q={row.budget:,}" if budget else row.setting.label
