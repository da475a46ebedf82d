"""A ladder as tables."""

from __future__ import annotations

from rich.table import Table

from sndcli.analysis.ladder import Ladder
from sndcli.analysis.measures import THREE


def table(found: Ladder) -> list[Table]:
    """One table a budget."""
    tables = []
    ours = {rung.name: rung.ours for rung in found.rungs}
    for at in found.at:
        made = Table(
            title=f"ladder at Q={at.budget:,} paid queries", title_justify="left", caption_justify="left",
            caption="success in % [95 % Wilson]; alone: images that only this rung breaks (noisy); worst: any rung, per"
            " image, after the fact; * ours, not a published attack",
        )  # fmt: skip
        for column in ("rung", "seen", "noisy", "clean", "alone", "paid, mean"):
            made.add_column(column, justify="left" if column == "rung" else "right")
        for reached in at.rungs:
            name = reached.rung + (" *" if ours[reached.rung] else "")
            cells = [reached.successes[key].text() for key in THREE]
            made.add_row(name, *cells, str(reached.alone), f"{reached.paid:.0f}")
        made.add_section()
        made.add_row("worst", *(at.worst[key].text() for key in THREE), "", "")
        tables.append(made)
    return tables
