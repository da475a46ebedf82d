"""The Parquet schema, versioned: one file a run, one row per image and seed.

Distances are in the run's norm, on the [0, 1] pixel scale. Lists run along the report points in `budgets`.
Columns may be added within a schema version: a file that lacks one of `ADDED` is read with nulls in it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sndcli.errors import DataError, first_line
from sndcli.runs.writing import replacing

SCHEMA_VERSION = 1

HALF = 0.5  # a verified success: at least this share of fresh draws errs
SCHEMA = pa.schema(
    [
        ("run_id", pa.string()),
        ("attack", pa.string()),
        ("engine", pa.string()),
        ("dataset", pa.string()),
        ("model", pa.string()),
        ("defense", pa.string()),
        ("sigma", pa.float64()),
        ("beta", pa.float64()),
        ("votes", pa.int32()),
        ("norm", pa.string()),
        ("eps", pa.float64()),
        ("seed", pa.int64()),
        ("image_id", pa.int64()),
        ("label", pa.int32()),
        ("status", pa.string()),  # ok | failed
        ("stop_reason", pa.string()),
        ("queries", pa.int64()),
        ("queries_by_phase", pa.map_(pa.string(), pa.int64())),
        ("budgets", pa.list_(pa.int64())),
        ("best_l2", pa.list_(pa.float64())),  # closest wrong answer so far; infinite where none
        ("last_l2", pa.list_(pa.float64())),  # last paid query
        ("held_l2", pa.list_(pa.float64())),  # the point submitted; infinite where there is none
        ("p_adv", pa.list_(pa.float64())),  # share of fresh draws that misclassify that point, moved out to ε
        ("adv_clean", pa.list_(pa.bool_())),  # whether the undefended model misclassifies the moved point
        ("p_adv_submitted", pa.list_(pa.float64())),  # as p_adv, of the point as it was submitted
        ("adv_clean_submitted", pa.list_(pa.bool_())),
        ("eps_also", pa.list_(pa.float64())),  # further ε at which points were verified; lists by ε, then by budget
        ("p_adv_also", pa.list_(pa.list_(pa.float64()))),
        ("adv_clean_also", pa.list_(pa.list_(pa.bool_()))),
        ("border_l2", pa.list_(pa.float64())),  # where the majority flips on its ray; null unless it was measured
        ("verify_draws", pa.int32()),
        ("p0", pa.float64()),  # share of fresh draws that misclassify the clean image
        ("p_mis_clean", pa.float64()),  # share of fresh draws whose label is not the undefended one
        ("clean_draws", pa.int32()),
        ("initially_wrong", pa.bool_()),
        ("mismatches", pa.int64()),  # null unless the run counted them
        ("event_query", pa.list_(pa.int64())),
        ("event_l2", pa.list_(pa.float64())),
    ]
)

# Since the first files of this schema version.
ADDED = ("border_l2", "p_adv_submitted", "adv_clean_submitted", "eps_also", "p_adv_also", "adv_clean_also")
# Protocol 1 verified points as they were submitted, under the names that now mean the moved ones.
AS_SUBMITTED = {"p_adv": "p_adv_submitted", "adv_clean": "adv_clean_submitted"}


def write(path: Path, rows: Sequence[dict[str, Any]], run: dict[str, Any]) -> None:
    """Writes rows and the run's metadata, as `write_table` does."""
    write_table(path, pa.Table.from_pylist(list(rows), schema=SCHEMA), run)


def write_table(path: Path, table: pa.Table, run: dict[str, Any]) -> pa.Table:
    """Writes under a temporary name, then renames: a reader never sees half a file. Returns what was written."""
    metadata = {b"schema_version": str(SCHEMA_VERSION).encode(), b"run": json.dumps(run).encode()}
    table = table.replace_schema_metadata(metadata)
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    return table


EVENTS = ("event_query", "event_l2")  # most of a file's bytes


def read(path: Path, without: Sequence[str] = ()) -> pa.Table:
    """One result file.

    Args:
        path: of the file.
        without: columns that are not needed.

    Raises:
        DataError: missing, truncated, not written by this program, or of another schema version.
    """
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            _check(path, schema)
            table = file.read([name for name in schema.names if name not in without], use_threads=False)
            table = _with_added(table, without)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file: {first_line(error)}") from None
    return table


def _check(path: Path, schema: pa.Schema) -> None:
    metadata = schema.metadata or {}
    version = metadata.get(b"schema_version")
    if version is None or b"run" not in metadata:
        raise DataError(f"{path} was not written by snd: it has no schema version.")
    if version != str(SCHEMA_VERSION).encode():
        theirs = version.decode(errors="replace")
        raise DataError(f"{path} has schema version {theirs}, this program reads {SCHEMA_VERSION}.")
    missing = set(SCHEMA.names) - set(schema.names) - set(ADDED)
    if missing:
        raise DataError(f"{path} lacks columns: {', '.join(sorted(missing))}.")
    present = [name for name in SCHEMA.names if name in schema.names]
    wrong = [name for name in present if schema.field(name).type != SCHEMA.field(name).type]
    if wrong:
        raise DataError(f"{path} has columns of another type: {', '.join(wrong)}.")
    try:
        json.loads(metadata[b"run"])["config"]["budget"]
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{path} does not say of which run it is: its metadata is damaged.") from None


def _with_added(table: pa.Table, without: Sequence[str]) -> pa.Table:
    """Fills in what an older file lacks, so that all tables have the columns of the schema, in its order."""
    if "p_adv" in table.column_names and "p_adv_submitted" not in table.column_names:
        renamed = table.rename_columns([AS_SUBMITTED.get(name, name) for name in table.column_names])
        table = renamed.replace_schema_metadata(table.schema.metadata)  # which renaming drops
    for name in {*ADDED, *AS_SUBMITTED} - set(table.column_names) - set(without):
        table = table.append_column(SCHEMA.field(name), pa.nulls(len(table), SCHEMA.field(name).type))
    ours = [name for name in SCHEMA.names if name in table.column_names]
    return table.select([*ours, *(name for name in table.column_names if name not in SCHEMA.names)])


def run_of(table: pa.Table) -> dict[str, Any]:
    """The metadata of a result file: id, config, versions, wall time."""
    run: dict[str, Any] = json.loads(table.schema.metadata[b"run"])
    return run
