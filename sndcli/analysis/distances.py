"""Claimed, verified and border distance: what an attack believes, what fresh draws confirm, where the label flips."""

from __future__ import annotations

from typing import Any

import numpy as np

from sndcli.analysis.frame import Floats, Frame
from sndcli.analysis.statistics import finite, median
from sndcli.runs.success import HALF

NAMES = ("l2_claimed", "l2_verified", "l2_border")


def confirmed(frame: Frame, budget: int) -> Floats:
    """``[n]``: the least distance submitted at any report point so far on which at least half of fresh draws err.

    Infinite where there is none.
    """
    until = frame.position[budget] + 1
    least: Floats = np.where(frame.p_adv_submitted[:, :until] >= HALF, frame.held[:, :until], np.inf).min(1)
    return least


def distances(claimed: Floats | None, verified: Floats | None, border: Floats | None) -> dict[str, Any]:
    """Medians over all images at a report point; None where a median is infinite or nothing was measured.

    Args:
        claimed: ``[n]`` of the points handed over.
        verified: ``[n]``, see `confirmed`.
        border: ``[n]`` where the majority flips on the rays through the points handed over.

    Returns:
        ``l2_claimed``, ``l2_verified``, ``l2_border`` and ``border_measured``.
    """
    medians = [None if values is None else finite(median(values)) for values in (claimed, verified, border)]
    return dict(zip(NAMES, medians, strict=True)) | {"border_measured": border is not None}


def unbounded(row: dict[str, Any], measure: str) -> bool:
    """Whether a distance of a summary is None because it is infinite, and not because it is unknown."""
    if measure not in ("l2_best", *NAMES) or row[measure] is not None:
        return False
    if measure == "l2_border":
        return bool(row["border_measured"])
    return measure == "l2_best" or row["success_as_submitted"] is not None  # where the points are stored
