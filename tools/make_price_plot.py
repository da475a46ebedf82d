"""Draws predicted against measured prices, from files of ``snd evidence --price … --out``: docs/theory.md's picture.

usage: python tools/make_price_plot.py docs/results/data/theory/prices*.parquet docs/prices.svg
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
from matplotlib.figure import Figure

WRONG_BY = 1.6  # the factor that was asked for


def main(tables: Sequence[Path], picture: Path) -> None:
    """The least price of each defense."""
    found = [row for table in tables for row in pq.read_table(table).to_pylist()]
    rows = [row for row in found if row["quantity"] == "least_price"]
    figure = Figure(figsize=(6, 4.6), layout="constrained")
    axes = figure.subplots()
    line = [1.0, 1.2 * max(max(row["value"], row["theory"]) for row in rows)]
    axes.plot(line, line, color="grey", linewidth=1)
    for factor in (WRONG_BY, 1 / WRONG_BY):
        axes.plot(line, [factor * at for at in line], color="grey", linewidth=0.6, linestyle="--")
    for k, row in enumerate(rows):
        error = (row["std"] or 0.0) / row["n"] ** 0.5
        axes.errorbar(row["theory"], row["value"], yerr=error, marker="o", color=f"C{k % 10}", capsize=2)
        axes.annotate(
            short(row["what"]), (row["theory"], row["value"]), xytext=(5, 4), textcoords="offset points", fontsize=7
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("predicted price")
    axes.set_ylabel("measured price")
    figure.savefig(picture, format=picture.suffix[1:])


def short(words: str) -> str:
    """A defense without its parameters' names.

    Example:
        >>> short("set:models=a|b|c,mean=1")
        'set of 3'
    """
    return f"set of {words.count('|') + 1}" if words.startswith("set:") else words.partition(",temperature")[0]


if __name__ == "__main__":
    *tables, picture = map(Path, sys.argv[1:])
    main(tables, picture)
