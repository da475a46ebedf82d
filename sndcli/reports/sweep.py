"""A σ sweep: accuracy, noise length and success of each setting, differences paired on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from sndcli import statistics


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
        summaries: one for each budget, as in the JSON contract.
        differences: at each budget, of `success_noisy` and `success_seen` from the first setting, with the paired
            95 % bootstrap interval; filled by `pair`.
    """

    label: str
    sigma: float
    beta: float | None
    accuracy: float
    accuracy_std: float
    noise_l2: float
    sigma_hat: float
    summaries: list[dict[str, Any]]
    differences: dict[int, dict[str, dict[str, float]]] = field(default_factory=dict)
    outcomes: dict[int, dict[str, dict[tuple[int, int], bool]]] = field(default_factory=dict, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without the outcomes of single images."""
        return {key: value for key, value in asdict(self).items() if key not in ("outcomes", "summaries")}


def pair(points: Sequence[Point]) -> None:
    """Fills each point's paired differences from the first."""
    for point in points:
        for budget, measures in point.outcomes.items():
            base = points[0].outcomes[budget]
            point.differences[budget] = {}
            for measure_name, mine in measures.items():
                keys = sorted(mine.keys() & base[measure_name].keys())
                values = [float(mine[k]) - float(base[measure_name][k]) for k in keys]
                # a setting does not differ from itself, and that is certain
                value, lo, hi = (0.0, 0.0, 0.0) if point is points[0] else statistics.paired_difference(values)
                point.differences[budget][measure_name] = {"value": value, "lo": lo, "hi": hi}


def recommend(points: Sequence[Point], undefended: float, max_drop: float) -> Point | None:
    """The setting of lowest `success_noisy` at the last budget whose accuracy is within `max_drop` of `undefended`.

    Ties go to the higher accuracy. None where no randomised setting qualifies.
    """
    fit = [p for p in points if p.sigma > 0 and p.accuracy >= undefended - max_drop]
    return min(fit, key=lambda p: (p.summaries[-1]["success_noisy"]["value"], -p.accuracy), default=None)


def recommendation(best: Point | None, undefended: float, max_drop: float) -> str:
    """The recommendation as a sentence."""
    if best is None:
        return f"Recommended: none; every σ loses more than {max_drop:g} points of accuracy."
    row = best.summaries[-1]
    noisy, drop = row["success_noisy"], 100 * (undefended - best.accuracy)
    return (
        f"Recommended: {best.label}: success_noisy {100 * noisy['value']:.1f} % "
        f"[{100 * noisy['lo']:.1f}, {100 * noisy['hi']:.1f}] at {row['budget']:,} queries, "
        f"accuracy lower by {drop:.2f} points. This attack only: an attacker who knows of the noise may do better."
    )


def table(points: Sequence[Point]) -> Table:
    """Accuracy, noise length and paired differences."""
    budget = points[0].summaries[-1]["budget"]
    title = f"cost, and difference from {points[0].label} at Q={budget:,} in points, paired on the same images"
    found = Table(title=title, title_justify="left")
    for column in ("setting", "accuracy %", "E‖noise‖", "σ̂", "Δ seen", "Δ noisy"):
        found.add_column(column, justify="left" if column == "setting" else "right")
    for p in points:
        cells = [f"{100 * p.accuracy:.2f} ± {100 * p.accuracy_std:.2f}", f"{p.noise_l2:.3f}", f"{p.sigma_hat:.3f}"]
        cells += [_difference(p.differences[budget][m]) for m in ("success_seen", "success_noisy")]
        found.add_row(p.label, *cells)
    return found


def _difference(d: dict[str, float]) -> str:
    return f"{100 * d['value']:+.1f} [{100 * d['lo']:+.1f}, {100 * d['hi']:+.1f}]"


def draw(points: Sequence[Point], path: Path, attack: str) -> None:
    """Accuracy against success at each budget, one line a budget."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for k, row in enumerate(points[0].summaries):
        x = [100 * p.summaries[k]["success_noisy"]["value"] for p in points]
        axes.plot(x, [100 * p.accuracy for p in points], "osD^v"[k % 5] + "-", label=f"Q = {row['budget']:,}")
    last = len(points[0].summaries) - 1
    for p in points:
        place = (100 * p.summaries[last]["success_noisy"]["value"], 100 * p.accuracy)
        axes.annotate(p.label, place, textcoords="offset points", xytext=(6, 4), fontsize=8)
    axes.set_xlabel(f"success_noisy of {attack}, %")
    axes.set_ylabel("clean accuracy, %")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
