"""Warnings about an evaluation that could flatter a defense, in the manner of AutoAttack's flags. See docs/flags.md.

Pure functions of the summaries (`summary.summarise`): cheap, and the same after a run and in ``snd report``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass, replace

from sndcli.analysis.advice import next_command
from sndcli.analysis.measures import Interval
from sndcli.analysis.setting import Setting
from sndcli.analysis.summary import Summary
from sndcli.attacks.registry import noise_aware

SEEN_ABOVE_NOISY = 0.1  # and intervals apart
FALL = 0.05  # of success_noisy with a larger budget, and at least two images
FLOOR_SHARE = 0.5  # of success_seen
SEARCH_SHARE = 0.19  # of σ; the noise-aware attacks end at 0.2 and above by a majority
ROUNDING_SHARE = 0.2  # of the defense's noise
PROBE_SHARE = 0.5  # of σ; where the boundary bends, probes a little below the noise are the best
BLIND = 10  # noise in probes, from which nothing is seen
Z = 1.96  # of 95 %
CLAIM = 0.05  # a difference that a reader would take for one
DEFENSE = ("defense", "sigma", "beta", "clip", "weights", "weights_digest")
VICTIM = ("dataset", "dataset_digest", "model", "model_digest", *DEFENSE)


@dataclass(frozen=True)
class Flag:
    """One warning.

    Attributes:
        name: stable, a heading of docs/flags.md.
        text: what was found, what it means and what to do, in at most 25 words without symbols; ends in a command.
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


def flags(rows: Sequence[Summary]) -> list[Flag]:
    """All warnings about summaries of one or more runs, each once for the largest budget that shows it."""
    found: list[Flag] = []
    for members in _grouped(rows, lambda row: (row.setting.pooled, row.seeds)):
        found += _of_setting(sorted(members, key=lambda row: row.budget))
    found += _no_noise_aware(rows) + _too_few_images(rows)
    return list(dict.fromkeys(found))


def _of_setting(rows: Sequence[Summary]) -> list[Flag]:
    """Of one setting, its budgets ascending."""
    last = rows[-1]
    found = [*_seen_above_noisy(last), *_falls(rows), *_floor(last)]
    sigma, place = last.scales.sigma_all or last.setting.sigma, _where(last, with_budget=False)
    probe, search = last.scales.probe, last.scales.search
    if sigma and probe is not None and probe < PROBE_SHARE * sigma:
        sees = "it cannot see" if sigma / probe >= BLIND else "it sees little"
        text = (
            f"This attack's test steps are {_ratio(sigma / probe)} times smaller than the noise: {sees}. "
            f"Failure proves nothing; run `{next_command(last.setting)}`"
        )
        found.append(Flag("probe_below_noise", text, place))
    if sigma and search is not None and search < SEARCH_SHARE * sigma:
        text = (
            f"Searches end {_ratio(sigma / search)} times below the noise, so their last answers are coin flips that "
            f"waste queries; run `snd adaptive {last.setting.attack} --ladder`"
        )
        found.append(Flag("search_below_noise", text, place))
    if last.scales.passes_differ is False:
        text = (
            "The defense says it is random, but its answers do not change: it is off, and was not tested; "
            f"run `snd doctor --defense {last.setting.defense}`"
        )
        found.append(Flag("defense_off", text, place))
    return found + _rounding(last)


def _rounding(row: Summary) -> list[Flag]:
    """Rounding that defends: beside the defense, or in the place of one."""
    setting, sigma, share = row.setting, row.scales.sigma_round, row.scales.rounding_share
    undefended = not setting.sigma and row.scales.passes_differ is None
    if share is not None and share > ROUNDING_SHARE:
        found = f"is {100 * share:.0f} percent of the defense's noise, so part of what holds is arithmetic"
    elif share is None and undefended and sigma:
        found = f"acts like noise of {sigma:.1g} on a network without a defense: it is one"
    else:
        return []
    preset = f" --preset {setting.preset}" if setting.preset else ""
    text = f"Rounding to {setting.precision} {found}; run `snd attack {setting.attack}{preset} --precision fp32`"
    return [Flag("rounding_defends", text, _where(row, with_budget=False))]


def _seen_above_noisy(row: Summary) -> list[Flag]:
    seen, noisy = row.rate("success_seen"), row.rate("success_noisy")
    if seen is None or noisy is None:
        return []
    if _value(seen) - _value(noisy) <= SEEN_ABOVE_NOISY or seen.lo <= noisy.hi:
        return []
    text = (
        f"Wrong answers came for {_percent(seen)} percent of images, new answers confirm {_percent(noisy)}: the rest "
        f"was luck; run `{next_command(row.setting)}`"
    )
    return [Flag("seen_above_noisy", text, _where(row))]


def _falls(rows: Sequence[Summary]) -> list[Flag]:
    for before, after in zip(reversed(rows[:-1]), reversed(rows[1:]), strict=True):
        one, two = before.number("success_noisy"), after.number("success_noisy")
        if one is not None and two is not None and one - two > max(FALL, 1.5 / max(1, after.n)) - 1e-12:
            text = (
                f"Success falls from {100 * one:.0f} to {100 * two:.0f} percent between {before.budget:,} and "
                f"{after.budget:,} queries, which flatters the defense; run `snd report results --at {before.budget}`"
            )
            return [Flag("success_falls", text, _where(after))]
    return []


def _floor(row: Summary) -> list[Flag]:
    seen, floor = row.rate("success_seen"), row.number("floor")
    if row.setting.attack == "null" or seen is None or floor is None:
        return []
    if _value(seen) < 0.02 or floor <= FLOOR_SHARE * _value(seen):
        return []
    text = (
        f"Of {_percent(seen)} percent seen, resending the clean image alone explains {100 * floor:.0f}: little is the "
        "attack's merit; compare with `snd attack null`"
    )
    return [Flag("floor_explains", text, _where(row))]


def _no_noise_aware(rows: Sequence[Summary]) -> list[Flag]:
    found = []
    for members in _grouped(rows, lambda row: _victim(row.setting)):
        setting = members[0].setting
        random = bool(setting.sigma) or members[0].scales.passes_differ is not None
        attacked = [row.setting for row in members if row.setting.attack != "null"]
        if random and attacked and not any(noise_aware(s.attack, s.preset) for s in attacked):
            text = (
                "No attack here knows of the noise, so surviving it is no evidence for the defense; "
                f"run `{next_command(attacked[0])}`"
            )
            found.append(Flag("no_noise_aware", text, setting.victim))
    return found


def _too_few_images(rows: Sequence[Summary]) -> list[Flag]:
    """Two defenses under one attack at one budget, visibly apart, but not beyond chance (Newcombe's interval)."""
    found = []
    for group in _grouped(rows, lambda row: _undefended(row.setting)):
        members = [row for row in group if row.budget == max(other.budget for other in group)]
        for k, one in enumerate(members):
            for two in members[k + 1 :]:
                a, b = one.rate("success_noisy"), two.rate("success_noisy")
                if a is None or b is None or abs(_value(a) - _value(b)) < CLAIM:
                    continue
                high, low = (a, b) if _value(a) > _value(b) else (b, a)
                apart = _value(high) - _value(low)
                if apart < math.hypot(_value(high) - high.lo, low.hi - _value(low)):
                    n, middle = min(one.n, two.n), (_value(high) + _value(low)) / 2
                    text = (
                        f"These two defenses lie {100 * apart:.0f} points apart, which {n} images cannot tell from "
                        f"chance; run `snd attack {one.setting.attack} --images {_enough(n, apart, middle)}`"
                    )
                    found.append(Flag("too_few_images", text, f"{_where(one)}, beside {two.setting.defended}"))
    return found


def _grouped(rows: Sequence[Summary], of: Callable[[Summary], Hashable]) -> list[list[Summary]]:
    groups: dict[Hashable, list[Summary]] = {}
    for row in rows:
        groups.setdefault(of(row), []).append(row)
    return list(groups.values())


def _victim(setting: Setting) -> Hashable:
    """Equal for the attacks on one victim, whichever images and precision they had."""
    return tuple(getattr(setting.pooled, name) for name in VICTIM)


def _undefended(setting: Setting) -> Setting:
    """Equal for one attack on all defenses of a model."""
    return replace(setting, defense="none", sigma=0.0, beta=None, clip=False, weights=None, weights_digest=None)


def _where(row: Summary, with_budget: bool = True) -> str:
    s = row.setting
    return f"{s.attacked}, {s.victim}" + (f", Q={row.budget:,}" if with_budget else "")


def _value(rate: Interval) -> float:
    return math.nan if rate.value is None else rate.value


def _percent(rate: Interval) -> str:
    return f"{100 * _value(rate):.0f}"


def _ratio(number: float) -> str:
    """Two figures of it: ``1,700``, ``2.4``."""
    return f"{number:.1f}" if number < 10 else f"{float(f'{number:.2g}'):,.0f}"


def _enough(n: int, apart: float, middle: float) -> int:
    """Images at which two shares so far apart would be told from chance: twice n at least, in steps of 50."""
    wanted = max(2 * n, 2 * (Z / apart) ** 2 * middle * (1 - middle))
    return 50 * math.ceil(wanted / 50)
