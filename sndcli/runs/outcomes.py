"""What a finished run of the battery says of each of its images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from sndcli.ball import within
from sndcli.queries.stopping import CLEAN_WRONG, CONFIRMED, grid


@dataclass(frozen=True)
class Outcome:
    """One image of a run with ``--stop verified``.

    Attributes:
        row: of the run's table, and of its points.
        confirmed: whether its point was confirmed.
        clean_wrong: whether the defended model errs on the clean image in at least half of its answers.
        at: queries until it was confirmed, a point of the grid; 0 where the clean image is wrong, infinite where it
            stands.
        queries: paid.
        p_adv: share of fresh draws (not those that confirm) that err on the last point, moved out to ε.
        distance: of that point as it was submitted.
        candidate: whether there is a point inside ε.
        p0: share of fresh draws that err on the clean image.
        seen: whether some paid answer inside ε was wrong.
        blocked: paid queries that a defense which remembers them detected.
    """

    row: int
    confirmed: bool
    clean_wrong: bool
    at: float
    queries: int
    p_adv: float
    distance: float
    candidate: bool
    p0: float
    seen: bool
    blocked: int = 0

    @property
    def broken(self) -> bool:
        """Whether no later step of the battery needs to attack it."""
        return self.confirmed or self.clean_wrong


def outcomes(table: pa.Table, budget: int, eps: float) -> Mapping[int, Outcome]:
    """Image id -> what came of it, in the order of the rows.

    Args:
        table: of a run with ``--stop verified``, one seed.
        budget: of the run.
        eps: of the run.
    """
    points, found = grid(budget), dict[int, Outcome]()
    wanted = ("image_id", "stop_reason", "queries", "p_adv", "distance_submitted", "p0", "seen", "blocked")
    for k, row in enumerate(table.select(wanted).to_pylist()):
        reason, queries, distance = row["stop_reason"], row["queries"], row["distance_submitted"][-1]
        clean_wrong, confirmed = reason == CLEAN_WRONG, reason == CONFIRMED
        at = next(point for point in points if point >= queries) if confirmed else math.inf
        found[row["image_id"]] = Outcome(
            row=k, confirmed=confirmed, clean_wrong=clean_wrong, at=0.0 if clean_wrong else at, queries=queries,
            p_adv=row["p_adv"][-1], distance=distance, candidate=within(distance, eps) and not clean_wrong,
            p0=row["p0"], seen=row["seen"][-1], blocked=row["blocked"] or 0,
        )  # fmt: skip
    return found
