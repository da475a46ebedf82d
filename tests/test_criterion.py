"""What counts as adversarial: the one criterion there is, and that nothing but the criterion decides."""

from __future__ import annotations

import pytest
import torch
from conftest import SHAPE, half_space
from torch import Tensor

from sndcli.attacks.common.scores import stop_at_success
from sndcli.queries.criterion import Criterion, Misclassified
from sndcli.queries.oracle import Oracle

Z = torch.tensor([[2.0, -1.0, 0.5]])


def test_labels_are_compared_image_by_image() -> None:
    criterion = Misclassified(torch.tensor([1, 2]))
    image = torch.tensor([0, 1, 1])
    assert criterion.met(torch.tensor([1, 1, 2]), image).tolist() == [False, True, False]
    several = torch.tensor([[1, 1], [2, 0], [0, 2]])
    assert criterion.met(several, image).tolist() == [[False, False], [False, True], [True, False]]
    nothing = torch.empty(0, dtype=torch.int64)
    assert criterion.met(nothing, nothing).shape == (0,)
    assert criterion.met(nothing.view(0, 5), nothing).shape == (0, 5)


def test_margin_is_a_difference_of_logits() -> None:
    criterion = Misclassified(torch.tensor([0, 1]))
    margins = criterion.margin(Z.softmax(1).expand(2, 3), torch.tensor([0, 1]))
    assert margins.tolist() == pytest.approx([-1.5, 3.0], abs=1e-5)


def test_cross_entropy_is_torchs() -> None:
    y = torch.tensor([2, 0])
    found = Misclassified(y).cross_entropy(Z.softmax(1).expand(2, 3), torch.tensor([1, 0]))
    expected = torch.nn.functional.cross_entropy(Z.expand(2, 3), y[[1, 0]], reduction="none")
    torch.testing.assert_close(found, expected)


def test_scores_that_were_refused_meet_nothing() -> None:
    scores = torch.stack([Z[0].softmax(0), Z[0].softmax(0), torch.full((3,), torch.nan)])
    assert Misclassified(torch.tensor([0, 1])).met_by(scores, torch.tensor([0, 1, 1])).tolist() == [False, True, False]


def test_it_says_what_it_is() -> None:
    assert repr(Misclassified(torch.tensor([3, 8]))) == "Misclassified(y=[3, 8])"


class Never(Criterion):
    """A goal that no label meets, so that only code that asks the criterion stays quiet."""

    def met(self, labels: Tensor, image: Tensor) -> Tensor:
        return torch.zeros_like(labels, dtype=torch.bool)

    def margin(self, scores: Tensor, image: Tensor) -> Tensor:
        return -torch.ones(len(scores))

    def cross_entropy(self, scores: Tensor, image: Tensor) -> Tensor:
        return torch.zeros(len(scores))

    def surrogate(self, image: Tensor) -> tuple[Tensor, bool]:
        return torch.zeros_like(image), False


@pytest.mark.parametrize("scores", [False, True])
def test_oracle_ledger_and_end_of_an_attack_ask_the_criterion(scores: bool) -> None:
    """On a model that is wrong everywhere: all of it is a success for the default, and nothing for another goal."""
    everyone, y = torch.arange(2), torch.zeros(2, dtype=torch.int64)
    seen = {}
    for name, criterion in (("default", None), ("never", Never())):
        oracle = Oracle(half_space(margin=-1.0), torch.full((2, *SHAPE), 0.5), y, budget=9, criterion=criterion)
        oracle.check(scores)
        answer = oracle.adversarial(oracle.x0, everyone, "a")
        stop_at_success(oracle, oracle.x0, everyone, oracle.scores(oracle.x0, everyone, "b"))
        ledger = oracle.close()
        seen[name] = (
            oracle.initially_wrong.tolist(), answer.tolist(), [len(e) for e in ledger.events_by_image()],
            ledger.best.tolist(), ledger.stop_reason,
        )  # fmt: skip
    assert seen["default"] == ([True] * 2, [1] * 2, [1] * 2, [0.0] * 2, ["success"] * 2)
    assert seen["never"] == ([False] * 2, [0] * 2, [0] * 2, [torch.inf] * 2, ["budget"] * 2)
