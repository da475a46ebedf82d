"""Gates: conditions on a report that make a pipeline fail.

::

    gate = measure [ "." ( "value" | "lo" | "hi" ) ] [ "@" budget ] operator number

A measure is a figure of the JSON rows, a budget is written as on the command line (2000, 2k, 2kx10), a number may end
in ``%``. Without a budget a gate holds at every report point. Nothing is evaluated as code.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sndcli.analysis.measures import MEASURES, OLD, RATES, Interval
from sndcli.analysis.summary import Summary
from sndcli.errors import ConfigError, DataError, unknown

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le,
}  # fmt: skip
PARTS = ("value", "lo", "hi")
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


def number_in(matched: re.Match[str]) -> float:
    """The number that a condition, as `GATE` matched it, compares with; a percentage is a share.

    Raises:
        ConfigError: it is none.
    """
    try:
        number = float(matched["number"]) / (100 if matched["percent"] else 1)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise ConfigError(f"Expected a number at the end of `{matched.string}` but got `{matched['number']}`.")
    return number


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
    if part is not None and measure not in RATES:
        raise ConfigError(f"Expected no part after `{measure}`, which has no interval, but got `.{part}`.")
    if part not in (None, *PARTS):
        raise unknown(f"part of {measure}", part, PARTS)
    number = number_in(matched)
    share = MEASURES[measure].kind in ("rate", "share")
    if share and not 0 <= number <= 1:
        raise ConfigError(f"Expected a share between 0 and 1 (or a percentage with %) in `{text}`.")
    if matched["percent"] and not share:
        raise ConfigError(f"Expected no % in `{text}`: {measure} is no share.")
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
        known = sorted({row.budget for row in rows})
        near = min(known, key=lambda budget: abs(budget - (gate.budget or 0)))
        raise DataError(
            f"The gate `{gate.text}` matches no row. Did you mean `@{near}`?\n"
            f"There are figures at {', '.join(f'{budget:,}' for budget in known)} queries."
        )
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


def _setting(row: Summary) -> str:
    return repr(row.setting)


def name(row: Summary, budget: bool = True) -> str:
    """A row in a few words."""
    return f"{row.setting.label}, Q={row.budget:,}" if budget else row.setting.label
