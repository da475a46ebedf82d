"""Two settings on the same images: by how much they differ, with intervals and exact paired tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from sndcli.analysis import labels, statistics
from sndcli.analysis.cut import Cut, cut
from sndcli.analysis.frame import Floats, Frame, Integers
from sndcli.analysis.setting import Setting
from sndcli.analysis.statistics import finite

LEVEL = 0.05  # of the family of all comparisons
COMPARED = ("success_seen", "success_noisy")


@dataclass(frozen=True)
class Comparison:
    """One measure of two settings at one report point, old against new (A against B).

    Attributes:
        old, new: settings in words.
        attack, budget, measure: what is compared; the attack is the new one's.
        n: images on both sides; several seeds of an image are one.
        old_rate, new_rate: over the paired rows.
        difference, lo, hi: new minus old and its 95 % interval (bootstrap over images).
        worse, better: images on which the attack succeeds more often, or less often, than before.
        p: exact McNemar (with several seeds: the sign test over images).
        p_adjusted: for the number of comparisons, Holm.
        regression: significantly higher success.
        median, median_lo, median_hi: difference of the median closest distance; None where it is infinite, or of
            different norms.
        old_distance, new_distance: these medians; None where infinite.
        old_digest, new_digest: which weights the models had.
    """

    attack: str
    old: str
    new: str
    budget: int
    measure: str
    n: int
    old_rate: float
    new_rate: float
    difference: float
    lo: float
    hi: float
    worse: int
    better: int
    p: float
    median: float | None
    median_lo: float | None
    median_hi: float | None
    p_adjusted: float = 1.0
    regression: bool = False
    old_distance: float | None = None
    new_distance: float | None = None
    old_digest: str = ""
    new_digest: str = ""

    @property
    def significant(self) -> bool:
        """Whether the difference is beyond chance."""
        return self.p_adjusted < LEVEL

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return asdict(self)

    def line(self) -> str:
        """In one line."""
        return (
            f"{'regression' if self.regression else 'no regression'}: {self.attack} against {self.new}, "
            f"Q={self.budget:,}: {self.measure} "
            f"{100 * self.old_rate:.1f} → {100 * self.new_rate:.1f} % on {self.n} images "
            f"({self.worse} worse, {self.better} better, p = {self.p_adjusted:.2g})"
        )


def paired(
    new: Cut, old: Cut, ours: Setting, theirs: Setting, words: tuple[str, str] | None = None
) -> list[Comparison]:
    """What two settings reach on the images and seeds that both have; nothing where there are none.

    A measure that one side does not know is left out.

    Args:
        new, old: their rows at a report point.
        ours, theirs: their settings.
        words: what the old and the new one are called; by default their victims.
    """
    i, j = _pairs(new, old)
    if not len(i):
        return []
    image = new.image[i]
    before, after = _of_images(old.best[j], image), _of_images(new.best[i], image)
    change = statistics.paired_median_difference(after, before) if ours.norm == theirs.norm else (np.inf,) * 3
    middle, low, high = (finite(value) for value in change)
    medians = tuple(finite(statistics.median(values)) for values in (before, after))
    called = words or (theirs.victim, ours.victim)
    found = []
    for measure, a, b in zip(COMPARED, (new.seen, new.noisy), (old.seen, old.noisy), strict=True):
        if a is None or b is None:
            continue
        ours_hit, theirs_hit = a[i].astype(float), b[j].astype(float)
        differences = _of_images(ours_hit - theirs_hit, image)
        value, lo, hi = statistics.paired_difference(differences.tolist())
        worse, better = int((differences > 0).sum()), int((differences < 0).sum())
        found.append(
            Comparison(
                ours.attacked, *called, new.budget, measure, len(differences), float(theirs_hit.mean()),
                float(ours_hit.mean()), value, lo, hi, worse, better, statistics.mcnemar(worse, better), middle, low,
                high, old_distance=medians[0], new_distance=medians[1], old_digest=theirs.model_digest,
                new_digest=ours.model_digest,
            )
        )  # fmt: skip
    return found


def at_shared_points(
    new: Sequence[Frame], old: Sequence[Frame], at: Sequence[int] = (), words: tuple[str, str] | None = None
) -> tuple[list[Comparison], list[str]]:
    """Comparisons of two settings at the report points that both have, and what could not be compared.

    Args:
        new, old: the runs of each setting, by ascending budget.
        at: budgets instead of shared report points; needs the runs' events.
        words: see `paired`.
    """
    ours, theirs = new[0].setting, old[0].setting
    stored = {b for f in new for b in f.budgets} & {b for f in old for b in f.budgets}
    reached = min(max(f.budget for f in side) for side in (new, old))
    points = sorted({b for b in at if b <= reached} if at else stored)
    found: list[Comparison] = []
    notes = [f"{ours.label} has no report point in common with {theirs.label}."] if not points else []
    for budget in points:
        sides = [
            cut([f for f in side if (f.budget >= budget if at else budget in f.position)], budget, side[0].setting.eps)
            for side in (new, old)
        ]
        added = paired(sides[0], sides[1], ours, theirs, words)
        if not added:
            notes.append(f"{ours.label} shares no image and seed with {theirs.label} at {budget:,} queries.")
        elif any(side.noisy is None for side in sides):
            notes.append(
                f"{ours.label}: success_noisy at {budget:,} queries is not compared: one side does not know it (it "
                "is no report point there, or the file is of an older protocol, which did not move points out to ε)."
            )
        found += added
    return found, notes


def adjusted(found: Sequence[Comparison]) -> list[Comparison]:
    """The same with p-values adjusted for their number (Holm), and which are regressions."""
    values = statistics.holm([c.p for c in found])
    return [
        replace(c, p_adjusted=p, regression=p < LEVEL and c.worse > c.better)
        for c, p in zip(found, values, strict=True)
    ]


def contrast(old: Setting, new: Setting) -> tuple[str, str, str]:
    """What two settings share in words, and what each is called beside the other."""
    parts = [(labels.parts(setting)) for setting in (old, new)]
    differ = [one != two for one, two in zip(*parts, strict=True)]
    if not any(differ):  # the same setting on other runs
        return old.label, old.attacked, new.attacked
    shared = ", ".join(text for text, apart in zip(parts[0], differ, strict=True) if not apart)
    called = [", ".join(text for text, apart in zip(one, differ, strict=True) if apart) for one in parts]
    return shared, called[0], called[1]


def _pairs(new: Cut, old: Cut) -> tuple[Integers, Integers]:
    """Rows of the same seed and image in both."""
    where = {pair: k for k, pair in enumerate(zip(old.seed.tolist(), old.image.tolist(), strict=True))}
    both = [
        (k, where[pair])
        for k, pair in enumerate(zip(new.seed.tolist(), new.image.tolist(), strict=True))
        if pair in where
    ]
    rows = np.array(both, dtype=np.int64).reshape(-1, 2)
    return rows[:, 0], rows[:, 1]


def _of_images(values: Floats, image: Integers) -> Floats:
    """The mean over the seeds of each image."""
    _, row = np.unique(image, return_inverse=True)
    means: Floats = np.bincount(row, values) / np.bincount(row)
    return means
