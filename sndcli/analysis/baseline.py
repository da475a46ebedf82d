"""Two result sets on the same images: what got better or worse, with exact paired tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from sndcli.analysis import statistics
from sndcli.analysis.cut import Cut, cut
from sndcli.analysis.frame import Floats, Frame, Integers, grouped
from sndcli.analysis.statistics import finite
from sndcli.errors import DataError

LEVEL = 0.05  # of the family of all comparisons
COMPARED = ("success_seen", "success_noisy")
FREE = ("model", "defense", "sigma", "beta")  # what a comparison may be about
FIXED = ("attack", "engine", "dataset", "votes", "norm", "eps")


@dataclass(frozen=True)
class Comparison:
    """One measure of one setting at one report point, old against new.

    Attributes:
        old, new: settings in words.
        attack, budget, measure: what is compared.
        n: images on both sides; several seeds of an image are one.
        old_rate, new_rate: over the paired rows.
        difference, lo, hi: new minus old and its 95 % interval.
        worse, better: images on which the attack succeeds more often, or less often, than before.
        p: exact McNemar (with several seeds: the sign test over images).
        p_adjusted: for the number of comparisons, Holm.
        regression: significantly higher success.
        median, median_lo, median_hi: difference of the median closest distance; None where it is infinite.
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

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return asdict(self)

    def line(self) -> str:
        """In one line."""
        return (
            f"regression: {self.attack} against {self.new}, Q={self.budget:,}: {self.measure} "
            f"{100 * self.old_rate:.1f} → {100 * self.new_rate:.1f} % on {self.n} images "
            f"({self.worse} worse, {self.better} better, p = {self.p_adjusted:.2g})"
        )


def compare(new: Sequence[Frame], old: Sequence[Frame]) -> tuple[list[Comparison], list[str]]:
    """All comparisons that two result sets allow, and a line for each setting that has no counterpart.

    Settings are matched by attack, data, bound, model and defense. Where both sets have a single model, or a single
    defense, that may differ: it is then what is compared.

    Raises:
        DataError: nothing can be compared.
    """
    loose = [
        keys for keys in (FREE[:1], FREE[1:]) if all(len({_values(f, keys) for f in side}) == 1 for side in (new, old))
    ]
    strict = [key for key in FREE if not any(key in keys for keys in loose)]
    ours, theirs = (_by_key(side, strict) for side in (new, old))
    found: list[Comparison] = []
    notes = [f"{_words(f[0])} is only in the new results." for k, f in ours.items() if k not in theirs]
    notes += [f"{_words(f[0])} is only in the baseline." for k, f in theirs.items() if k not in ours]
    for key in ours.keys() & theirs.keys():
        shared = {b for f in ours[key] for b in f.budgets} & {b for f in theirs[key] for b in f.budgets}
        if not shared:
            notes.append(f"{_words(ours[key][0])} has no report point in common with the baseline.")
        for budget in shared:
            pair = [cut([f for f in side[key] if budget in f.position], budget, side[key][0].setting.eps)
                    for side in (ours, theirs)]  # fmt: skip
            added = _compare(pair[0], pair[1], ours[key][0], theirs[key][0])
            if not added:
                notes.append(
                    f"{_words(ours[key][0])} shares no image and seed with the baseline at {budget:,} queries."
                )
            if added and any(c.noisy is None for c in pair):
                notes.append(
                    f"{_words(ours[key][0])}: success_noisy at {budget:,} queries is not compared: one side is of an "
                    "older protocol, which did not move points out to ε."
                )
            found += added
    if not found:
        raise DataError("\n".join(["Nothing in the results can be compared with the baseline.", *notes]))
    found.sort(key=lambda c: (c.attack, c.new, c.budget, c.measure))
    adjusted = statistics.holm([c.p for c in found])
    return [
        replace(c, p_adjusted=p, regression=p < LEVEL and c.worse > c.better)
        for c, p in zip(found, adjusted, strict=True)
    ], sorted(notes)


def _by_key(side: Sequence[Frame], strict: Sequence[str]) -> dict[str, list[Frame]]:
    found: dict[str, list[Frame]] = {}
    for frames in grouped(side).values():
        f, config = frames[0], frames[0].run["config"]
        key = repr((
            _values(f, FIXED), _values(f, strict), config.get("preset"), config.get("settings"), config.get("quantize"),
            config["dataset_digest"],
        ))  # fmt: skip
        if key in found:
            raise DataError(
                f"{_words(f)} is there twice, in runs that differ in something else: {f.path} and {found[key][0].path}."
                "\nCompare them one at a time, or choose with --where."
            )
        found[key] = frames
    return found


def _values(frame: Frame, keys: Sequence[str]) -> tuple[object, ...]:
    return tuple(getattr(frame.setting, key) for key in keys)


def _words(frame: Frame) -> str:
    return f"{frame.setting.attack} against {_victim(frame)}"


def _victim(frame: Frame) -> str:
    return f"{frame.setting.defended} on {frame.setting.model}"


def _compare(new: Cut, old: Cut, ours: Frame, theirs: Frame) -> list[Comparison]:
    i, j = _pairs(new, old)
    if not len(i):
        return []
    image = new.image[i]
    median = statistics.paired_median_difference(_of_images(new.best[i], image), _of_images(old.best[j], image))
    middle, low, high = (finite(value) for value in median)
    found = []
    for measure, a, b in zip(COMPARED, (new.seen, new.noisy), (old.seen, old.noisy), strict=True):
        if a is None or b is None:
            continue
        ours_hit, theirs_hit = a[i].astype(float), b[j].astype(float)
        change = _of_images(ours_hit - theirs_hit, image)
        value, lo, hi = statistics.paired_difference(change.tolist())
        worse, better = int((change > 0).sum()), int((change < 0).sum())
        found.append(
            Comparison(
                ours.setting.attack, _victim(theirs), _victim(ours), new.budget, measure, len(change),
                float(theirs_hit.mean()), float(ours_hit.mean()), value, lo, hi, worse, better,
                statistics.mcnemar(worse, better), middle, low, high,
            )
        )  # fmt: skip
    return found


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
