"""The table of a ladder: every rung beside the worst case over all of them, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sndcli.analysis.frame import Flags, Frame
from sndcli.analysis.summary import Cut, cut, interval

if TYPE_CHECKING:
    from sndcli.attacks.ladder import Rung

SUCCESSES = ("success_seen", "success_noisy", "success_clean")


@dataclass(frozen=True)
class Climb:
    """A rung and its finished run."""

    rung: Rung
    frame: Frame

    def at(self, budget: int) -> tuple[Cut, Flags]:
        """The run at a report point, and ``[3, n]`` its seen, noisy and clean successes."""
        found = cut([self.frame], budget, self.frame.setting["eps"])
        if found.noisy is None or found.clean is None:
            raise ValueError(f"Expected {budget} to be one of the report points {self.frame.budgets}.")
        return found, np.stack([found.seen, found.noisy, found.clean])


def ladder(climbs: Sequence[Climb]) -> dict[str, Any]:
    """The addition to the JSON object: the rungs, and at each budget what they paid and reached, and the worst case.

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
        rungs = [
            {"rung": climb.rung.name, **_intervals(c, hit), "alone": int((hit[1] & (broken == 1)).sum()),
             "paid": float(c.spent.mean())}
            for climb, c, hit in zip(climbs, cuts, hits, strict=True)
        ]  # fmt: skip
        worst: Flags = np.logical_or.reduce(of_all)
        at.append({"budget": budget, "rungs": rungs, "worst": _intervals(cuts[0], worst)})
    rungs_of = [
        {"rung": c.rung.name, "attack": c.rung.attack, "preset": c.rung.preset, "settings": list(c.rung.settings),
         "votes": c.rung.votes, "ours": c.rung.ours}
        for c in climbs
    ]  # fmt: skip
    return {"rungs": rungs_of, "at": at}


def _intervals(c: Cut, hits: Flags) -> dict[str, Any]:
    return {name: interval(c, hit) for name, hit in zip(SUCCESSES, hits, strict=True)}
