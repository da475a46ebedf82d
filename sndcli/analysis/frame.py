"""A result file as arrays: what every figure of a report is computed from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sndcli.analysis.labels import tell_apart
from sndcli.analysis.setting import Setting, setting_of
from sndcli.ball import within
from sndcli.errors import DataError
from sndcli.runs import results
from sndcli.runs.columns import EVENTS, SCHEMA
from sndcli.runs.files import PARTS, begun, parts_of
from sndcli.runs.results import Metadata

NEEDED = {
    "seed", "image_id", "status", "queries", "budgets", "distance_best", "distance_last",
    "distance_submitted", "distance_boundary", "p_adv", "adv_clean", "p_adv_submitted",
    "p_adv_also", "adv_clean_also", "p0", "p_mis_clean", "initially_wrong", "mismatches",
    "blocked", "detected_at",
}  # fmt: skip
READERS = 4

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Events:
    """Improvements of all rows, one after another: row i has those from ``start[i]`` to ``start[i + 1]``.

    Attributes:
        start: ``[n + 1]``.
        query: when; ascending within a row.
        distance: how close; descending within a row.
    """

    start: Integers
    query: Integers
    distance: Floats

    def best(self, budget: int) -> Floats:
        """``[n]``: the closest wrong answer with at most `budget` queries; infinite where there was none."""
        inside = np.concatenate(([0], np.cumsum(self.query <= budget)))
        count = inside[self.start[1:]] - inside[self.start[:-1]]
        found = np.full(len(count), np.inf)
        some = count > 0
        found[some] = self.distance[self.start[:-1][some] + count[some] - 1]
        return found

    def first(self, eps: float) -> Floats:
        """``[n]``: the query of the first wrong answer within `eps`; infinite where there was none."""
        outside = np.concatenate(([0], np.cumsum(~within(self.distance, eps))))
        position = self.start[:-1] + outside[self.start[1:]] - outside[self.start[:-1]]
        found = np.full(len(position), np.inf)
        some = position < self.start[1:]
        found[some] = self.query[position[some]]
        return found


@dataclass(frozen=True)
class Frame:
    """One run: n rows (images × seeds), B report points.

    Attributes:
        run: metadata of the file.
        setting: what tells it from other runs in tables.
        budget: hard limit of paid queries.
        budgets: ``[B]`` report points.
        seed, image: ``[n]``, together unique within a run.
        best, last, submitted: ``[n, B]`` distances, as in the file.
        p_adv, adv_clean: ``[n, B]``, of the points moved out to ε; None in files of protocol 1, adv_clean also without
            a bare model.
        p_adv_submitted: ``[n, B]``, of the points as they were submitted.
        also: p_adv and adv_clean at further ε.
        queries, p0, p_mis_clean, initially_wrong, failed: ``[n]``.
        boundary: ``[n, B]``, None where the run did not measure it.
        mismatches: ``[n]``, NaN where the run did not count them.
        blocked: ``[n]`` queries that a stateful defense detected, NaN likewise.
        detected_at: ``[n]``, the first of them; infinite where there is none.
        events: None where they were not read.
        path: of the file, where there is one.
    """

    run: Metadata
    setting: Setting
    budget: int
    budgets: list[int]
    seed: Integers
    image: Integers
    best: Floats
    last: Floats
    submitted: Floats
    p_adv: Floats | None
    adv_clean: Flags | None
    p_adv_submitted: Floats
    queries: Integers
    p0: Floats
    p_mis_clean: Floats
    initially_wrong: Flags
    failed: Flags
    mismatches: Floats
    blocked: Floats
    detected_at: Floats
    boundary: Floats | None = None
    also: dict[float, tuple[Floats, Flags | None]] = field(default_factory=dict)
    events: Events | None = None
    path: Path | None = None
    position: dict[int, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "position", {budget: k for k, budget in enumerate(self.budgets)})

    def __len__(self) -> int:
        return len(self.image)

    @property
    def unfinished(self) -> str:
        """How far the run is, where it is in progress; else nothing."""
        progress = self.run.get("progress")
        return f"in progress, {progress['images']} of {progress['of']} images" if progress else ""


def frame_of(table: pa.Table, path: Path | None = None) -> Frame:
    """The arrays of one result table.

    Raises:
        DataError: no rows, or rows of different runs.
    """
    where = path or "a result table"
    if not table.num_rows:
        raise DataError(f"{where} has no rows.")
    run = results.run_of(table)
    config = run["config"]
    budgets = _matrix(table, "budgets", where, None)
    if bool((budgets != budgets[0]).any()):
        raise DataError(f"{where} has rows with different report points: it is not one run.")
    b = budgets.shape[1]
    matrix = partial(_matrix, table, where=where, width=b)
    column = partial(_column, table)
    measured = "distance_boundary" in table.column_names and not column("distance_boundary").null_count
    known = {name: not column(name).null_count for name in ("p_adv", "adv_clean")}
    mismatches, blocked = (column(name).cast(pa.float64()).fill_null(np.nan) for name in ("mismatches", "blocked"))
    detected_at = column("detected_at").cast(pa.float64()).fill_null(np.inf)
    return Frame(
        run=run, setting=setting_of(config), budget=config["budget"],
        budgets=[int(x) for x in budgets[0]],
        seed=column("seed").to_numpy(), image=column("image_id").to_numpy(),
        best=matrix("distance_best"), last=matrix("distance_last"), submitted=matrix("distance_submitted"),
        p_adv=matrix("p_adv") if known["p_adv"] else None,
        adv_clean=matrix("adv_clean").astype(bool) if known["adv_clean"] else None,
        p_adv_submitted=matrix("p_adv_submitted"),
        also=_also(table, config, b),
        queries=column("queries").to_numpy(), p0=column("p0").to_numpy(),
        p_mis_clean=column("p_mis_clean").to_numpy(zero_copy_only=False),
        initially_wrong=column("initially_wrong").to_numpy(zero_copy_only=False),
        failed=pc.equal(column("status"), "failed").to_numpy(zero_copy_only=False),
        mismatches=mismatches.to_numpy(zero_copy_only=False), blocked=blocked.to_numpy(zero_copy_only=False),
        detected_at=detected_at.to_numpy(zero_copy_only=False),
        boundary=matrix("distance_boundary") if measured else None,
        events=_events(table) if "event_query" in table.column_names else None, path=path,
    )  # fmt: skip


def _also(table: pa.Table, config: Mapping[str, object], width: int) -> dict[float, tuple[Floats, Flags | None]]:
    """p_adv and adv_clean ``[n, B]`` at each further ε of the run; the latter None without a bare model."""
    told = config.get("eps_also")
    radii = [float(eps) for eps in told] if isinstance(told, Sequence) else []
    flat = {
        name: np.array(_column(table, name).flatten().flatten().to_numpy(zero_copy_only=False)).reshape(
            table.num_rows, len(radii), width
        )
        for name in (("p_adv_also", "adv_clean_also") if radii else ())
        if not _column(table, name).null_count
    }
    wrong = flat.get("adv_clean_also")
    return {
        eps: (flat["p_adv_also"][:, k], None if wrong is None else wrong[:, k].astype(bool))
        for k, eps in enumerate(radii)
    }


def _column(table: pa.Table, name: str) -> pa.Array:
    chunked = table.column(name)
    return chunked.chunk(0) if chunked.num_chunks == 1 else chunked.combine_chunks()


def _matrix(table: pa.Table, name: str, where: object, width: int | None) -> Floats:
    """A column of lists of one length as ``[n, length]``."""
    lists = _column(table, name)
    lengths = np.diff(lists.offsets.to_numpy())
    values = lists.flatten().to_numpy(zero_copy_only=False)
    width = int(lengths[0]) if width is None else width
    if width == 0 or bool((lengths != width).any()):
        raise DataError(f"{where} has rows with different report points: it is not one run.")
    matrix: Floats = values.reshape(len(lists), width)
    return matrix


def _events(table: pa.Table) -> Events:
    queries, distances = _column(table, "event_query"), _column(table, "event_distance")
    start = queries.offsets.to_numpy().astype(np.int64)
    return Events(start - start[0], queries.flatten().to_numpy(), distances.flatten().to_numpy())


def files_of(paths: Sequence[Path]) -> list[Path]:
    """The files among `paths`, a folder standing for the results in it, also of runs in progress.

    Raises:
        DataError: none at all.
    """
    files = [file for path in paths for file in (_results_in(path) if path.is_dir() else [path])]
    if not files:
        raise DataError(f"No result files in {', '.join(map(str, paths))}. `snd attack` writes them.")
    return list(dict.fromkeys(files))


def _results_in(folder: Path) -> list[Path]:
    """Finished or not; a folder of parts is that of one."""
    if folder.suffix == PARTS:
        return [folder.with_suffix(".parquet")]
    parts = {path.with_suffix(".parquet") for path in folder.glob(f"*{PARTS}") if any(path.glob("*.parquet"))}
    return sorted({*folder.glob("*.parquet")} | parts)


def load(paths: Sequence[Path], strict: bool = False, events: bool = False) -> tuple[list[Frame], list[str]]:
    """Frames of all readable files, in their order, told apart, and a line for each that is not readable.

    Args:
        paths: files or folders.
        strict: raise for anything unreadable.
        events: read the improvement events too.

    Raises:
        DataError: nothing readable at all, or, with `strict`, anything unreadable.
    """
    without = [name for name in SCHEMA.names if name not in NEEDED and not (events and name in EVENTS)]

    def one(path: Path) -> Frame | str:
        try:
            unfinished = not path.exists() and parts_of(path).is_dir()
            return frame_of(begun(parts_of(path)) if unfinished else results.read(path, without), path)
        except DataError as error:
            return str(error)

    with ThreadPoolExecutor(READERS) as pool:
        found = list(pool.map(one, files_of(paths)))
    frames = [frame for frame in found if isinstance(frame, Frame)]
    problems = [problem for problem in found if isinstance(problem, str)]
    if problems and (strict or not frames):
        raise DataError("\n".join(problems))
    return named(frames), problems


def named(frames: Iterable[Frame]) -> list[Frame]:
    """The same runs, with what tells them apart in the words of their settings."""
    runs = list(frames)
    found = tell_apart(frame.setting for frame in runs)
    return [replace(frame, setting=found[frame.setting]) for frame in runs]


def grouped(frames: Iterable[Frame]) -> dict[Setting, list[Frame]]:
    """Runs that may be pooled, together; settings in the order of their names, runs by budget."""
    groups: dict[Setting, list[Frame]] = {}
    for frame in sorted(frames, key=lambda f: (_order(f), f.setting.label, f.budget)):
        groups.setdefault(frame.setting.pooled, []).append(frame)
    return groups


def _order(frame: Frame) -> tuple[object, ...]:
    s = frame.setting.pooled
    names = (s.dataset, s.model, s.norm, s.eps, s.attack, s.engine)
    return (*names, s.votes, s.defense, s.sigma, s.beta is not None, s.beta or 0.0)
