"""The figures of an audit by name: what its JSON has, and what gates ask for.

::

    gate = figure [ "." ( "value" | "lo" | "hi" ) ] [ "@" budget ] operator number | "flag:" name | "verdict" "==" word
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from sndcli.analysis.audit import Figure, Figures
from sndcli.analysis.audit_words import flags, sentence, verdict
from sndcli.analysis.bought import Bought
from sndcli.analysis.gates import GATE, OPERATORS, PARTS, number_in
from sndcli.analysis.statistics import finite
from sndcli.errors import ConfigError, unknown

VERDICTS = ("broken", "weakened", "holds", "unclear")
SHARES = (
    "accuracy",
    "accuracy_bare",
    "drop",
    "inconsistent",
    "robust_accuracy",
    "robust_single",
    "success",
    "optimism",
)
NUMBERS = (
    "queries_ratio", "queries_ratio_restricted", "queries_median", "queries_median_bare", "boundary", "boundary_bare",
    "passes", "latency_ms", "throughput_ratio",
)  # fmt: skip
FLAGS = (
    "defense_off", "deterministic", "blocked", "floor_explains", "battery_disagrees", "yardstick_far", "optimism",
    "ratio_censored",
)  # fmt: skip
OF_ACCESS = ("robust_accuracy", "robust_single", "success", "optimism", "boundary", "boundary_bare")
OF_CHAMPION = ("queries_ratio", "queries_ratio_restricted", "queries_median", "queries_median_bare")
NAMES = (
    *SHARES, *NUMBERS, *(f"{name}_{access}" for name in OF_ACCESS for access in ("labels", "scores", "both")),
    *(f"{name}_{access}" for name in OF_CHAMPION for access in ("labels", "scores")),
)  # fmt: skip


def named(f: Figures) -> dict[str, Figure | None]:
    """Every figure by its name; None where it is not known. One without an interval has its value for both ends."""
    speed = f.speed
    found: dict[str, Figure | None] = {
        "accuracy": f.accuracy, "accuracy_bare": f.accuracy_bare, "drop": f.drop, "inconsistent": f.inconsistent,
        "passes": _plain(speed.passes), "latency_ms": _plain(speed.latency_ms),
        "throughput_ratio": _plain(speed.throughput_ratio), **_bought(f.ratio, ""),
    }  # fmt: skip
    for claim in f.claims:
        mine: dict[str, Figure | None] = {
            "robust_accuracy": Figure.of(claim.robust), "robust_single": claim.robust_single,
            "success": Figure.of(claim.success),
            "optimism": _plain(claim.optimism), "boundary": claim.boundary, "boundary_bare": claim.boundary_bare,
        }  # fmt: skip
        found |= {f"{name}_{claim.access}": figure for name, figure in mine.items()}
        if claim is f.claim:
            found |= mine
    for access, ratio in f.ratios.items():
        found |= _bought(ratio, f"_{access}")
    return found


def _plain(value: float | None) -> Figure | None:
    return None if value is None else Figure(value, value, value)


def _bought(ratio: Bought | None, tail: str) -> dict[str, Figure | None]:
    if ratio is None:
        return {f"{name}{tail}": None for name in OF_CHAMPION}
    return {
        f"queries_ratio{tail}": Figure(ratio.value, ratio.lo, ratio.hi),
        f"queries_ratio_restricted{tail}": _plain(ratio.restricted),
        f"queries_median{tail}": _plain(ratio.median), f"queries_median_bare{tail}": _plain(ratio.median_bare),
    }  # fmt: skip


def as_dict(f: Figures) -> dict[str, object]:
    """The ``audit`` of the JSON: what was audited, the verdict, every figure, the steps and the flags."""
    ratios = {
        access: None if ratio is None else {
            name: finite(value) if isinstance(value, float) else value for name, value in asdict(ratio).items()
        }
        for access, ratio in f.ratios.items()
    }  # fmt: skip
    return {
        "battery": f.battery, "access": f.access, "model": f.model, "dataset": f.dataset, "defense": f.defense,
        "norm": f.norm, "eps": f.eps, "budget": f.budget, "n": f.n, "seed": f.seed, "verdict": verdict(f),
        "sentence": sentence(f), "accuracy_std": f.accuracy_std,
        **{name: None if figure is None else figure.as_dict() for name, figure in named(f).items()},
        "verdicts": {claim.access: verdict(f, claim) for claim in f.claims}, "best_attack": f.best_attack,
        "latency_bare_ms": f.speed.latency_bare_ms, "ratios": ratios,
        "floor": finite(f.floor), "seen": finite(f.seen), "steps": [step.as_dict() for step in f.steps],
        "flags": [flag.as_dict() for flag in flags(f)],
    }  # fmt: skip


# -- gates ---------------------------------------------------------------------------------------------------

Gate = Callable[[Figures], bool]  # whether it fails; raises `Unmeasured`


class Unmeasured(Exception):
    """A gate asks for a figure that is not known: that is no pass."""


def parse(text: str, count: Callable[[str, str], int]) -> Gate:
    """A condition that makes an audit fail, such as ``robust_accuracy.hi < 0.5``.

    Args:
        text: see the grammar above.
        count: reads a budget, given its text and the name of the option.

    Raises:
        ConfigError: it is none.
    """
    if text.strip().startswith("flag:"):
        return _flagged(text.strip().removeprefix("flag:").strip())
    if told := re.fullmatch(r"\s*verdict\s*==\s*(\w+)\s*", text):
        return _judged(told[1])
    matched = GATE.fullmatch(text)
    if matched is None:
        raise ConfigError(f"Expected `--fail-if` such as 'robust_accuracy.hi < 0.5' but got `{text}`.")
    name, part = matched["measure"], matched["part"] or "value"
    if name not in NAMES:
        raise unknown("figure of an audit", name, NAMES)
    if part not in PARTS:
        raise unknown(f"part of {name}", part, PARTS)
    number = number_in(matched)
    share = name.startswith(SHARES)
    if matched["percent"] and not share:
        raise ConfigError(f"Expected no % in `{text}`: {name} is no share.")
    if share and not -1 <= number <= 1:
        raise ConfigError(f"Expected a share between 0 and 1 (or a percentage with %) in `{text}`.")
    budget = count(matched["budget"], "--fail-if") if matched["budget"] else None
    return _compared(text.strip(), name, part, budget, matched["operator"], number)


def _compared(text: str, name: str, part: str, budget: int | None, operator: str, number: float) -> Gate:
    def fails(f: Figures) -> bool:
        if budget not in (None, f.budget):
            raise Unmeasured(f"the gate `{text}` is of {budget:,} queries, and the audit of {f.budget:,}.")
        figure = named(f).get(name)
        value = math.nan if figure is None else {"value": figure.value, "lo": figure.lo, "hi": figure.hi}[part]
        if math.isnan(value):
            raise Unmeasured(f"the gate `{text}` cannot be checked: {name} is not known.")
        return OPERATORS[operator](value, number)

    return fails


def _flagged(name: str) -> Gate:
    if name not in FLAGS:
        raise unknown("flag of an audit", name, FLAGS)
    return lambda f: any(flag.name == name for flag in flags(f))


def _judged(word: str) -> Gate:
    if word not in VERDICTS:
        raise unknown("verdict", word, VERDICTS)
    return lambda f: verdict(f) == word


def check(gates: Mapping[str, Gate], f: Figures) -> tuple[Sequence[str], Sequence[str]]:
    """A line for each gate that fails, and for each that cannot be checked."""
    failed, unchecked = [], []
    for text, gate in gates.items():
        try:
            if gate(f):
                failed.append(f"gate failed: {text}: {f.defense} on {f.model}")
        except Unmeasured as told:
            unchecked.append(str(told))
    return failed, unchecked
