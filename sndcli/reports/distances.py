"""Claimed, verified and border distance: what an attack believes, what fresh draws confirm, where the label flips."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sndcli import statistics

HALF = 0.5


def distances(rows: Sequence[dict[str, Any]], budget: int) -> dict[str, float | None]:
    """Medians over all images at a report point; None where a median is infinite or nothing was measured.

    ``l2_claimed``: of the point handed over. ``l2_verified``: the least handed over so far on which at least half of
    fresh draws err. ``l2_border``: where the majority flips on the ray through the point handed over.
    """
    measured = bool(rows) and all(row["border_l2"] is not None for row in rows)
    found: dict[str, float | None] = {
        "l2_claimed": _median([row["held_l2"][row["budgets"].index(budget)] for row in rows]),
        "l2_verified": _median([_verified(row, budget) for row in rows]),
        "l2_border": _median([row["border_l2"][row["budgets"].index(budget)] for row in rows]) if measured else None,
    }
    return found | {"border_measured": measured}


def _verified(row: dict[str, Any], budget: int) -> float:
    k = row["budgets"].index(budget) + 1
    points = zip(row["held_l2"][:k], row["p_adv"][:k], strict=True)
    return min((float(distance) for distance, p in points if p >= HALF), default=math.inf)


def _median(values: Sequence[float]) -> float | None:
    value = statistics.median(values)
    return value if math.isfinite(value) else None
