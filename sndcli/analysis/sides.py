"""``snd compare A B``: which runs A and B stand for, and their comparison on the images that both have."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sndcli.analysis import baseline, where
from sndcli.analysis.comparison import Comparison, adjusted, at_shared_points, contrast
from sndcli.analysis.frame import Frame, grouped
from sndcli.analysis.labels import ATTACK, DATA, DEFENSE, MODEL, facts
from sndcli.analysis.setting import Setting
from sndcli.errors import DataError

FAMILIES = (ATTACK, MODEL, DATA, DEFENSE)  # who chooses by one of these keys means to compare them all
Groups = dict[Setting, list[Frame]]
RUN_ID = re.compile(rf"[0-9a-f]{{{where.SHORTEST},12}}")


@dataclass(frozen=True)
class Pair:
    """Two settings and what they reach on the same images.

    Attributes:
        shared: what both are, in words.
        a, b: what each is beside that.
        setting_a, setting_b: all of it.
        comparisons: of B with A, at each report point and measure.
    """

    shared: str
    a: str
    b: str
    setting_a: Setting
    setting_b: Setting
    comparisons: tuple[Comparison, ...]

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON, without the comparisons."""
        return {"shared": self.shared, "a": self.setting_a.as_dict(), "b": self.setting_b.as_dict()}

    def sentence(self) -> str:
        """What it comes to at the largest budget, in a sentence."""
        last = [c for c in self.comparisons if c.budget == max(other.budget for other in self.comparisons)]
        c = next((one for one in last if one.measure == "success_noisy"), last[0])
        if c.significant:
            told = f"{self.b} has a {'higher' if c.difference > 0 else 'lower'} {c.measure} than {self.a}:"
        else:
            told = f"{self.b} is not told from {self.a}: {c.measure}"
        change = f"{100 * c.difference:+.1f} points [{100 * c.lo:+.1f}, {100 * c.hi:+.1f}]"
        return (
            f"{self.shared}: {told} {change} at {c.budget:,} queries, on {c.n} shared images (p = {c.p_adjusted:.2g})."
        )


def is_file(text: str) -> bool:
    """Whether A or B is a result file or a folder of them."""
    return Path(text).exists() or ("=" not in text and (text.endswith(".parquet") or "/" in text))


def pairs_of(text: str) -> list[where.Pair]:
    """What a side that is no file chooses: ``key=value,key=value``, the beginning of a run's id, or an attack's name.

    Raises:
        ConfigError: an unknown key.
    """
    if "=" in text:
        return [where.pair_of(part, option="snd compare") for part in text.split(",")]
    return [(where.RUN if RUN_ID.fullmatch(text) else "attack", text)]


def compare(
    a: Sequence[Frame], b: Sequence[Frame], keys: Sequence[str] = (), at: Sequence[int] = ()
) -> tuple[list[Pair], list[str]]:
    """A against B, setting by setting.

    Where each is one setting, these are compared whatever they differ in. Where there are several, A and B are matched
    on what they were not chosen by.

    Args:
        a, b: runs whose settings are told apart.
        keys: that they were chosen by; none where they are files.
        at: budgets instead of the report points that both have.

    Raises:
        DataError: nothing can be compared, or a setting has several counterparts.
    """
    sides = [grouped(frames) for frames in (a, b)]
    if all(len(side) == 1 for side in sides):
        (one,), (two,) = (side.values() for side in sides)
        matched, notes = [(one, two)], list[str]()
    elif keys:
        matched, notes = _matched(sides[0], sides[1], keys)
    else:
        matched, notes = baseline.matched(a, b, ("A", "B"))
    found: list[Pair] = []
    for one, two in matched:
        if {(f.path, f.run["id"]) for f in one} == {(f.path, f.run["id"]) for f in two}:
            notes.append(f"{one[0].setting.label} is on both sides.")
            continue
        words = contrast(one[0].setting, two[0].setting)
        comparisons, lines = at_shared_points(two, one, at, (words[1], words[2]))
        notes += [*lines, *_bounds(one[0].setting, two[0].setting)]
        if comparisons:
            found.append(Pair(*words, one[0].setting, two[0].setting, tuple(comparisons)))
    if not found:
        raise DataError("\n".join(["A and B have nothing that can be compared.", *notes]))
    return _adjusted(found), notes


def _adjusted(pairs: Sequence[Pair]) -> list[Pair]:
    """p-values adjusted for the comparisons of all pairs."""
    told = iter(adjusted([c for pair in pairs for c in pair.comparisons]))
    return [Pair(p.shared, p.a, p.b, p.setting_a, p.setting_b, tuple(next(told) for _ in p.comparisons)) for p in pairs]


def _matched(a: Groups, b: Groups, keys: Sequence[str]) -> baseline.Matched:
    """Settings of A and B that agree in all that neither was chosen by."""
    free = {*keys, *(key for family in FAMILIES if {*family} & {*keys} for key in family)}
    attack = bool({*ATTACK} & free) or any(key.startswith(where.OPTION) for key in keys)

    def key_of(setting: Setting) -> Hashable:
        told = facts(setting).items()
        return tuple(sorted((k, v) for k, v in told if k not in free and not (attack and k.startswith(where.OPTION))))

    return baseline.paired(_index("A", a, key_of), _index("B", b, key_of), ("A", "B"))


def _index(name: str, groups: Groups, key_of: Callable[[Setting], Hashable]) -> dict[Hashable, list[Frame]]:
    found: dict[Hashable, list[Frame]] = {}
    for setting, group in groups.items():
        twin = found.setdefault(key_of(setting), group)
        if twin is not group:
            one, two = facts(twin[0].setting), facts(setting)
            differ = [key for key in {**one, **two} if one.get(key) != two.get(key)]
            differ.sort(key=lambda key: key.startswith(where.OPTION))  # what they were asked for says more
            choices = " or ".join(f"{differ[0]}={told.get(differ[0], 'none')}" for told in (one, two))
            raise DataError(
                f"{name} stands for {twin[0].setting.label} and {group[0].setting.label}.\n"
                f"Expected one of them: add {choices}."
            )
    return found


def _bounds(a: Setting, b: Setting) -> list[str]:
    if a.bound == b.bound:
        return []
    return [f"A is bounded by {a.bound}, B by {b.bound}: each success is within its own bound."]
