"""The rows of a report in tidy form: one an image, seed, report point and ε, from which any table can be made.

Its columns are in `COLUMNS`, and docs/data.md prints them. What is not known is null, an infinite distance infinite.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sndcli.analysis.cut import Cut, cut, points_of
from sndcli.analysis.frame import Frame, grouped
from sndcli.analysis.statistics import wrong_by_resending
from sndcli.runs.columns import FLAG, LONG, OF_RUN, REAL, TEXT, Column, repeated
from sndcli.runs.writing import replacing

OF_POINT = (
    Column("run_id", TEXT, "of the run the row is from"),
    Column("seed", LONG, "of all randomness of the row"),
    Column("image_id", LONG, "the image's number in its data set"),
    Column("budget", LONG, "Q, the report point"),
    Column("eps", REAL, "ε of the row: the run's, a further one, or that of `--eps`"),
    Column("seen", FLAG, "success_seen is its mean"),
    Column("seen_net", FLAG, "success_seen_net is its mean"),
    Column("noisy", FLAG, "success_noisy is its mean; null: not known here"),
    Column("as_submitted", FLAG, "success_as_submitted is its mean; null: not known here"),
    Column("clean", FLAG, "success_clean is its mean; null: not known here"),
    Column("distance_best", REAL, "of the closest wrong answer; infinite: none"),
    Column("distance_last", REAL, "of the last paid query; null: not stored here"),
    Column("distance_submitted", REAL, "of the point submitted; infinite: none; null: not stored here"),
    Column("distance_verified", REAL, "of the closest point so far that fresh draws confirm; likewise"),
    Column("distance_boundary", REAL, "where the majority flips on its ray; null: not stored or not measured"),
    Column("p_adv", REAL, "share of fresh draws that err on the point moved out to ε; null: not known here"),
    Column("p_adv_submitted", REAL, "the same of the point as it was submitted"),
    Column("p0", REAL, "share of fresh draws that err on the clean image"),
    Column("floor", REAL, "chance that resending it Q times is seen to succeed; the figure is its mean"),
    Column("p_mis_clean", REAL, "share of fresh draws on it whose label is not the undefended one; null: not known"),
    Column("queries", LONG, "paid by Q"),
    Column("mismatches", LONG, "paid queries with another label than the undefended one; null: not counted up to Q"),
    Column("initially_wrong", FLAG, "whether the clean image was answered wrong"),
    Column("failed", FLAG, "whether its attack could not start or broke off"),
)
OWN = {"eps": "run_eps", "budget": "run_budget"}  # columns of a run whose names say something else of a row here
LEFT_OUT = ("eps_also",)
COLUMNS = (
    *OF_POINT,
    *(Column(OWN.get(c.name, c.name), c.type, c.meaning, c.of) for c in OF_RUN if c.name not in LEFT_OUT),
)
SCHEMA = pa.schema([(column.name, column.type) for column in COLUMNS])


def tidy(frames: Sequence[Frame], at: Sequence[int] = (), eps: float | None = None) -> pa.Table:
    """All rows behind the figures of `summary.summarise`, with the same arguments.

    Each image, seed, Q and ε of a setting stands once: of runs that share them the longest speaks.
    """
    points = chain.from_iterable(points_of(members, at, eps) for members in grouped(frames).values())
    tables = [_rows(cut(able, budget, bound), able) for able, budget, bound in points]
    return pa.concat_tables(tables) if tables else SCHEMA.empty_table()


def write(path: Path, table: pa.Table) -> None:
    """Writes under a temporary name, then renames."""
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def _rows(c: Cut, frames: Sequence[Frame]) -> pa.Table:
    n = len(c.image)
    counted = np.isnan(c.mismatches)
    found: dict[str, pa.Array] = {
        "run_id": pa.array([frames[k].run["id"] for k in c.run.tolist()], TEXT),
        "seed": pa.array(c.seed), "image_id": pa.array(c.image), "budget": pa.repeat(c.budget, n),
        "eps": pa.repeat(c.eps, n), "seen": pa.array(c.seen), "seen_net": pa.array(c.seen_net),
        "noisy": _known(c.noisy, n), "as_submitted": _known(c.as_submitted, n), "clean": _known(c.clean, n),
        "distance_best": pa.array(c.best), "distance_last": _known(c.last, n),
        "distance_submitted": _known(c.submitted, n), "distance_verified": _known(c.verified, n),
        "distance_boundary": _known(c.boundary, n), "p_adv": _known(c.p_adv, n),
        "p_adv_submitted": _known(c.p_adv_submitted, n), "p0": pa.array(c.p0),
        "floor": pa.array(wrong_by_resending(c.p0, c.budget, c.votes)),
        "p_mis_clean": pa.array(c.p_mis_clean, from_pandas=True), "queries": pa.array(c.spent),
        "mismatches": pa.array(np.where(counted, 0, c.mismatches).astype(np.int64), mask=counted),
        "initially_wrong": pa.array(c.initially_wrong), "failed": pa.array(c.failed),
    }  # fmt: skip
    of_runs = pa.concat_tables([pa.table(repeated(f.run["config"], 1)) for f in frames]).take(pa.array(c.run))
    found |= {OWN.get(name, name): of_runs.column(name) for name in of_runs.column_names if name not in LEFT_OUT}
    return pa.table([found[name] for name in SCHEMA.names], names=SCHEMA.names).cast(SCHEMA)


def _known(values: NDArray[np.generic] | None, n: int) -> pa.Array:
    return pa.nulls(n) if values is None else pa.array(values)


def markdown() -> str:
    """The columns that say something of a row, as a Markdown table; the others are those of the result file."""
    lines = [f"| `{c.name}` | {c.type} | {c.meaning} |" for c in OF_POINT]
    return "\n".join(["| column | type | meaning |", "| --- | --- | --- |", *lines])
