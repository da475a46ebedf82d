"""The verdict on a report: gates, baseline, flags and headline figures, in one object that every format shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from sndcli.analysis import gates
from sndcli.analysis.comparison import Comparison
from sndcli.analysis.flags import Flag, flags
from sndcli.analysis.gates import Gate
from sndcli.analysis.measures import Interval
from sndcli.analysis.setting import Setting
from sndcli.analysis.summary import Summary
from sndcli.attacks.registry import noise_aware
from sndcli.errors import DataError

State = Literal["passed", "failed", "unchecked", "none"]
SPOKEN = 3  # victims that the sentence names
TITLES: dict[State, str] = {
    "passed": "Passed", "failed": "Failed", "unchecked": "Not checked", "none": "No gate was set",
}  # fmt: skip


@dataclass(frozen=True)
class Failure:
    """A row that a gate fails on.

    Attributes:
        where: attack, victim, bound and budget.
        measure: the gated figure, with its part where that is not the value.
        value: what it is.
        n: images behind it.
    """

    where: str
    measure: str
    value: float
    n: int


@dataclass(frozen=True)
class GateResult:
    """One gate.

    Attributes:
        gate: as it was written.
        state: ``unchecked`` where it matches no row or a figure was not measured: that is no pass.
        checked: rows that it was checked on.
        failures: of them.
        gaps: a line for each setting that it says nothing about.
        reason: why it could not be checked; else empty.
    """

    gate: str
    state: State
    checked: int = 0
    failures: tuple[Failure, ...] = ()
    gaps: tuple[str, ...] = ()
    reason: str = ""

    def lines(self) -> list[str]:
        """A line for each failure."""
        return [f"gate failed: {self.gate}: {f.where}: {f.measure} = {f.value:.4g} (n={f.n})" for f in self.failures]


@dataclass(frozen=True)
class Headline:
    """What the strongest attack among the results reaches on one victim, at its largest budget.

    Strongest is the highest `success_noisy`, or `success_seen` where that is known of no attack.

    Attributes:
        victim: defense, model, data and bound in words.
        attack: in words.
        budget: Q.
        n: images, one for each seed.
        measure: which success is ranked: ``success_noisy`` or ``success_seen``.
        value: of `measure`, with its 95 % interval.
        seen: `success_seen` of the same attack.
        floor: what resending the clean image would reach.
        distance: median distance of the majority boundary, or of the closest wrong answer; None where infinite.
        attacks: how many were run on this victim.
        aware: whether one of them knows of the noise.
    """

    victim: str
    attack: str
    budget: int
    n: int
    measure: str
    value: Interval
    seen: Interval | None
    floor: float | None
    distance: float | None
    attacks: int
    aware: bool

    def text(self) -> str:
        """``snd 0.01 on resnet20 (L2 ≤ 1): 31.0 % [22.8, 40.6] by hsja-na at 2,000 queries, n=100``."""
        kind = "" if self.measure == "success_noisy" else " seen"
        low, high = 100 * self.value.lo, 100 * self.value.hi
        return (
            f"{self.victim}: {100 * (self.value.value or 0.0):.1f} %{kind} [{low:.1f}, {high:.1f}] by {self.attack} "
            f"at {self.budget:,} queries, n={self.n}"
        )


@dataclass(frozen=True)
class Verdict:
    """What follows from a report.

    Attributes:
        state: ``failed`` where a gate fails or there is a significant regression, ``unchecked`` where a gate could not
            be checked, ``none`` where nothing was asked, else ``passed``.
        sentence: all of it in one plain sentence or two.
        gates: in the order they were given.
        comparisons: with it.
        flags: of what flatters a defense.
        headlines: one a victim, the highest success first.
        notes: what a reader must know.
    """

    state: State
    sentence: str
    gates: tuple[GateResult, ...]
    comparisons: tuple[Comparison, ...]
    flags: tuple[Flag, ...]
    headlines: tuple[Headline, ...]
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Its state in a word or two."""
        return TITLES[self.state]

    @property
    def regressions(self) -> list[Comparison]:
        """Comparisons in which success is significantly higher than before."""
        return [c for c in self.comparisons if c.regression]

    @property
    def failures(self) -> tuple[str, ...]:
        """A line for each row that a gate fails on, and for each regression."""
        return (*(line for gate in self.gates for line in gate.lines()), *(c.line() for c in self.regressions))

    @property
    def unchecked(self) -> tuple[str, ...]:
        """A line for each gate that could not be checked."""
        return tuple(gate.reason for gate in self.gates if gate.state == "unchecked")

    @property
    def gaps(self) -> tuple[str, ...]:
        """A line for each setting that a gate says nothing about."""
        return tuple(line for gate in self.gates for line in gate.gaps)

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON; flags, comparisons and notes stand beside it there."""
        return {
            "state": self.state, "sentence": self.sentence, "gates": [asdict(gate) for gate in self.gates],
            "regressions": len(self.regressions), "compared": len(self.comparisons), "flags": len(self.flags),
            "headlines": [asdict(headline) for headline in self.headlines],
        }  # fmt: skip


def judge(
    rows: Sequence[Summary],
    rules: Sequence[Gate] = (),
    comparisons: Sequence[Comparison] = (),
    notes: Sequence[str] = (),
) -> Verdict:
    """The verdict on a report.

    Args:
        rows: its summaries.
        rules: its gates.
        comparisons: with a baseline, where there is one.
        notes: what a reader must know of the figures.
    """
    checked = tuple(_check(rule, rows) for rule in rules)
    heads = tuple(headlines(rows))
    state: State = "passed" if checked or comparisons else "none"
    if any(c.regression for c in comparisons) or any(gate.state == "failed" for gate in checked):
        state = "failed"
    if any(gate.state == "unchecked" for gate in checked):
        state = "unchecked"
    raised = tuple(flags(rows))
    sentence = " ".join([_asked(state, checked, comparisons), *_reached(heads), *_flagged(raised)])
    return Verdict(state, sentence, checked, tuple(comparisons), raised, heads, tuple(notes))


def _check(rule: Gate, rows: Sequence[Summary]) -> GateResult:
    try:
        failed, gaps = gates.check(rule, rows)
    except DataError as error:
        return GateResult(rule.text, "unchecked", reason=str(error))
    measure = rule.measure + (f".{rule.part}" if rule.part != "value" else "")
    failures = tuple(Failure(gates.name(row), measure, rule.value(row) or 0.0, row.n) for row in failed)
    on = sum(rule.budget in (None, row.budget) for row in rows)
    return GateResult(rule.text, "failed" if failures else "passed", on, failures, tuple(gaps))


def headlines(rows: Sequence[Summary]) -> list[Headline]:
    """One for each victim and bound at the largest budget that any attack reached there, highest success first."""
    victims: dict[str, list[Summary]] = {}
    for row in rows:
        if row.setting.attack != "null":
            victims.setdefault(_victim(row.setting), []).append(row)
    found = [_headline(victim, members) for victim, members in victims.items()]
    known = [headline for headline in found if headline is not None]
    return sorted(known, key=lambda h: (h.measure, h.value.value or 0.0), reverse=True)


def _headline(victim: str, members: Sequence[Summary]) -> Headline | None:
    """Each attack at its own largest budget; None where no success is known."""
    last = {row.setting: row for row in sorted(members, key=lambda row: row.budget)}
    measure = "success_noisy" if any(row.rate("success_noisy") for row in last.values()) else "success_seen"
    ranked = [(row, rate) for row in last.values() if (rate := row.rate(measure)) is not None]
    if not ranked:
        return None
    best, rate = max(ranked, key=lambda pair: (pair[1].value or 0.0, -pair[0].budget))
    boundary = best.number("distance_boundary")
    distance = best.number("distance_best") if boundary is None else boundary
    return Headline(
        victim, best.setting.attacked, best.budget, best.n, measure, rate, best.rate("success_seen"),
        best.number("floor"), None if distance is None else _finite(distance), len(last),
        any(noise_aware(row.setting.attack, row.setting.preset) for row in last.values()),
    )  # fmt: skip


def _victim(setting: Setting) -> str:
    return f"{setting.victim} ({setting.data}, {setting.bound})"


def _finite(value: float) -> float | None:
    return value if value < float("inf") else None


def _asked(state: State, checked: Sequence[GateResult], comparisons: Sequence[Comparison]) -> str:
    """What became of gates and baseline."""
    parts = []
    if checked:
        bad = [gate.gate for gate in checked if gate.state == "failed"]
        missing = [gate.gate for gate in checked if gate.state == "unchecked"]
        total = _count(len(checked), "gate")
        parts += [f"{len(bad)} of {total} failed ({'; '.join(bad)})"] if bad else []
        parts += [f"{len(missing)} of {total} could not be checked"] if missing else []
        parts += [] if bad or missing else [f"{total} held"]
    if comparisons:
        worse = sum(c.regression for c in comparisons)
        what = _count(worse, "significant regression") if worse else "no significant regression"
        parts.append(f"{what} in {_count(len(comparisons), 'comparison')} with the baseline")
    return f"{TITLES[state]}{': ' if parts else ''}{', '.join(parts)}."


def _reached(heads: Sequence[Headline]) -> list[str]:
    if not heads:
        return []
    more = f"; and {_count(len(heads) - SPOKEN, 'more victim')}" if len(heads) > SPOKEN else ""
    return [f"Highest success: {'; '.join(head.text() for head in heads[:SPOKEN])}{more}."]


def _flagged(raised: Sequence[Flag]) -> list[str]:
    if not raised:
        return []
    names = ", ".join(dict.fromkeys(flag.name for flag in raised))
    return [f"{_count(len(raised), 'flag')} to look at: {names}."]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
