"""A sweep over settings of noise as a table and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from sndcli.analysis.sweep import Point, base_of, difference_text, noisy_rate
from sndcli.runs.writing import replacing


def table(points: Sequence[Point]) -> Table:
    """Accuracy, noise length and paired differences."""
    budget = points[0].summaries[-1].budget
    title = f"cost, and difference from {base_of(points).label} at Q={budget:,} in points, paired on the same images"
    found = Table(title=title, title_justify="left")
    for column in ("setting", "accuracy %", "E‖noise‖", "σ̂", "Δ seen", "Δ noisy"):
        found.add_column(column, justify="left" if column == "setting" else "right")
    for p in points:
        cells = [f"{100 * p.accuracy:.2f} ± {100 * p.accuracy_std:.2f}", f"{p.noise_l2:.3f}", f"{p.sigma_hat:.3f}"]
        cells += [difference_text(p.differences[budget][m]) for m in ("success_seen", "success_noisy")]
        found.add_row(p.label, *cells)
    return found


def draw(points: Sequence[Point], path: Path, attack: str) -> None:
    """Accuracy against success at each budget, one line a budget."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for k, row in enumerate(points[0].summaries):
        x = [100 * (noisy_rate(p.summaries[k]).value or 0.0) for p in points]
        axes.plot(x, [100 * p.accuracy for p in points], "osD^v"[k % 5] + "-", label=f"Q = {row.budget:,}")
    last = len(points[0].summaries) - 1
    for p in points:
        place = (100 * (noisy_rate(p.summaries[last]).value or 0.0), 100 * p.accuracy)
        axes.annotate(p.label, place, textcoords="offset points", xytext=(6, 4), fontsize=8)
    axes.set_xlabel(f"success_noisy of {attack}, %")
    axes.set_ylabel("clean accuracy, %")
    axes.grid(alpha=0.3)
    axes.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=150)
