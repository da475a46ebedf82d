"""The one bisection: brackets against a threshold, answers that are refused, and attacks' points on a segment."""

from __future__ import annotations

import torch
from conftest import SHAPE, half_space, oracle_on
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sndcli.attacks.common.dct import dct_rows
from sndcli.attacks.common.geometry import bisect
from sndcli.ball import bisected


@given(thresholds=st.lists(st.floats(0.01, 0.99), min_size=1, max_size=5), steps=st.integers(0, 30))
def test_the_threshold_stays_inside_and_the_bracket_halves(thresholds: list[float], steps: int) -> None:
    at = torch.tensor(thresholds, dtype=torch.float64)
    lo, hi = bisected(torch.zeros_like(at), torch.ones_like(at), lambda middle: middle >= at, steps)
    assert bool(((lo < at) & (at <= hi)).all())
    torch.testing.assert_close(hi - lo, torch.full_like(at, 2.0**-steps), atol=1e-12, rtol=0)


def test_a_bracket_without_an_answer_stays() -> None:
    def ask(middle: Tensor) -> Tensor:
        return torch.tensor([1, 0, -1])

    lo, hi = bisected(torch.zeros(3), torch.ones(3), ask, 2)
    assert (lo.tolist(), hi.tolist()) == ([0.0, 0.75, 0.0], [0.25, 1.0, 1.0])


def test_each_image_takes_its_own_steps_and_keeps_its_end_where_the_budget_ends() -> None:
    """Widths 1/2 and 1/8 take one and three queries; the third image has two of its three."""
    h = half_space(margin=0.25)
    oracle = oracle_on(h, n=3, budget=3)
    image = torch.arange(3)
    oracle.labels(oracle.x0[2:], image[2:], "before")
    z = oracle.x0 + 0.8 * h.w.view(1, *SHAPE)
    points = bisect(oracle, z, image, torch.tensor([0.5, 0.125, 0.125]), "a")
    assert oracle.ledger.phases["a"].tolist() == [1, 3, 2]
    torch.testing.assert_close(
        oracle.distance(points, image), torch.tensor([0.4, 0.3, 0.4], dtype=torch.float64), atol=1e-5, rtol=0
    )


def test_the_basis_is_the_formula() -> None:
    """cos(π u (2i + 1) / 2n), row 0 shorter by √2: to the bit at 32, at 224 but for numbers that are 0."""
    for side, rounding in ((32, 0.0), (224, 1e-14)):
        i = torch.arange(side, dtype=torch.float64)
        rows = torch.cos((2 * i[None, :] + 1) * i[:, None] * torch.pi / (2 * side)) * (2 / side) ** 0.5
        rows[0] /= 2**0.5
        torch.testing.assert_close(dct_rows(side), rows.float(), atol=rounding, rtol=0)
