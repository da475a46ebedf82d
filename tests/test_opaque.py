"""Models that can only be asked: scores or labels, with randomness of their own or without, rows without an answer."""

from __future__ import annotations

import pytest
import torch
from bright import Bright, grey, scores_of
from torch import Tensor, nn

import sndcli
from sndcli.defenses.parse import DefenseSpec, parse
from sndcli.errors import ConfigError, IncompleteError
from sndcli.models.inference import Forward
from sndcli.models.opaque import Logits
from sndcli.queries.draws import UNANSWERED, fresh_labels, labels_of, voted
from sndcli.queries.oracle import REFUSED, Oracle
from sndcli.runs.victim import Victim, draws

CPU = torch.device("cpu")


def test_labels_and_probabilities_become_logits() -> None:
    x = torch.stack([torch.full((1, 8, 8), 0.2), torch.full((1, 8, 8), 0.9)])
    expected = scores_of(x).softmax(1)
    torch.testing.assert_close(Logits(Bright())(x).softmax(1), expected)
    torch.testing.assert_close(Logits(Bright(score="probabilities"))(x).softmax(1), expected)
    assert Logits(Bright(access="labels"))(x).softmax(1).tolist() == [[1, 0], [0, 1]]


def test_what_a_model_promises_is_checked() -> None:
    x, _ = grey()
    with pytest.raises(ValueError, match=r"scores of shape \(3, 4\) but got torch.float32 \(3, 2\)"):
        Logits(Bright(classes=4))(x)

    class Odd(Bright):
        def __call__(self, images: Tensor) -> Tensor:
            return torch.full((len(images),), 7)

    with pytest.raises(ValueError, match="labels of bright from 0 to 1 but got values from 7 to 7"):
        Logits(Odd(access="labels"))(x)


@pytest.mark.parametrize(
    ("name", "facts"), [("hsja", {"access": "labels"}), ("square", {}), ("hsja", {"score": "probabilities"})]
)
def test_attacks_reach_the_optimum_of_what_can_only_be_asked(name: str, facts: dict[str, object]) -> None:
    """The nearest point with a mean above 0.55 is 0.05 · 8 = 0.4 away."""
    found = sndcli.attack(name, Bright(**facts), *grey(), budget=800, eps=1.0, batch_rows=8)  # type: ignore[arg-type]
    assert found.labels.tolist() == [1, 1, 1]
    assert bool(found.noisy.all())
    if name == "hsja":
        assert bool((found.distances < 0.45).all())


def test_defenses_on_the_input_go_in_front_of_any_model_and_networks_do_not() -> None:
    model = Bright()
    victim = Victim.prepare(model, parse("rnp+snd", 0.02, None), CPU, 8)
    x, _ = grey()
    assert len(victim.defended(x.repeat(4, 1, 1, 1)).unique(dim=0)) == 12
    with pytest.raises(ConfigError, match="`--defense pni` is a network of its own, but bright can only be asked"):
        sndcli.attack("hsja", model, x, torch.zeros(3, dtype=torch.int64), defense="pni")
    with pytest.raises(ConfigError, match="needs a torch network, but bright can only be asked"):
        _ = victim.classifier
    for compiled, precision in ((True, "fp32"), (False, "bf16")):
        with pytest.raises(ConfigError, match="is for torch networks, but bright can only be asked"):
            Victim.prepare(model, DefenseSpec(), CPU, 8, precision, compiled)  # type: ignore[arg-type]


def test_score_attacks_on_labels_are_refused_before_anything_is_asked() -> None:
    model = Bright(access="labels")
    with pytest.raises(ConfigError, match="`square` needs scores, but bright answers with labels alone"):
        sndcli.attack("square", model, *grey())
    assert model.rows == 0


# -- rows that are not answered ----------------------------------------------------------------------------------


def test_a_row_without_an_answer_is_no_label() -> None:
    answers = torch.tensor([[0.1, 0.9], [float("nan"), float("nan")]])
    assert labels_of(answers).tolist() == [1, UNANSWERED]
    label, scores = voted(torch.stack([answers, answers.flip(0)], 1), scores=True)
    assert label.tolist() == [UNANSWERED, UNANSWERED]
    assert bool(scores.isnan().all())
    assert voted(answers[:1, None].repeat(1, 3, 1), scores=False)[0].tolist() == [1]
    labels = fresh_labels(Logits(Bright(silent_after=2)), grey(1)[0], torch.zeros(1, dtype=torch.int64), 3)
    assert labels.tolist() == [[0, 0, UNANSWERED]]


def test_the_oracle_ends_an_image_without_an_answer() -> None:
    x, y = grey(2)
    oracle = Oracle(Logits(Bright(silent_after=3)), x, y, budget=10)
    bright, image = torch.full_like(x, 0.9), torch.tensor([0, 1])
    assert oracle.labels(bright, image, "a").tolist() == [1, 1]
    assert oracle.adversarial(bright, image, "a").tolist() == [1, REFUSED]
    assert oracle.active.tolist() == [True, False]
    ledger = oracle.close()
    assert ledger.stop_reason[1] == "no_answer"
    assert ledger.used.tolist() == [2, 2]  # it was sent, so it is paid
    assert [query for query, _ in ledger.events_of(1)] == [1]


def test_a_run_with_rows_without_an_answer_says_so() -> None:
    found = sndcli.attack("hsja", Bright(access="labels", silent_after=400), *grey(), budget=400, batch_rows=8)
    rows = found.to_arrow().to_pylist()
    assert {row["status"] for row in rows} == {"failed"}
    assert {row["stop_reason"] for row in rows} == {"no_answer"}
    assert not any(row["noisy"][0] for row in rows)
    assert found.rows[0].as_dict()["failed"] == 3


def test_when_nobody_answers_the_run_is_incomplete() -> None:
    with pytest.raises(IncompleteError, match="Nobody answers"):
        sndcli.attack("hsja", Bright(access="labels", gone=True, batch_rows=8, bare=False), *grey(), budget=400)


# -- without a bare model, and models that draw ------------------------------------------------------------------


def test_without_a_bare_model_clean_is_null() -> None:
    found = sndcli.attack("hsja", Bright(access="labels", bare=False), *grey(), budget=300, eps=1.0, batch_rows=8)
    (figures,) = [row.as_dict() for row in found.rows]
    assert figures["success_clean"] is None
    assert figures["p_mis_clean"] is None
    assert figures["success_noisy"]["value"] == 1.0  # type: ignore[index]
    (first, *_) = found.to_arrow().to_pylist()
    assert (first["clean"], first["adv_clean"], first["p_mis_clean"], first["verify_draws"]) == (None, None, None, 100)


def test_a_majority_names_images_where_no_single_answer_can() -> None:
    model = Bright(access="labels", flips=0.1, bare=False)
    victim = Victim.prepare(model, DefenseSpec(), CPU, 8)
    torch.manual_seed(0)
    x = torch.cat([torch.full((20, 1, 8, 8), 0.3), torch.full((20, 1, 8, 8), 0.8)])
    assert labels_of(victim.undefended(x)).tolist() != [0] * 20 + [1] * 20
    assert victim.labels(x).tolist() == [0] * 20 + [1] * 20
    assert victim.answers_to_name == 9 * 40
    silent = Victim(model, Forward(Logits(Bright(silent_after=0)), CPU), Forward(Logits(model), CPU), draws_itself=True)
    assert silent.labels(x[:2]).tolist() == [UNANSWERED] * 2


class Dropped(nn.Module):
    """A network with randomness of its own."""

    def __init__(self, rate: float = 0.3) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return scores_of(nn.functional.dropout(x, self.rate, training=True))


def test_a_model_that_draws_is_noticed_said_and_verified_with_draws(capsys: pytest.CaptureFixture[str]) -> None:
    from sndcli.cli.console import Console

    x, y = grey()
    assert draws(Forward(Dropped(), CPU), x)
    assert not draws(Forward(Dropped(0.0), CPU), x)
    before = torch.random.get_rng_state()
    assert draws(Forward(Dropped(), CPU), x)
    assert torch.equal(before, torch.random.get_rng_state())
    found = sndcli.attack("null", Dropped(0.3), x, y, budget=5, verify=20, listener=Console(progress=False))
    assert "Dropped answers the same question differently: it is verified with 20 draws" in capsys.readouterr().err
    (row, *_) = found.to_arrow().to_pylist()
    assert (row["clean"], row["clean_draws"]) == (None, 60)
    assert found.rows[0].as_dict()["success_clean"] is None
    quiet = sndcli.attack("null", Dropped(0.0), x, y, budget=5, verify=20, listener=Console(progress=False))
    assert quiet.to_arrow().to_pylist()[0]["clean_draws"] == 1
