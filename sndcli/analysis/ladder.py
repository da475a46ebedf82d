"""The table of a ladder: every rung beside the worst case over all of them, image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sndcli.analysis.cut import Cut, cut
from sndcli.analysis.frame import Flags, Frame
from sndcli.analysis.measures import THREE, Interval, interval

if TYPE_CHECKING:
    from sndcli.attacks.ladder import Rung


@dataclass(frozen=True)
class Climb:
    """A rung and its finished run."""

    rung: Rung
    frame: Frame

    def at(self, budget: int) -> tuple[Cut, Flags]:
        """The run at a report point, and ``[3, n]`` its seen, noisy and clean successes."""
        found = cut([self.frame], budget, self.frame.setting.eps)
        if found.noisy is None or found.clean is None:
            raise ValueError(f"Expected {budget} to be one of the report points {self.frame.budgets}.")
        return found, np.stack([found.seen, found.noisy, found.clean])


@dataclass(frozen=True)
class Reached:
    """What a rung paid and reached at one budget.

    Attributes:
        rung: its name.
        successes: seen, noisy and clean.
        alone: images that only this rung breaks (noisy).
        paid: queries an image, on average.
    """

    rung: str
    successes: dict[str, Interval]
    alone: int
    paid: float

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return {"rung": self.rung, **_plain(self.successes), "alone": self.alone, "paid": self.paid}


@dataclass(frozen=True)
class Level:
    """All rungs at one budget, and the worst case over them."""

    budget: int
    rungs: tuple[Reached, ...]
    worst: dict[str, Interval]

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        rungs = [rung.as_dict() for rung in self.rungs]
        return {"budget": self.budget, "rungs": rungs, "worst": _plain(self.worst)}


@dataclass(frozen=True)
class Ladder:
    """The rungs and what they reached."""

    rungs: tuple[Rung, ...]
    at: tuple[Level, ...]

    def as_dict(self) -> dict[str, object]:
        """The addition to the JSON object."""
        rungs = [
            {"rung": r.name, "attack": r.attack, "preset": r.preset, "settings": list(r.settings), "votes": r.votes,
             "ours": r.ours}
            for r in self.rungs
        ]  # fmt: skip
        return {"rungs": rungs, "at": [level.as_dict() for level in self.at]}


def ladder(climbs: Sequence[Climb]) -> Ladder:
    """The rungs, and at each budget what they paid and reached, and the worst case.

    ``worst`` counts an image where any rung succeeds: the attacker who owns every rung, chosen after the fact. Such
    an attacker pays for all of them, so it is a bound for the defense and not the result of one budget.

    Raises:
        ValueError: the runs are not of the same images and seeds, in the same order.
    """
    one, at = climbs[0].frame, []
    if any(not np.array_equal([c.frame.seed, c.frame.image], [one.seed, one.image]) for c in climbs):
        raise ValueError("Expected the rungs of a ladder to be runs of the same images and seeds.")
    for budget in one.budgets:
        cuts, hits = zip(*(climb.at(budget) for climb in climbs), strict=True)
        of_all = np.stack(hits)  # [rungs, 3, n]
        broken = of_all[:, 1].sum(0)
        rungs = tuple(
            Reached(climb.rung.name, _intervals(c, hit), int((hit[1] & (broken == 1)).sum()), float(c.spent.mean()))
            for climb, c, hit in zip(climbs, cuts, hits, strict=True)
        )
        worst: Flags = np.logical_or.reduce(of_all)
        at.append(Level(budget, rungs, _intervals(cuts[0], worst)))
    return Ladder(tuple(c.rung for c in climbs), tuple(at))


def _intervals(c: Cut, hits: Flags) -> dict[str, Interval]:
    return {name: interval(c, hit) for name, hit in zip(THREE, hits, strict=True)}


def _plain(successes: Mapping[str, Interval]) -> dict[str, object]:
    return {name: found.as_dict() for name, found in successes.items()}
