"""Draws clean images above attacked ones, from a folder of ``snd report --save-png``: docs/threat-model.md's picture.

usage: python tools/make_pairs.py FOLDER docs/pairs.png
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.image import imread

SHOWN = 5


def main(folder: Path, picture: Path) -> None:
    """The first images whose rounded picture is called by another name than its true one."""
    with (folder / "index.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["picture_as"] not in ("", row["true"])][:SHOWN]
    figure = Figure(figsize=(2 * len(rows), 4.4), layout="constrained")
    grid = figure.subplots(2, len(rows))
    for column, row in enumerate(rows):
        stem = f"seed{row['seed']}_image{int(row['image_id']):06d}"
        for line, (kind, name) in enumerate((("clean", row["true"]), ("attacked", row["picture_as"]))):
            axes = grid[line][column]
            axes.imshow(imread(folder / f"{stem}_{kind}.png"), interpolation="nearest")
            axes.set_axis_off()
            axes.set_title(name, fontsize=11)
    figure.savefig(picture, dpi=80)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
