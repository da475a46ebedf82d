"""Result files: Parquet, versioned, written whole or not at all. Its columns are in `columns`.

Files of schema 1 are read too: this is the one place that knows their names, after it there are only the present ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sndcli.ball import within
from sndcli.errors import DataError, first_line
from sndcli.runs.checks import check_metadata, check_table
from sndcli.runs.columns import OF_RUN, SCHEMA, repeated
from sndcli.runs.success import confirmed, fools_bare
from sndcli.runs.writing import replacing

SCHEMA_VERSION = 2
READABLE = (1, SCHEMA_VERSION)

# Columns of older files, by what wrote them, and their present names. Protocol 1 verified points as they were
# submitted, under the names that now mean the points moved out.
RENAMED = {
    "schema 1": {
        "best_l2": "distance_best", "last_l2": "distance_last", "held_l2": "distance_submitted",
        "border_l2": "distance_boundary", "event_l2": "event_distance",
    },
    "protocol 1": {"p_adv": "p_adv_submitted", "adv_clean": "adv_clean_submitted"},
}  # fmt: skip
LATER = ("distance_boundary", "p_adv_also", "adv_clean_also")  # not in the first files of schema 1
ADDED = ("device", "target", "stop", "image_ids")  # not in the first files of schema 2, but told by their metadata
# Not in files from before there were targeted runs and stateful defenses, and null for them.
UNTOLD = ("target_label", "start_image", "blocked", "detected_at")
DERIVED = ("seen", "noisy", "as_submitted", "clean")


class Progress(TypedDict):
    """How many images of a run are finished: of ``of``, all seeds together."""

    images: int
    of: int


class Metadata(TypedDict):
    """What a file says of its run; older ones lack some of it.

    Attributes:
        id: of the run.
        config: `RunConfig.as_dict`.
        protocol: its number.
        made: when, UTC.
        command: as it was typed.
        commit: of the package, where it was run from a checkout.
        versions: of packages, and the device.
        streams: what shares a stream of draws, ``image`` or ``unit``.
        unit: images that shared a batch.
        fingerprint: of the arithmetic it was computed with; several where parts differ.
        wall_s: seconds.
        scales: how far the attack's probes and searches reach at ε, for comparison with the noise.
        passes_differ: whether two passes on one image differed; None without a random defense.
        rounding: `Rounding.as_dict`: how much noise rounding alone makes.
        answers_to_choose: unpaid answers whose majority chose the images, where there is no bare model to ask once.
        progress: of a run that is not finished, where its parts are read; never in a file.
        sent: requests, retries and failures of a remote model, by the process that wrote the file.
    """

    id: str
    config: dict[str, Any]
    protocol: NotRequired[int]
    made: NotRequired[str]
    command: NotRequired[str]
    commit: NotRequired[str | None]
    versions: NotRequired[dict[str, str]]
    streams: NotRequired[str]
    unit: NotRequired[int]
    fingerprint: NotRequired[str]
    wall_s: NotRequired[float]
    scales: NotRequired[dict[str, float | None]]
    passes_differ: NotRequired[bool | None]
    rounding: NotRequired[dict[str, float | None]]
    answers_to_choose: NotRequired[int]
    progress: NotRequired[Progress]
    sent: NotRequired[dict[str, int | float]]


def write_table(path: Path, table: pa.Table, run: Metadata) -> pa.Table:
    """Writes under a temporary name, then renames: a reader never sees half a file. Returns what was written."""
    table = table.replace_schema_metadata(metadata_of(run))
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    return table


def metadata_of(run: Metadata) -> dict[bytes, bytes]:
    """The metadata of a table's schema that says of which run it is."""
    return {b"schema_version": str(SCHEMA_VERSION).encode(), b"run": json.dumps(run).encode()}


def read(path: Path, without: Sequence[str] = ()) -> pa.Table:
    """One result file, with the columns of the present schema in its order.

    Args:
        path: of the file.
        without: columns that are not needed.

    Raises:
        DataError: missing, truncated, not written by this program, or of another schema version.
    """
    try:
        with pq.ParquetFile(path) as file:
            present = _checked(path, file.schema_arrow)
            kept = [name for name, now in present.items() if now not in without]
            table = file.read(kept, use_threads=False)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file: {first_line(error)}") from None
    if table.schema.metadata[b"schema_version"] == b"1":
        table = _upgraded(table, [present[name] for name in kept], without)
    else:
        added = [name for name in ADDED if name not in table.column_names and name not in without]
        for name, values in repeated(run_of(table)["config"], len(table), added).items():
            table = table.append_column(name, values)
        for name in (each for each in UNTOLD if each not in table.column_names and each not in without):
            table = table.append_column(SCHEMA.field(name), pa.nulls(len(table), SCHEMA.field(name).type))
    check_table(path, table)
    return table.select([name for name in SCHEMA.names if name not in without])


def run_of(table: pa.Table) -> Metadata:
    """The metadata of a result file; the config of one that was made elsewhere than on the CPU always says so."""
    run: Metadata = json.loads(table.schema.metadata[b"run"])
    device = run.get("versions", {}).get("device", "cpu").split()[0]
    if device != "cpu":
        run["config"].setdefault("device", device)
    return run


def _checked(path: Path, schema: pa.Schema) -> dict[str, str]:
    """The columns of a file that we know, each with its present name."""
    metadata = schema.metadata or {}
    version = metadata.get(b"schema_version")
    if version is None or b"run" not in metadata:
        raise DataError(f"{path} was not written by snd: it has no schema version.")
    if version not in [str(known).encode() for known in READABLE]:
        theirs, ours = version.decode(errors="replace"), " and ".join(map(str, READABLE))
        raise DataError(f"{path} has schema version {theirs}, this program reads {ours}.")
    old, lacking = {}, set[str]()
    if version == b"1":
        old, lacking = RENAMED["schema 1"], {*LATER, *UNTOLD, *DERIVED, *(column.name for column in OF_RUN)}
        if "p_adv_submitted" not in schema.names:
            old, lacking = old | RENAMED["protocol 1"], lacking | RENAMED["protocol 1"].keys()
    present = {name: now for name in schema.names if (now := old.get(name, name)) in SCHEMA.names}
    missing = {*SCHEMA.names} - lacking - {*ADDED, *UNTOLD} - {*present.values()}
    if missing:
        raise DataError(f"{path} lacks columns: {', '.join(sorted(missing))}.")
    wrong = [name for name, now in present.items() if schema.field(name).type != SCHEMA.field(now).type]
    if wrong:
        raise DataError(f"{path} has columns of another type: {', '.join(wrong)}.")
    check_metadata(path, metadata[b"run"])
    return present


def _upgraded(table: pa.Table, names: Sequence[str], without: Sequence[str]) -> pa.Table:
    """A table of schema 1 under the present `names` of its columns, with what it lacks but for `without`."""
    run = run_of(table)
    columns = dict(zip(names, table.columns, strict=True))
    wanted = [name for name in SCHEMA.names if name not in without]
    columns |= repeated(run["config"], len(table), [name for name in wanted if name not in columns])
    for name in (name for name in wanted if name not in columns and name not in DERIVED):
        columns[name] = pa.chunked_array([pa.nulls(len(table), SCHEMA.field(name).type)])
    if {*DERIVED} & {*wanted}:
        columns |= _derived(columns, run["config"]["eps"])
    made = pa.table({name: columns[name] for name in wanted}, schema=pa.schema([SCHEMA.field(name) for name in wanted]))
    return made.replace_schema_metadata(table.schema.metadata)


def _derived(columns: Mapping[str, pa.ChunkedArray], eps: float) -> dict[str, pa.Array]:
    """The successes at each report point, from distances and verified shares; null where these are."""

    def of(rule: Callable[..., Any], *names: str) -> pa.Array:
        lists = [columns[name].combine_chunks() for name in names]
        if any(one.null_count for one in lists):
            return pa.nulls(len(lists[0]), pa.list_(pa.bool_()))
        values = [np.asarray(one.flatten().to_numpy(zero_copy_only=False)) for one in lists]
        offsets = lists[0].offsets.to_numpy()
        return pa.ListArray.from_arrays(offsets - offsets[0], rule(*values))

    return {
        "seen": of(lambda best: within(best, eps), "distance_best"),
        "noisy": of(lambda d, p: confirmed(d, eps, p), "distance_submitted", "p_adv"),
        "as_submitted": of(lambda d, p: confirmed(d, eps, p), "distance_submitted", "p_adv_submitted"),
        "clean": of(lambda d, wrong: fools_bare(d, eps, wrong.astype(bool)), "distance_submitted", "adv_clean"),
    }
