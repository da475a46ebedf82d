"""What the numbers of a result file must be, checked where it is read, so that no figure is made of others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NotRequired

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from annotated_types import Ge, Gt, Interval
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from sndcli.errors import DataError, wanted

SHARE = (0.0, 1.0, "between 0 and 1")
DISTANCE = (0.0, np.inf, "at least 0")
COUNT = (0.0, np.inf, "at least 0")
ONE = (1.0, np.inf, "at least 1")
RANGES: Mapping[str, tuple[float, float, str]] = {
    "p_adv": SHARE, "p_adv_submitted": SHARE, "p_adv_also": SHARE, "p0": SHARE, "p_mis_clean": SHARE,
    "distance_best": DISTANCE, "distance_last": DISTANCE, "distance_submitted": DISTANCE,
    "distance_boundary": DISTANCE, "event_distance": DISTANCE, "queries": COUNT, "mismatches": COUNT,
    "blocked": COUNT, "detected_at": ONE, "seed": COUNT,
    "image_id": COUNT, "label": COUNT, "budgets": ONE, "event_query": ONE,
    "verify_draws": COUNT, "clean_draws": COUNT, "sigma": DISTANCE, "eps": DISTANCE,
}  # fmt: skip
KEYS = ("seed", "image_id")  # together they say which row it is

Count = Annotated[int, Ge(1)]


@with_config(ConfigDict(allow_inf_nan=False))
class Told(TypedDict):
    """What a file must say of its run; it says more."""

    id: str
    config: Config
    wall_s: NotRequired[Annotated[float, Ge(0)]]


@with_config(ConfigDict(allow_inf_nan=False))
class Config(TypedDict):
    """Of a run, as far as figures are made of it."""

    attack: str
    model: str
    dataset: str
    budget: Count
    eps: Annotated[float, Gt(0)]
    images: NotRequired[Count]
    repeats: NotRequired[Count]
    votes: NotRequired[Count]
    seed: NotRequired[Annotated[int, Interval(ge=0, lt=2**63)]]
    defense: Mapping[str, object]
    eps_also: NotRequired[list[Annotated[float, Gt(0)]]]


METADATA = TypeAdapter(Told)


def check_metadata(path: Path, text: bytes) -> None:
    """Whether a file says of which run it is.

    Raises:
        DataError: it does not, or says what cannot be.
    """
    try:
        METADATA.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the metadata"
        got = "" if first["type"] in ("missing", "json_invalid") else f" but got `{str(first['input'])[:40]}`"
        raise DataError(
            f"{path} does not say of which run it is: expected {place} to be {wanted(error)}{got}. "
            "Its metadata is damaged."
        ) from None


def check_table(path: Path, table: pa.Table) -> None:
    """Whether numbers are in their ranges and each image and seed stands once.

    Raises:
        DataError: names the column, what was expected and what is there.
    """
    parts = _by_status(table)
    for name, (low, high, text) in RANGES.items():
        if name not in table.column_names:
            continue
        for rows, unanswered in parts:
            values = _numbers(rows.column(name))
            fine = (values >= low) & (values <= high)  # which what is not a number is not
            wrong = values[~(fine | (np.isnan(values) & unanswered))]
            if len(wrong):
                raise DataError(f"{path} is damaged: expected `{name}` to be {text} but it has {wrong[0]:g}.")
    if all(name in table.column_names for name in KEYS) and table.num_rows:
        seed, image = (_numbers(table.column(name)) for name in KEYS)
        order = np.lexsort((image, seed))
        twice = (np.diff(seed[order]) == 0) & (np.diff(image[order]) == 0)
        if bool(twice.any()):
            k = order[int(twice.argmax())]
            raise DataError(
                f"{path} is damaged: expected each image and seed once, but image {image[k]} with seed {seed[k]} "
                "stands there again."
            )


def _by_status(table: pa.Table) -> list[tuple[pa.Table, bool]]:
    """The rows that are finished, and those that failed, of which not every figure is known."""
    if "status" not in table.column_names:
        return [(table, False)]
    failed = pc.equal(table.column("status"), "failed")
    return [(table.filter(pc.invert(failed)), False), (table.filter(failed), True)]


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float64] | NDArray[np.int64]:
    """All numbers of a column of numbers or of lists of them, without nulls."""
    flat = column
    while pa.types.is_list(flat.type):
        flat = pa.chunked_array([chunk.flatten() for chunk in flat.chunks], type=flat.type.value_type)
    found: NDArray[np.float64] | NDArray[np.int64] = flat.drop_null().to_numpy()
    return found
