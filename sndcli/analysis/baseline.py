"""A result set against an older one: which settings are the same, and what got worse."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence

from sndcli.analysis.comparison import Comparison, adjusted, at_shared_points
from sndcli.analysis.frame import Frame, grouped, named
from sndcli.analysis.labels import DEFENSE, MODEL, facts
from sndcli.analysis.setting import Setting
from sndcli.errors import DataError

# What a counterpart must have in common. What else differs is told in a note.
FIXED = (
    "attack", "engine", "preset", "settings", "dataset", "dataset_digest", "votes", "norm", "eps", "quantize", "select",
)  # fmt: skip
Group = list[Frame]
Matched = tuple[list[tuple[Group, Group]], list[str]]
Key = Callable[[Setting], Hashable]


def compare(new: Sequence[Frame], old: Sequence[Frame]) -> tuple[list[Comparison], list[str]]:
    """All comparisons that two result sets allow, and a line for each setting that has no counterpart.

    Settings are matched by attack, data, bound, model and defense. Models are the same by name, where names are not
    ambiguous, so that new weights are compared with the old ones. Where both sets have a single model, or a single
    defense, that may differ: it is then what is compared.

    Raises:
        DataError: nothing can be compared.
    """
    told = named([*new, *old])
    groups, notes = matched(told[: len(new)], told[len(new) :])
    found: list[Comparison] = []
    for ours, theirs in groups:
        added, lines = at_shared_points(ours, theirs)
        found += added
        notes += [*lines, *(_differing(ours[0].setting, theirs[0].setting) if added else ())]
    if not found:
        raise DataError("\n".join(["Nothing in the results can be compared with the baseline.", *sorted(notes)]))
    found.sort(key=lambda c: (c.attack, c.new, c.budget, c.measure))
    return adjusted(found), sorted(notes)


def matched(
    new: Sequence[Frame], old: Sequence[Frame], names: tuple[str, str] = ("the new results", "the baseline")
) -> Matched:
    """The runs of each setting with those of its counterpart, and a line for each setting that has none."""
    sides = [list(grouped(part).values()) for part in (new, old)]
    key_of = _matching(sides)
    ours, theirs = ({key_of(group[0].setting.pooled): group for group in side} for side in sides)
    return paired(ours, theirs, names)


def paired(ours: Mapping[Hashable, Group], theirs: Mapping[Hashable, Group], names: tuple[str, str]) -> Matched:
    """Runs with those of the same key, and a line for each side's settings that have none."""
    notes = [f"{f[0].setting.label} is only in {names[0]}." for key, f in ours.items() if key not in theirs]
    notes += [f"{f[0].setting.label} is only in {names[1]}." for key, f in theirs.items() if key not in ours]
    return [(group, theirs[key]) for key, group in ours.items() if key in theirs], notes


def _matching(sides: Sequence[Sequence[Group]]) -> Key:
    """What is equal for counterparts: as little as tells the settings of each side apart."""
    settings = [[group[0].setting.pooled for group in side] for side in sides]

    def unique(of: Key, among: Sequence[Sequence[Setting]]) -> bool:
        return all(len({of(s) for s in side}) == len(side) for side in among)

    def family(name: Key, exactly: Key) -> Key:
        """Anything where each side has one; the name where that tells them apart; else all of it."""
        members = [list({exactly(s): s for s in side}.values()) for side in settings]
        if all(len(side) == 1 for side in members):
            return lambda _: None
        return name if unique(name, members) else exactly

    model = family(lambda s: s.model, lambda s: _values(s, MODEL))
    defense = family(lambda s: _values(s, DEFENSE[:-1]), lambda s: _values(s, DEFENSE))

    def short(s: Setting) -> Hashable:
        return _values(s, FIXED), model(s), defense(s)

    def full(s: Setting) -> Hashable:
        rest = {key: value for key, value in facts(s).items() if key not in (*MODEL, *DEFENSE)}
        return tuple(sorted(rest.items())), model(s), defense(s)

    return short if unique(short, settings) else full


def _values(setting: Setting, keys: Sequence[str]) -> Hashable:
    return tuple(getattr(setting, key) for key in keys)


def _differing(ours: Setting, theirs: Setting) -> list[str]:
    """A line on what else the two sides differ in, beside model and defense."""
    new, old = facts(ours.pooled), facts(theirs.pooled)
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key) and key not in (*MODEL, *DEFENSE)]
    if not keys:
        return []
    told = ", ".join(f"{key} ({old.get(key, 'none')} there, {new.get(key, 'none')} here)" for key in keys)
    return [f"{ours.label} differs from the baseline in {told}, which the comparison cannot tell from the rest."]
