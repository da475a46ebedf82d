from __future__ import annotations

import pytest
import torch
from conftest import SHAPE, half_space
from torch import Tensor

from sndcli import results
from sndcli.border import border_points, majority_wrong
from sndcli.reports.distances import distances

M = 0.1


def rays(w: Tensor, along: list[float], side: float = 0.2) -> tuple[Tensor, Tensor]:
    """Clean images, and points at given components along w and one across it."""
    across = torch.randn(len(w), generator=torch.Generator().manual_seed(9))
    across -= (across @ w) * w
    across /= across.norm()
    z = 0.5 + (torch.tensor(along)[:, None] * w + side * across).view(-1, *SHAPE)
    return torch.full((len(along), *SHAPE), 0.5), z


@pytest.mark.parametrize("sigma", [0.0, 0.01])
def test_border_is_where_the_ray_crosses_the_half_space(sigma: float) -> None:
    """From inside and from outside: m/cos ψ, within a bracket of 1/512, or within the noise of 25 votes."""
    h = half_space(1, sigma=sigma)
    x0, z = rays(h.w, [0.3, 0.12, 0.07, 0.01])
    wrong = majority_wrong(h, torch.zeros(4, dtype=torch.int64), 25 if sigma else 1)
    points, flips = border_points(wrong, x0, z)
    assert bool(flips.all())
    component = (points - 0.5).flatten(1) @ h.w
    assert component.tolist() == pytest.approx([M] * 4, rel=0.35 if sigma else 0.02)
    direction = (points - 0.5).flatten(1)
    torch.testing.assert_close(
        direction / direction.norm(dim=1, keepdim=True),
        (z - 0.5).flatten(1) / (z - 0.5).flatten(1).norm(dim=1, keepdim=True),
        atol=1e-5, rtol=0,
    )  # fmt: skip


def test_no_border_where_nothing_flips() -> None:
    h = half_space(1)
    x0, z = rays(h.w, [-0.1, 0.0])
    z[1] = x0[1]  # no ray at all
    _, flips = border_points(majority_wrong(h, torch.zeros(2, dtype=torch.int64), 1), x0, z)
    assert flips.tolist() == [False, False]


def test_distances_count_failures_as_infinite() -> None:
    def row(held: list[float], p: list[float], border: list[float]) -> dict[str, object]:
        return {"budgets": [10, 20], "held_l2": held, "p_adv": p, "border_l2": border}

    rows = [row([2.0, 1.0], [0.9, 0.1], [1.5, 3.0]), row([4.0, 3.0], [0.0, 1.0], [4.0, 3.0]),
            row([float("inf")] * 2, [0.0, 0.0], [float("inf")] * 2)]  # fmt: skip
    found = distances(rows, 20)
    assert found == {"l2_claimed": 3.0, "l2_verified": 3.0, "l2_border": 3.0, "border_measured": True}
    # the first image's point at 10 was confirmed, the closer one at 20 was not
    assert distances(rows[:1], 20)["l2_verified"] == 2.0
    assert distances(rows, 10)["l2_verified"] is None
    assert distances([rows[0] | {"border_l2": None}], 20)["border_measured"] is False


def test_files_without_the_column_are_still_read(tmp_path) -> None:
    import pyarrow as pa

    old = pa.schema([field for field in results.SCHEMA if field.name != "border_l2"])
    results.write_table(tmp_path / "old.parquet", pa.Table.from_pylist([], schema=old), {"id": "x"})
    assert results.read(tmp_path / "old.parquet").column_names == results.SCHEMA.names
