"""What lies in a folder of results: runs that are finished, and those whose units are done here and there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from sndcli.errors import DataError
from sndcli.runs import answers, layout, points, results
from sndcli.runs.files import PARTS, join, result_of
from sndcli.runs.fingerprint import told_apart
from sndcli.runs.lock import alone, holders
from sndcli.runs.unit import Unit

Warn = Callable[[str], None]


@dataclass(frozen=True)
class Begun:
    """A run that is not finished.

    Attributes:
        path: where its result will be.
        parts: the folder of its parts.
        units: all of them; none, where nobody knows.
        finished: for each of them whether it is.
        paid: queries whose answers are kept of the units that run or were interrupted.
        held_by: share (empty: the whole) -> who is at it now, in words.
    """

    path: Path
    parts: Path
    units: Sequence[Unit]
    finished: Sequence[bool]
    paid: int
    held_by: Mapping[str, str]

    @property
    def missing(self) -> list[int]:
        """Places of the units that are not there, counted from 0."""
        return [place for place, there in enumerate(self.finished) if not there]

    @property
    def images(self) -> tuple[int, int]:
        """Images that are finished, of how many; of all seeds."""
        sizes = [len(unit.index) for unit in self.units]
        done = sum(size for size, there in zip(sizes, self.finished, strict=True) if there)
        return done, sum(sizes)


def begun_in(path: Path) -> list[Begun]:
    """The runs in progress in and under a folder, by name; `path` may be a folder of parts itself.

    Raises:
        DataError: there is no such folder.
    """
    if not path.is_dir():
        raise DataError(f"{path} is no folder.")
    folders = [path] if path.suffix == PARTS else sorted(each for each in path.rglob(f"*{PARTS}") if each.is_dir())
    return [look(folder) for folder in folders]


def look(parts: Path) -> Begun:
    """The run of one folder of parts.

    Raises:
        DataError: what says of its units is damaged.
    """
    found = layout.read(parts)
    units = found.units if found is not None else ()
    there = [(parts / f"{unit.name}.parquet").is_file() for unit in units]
    return Begun(result_of(parts), parts, units, there, answers.paid(parts), holders(parts))


def finished_in(path: Path) -> list[Path]:
    """The result files in and under a folder, by name, but for parts."""
    if path.suffix == PARTS:
        return []
    return sorted(each for each in path.rglob("*.parquet") if each.parent.suffix != PARTS)


def merge(run: Begun, warn: Warn) -> pa.Table:
    """Makes the result of a run of which no unit is missing; its parts are removed.

    Raises:
        DataError: a part is damaged, or of another run or other images.
        IncompleteError: somebody is at it.
    """
    with alone(run.parts, run.path):
        parts = [run.parts / f"{unit.name}.parquet" for unit in run.units]
        tables = [results.read(part) for part in parts]
        told = [results.run_of(table) for table in tables]
        found = layout.read(run.parts)
        for part, table, mine, unit in zip(parts, tables, told, run.units, strict=True):
            if found is None or mine["id"] != found.run_id or table.column("image_id").to_pylist() != [*unit.ids]:
                raise DataError(f"{part} is of another run, or of other images.\nWithout it the run can be finished.")
        if apart := told_apart(fingerprint for mine in told for fingerprint in mine.get("fingerprint", "").split()):
            warn(f"{run.path.name}: {apart}")
        known = sorted({each for mine in told for each in mine.get("fingerprint", "").split()})
        saved = all(points.path_of(part).is_file() for part in parts)
        metadata: results.Metadata = {
            **told[0],
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "wall_s": round(sum(mine.get("wall_s", 0.0) for mine in told), 3),
            "fingerprint": " ".join(known),
        }
        return join(parts, run.path, metadata, saved)
