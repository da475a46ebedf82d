"""What must hold on a GPU. Results there may differ in the last bits with the batch size, so counts are compared."""

from __future__ import annotations

import pytest
import torch

from sndcli.attacks.registry import ATTACKS, spec_of
from sndcli.attacks.spec import options_of
from sndcli.datasets import cifar10
from sndcli.defenses.parse import DefenseSpec
from sndcli.models.sources import load_model
from sndcli.queries.oracle import Oracle
from sndcli.runs.accuracy import accuracy
from sndcli.runs.unit import run_attack
from sndcli.runs.victim import Victim
from sndcli.streams import UnitStreams

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
]


@pytest.fixture(scope="module")
def victim() -> Victim:
    return Victim.prepare(load_model("resnet20"), DefenseSpec("snd", 0.01), torch.device("cuda"), 0)


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_budgets_are_exact(victim: Victim, name: str) -> None:
    data, device = cifar10.load_shipped(), torch.device("cuda")
    x0, y = data.pixels(torch.arange(8)).to(device), data.labels[:8].to(device)
    oracle = Oracle(victim.defended, x0, y, budget=300, norm=ATTACKS[name].norms[0])
    oracle.check(scores=ATTACKS[name].access == "scores")
    run_attack(oracle, UnitStreams(0, device), name, "native", options_of(spec_of(name), None))
    used = oracle.close().used
    assert int(used.max()) <= 300
    assert int(sum(v.sum() for v in oracle.ledger.phases.values())) == int(used.sum())


def test_accuracy_is_that_of_the_cpu(victim: Victim) -> None:
    data = cifar10.load_shipped()
    here = Victim.prepare(load_model("resnet20"), DefenseSpec(), torch.device("cpu"), 128)
    assert accuracy(victim.undefended, data, [0])[0] == pytest.approx(accuracy(here.undefended, data, [0])[0], abs=2e-3)


def test_rows_of_one_batch_get_different_noise(victim: Victim) -> None:
    x = torch.full((2, 3, 32, 32), 0.5, device="cuda")
    a, b = victim.defended(x)
    assert not torch.equal(a, b)
