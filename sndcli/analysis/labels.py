"""Settings in words: one text for tables, plots, gates and comparisons."""

from __future__ import annotations

from typing import Any


def defense_label(row: dict[str, Any]) -> str:
    """``snd 0.01``, ``snd 0.01 β=2``, ``none``; votes are added where there are any."""
    label = str(row["defense"])
    if row["sigma"] or "snd" in label.split("+"):
        label += f" {row['sigma']:g}"
    if row["beta"] is not None:
        label += f" β={row['beta']:g}"
    if row["votes"] > 1:
        label += f", T={row['votes']}"
    return label
