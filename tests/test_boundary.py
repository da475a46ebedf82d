from __future__ import annotations

import json
import math
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from conftest import SHAPE, HalfSpace, half_space, plain, write_as_schema_1
from torch import Tensor

from sndcli.analysis import frame, summary
from sndcli.defenses.parse import DefenseSpec
from sndcli.errors import DataError
from sndcli.queries.criterion import Misclassified
from sndcli.runs import columns, results
from sndcli.runs.boundary import Wrong, boundary_points, majority_wrong
from sndcli.runs.config import RunConfig

M = 0.1


def rays(w: Tensor, along: list[float], side: float = 0.2) -> tuple[Tensor, Tensor]:
    """Clean images, and points at given components along w and one across it."""
    across = torch.randn(len(w), generator=torch.Generator().manual_seed(9))
    across -= (across @ w) * w
    across /= across.norm()
    z = 0.5 + (torch.tensor(along)[:, None] * w + side * across).view(-1, *SHAPE)
    return torch.full((len(along), *SHAPE), 0.5), z


def majority_of(h: HalfSpace, images: int, draws: int) -> Wrong:
    return majority_wrong(h, Misclassified(torch.zeros(images, dtype=torch.int64)), torch.arange(images), draws)


@pytest.mark.parametrize("sigma", [0.0, 0.01])
def test_boundary_is_where_the_ray_crosses_the_half_space(sigma: float) -> None:
    """From inside and from outside: m/cos ψ, within a bracket of 1/512, or within the noise of 25 votes."""
    h = half_space(1, sigma=sigma)
    x0, z = rays(h.w, [0.3, 0.12, 0.07, 0.01])
    wrong = majority_of(h, 4, 25 if sigma else 1)
    points, flips = boundary_points(wrong, x0, z)
    assert bool(flips.all())
    component = (points - 0.5).flatten(1) @ h.w
    assert component.tolist() == pytest.approx([M] * 4, rel=0.35 if sigma else 0.02)
    direction = (points - 0.5).flatten(1)
    torch.testing.assert_close(
        direction / direction.norm(dim=1, keepdim=True),
        (z - 0.5).flatten(1) / (z - 0.5).flatten(1).norm(dim=1, keepdim=True),
        atol=1e-5, rtol=0,
    )  # fmt: skip


def test_no_boundary_where_nothing_flips() -> None:
    h = half_space(1)
    x0, z = rays(h.w, [-0.1, 0.0])
    z[1] = x0[1]  # no ray at all
    _, flips = boundary_points(majority_of(h, 2, 1), x0, z)
    assert flips.tolist() == [False, False]


INF = float("inf")
HELD = [[2.0, 1.0], [4.0, 3.0], [INF, INF]]
CONFIRMED = [[0.9, 0.1], [0.0, 1.0], [0.0, 0.0]]
BORDERS = [[1.5, 3.0], [4.0, 3.0], [INF, INF]]


def run_of(
    held: list[list[float]], p_adv: list[list[float]], border: list[list[float]] | None, first: int = 0
) -> pa.Table:
    """A result table of images with these figures at 10 and 20 queries, and no wrong answer seen."""
    config = RunConfig("hsja", "d", "", "", "m", "", DefenseSpec("snd", 0.01), budget=20, budgets=(10,)).as_dict()
    rows = [
        columns.of_config(config)
        | {"run_id": "x", "seed": 0, "image_id": first + k, "status": "ok",
         "queries": 20, "budgets": [10, 20], "distance_best": [INF, INF], "distance_last": [0.5, 0.5],
         "distance_submitted": held[k], "p_adv": p_adv[k], "adv_clean": [False, False], "p_adv_submitted": p_adv[k],
         "adv_clean_submitted": [False, False], "distance_boundary": None if border is None else border[k],
         "p0": 0.0, "p_mis_clean": 0.0, "initially_wrong": False, "event_query": [], "event_distance": []}
        for k in range(len(held))
    ]  # fmt: skip
    metadata = {b"schema_version": b"2", b"run": json.dumps({"id": "x", "config": config}).encode()}
    return pa.Table.from_pylist(rows, schema=columns.SCHEMA).replace_schema_metadata(metadata)


def test_distances_count_failures_as_infinite() -> None:
    early, late = summary.summarise([run_of(HELD, CONFIRMED, BORDERS)])
    names = ("distance_submitted", "distance_verified", "distance_boundary", "boundary_measured")
    assert [plain([late])[0][name] for name in names] == [3.0, 3.0, 3.0, True]
    # the first image's point at 10 was confirmed, the closer one at 20 was not
    assert early.number("distance_verified") == math.inf
    assert plain([early])[0]["distance_verified"] is None
    assert early.text("distance_verified") == "∞"
    (_, alone) = summary.summarise([run_of(HELD[:1], CONFIRMED[:1], None)])
    assert [plain([alone])[0][name] for name in names] == [1.0, 2.0, None, False]
    assert alone.text("distance_boundary") == "–"


def test_distances_where_nothing_is_stored_are_unknown_not_infinite() -> None:
    (row,) = summary.summarise([run_of(HELD, CONFIRMED, BORDERS)], at=[15])
    names = ("distance_best", "distance_submitted", "distance_verified", "distance_boundary")
    assert [row.text(name) for name in names] == ["∞", "–", "–", "–"]


def test_pooled_runs_need_a_boundary_each() -> None:
    one, two = run_of(HELD[:1], CONFIRMED[:1], BORDERS[:1]), run_of(HELD[1:], CONFIRMED[1:], BORDERS[1:], first=1)
    (_, late) = summary.summarise([one, two])
    assert (late.n, late.number("distance_boundary")) == (3, 3.0)
    (_, late) = summary.summarise([one, run_of(HELD[1:], CONFIRMED[1:], None, first=1)])
    assert (late.number("distance_verified"), late.number("distance_boundary")) == (3.0, None)
    assert not late.boundary_measured


def test_files_without_the_column_are_still_read(tmp_path: Path) -> None:
    new = run_of(HELD, CONFIRMED, BORDERS)
    write_as_schema_1(tmp_path / "old.parquet", new, ["distance_boundary"])
    table = results.read(tmp_path / "old.parquet")
    assert table.column_names == columns.SCHEMA.names
    assert table.column("distance_boundary").null_count == 3
    (read,), problems = frame.load([tmp_path / "old.parquet"], strict=True)
    assert read.boundary is None
    assert problems == []
    write_as_schema_1(tmp_path / "less.parquet", new, ["p_adv"])
    with pytest.raises(DataError, match="lacks columns: p_adv"):
        results.read(tmp_path / "less.parquet")
