"""The files of one run: its result, the parts it is made of while it goes on, and the points beside them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pyarrow as pa

from sndcli.errors import ConfigError, DataError
from sndcli.runs import answers, layout, points, results
from sndcli.runs.config import RunConfig
from sndcli.runs.layout import Layout
from sndcli.runs.lock import alone

PARTS = ".parts"


class RunFiles:
    """Where a config's result and parts are.

    Args:
        out: a folder, or the path of the result file.
        config: of the run; a file of another config is never overwritten.
        save_points: whether the points submitted are kept beside the result.
    """

    def __init__(self, out: Path, config: RunConfig, save_points: bool = False) -> None:
        self.path = out if out.suffix == ".parquet" else _named(out, config)
        self.parts = parts_of(self.path)
        self.config, self.save_points = config, save_points

    def finished(self) -> pa.Table | None:
        """The result where the run has ended; needs no model.

        Raises:
            ConfigError: the file holds another config, or the points that are wanted were not saved.
        """
        if self.path.is_dir():
            raise ConfigError(f"Expected `--out` to be a file or a folder for it, but {self.path} is a folder.")
        if not self.path.is_file():
            return None
        table = results.read(self.path)
        theirs = results.run_of(table)["config"]
        if results.run_of(table)["id"] != self.config.run_id:
            mine = json.loads(json.dumps(self.config.as_dict()))
            keys = [k for k in {**mine, **theirs} if theirs.get(k) != mine.get(k)]
            differing = [f"{k}: {theirs.get(k)} there, {mine.get(k)} here" for k in keys]
            raise ConfigError(
                f"{self.path} holds a run of another config ({'; '.join(differing)}).\n"
                "Choose another --out, or --fresh to replace it."
            )
        self._check_device(table, self.path)
        if self.save_points and not points.path_of(self.path).is_file():
            raise ConfigError(f"{self.path} was finished without --save-points.\n--fresh runs it again.")
        return table

    def _check_device(self, table: pa.Table, path: Path) -> None:
        """Ids of version 0.1 did not tell devices apart, but files do."""
        theirs = results.run_of(table)["config"].get("device", "cpu")
        if theirs != self.config.device:
            raise ConfigError(
                f"{path} was made on {theirs}, and this run is on {self.config.device}.\n"
                "Choose another --out, or --fresh to replace it."
            )

    def discard(self) -> None:
        """Removes the result and all parts."""
        self.path.unlink(missing_ok=True)
        points.path_of(self.path).unlink(missing_ok=True)
        discard_parts(self.parts)

    def alone(self, share: str = "") -> AbstractContextManager[None]:
        """While inside, no other process runs this, or this share of it; the folder of parts is there.

        It goes where it ends empty.

        Raises:
            ConfigError: it cannot be written.
            IncompleteError: another process runs it.
        """
        return alone(self.parts, self.path, share)

    def make_folder(self, warn: Callable[[str], None], tidy: bool = True) -> None:
        """Before any work: the folder can be written, and holds no parts of another config.

        Args:
            warn: told of parts that do not count.
            tidy: remove what was half written; not where others may be writing.

        Raises:
            ConfigError: one of these does not hold.
        """
        try:
            self.parts.mkdir(parents=True, exist_ok=True)
            for part in self.parts.glob("*.tmp") if tidy else ():
                part.unlink()
        except OSError as error:
            raise ConfigError(f"`--out` {self.path.parent} cannot be written: {error.strerror}.") from None
        for part in self.parts.glob("*.parquet"):
            self.rows_of(part, warn)

    def unit(self) -> int | None:
        """Images of a unit in the process that left parts here; None where there are none, or it is not known."""
        for part in sorted(self.parts.glob("*.parquet")):
            try:
                return results.run_of(results.read(part)).get("unit")
            except DataError:
                continue
        return None

    def layout(self) -> Layout | None:
        """The units that the run began with; None where it has not, or nobody can read them any more."""
        try:
            found = layout.read(self.parts)
        except DataError:
            return None
        return found if found is not None and found.run_id == self.config.run_id else None

    def begin(self, units: Layout, alone: bool) -> Layout:
        """Keeps the run's units; the ones that count, which are another share's where it was faster."""
        units.write(self.parts, over=alone)
        return self.layout() or units

    def part(self, unit: str) -> Path:
        """Where the rows of the unit of this name go."""
        return self.parts / f"{unit}.parquet"

    def rows_of(self, part: Path, warn: Callable[[str], None], images: list[int] | None = None) -> pa.Table | None:
        """The rows of a finished unit; None where it has to be run (again).

        Args:
            part: of the unit.
            warn: told why a part that is there does not count.
            images: ids of the unit's images, where a part of others (of a run with another ``--unit``) does not count.

        Raises:
            ConfigError: the part belongs to another config.
        """
        if not part.is_file():
            return None
        try:
            table = results.read(part)
        except DataError as error:
            warn(f"{error} It is run again.")
            return None
        if results.run_of(table)["id"] != self.config.run_id:
            raise ConfigError(f"{self.parts} holds parts of another config.\nChoose another --out, or --fresh.")
        self._check_device(table, part)
        if self.save_points and not points.path_of(part).is_file():
            return None
        if images is not None and table.column("image_id").to_pylist() != images:
            warn(f"{part} was made with another --unit. It is run again.")
            return None
        return table

    def merge(self, parts: list[Path], metadata: Callable[[float], results.Metadata], wall_s: float) -> pa.Table:
        """Makes the result of all parts and removes them.

        Args:
            parts: in the order of the result's rows.
            metadata: of a run of so many seconds.
            wall_s: seconds that this process took; the parts know theirs.
        """
        spent = sum(results.run_of(results.read(part))["wall_s"] for part in parts)
        return join(parts, self.path, metadata(max(spent, wall_s)), self.save_points)


def join(parts: Sequence[Path], path: Path, metadata: results.Metadata, save_points: bool) -> pa.Table:
    """Makes the result of all parts of a run and removes them.

    Args:
        parts: in the order of the result's rows.
        path: of the result.
        metadata: of it.
        save_points: whether there are points beside the parts.
    """
    tables = [results.read(part) for part in parts]
    merged = pa.concat_tables(table.replace_schema_metadata(None) for table in tables)
    if save_points:
        points.merge([points.path_of(part) for part in parts], points.path_of(path))
    merged = results.write_table(path, merged, metadata)
    discard_parts(parts_of(path))  # of other --unit too
    return merged


def discard_parts(parts: Path) -> None:
    """Removes what a run in progress has written."""
    for pattern in ("*.parquet*", "*.safetensors*", f"{layout.FILE}*"):
        for part in parts.glob(pattern) if parts.is_dir() else ():
            part.unlink()


def result_of(parts: Path) -> Path:
    """The result that a folder of parts becomes."""
    return parts.with_suffix(".parquet")


def parts_of(result: Path) -> Path:
    """Where the parts of a result are while its run goes on."""
    return result.with_suffix(PARTS)


def begun(parts: Path) -> pa.Table:
    """The images that are finished of a run in progress; its metadata has the ``progress``.

    Args:
        parts: the folder of its parts.

    Raises:
        DataError: there are none, or they cannot be read or belong to different runs.
    """
    tables = [results.read(part) for part in sorted(parts.glob("*.parquet"))]
    if not tables:
        raise DataError(f"{parts}: in progress, {answers.paid(parts):,} queries paid, no image is finished yet.")
    run = results.run_of(tables[0])
    if any(results.run_of(table)["id"] != run["id"] for table in tables):
        raise DataError(f"{parts} holds parts of several runs.")
    rows = pa.concat_tables(table.replace_schema_metadata(None) for table in tables)
    keys = zip(rows.column("seed").to_pylist(), rows.column("image_id").to_pylist(), strict=True)
    first = {key: k for k, key in reversed([*enumerate(keys)])}  # parts of another --unit may have an image too
    rows = rows.take(sorted(first.values()))
    spent = sum(results.run_of(table).get("wall_s", 0.0) for table in tables)
    planned = run["config"]["images"] * run["config"]["repeats"]
    told: results.Metadata = {**run, "wall_s": spent, "progress": {"images": len(rows), "of": planned}}
    return rows.replace_schema_metadata(results.metadata_of(told))


def _named(folder: Path, config: RunConfig) -> Path:
    """Where a run's result is or would be; where an earlier version called it otherwise, under that name."""
    path = folder / config.file_name
    known = [*folder.glob(f"*_{config.run_id[:8]}.parquet"), *folder.glob(f"*_{config.run_id[:8]}.parts")]
    return path if not known or path.exists() else known[0].with_suffix(".parquet")
