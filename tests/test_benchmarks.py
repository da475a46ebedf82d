"""The benchmarks that others' libraries are timed by still run; no timing is looked at."""

from __future__ import annotations

import others
import pytest
import torch
from conftest import CPU

from sndcli.datasets import cifar10
from sndcli.defenses.parse import DefenseSpec
from sndcli.models.sources import load_model
from sndcli.runs.victim import Victim


@pytest.mark.slow
@pytest.mark.parametrize("name", others.OTHERS)
def test_an_attack_of_another_library_runs_by_itself(name: str) -> None:
    if name.endswith("art"):
        pytest.importorskip("art")
    data, victim = cifar10.load_shipped(), Victim.prepare(load_model("resnet20"), DefenseSpec(), CPU, 64)
    x, y = data.pixels(torch.arange(3)), data.labels[:3]
    assert bool((others.starts(x, y) != x).flatten(1).any(1).all())
    assert others.rate(name, victim.undefended.model, x, y, 40) > 0
