"""Paired comparisons of two result sets for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from sndcli.analysis.baseline import Comparison


def table(comparisons: Sequence[Comparison]) -> Table:
    """For a terminal."""
    found = Table(
        title="against the baseline, paired on the same images", title_justify="left", caption_justify="left",
        caption=f"p: exact McNemar, adjusted by Holm for {len(comparisons)} comparisons",
    )  # fmt: skip
    for column in ("attack", "old", "new", "Q", "measure", "n", "old %", "new %", "Δ points", "worse/better", "p", ""):
        found.add_column(column, justify="left" if column in ("attack", "old", "new", "measure", "") else "right")
    for c in comparisons:
        change = f"{100 * c.difference:+.1f} [{100 * c.lo:+.1f}, {100 * c.hi:+.1f}]"
        found.add_row(
            c.attack, c.old, c.new, f"{c.budget:,}", c.measure.removeprefix("success_"), str(c.n),
            f"{100 * c.old_rate:.1f}", f"{100 * c.new_rate:.1f}", change, f"{c.worse}/{c.better}",
            f"{c.p_adjusted:.2g}", "REGRESSION" if c.regression else "",
        )  # fmt: skip
    return found
