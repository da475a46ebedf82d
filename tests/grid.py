"""Digests of a fixed grid of runs, so that two revisions of the code can be compared bit by bit.

``python tests/grid.py > before.json`` on one revision, ``python tests/grid.py before.json`` on the other: every attack
and preset against two defenses, 6 images and 200 queries each, one digest a column of the result file. Both must run on
one machine with the same packages, since other kernels round differently. A few minutes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pyarrow.parquet as pq

from sndcli.runs.results import RENAMED as RENAMED_COLUMNS

DEFENSES = (("--sigma", "0.01"), ("--defense", "rnp"))
SIZE = ("--images", "6", "--budget", "200", "--budgets", "100,200", "--verify", "20")
IDENTITY = {"run_id"}  # a hash of what decides the figures, under names that may change
RENAMED = RENAMED_COLUMNS["schema 1"]  # files of older revisions have the names on the left

Digests = dict[str, dict[str, str]]


def runs(unit: int = 6) -> Iterator[tuple[str, list[str]]]:
    """Name and arguments of each run of the grid."""
    from sndcli.attacks.registry import ATTACKS

    for spec in ATTACKS.values():
        for preset in spec.presets:
            for defense in DEFENSES:
                arguments = ["attack", spec.name, "--preset", preset, *SIZE, *defense, "--unit", str(unit), "-q"]
                yield f"{spec.name} {preset} {' '.join(defense)}", arguments
    for name in ("ba", "hsja"):
        yield f"{name} foolbox", ["attack", name, "--engine", "foolbox", *SIZE, *DEFENSES[0], "--unit", str(unit), "-q"]


def digests(unit: int = 6, only: str = "") -> Digests:
    """Runs the grid, or the runs whose name begins with `only`: run -> column -> digest."""
    found: Digests = {}
    for name, arguments in runs(unit):
        if name.startswith(only):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "run.parquet"
                _snd([*arguments, "--out", str(path)])
                found[name] = _columns(path)
    return found


def differing(before: Digests, after: Digests) -> list[str]:
    """Runs and columns that are in both and not the same; columns that only one has are left out."""
    return [
        f"{run}: {column}"
        for run in before.keys() & after.keys()
        for old, digest in before[run].items()
        if (column := RENAMED.get(old, old)) in after[run] and after[run][column] != digest
    ]


def _snd(arguments: list[str]) -> None:
    from sndcli.__main__ import main

    with mock.patch.object(sys, "argv", ["snd", *arguments]), open(os.devnull, "w") as nowhere:
        try:
            with contextlib.redirect_stdout(nowhere):
                main()
        except SystemExit as end:
            if end.code:
                raise


def _columns(path: Path) -> dict[str, str]:
    table = pq.read_table(path)
    return {
        name: hashlib.sha256(json.dumps(table.column(name).to_pylist()).encode()).hexdigest()[:16]
        for name in table.column_names
        if name not in IDENTITY
    }


if __name__ == "__main__":
    made = digests()
    if len(sys.argv) == 1:
        print(json.dumps(made, indent=0))
    else:
        given: Digests = json.loads(Path(sys.argv[1]).read_text())
        unlike = differing(given, made)
        print(f"{len(given.keys() & made.keys())} runs in both", *unlike, sep="\n")
        sys.exit(bool(unlike))
