"""A ladder as tables."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from sndcli.analysis.ladder import SUCCESSES
from sndcli.reports.tables import rate_cell


def table(found: dict[str, Any]) -> list[Table]:
    """One table a budget."""
    tables = []
    ours = {rung["rung"]: rung["ours"] for rung in found["rungs"]}
    for at in found["at"]:
        made = Table(
            title=f"ladder at Q={at['budget']:,} paid queries", title_justify="left", caption_justify="left",
            caption="success in % [95 % Wilson]; alone: images that only this rung breaks (noisy); worst: any rung, per"
            " image, after the fact; * ours, not a published attack",
        )  # fmt: skip
        for column in ("rung", "seen", "noisy", "clean", "alone", "paid, mean"):
            made.add_column(column, justify="left" if column == "rung" else "right")
        for rung in at["rungs"]:
            name = rung["rung"] + (" *" if ours[rung["rung"]] else "")
            made.add_row(name, *(rate_cell(rung[s]) for s in SUCCESSES), str(rung["alone"]), f"{rung['paid']:.0f}")
        made.add_section()
        made.add_row("worst", *(rate_cell(at["worst"][s]) for s in SUCCESSES), "", "")
        tables.append(made)
    return tables
