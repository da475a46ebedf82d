"""What counts as a success of a row at a report point: by one rule, when a file is written and when it is read."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sndcli.ball import within

HALF = 0.5  # at least this share of fresh draws errs
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def confirmed(distance: Floats, eps: float, p_adv: Floats) -> Flags:
    """Whether points inside ε are misclassified by at least half of the fresh draws.

    Args:
        distance: of the points as they were submitted; infinite where there is none.
        eps: ε.
        p_adv: share of fresh draws that err on them, or on them moved out to ε.
    """
    hit: Flags = within(distance, eps) & (p_adv >= HALF)
    return hit


def fools_bare(distance: Floats, eps: float, adv_clean: Flags) -> Flags:
    """Whether points inside ε are misclassified by the undefended model; arguments as for `confirmed`."""
    hit: Flags = within(distance, eps) & adv_clean
    return hit
