from __future__ import annotations

import pytest
import torch
from conftest import SHAPE, generator, half_space, oracle_on
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sndcli.ball import as_sent, distances, sent_inside, within
from sndcli.errors import ConfigError
from sndcli.queries.oracle import REFUSED, Oracle


def points_at(distances: list[float], victim_w: Tensor) -> Tensor:
    """Images at given signed distances along w from the clean image."""
    return 0.5 + torch.tensor(distances)[:, None, None, None] * victim_w.view(1, *SHAPE)


def test_counts_every_row_and_phase() -> None:
    h = half_space()
    oracle = oracle_on(h, n=3, budget=10)
    oracle.labels(torch.rand(4, *SHAPE), torch.tensor([0, 0, 2, 0]), "a")
    oracle.labels(torch.rand(1, *SHAPE), torch.tensor([1]), "b")
    assert oracle.ledger.used.tolist() == [3, 1, 1]
    assert h.rows == 5
    assert {k: v.tolist() for k, v in oracle.ledger.phases.items()} == {"a": [3, 0, 1], "b": [0, 1, 0]}


def test_rows_over_budget_are_not_evaluated_and_come_back_refused() -> None:
    h = half_space()
    oracle = oracle_on(h, n=2, budget=3)
    answer = oracle.labels(torch.rand(6, *SHAPE), torch.tensor([0, 0, 0, 0, 1, 0]), "a")
    assert (answer == REFUSED).tolist() == [False, False, False, True, False, True]
    assert h.rows == 4
    assert oracle.active.tolist() == [False, True]
    assert (oracle.labels(torch.rand(1, *SHAPE), torch.tensor([0]), "a") == REFUSED).all()


@given(
    budget=st.integers(1, 30),
    votes=st.integers(1, 4),
    calls=st.lists(st.lists(st.integers(0, 3), max_size=9), max_size=8),
)
def test_no_sequence_of_requests_overspends(budget: int, votes: int, calls: list[list[int]]) -> None:
    h = half_space()
    oracle = oracle_on(h, n=4, budget=budget, votes=votes)
    for images in calls:
        oracle.labels(torch.rand(len(images), *SHAPE), torch.tensor(images, dtype=torch.int64), "x")
    used = oracle.ledger.used
    asked = torch.bincount(torch.tensor([o for call in calls for o in call], dtype=torch.int64), minlength=4)
    assert used.tolist() == (torch.minimum(asked, torch.tensor(budget // votes)) * votes).tolist()
    assert h.rows == int(used.sum())


def test_votes_take_the_most_frequent_label_and_cost_t() -> None:
    answers = iter([[0, 1, 1], [0, 0, 1]])

    def victim(z: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(torch.tensor(next(answers)), 2).float()

    oracle = oracle_on(victim, n=1, budget=7, votes=3)
    assert oracle.labels(torch.rand(1, *SHAPE), torch.tensor([0]), "a").tolist() == [1]
    assert oracle.labels(torch.rand(1, *SHAPE), torch.tensor([0]), "a").tolist() == [0]
    assert oracle.ledger.used.tolist() == [6]
    assert not oracle.active.any()  # one query is left, less than a vote
    assert oracle.ledger.events_of(0)[0][0] == 3


def test_scores_are_mean_probabilities_and_nan_where_refused() -> None:
    oracle = oracle_on(lambda z: z.flatten(1)[:, :2] * 4, n=1, budget=2)
    x = torch.rand(3, *SHAPE)
    scores = oracle.scores(x, torch.zeros(3, dtype=torch.int64), "a")
    torch.testing.assert_close(scores[:2], (x.flatten(1)[:2, :2] * 4).softmax(1))
    assert scores[2].isnan().all()


def test_events_are_the_strict_improvements_in_order() -> None:
    h = half_space()
    oracle = oracle_on(h, n=2, budget=100)
    first = points_at([0.5, 0.05, 0.4, 0.3, 0.35, 0.6], h.w)
    oracle.labels(first, torch.tensor([0, 0, 0, 1, 0, 1]), "a")
    oracle.labels(points_at([0.2, 0.38, 0.7], h.w), torch.tensor([0, 0, 1]), "a")
    assert [(q, round(d, 4)) for q, d in oracle.ledger.events_of(0)] == [(1, 0.5), (3, 0.4), (4, 0.35), (5, 0.2)]
    assert [(q, round(d, 4)) for q, d in oracle.ledger.events_of(1)] == [(1, 0.3)]
    torch.testing.assert_close(oracle.ledger.best, torch.tensor([0.2, 0.3], dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(oracle.ledger.best_point[0], points_at([0.2], h.w)[0])


@given(distances=st.lists(st.integers(1, 300), min_size=1, max_size=30), sizes=st.lists(st.integers(1, 7)))
def test_events_do_not_depend_on_how_queries_are_grouped(distances: list[int], sizes: list[int]) -> None:
    h = half_space()
    images = torch.arange(len(distances)) % 3
    points = points_at([0.01 * v + 0.005 for v in distances], h.w)  # never on the boundary, where rounding decides
    together, apart = oracle_on(h, n=3, budget=99, budgets=[2, 99]), oracle_on(h, n=3, budget=99, budgets=[2, 99])
    together.labels(points, images, "a")
    position = 0
    for size in [*sizes, len(distances)]:
        apart.labels(points[position : position + size], images[position : position + size], "a")
        position += size
    one, two = together.close(), apart.close()
    assert [one.events_of(i) for i in range(3)] == [two.events_of(i) for i in range(3)]
    assert one.last_l2.tolist() == two.last_l2.tolist()
    assert together.ledger.best.tolist() == apart.ledger.best.tolist()


def test_snapshots_keep_what_was_submitted_at_the_report_point() -> None:
    h = half_space()
    oracle = oracle_on(h, n=1, budget=10, budgets=[1, 2, 4, 10])
    me = torch.tensor([0])
    a, b, c = points_at([0.9, 0.8, 0.7], h.w).split(1)
    oracle.labels(a, me, "a")
    oracle.submit(a, me)  # completed with 1 query
    oracle.labels(b.repeat(2, 1, 1, 1), torch.tensor([0, 0]), "a")
    oracle.submit(b, me)  # completed with 3
    oracle.labels(c, me, "a")
    oracle.submit(c, me)  # completed with 4
    ledger = oracle.close()
    everyone = torch.tensor([0])
    submitted = [round(float(oracle.distance(points, everyone)), 4) for points in ledger.submitted]
    assert submitted == [0.9, 0.9, 0.7, 0.7]
    assert [round(v, 4) for v in ledger.last_l2[0].tolist()] == [0.9, 0.8, 0.7, 0.7]
    assert ledger.has_submitted.all()


def test_hold_still_submits_and_says_its_new_name() -> None:
    h = half_space()
    old, new = oracle_on(h, n=2, budget=5), oracle_on(h, n=2, budget=5)
    point, image = points_at([0.3], h.w), torch.tensor([1])
    with pytest.warns(DeprecationWarning, match="submit"):
        old.hold(point, image)
    new.submit(point, image)
    assert torch.equal(old.close().submitted[0], new.close().submitted[0])
    assert old.ledger.has_submitted.tolist() == new.ledger.has_submitted.tolist() == [[False], [True]]


def test_nothing_is_submitted_unasked() -> None:
    oracle = oracle_on(half_space(), n=1, budget=5)
    oracle.check()
    assert not oracle.close().has_submitted.any()


def test_check_costs_one_and_marks_initially_wrong() -> None:
    h = half_space(margin=-0.1)
    oracle = oracle_on(h, n=2, budget=5)
    oracle.check()
    assert oracle.ledger.used.tolist() == [1, 1]
    assert oracle.initially_wrong.all()
    assert oracle.ledger.events_of(0) == [(1, 0.0)]
    assert oracle.active.all()


def test_points_are_clipped_and_quantised_before_the_model() -> None:
    sent: list[Tensor] = []

    def victim(z: Tensor) -> Tensor:
        sent.append(z)
        return torch.zeros(len(z), 2)

    oracle = oracle_on(victim, n=1, quantize=True)
    oracle.labels(torch.full((1, *SHAPE), 0.5011).index_fill_(1, torch.tensor([0]), 7.0), torch.tensor([0]), "a")
    assert sent[0][:, 0].eq(1).all()
    torch.testing.assert_close(sent[0][:, 1:], torch.full_like(sent[0][:, 1:], 128 / 255))


def test_non_finite_points_end_their_image_only() -> None:
    h = half_space()
    oracle = oracle_on(h, n=2)
    points = torch.rand(2, *SHAPE)
    points[0, 0, 0, 0] = float("nan")
    answer = oracle.labels(points, torch.tensor([0, 1]), "a")
    assert answer[0] == REFUSED
    assert answer[1] != REFUSED
    assert oracle.ledger.stop_reason == ["non_finite", "budget"]


def test_scores_have_all_classes_where_no_row_is_evaluated() -> None:
    oracle = oracle_on(half_space(), n=1)
    oracle.check(scores=True)
    answer = oracle.scores(torch.full((1, *SHAPE), float("nan")), torch.tensor([0]), "a")
    assert answer.shape == oracle.clean_scores.shape
    assert bool(answer.isnan().all())


def test_mismatches_compare_with_the_undefended_model() -> None:
    oracle = oracle_on(half_space(margin=0.1), n=1, budget=9, undefended=half_space(margin=0.5))
    w = half_space().w
    oracle.labels(points_at([0.05, 0.3, 0.6], w), torch.zeros(3, dtype=torch.int64), "a")
    assert oracle.ledger.mismatches.tolist() == [1]


def test_linf_distances() -> None:
    oracle = oracle_on(half_space(), n=1, norm="linf")
    x = oracle.x0.clone()
    x[0, 0, 0, 0] += 0.25
    assert oracle.distance(x, torch.tensor([0])).item() == pytest.approx(0.25)


@pytest.mark.parametrize(("budget", "votes", "budgets"), [(0, 1, None), (5, 0, None), (5, 1, [6]), (5, 1, [0])])
def test_impossible_budgets_are_refused(budget: int, votes: int, budgets: list[int] | None) -> None:
    with pytest.raises(ConfigError, match="Expected"):
        Oracle(half_space(), torch.rand(1, *SHAPE), torch.zeros(1, dtype=torch.int64), budget=budget, votes=votes,
               budgets=budgets)  # fmt: skip


@pytest.mark.parametrize(("norm", "eps"), [("l2", 1.0), ("l2", 0.3), ("linf", 8 / 255), ("linf", 0.03)])
def test_points_on_the_surface_stay_inside_when_they_are_rounded(norm: str, eps: float) -> None:
    """Rounding lengthens a step by its own noise: without a pull no such point would ever count."""
    x0 = torch.randint(60, 196, (6, *SHAPE), generator=generator(1)).float() / 255
    step = torch.randn(6, *SHAPE, generator=generator(2))
    step = eps * (step.sign() if norm == "linf" else step / step.flatten(1).norm(dim=1).view(-1, 1, 1, 1))
    image = torch.arange(6)
    sent = sent_inside(x0 + step, x0, image, eps, norm)
    assert torch.equal(sent, as_sent(sent, quantize=True))
    distance = distances(sent, x0, image, norm)
    assert bool(within(distance, eps).all())
    assert float(distance.min()) > eps - (1 / 255 if norm == "linf" else 0.01 * eps)
    far = x0 + 1.2 * step
    assert torch.equal(sent_inside(far, x0, image, eps, norm), as_sent(far, quantize=True))
    oracle = Oracle(lambda z: torch.tensor([[0.0, 1.0]]).repeat(len(z), 1), x0, torch.zeros(6, dtype=torch.int64),
                    budget=5, eps=eps, norm=norm, quantize=True)  # fmt: skip
    oracle.labels(x0 + step, image, "a")
    oracle.submit(x0 + step, image)
    assert bool(within(oracle.close().best, eps).all())
    assert torch.equal(oracle.ledger.submitted[-1], sent)
