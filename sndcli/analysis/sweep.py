"""A σ sweep: accuracy, noise length and success of each setting, differences paired on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from sndcli.analysis import statistics
from sndcli.analysis.measures import Interval
from sndcli.analysis.summary import Summary

SIGNIFICANT = 0.05


@dataclass
class Point:
    """One noise setting.

    Attributes:
        label: e.g. ``snd 0.01 β=2``.
        sigma: σ.
        beta: a of Beta(a, a), or None.
        accuracy: mean clean accuracy.
        accuracy_std: over draws.
        noise_l2: E‖noise‖₂.
        sigma_hat: σ̂, standard deviation of the margin of the probabilities over draws, mean over the clean images.
        summaries: one for each budget.
        differences: at each budget, of `success_noisy` and `success_seen` from the setting without noise (the first,
            where all have noise), with the paired 95 % bootstrap interval and the p of the exact sign test; filled by
            `pair`.
    """

    label: str
    sigma: float
    beta: float | None
    accuracy: float
    accuracy_std: float
    noise_l2: float
    sigma_hat: float
    summaries: list[Summary]
    differences: dict[int, dict[str, dict[str, float]]] = field(default_factory=dict)
    outcomes: dict[int, dict[str, dict[tuple[int, int], bool]]] = field(default_factory=dict, repr=False)

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON, without the outcomes of single images."""
        hidden = ("outcomes", "summaries")
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in hidden}


@dataclass(frozen=True)
class Advice:
    """What a sweep says.

    Attributes:
        verdict: ``recommended``; ``too_costly``, where every setting that helps loses too much accuracy;
            ``none_helps``; ``undecided``, where no noise-aware attack or no setting without noise was run.
        best: the setting that is recommended.
        text: as a sentence.
    """

    verdict: str
    best: Point | None
    text: str

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return {"verdict": self.verdict, "setting": self.best.label if self.best else None, "text": self.text}


def base_of(points: Sequence[Point]) -> Point:
    """The setting that others are compared with: without noise, or the first where all have noise."""
    return next((point for point in points if point.sigma == 0), points[0])


def pair(points: Sequence[Point]) -> None:
    """Fills each point's paired differences from `base_of`.

    The seeds of an image are no independent trials: their differences are averaged, and the bootstrap is over images.
    """
    base = base_of(points)
    for point in points:
        for budget, measures in point.outcomes.items():
            point.differences[budget] = {}
            for measure_name, mine in measures.items():
                values = _by_image(mine, base.outcomes[budget][measure_name])
                # a setting does not differ from itself, and that is certain
                value, lo, hi = (0.0, 0.0, 0.0) if point is base else statistics.paired_difference(values)
                p = statistics.mcnemar(sum(v > 0 for v in values), sum(v < 0 for v in values))
                point.differences[budget][measure_name] = {"value": value, "lo": lo, "hi": hi, "p": p}


def _by_image(mine: dict[tuple[int, int], bool], base: dict[tuple[int, int], bool]) -> list[float]:
    """For each image the mean over its seeds of the difference."""
    values: dict[int, list[float]] = {}
    for seed, image in sorted(mine.keys() & base.keys()):
        values.setdefault(image, []).append(float(mine[seed, image]) - float(base[seed, image]))
    return [sum(of_image) / len(of_image) for of_image in values.values()]


def advise(points: Sequence[Point], undefended: float, max_drop: float, aware: bool) -> Advice:
    """What follows from a sweep: which setting to take, if any, judged at its last budget.

    A setting helps where its `success_noisy` is below that without noise by more than chance: the paired interval of
    the difference excludes zero, and so does the exact sign test (the bootstrap alone is too sure of few images). That
    a published attack fails says nothing of a defense, so nothing is recommended on its word. Of the settings that
    help and cost at most `max_drop` the one of lowest `success_noisy` is taken; ties go to the higher accuracy.

    Args:
        points: with their differences (`pair`).
        undefended: accuracy without noise.
        max_drop: accuracy that may be lost, a fraction.
        aware: whether the attack knows of the noise.
    """
    budget = points[0].summaries[-1].budget
    noisy = [p for p in points if p.sigma > 0]
    if not aware:
        return Advice(
            "undecided", None,
            "Not decided: published attack only. It fails against noise that an attack that knows of it passes; sweep "
            "hsja-na, popskipjump or a preset `na`.",
        )  # fmt: skip
    if len(noisy) == len(points):
        return Advice("undecided", None, "Not decided: σ = 0 is not among the settings, so there is no comparison.")
    changes = {p.label: p.differences[budget]["success_noisy"] for p in noisy}
    helping = [p for p in noisy if changes[p.label]["hi"] < 0 and changes[p.label]["p"] < SIGNIFICANT]
    if not helping:
        return Advice(
            "none_helps", None,
            f"Recommended: none: no σ tested helps. At {budget:,} queries no setting's success_noisy is below that "
            "without noise beyond chance.",
        )  # fmt: skip
    fit = [p for p in helping if p.accuracy >= undefended - max_drop]
    if not fit:
        return Advice(
            "too_costly", None,
            f"Recommended: none: every σ that helps loses more than {100 * max_drop:g} points of accuracy.",
        )  # fmt: skip
    best = min(fit, key=lambda p: (noisy_rate(p.summaries[-1]).value or 0.0, -p.accuracy))
    row, change = noisy_rate(best.summaries[-1]), best.differences[budget]["success_noisy"]
    return Advice(
        "recommended", best,
        f"Recommended: {best.label}: success_noisy {100 * (row.value or 0.0):.1f} % [{100 * row.lo:.1f}, "
        f"{100 * row.hi:.1f}] at {budget:,} queries, {difference_text(change)} points from no noise; accuracy lower "
        f"by {100 * (undefended - best.accuracy):.2f} points. This attack only, at this budget: more queries or "
        "another attack may do better.",
    )  # fmt: skip


def noisy_rate(row: Summary) -> Interval:
    """`success_noisy` at a report point of a sweep, where it is always known.

    Raises:
        ValueError: it is not.
    """
    found = row.rate("success_noisy")
    if found is None:
        raise ValueError(f"Expected success_noisy at {row.budget} queries to be known.")
    return found


def difference_text(d: dict[str, float]) -> str:
    """``+1.2 [-0.3, +2.7]`` in points."""
    return f"{100 * d['value']:+.1f} [{100 * d['lo']:+.1f}, {100 * d['hi']:+.1f}]"
