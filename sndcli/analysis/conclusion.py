"""What can be concluded from attacks that were run together, in one plain sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sndcli.analysis.advice import next_command
from sndcli.analysis.setting import Setting
from sndcli.analysis.summary import Summary
from sndcli.analysis.verdict import Headline, headlines
from sndcli.attacks.registry import find, noise_aware

STOPPED = 0.2  # share of images up to which an attack counts as stopped
BROKEN = 0.9  # share from which nothing is left that could be evidence
FEW = 20  # images below which nothing is settled
SPOKEN = 3  # victims that the sentence has room for
KNOWS = "which knows of the noise"


@dataclass(frozen=True)
class Stand:
    """One victim and the strongest attacks on it.

    Attributes:
        setting: of one of its rows.
        random: whether it draws.
        unaware: the strongest attack that does not know of the noise, if any.
        aware: the strongest that does, if any.
        published: whether the attacks that do not know of it are all as others published them.
        advice: the command that tells more than these.
    """

    setting: Setting
    random: bool
    unaware: Headline | None
    aware: Headline | None
    published: bool
    advice: str

    @property
    def heads(self) -> list[Headline]:
        """Those that there are."""
        return [head for head in (self.unaware, self.aware) if head is not None]

    @property
    def open(self) -> bool:
        """Whether what survived is no evidence: the victim draws, and no attack here knows of it."""
        return self.random and self.aware is None and self.unaware is not None and _value(self.unaware) < BROKEN


def conclude(rows: Sequence[Summary]) -> str:
    """One sentence: how many images the strongest attacks break, and whether what survived is evidence.

    Args:
        rows: summaries of runs of one model and data set; each attack counts at its largest budget.
    """
    stands = _stands(rows)
    if not stands:
        return "No attack was run, so nothing can be concluded about the defense."
    budgets = {head.budget for stand in stands for head in stand.heads}
    several = len({stand.setting.bound for stand in stands}) > 1
    weak = any(not stand.random and all(_value(head) <= STOPPED for head in stand.heads) for stand in stands)
    clauses = [_clause(stand, several, len(budgets) > 1, not weak) for stand in stands[:SPOKEN]]
    left = len(stands) - len(clauses)
    clauses += [f"{left} more {'row is' if left == 1 else 'are'} in the table"] if left else []
    text = "; ".join(clauses)
    text = f"within {budgets.pop():,} queries an image, {text}" if len(budgets) == 1 else text
    if weak and any(stand.random for stand in stands):
        text += "; without a defense hardly more is broken, so this tells nothing about the noise: raise `--budget`"
    elif (n := min(head.n for stand in stands for head in stand.heads)) < FEW:
        text += f"; {n} image{'' if n == 1 else 's'} settle{'s' if n == 1 else ''} little: raise `--images`"
    unknown = [stand for stand in stands if stand.open and stand.unaware is not None]
    if unknown:
        attacks = list(dict.fromkeys(stand.unaware.attack for stand in unknown if stand.unaware is not None))
        verb, whose = ("does", "its failure") if len(attacks) == 1 else ("do", "their failure")
        text += f"; {' and '.join(attacks)} {verb} not know of the noise, so {whose} is no evidence for the defense: "
        text += f"run `{unknown[0].advice}`"
    return text[0].upper() + text[1:] + "."


def _stands(rows: Sequence[Summary]) -> list[Stand]:
    """One for each defense and bound, in the order of the rows."""
    victims: dict[tuple[str, str, str], list[Summary]] = {}
    for row in rows:
        if row.setting.attack != "null":
            asked_once = replace(row.setting, votes=1)  # how often it asks is the attacker's choice
            victims.setdefault((asked_once.victim, asked_once.data, asked_once.bound), []).append(row)
    found = []
    for members in victims.values():
        knowing = [row for row in members if noise_aware(row.setting.attack, row.setting.preset)]
        others = [row for row in members if row not in knowing]
        random = any(bool(row.setting.sigma) or row.scales.passes_differ is not None for row in members)
        unaware, aware = (next(iter(headlines(part)), None) for part in (others, knowing))
        advice = next_command(others[0].setting) if others else ""
        published = all(_published(row.setting) for row in others)
        setting = members[0].setting
        setting = setting if len({row.setting.votes for row in members}) == 1 else replace(setting, votes=1)
        found.append(Stand(setting, random, unaware, aware, published, advice))
    return [stand for stand in found if stand.heads]


def _published(setting: Setting) -> bool:
    """Whether somebody else published the attack as it was run."""
    spec = find(setting.attack)
    preset = spec and spec.presets.get(setting.preset or spec.default_preset(setting.norm))
    return bool(preset and not preset.ours and not setting.settings)


def _clause(stand: Stand, several: bool, named: bool, stops: bool) -> str:
    """What became of one victim.

    Args:
        stand: it.
        several: whether bounds differ, so that it is named.
        named: whether budgets differ.
        stops: whether an attack that fails may be said to be stopped.
    """
    bound = f" ({stand.setting.bound})" if several else ""
    defended = stand.setting.defended
    bare, _, rest = defended.partition(", ")  # what of the run is not as usual: 8-bit queries, say
    at = f"without a defense{rest and f' ({rest})'}" if bare == "none" else f"against {defended}"
    if not stand.random:
        best = max(stand.heads, key=_value)
        return f"{at}{bound} {best.attack} {_breaks(best, named)}"
    one, two = stand.unaware, stand.aware
    if one is not None and two is not None:
        if _value(one) > STOPPED or not stops:
            return f"{at}{bound} {one.attack} {_breaks(one, named)}, and {two.attack}, {KNOWS}, {_of(two, named)}"
        which = "the published attack " if stand.published else ""
        start = f"{defended}{bound} stops {which}{one.attack} ({_of(one, named)})"
        if _value(two) > STOPPED:
            return f"{start}, but {two.attack}, {KNOWS}, {_breaks(two, named)}"
        return f"{start} and also {two.attack}, {KNOWS} ({_of(two, named)})"
    if two is not None:
        return f"{at}{bound} {two.attack}, {KNOWS}, {_breaks(two, named)}"
    return f"{at}{bound} {stand.heads[0].attack} {_breaks(stand.heads[0], named)}"


def _value(head: Headline) -> float:
    return head.value.value or 0.0


def _breaks(head: Headline, named: bool) -> str:
    """``breaks 23 of 25 images in 2,000 queries``; what was only seen is said to be."""
    verb = "breaks" if head.measure == "success_noisy" else "is seen to break"
    return f"{verb} {_of(head, False)} images" + (f" in {head.budget:,} queries" if named else "")


def _of(head: Headline, named: bool) -> str:
    return f"{round(_value(head) * head.n)} of {head.n}" + (f" in {head.budget:,} queries" if named else "")
