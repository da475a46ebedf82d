"""Warnings about an evaluation that could flatter a defense, in the manner of AutoAttack's flags. See docs/flags.md.

Pure functions of the summaries (`summary.summarise`): cheap, and the same after a run and in ``snd report``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sndcli.analysis.labels import defense_label
from sndcli.attacks.registry import noise_aware

SEEN_ABOVE_NOISY = 0.1  # and intervals apart
FALL = 0.05  # of success_noisy with a larger budget, and at least two images
FLOOR_SHARE = 0.5  # of success_seen
SEARCH_SHARE = 0.19  # of σ; the noise-aware attacks end at 0.2 and above by a majority
PROBE_SHARE = 0.5  # of σ; where the boundary bends, probes a little below the noise are the best
CLAIM = 0.05  # a difference that a reader would take for one
VICTIM = ("dataset", "model", "defense", "sigma", "beta")

Row = dict[str, Any]


@dataclass(frozen=True)
class Flag:
    """One warning.

    Attributes:
        name: stable, a heading of docs/flags.md.
        text: what was found and what it means, one line.
        where: attack, defense and budget it was found at.
    """

    name: str
    text: str
    where: str

    def as_dict(self) -> dict[str, str]:
        """Plain data for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return f"flag: {self.name}: {self.where}: {self.text}"


def flags(rows: Sequence[Row]) -> list[Flag]:
    """All warnings about summaries of one or more runs, each once for the largest budget that shows it."""
    found: list[Flag] = []
    for members in _grouped(rows, ("attack", "engine", "preset", "settings", "votes", "norm", "eps", "seed", *VICTIM)):
        found += _of_setting(sorted(members, key=lambda row: int(row["budget"])))
    found += _no_noise_aware(rows) + _too_few_images(rows)
    return list(dict.fromkeys(found))


def _of_setting(rows: Sequence[Row]) -> list[Flag]:
    """Of one setting, its budgets ascending."""
    last = rows[-1]
    found = [*_seen_above_noisy(last), *_falls(rows), *_floor(last)]
    sigma, place = float(last["sigma"] or 0), _where(last, with_budget=False)
    probe, search = last.get("probe"), last.get("search")
    if sigma and probe is not None and probe < PROBE_SHARE * sigma:
        text = f"probes reach {sigma / probe:.3g} times less far than the noise (σ√d/δ); a wider probe costs no queries"
        found.append(Flag("probe_below_noise", text, place))
    if sigma and search is not None and search < SEARCH_SHARE * sigma:
        text = f"searches end at {search:.2g}, the noise is {sigma:g}: their last steps are coin flips"
        found.append(Flag("search_below_noise", text, place))
    if last.get("passes_differ") is False:
        found.append(Flag("defense_off", "passes on one image agree although a defense is on", place))
    return found


def _seen_above_noisy(row: Row) -> list[Flag]:
    seen, noisy = row["success_seen"], row["success_noisy"]
    if _value(seen) is None or _value(noisy) is None:
        return []
    if seen["value"] - noisy["value"] <= SEEN_ABOVE_NOISY or seen["lo"] <= noisy["hi"]:
        return []
    text = f"seen {_percent(seen)}, but fresh draws confirm {_percent(noisy)}: most successes were luck"
    return [Flag("seen_above_noisy", text, _where(row))]


def _falls(rows: Sequence[Row]) -> list[Flag]:
    for before, after in zip(reversed(rows[:-1]), reversed(rows[1:]), strict=True):
        one, two = _value(before["success_noisy"]), _value(after["success_noisy"])
        if one is not None and two is not None and one - two > max(FALL, 1.5 / max(1, after["n"])) - 1e-12:
            text = (
                f"success_noisy falls from {100 * one:.1f} % at {before['budget']:,} queries to {100 * two:.1f} %: "
                "the attack gives better points away, and a smaller budget is worth more than it shows"
            )
            return [Flag("success_falls", text, _where(after))]
    return []


def _floor(row: Row) -> list[Flag]:
    seen, floor = _value(row["success_seen"]), row["floor"]
    if row["attack"] == "null" or seen is None or floor is None or seen < 0.02 or floor <= FLOOR_SHARE * seen:
        return []
    text = (
        f"resending the clean image would be seen to succeed on {100 * floor:.1f} % of {_percent(row['success_seen'])}"
    )
    return [Flag("floor_explains", text, _where(row))]


def _no_noise_aware(rows: Sequence[Row]) -> list[Flag]:
    found = []
    for members in _grouped(rows, VICTIM):
        random = bool(members[0]["sigma"]) or members[0].get("passes_differ") is not None
        attacked = [row for row in members if row["attack"] != "null"]
        if random and attacked and not any(noise_aware(row["attack"], row.get("preset")) for row in attacked):
            text = "no attack that knows of the noise is among these results; see `snd adaptive NAME --ladder`"
            found.append(Flag("no_noise_aware", text, f"{members[0]['model']}, {defense_label(members[0])}"))
    return found


def _too_few_images(rows: Sequence[Row]) -> list[Flag]:
    """Two defenses under one attack at one budget, visibly apart, but not beyond chance (Newcombe's interval)."""
    found = []
    for group in _grouped(rows, ("attack", "engine", "preset", "settings", "votes", "norm", "eps", "dataset", "model")):
        members = [row for row in group if row["budget"] == max(other["budget"] for other in group)]
        for k, one in enumerate(members):
            for two in members[k + 1 :]:
                a, b = one["success_noisy"], two["success_noisy"]
                if _value(a) is None or _value(b) is None or abs(a["value"] - b["value"]) < CLAIM:
                    continue
                high, low = (a, b) if a["value"] > b["value"] else (b, a)
                reach = math.hypot(high["value"] - high["lo"], low["hi"] - low["value"])
                if high["value"] - low["value"] < reach:
                    text = (
                        f"{100 * (high['value'] - low['value']):.0f} points from {defense_label(two)}, "
                        f"which {min(one['n'], two['n'])} images cannot tell from chance"
                    )
                    found.append(Flag("too_few_images", text, _where(one)))
    return found


def _grouped(rows: Sequence[Row], keys: Sequence[str]) -> list[list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(repr([row.get(key) for key in keys]), []).append(row)
    return list(groups.values())


def _where(row: Row, with_budget: bool = True) -> str:
    preset = f" {row['preset']}" if row.get("preset") else ""
    budget = f", Q={row['budget']:,}" if with_budget else ""
    return f"{row['attack']}{preset}, {defense_label(row)}{budget}"


def _value(rate: Row | None) -> float | None:
    """None where a rate is of no images, or is not known at this point."""
    value: float | None = rate["value"] if rate is not None else None
    return value


def _percent(rate: Row) -> str:
    return f"{100 * rate['value']:.1f} %"
