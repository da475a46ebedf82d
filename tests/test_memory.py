"""Memory: probe blocks are streamed (peak of a process of its own, at a reduced size), and votes are too."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from conftest import SHAPE, generator, oracle_on

from sndcli.attacks.common.dct import dct_rows, low_frequencies
from sndcli.queries import oracle as oracle_module
from sndcli.runs.memory import keep_freed_memory

# 8 images of 3 x 64 x 64 and 1,000 probes each: 393 MB for one copy of the probes, and an attack needs several.
PROGRAM = """
import resource, torch
from sndcli.attacks.decision.hsja import gradient_direction
from sndcli.attacks.registry import spec_of
from sndcli.attacks.spec import options_of
from sndcli.runs.unit import run_attack
from sndcli.queries.oracle import Oracle
from sndcli.streams import ImageStreams

torch.set_num_threads(1)
x0 = torch.full((8, 3, 64, 64), 0.5)

def victim(z):
    value = z.flatten(1).mean(1) - 0.501
    return torch.stack([-value, value], 1)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if {mac} else 2**10)

streams = ImageStreams(0, range(100), "attack")
oracle = Oracle(victim, x0, torch.zeros(8, dtype=torch.int64), budget=1_100)
everyone = torch.arange(8)
gradient_direction(oracle, x0, everyone, torch.full((8,), 0.1), torch.full((8,), 3), streams)
before = peak()
if {name!r} == "hsja-gradient":
    gradient_direction(oracle, x0, everyone, torch.full((8,), 0.1), torch.full((8,), 1_000), streams)
else:
    oracle = Oracle(victim, x0, torch.zeros(8, dtype=torch.int64), budget=1_000)
    run_attack(oracle, streams, {name!r}, "native", options_of(spec_of({name!r}), None, {settings!r}))
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("hsja-gradient", ()),
        ("sign-opt", ("directions=900", "starts=1")),
        ("geoda", ()),
    ],
)
def test_probes_are_streamed(name: str, settings: tuple[str, ...]) -> None:
    program = PROGRAM.format(name=name, settings=settings, mac=sys.platform == "darwin")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300)
    assert float(done.stdout) < 393, f"{name} took {done.stdout.strip()} MB"


def test_votes_are_asked_in_pieces_and_answer_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []

    def victim(z: torch.Tensor) -> torch.Tensor:
        batches.append(len(z))
        value = z.flatten(1).mean(1) - 0.5
        return torch.stack([-value, value], 1)

    points = torch.rand(60, *SHAPE, generator=generator())
    image = torch.zeros(60, dtype=torch.int64)
    together = oracle_on(victim, n=1, budget=600, votes=10).labels(points, image, "probe")
    assert batches == [600]
    monkeypatch.setattr(oracle_module, "BYTES_AT_ONCE", 4 * 3072 * 85)
    batches.clear()
    apart = oracle_on(victim, n=1, budget=600, votes=10).labels(points, image, "probe")
    assert max(batches) <= 85
    assert sum(batches) == 600
    assert torch.equal(apart, together)
    assert apart.unique().tolist() == [0, 1]


def test_geoda_keeps_no_full_basis_at_224() -> None:
    rows = dct_rows(224)[:75]
    weights = torch.randn(2, 3, 75 * 75, generator=torch.Generator().manual_seed(0))
    images = low_frequencies(weights, rows)
    assert images.shape == (2, 3, 224, 224)
    back = (rows @ images @ rows.T).flatten(2)
    torch.testing.assert_close(back, weights, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(images.flatten(1).norm(dim=1), weights.flatten(1).norm(dim=1), rtol=1e-4, atol=0)


FAULTS = """
import resource, sys, torch
from sndcli.runs.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.set_num_threads(1)
for _ in range(20): torch.ones(8, 2**20)
before = faults()
for _ in range(20): torch.ones(8, 2**20)
print(faults() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
@pytest.mark.slow
def test_freed_memory_is_kept() -> None:
    """Twenty blocks of 32 MB, one after the other, are the same pages."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    found = {}
    for mode in ("keep", "default"):
        command = [sys.executable, "-c", FAULTS, mode]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=environment)
        found[mode] = int(done.stdout)
    assert found["keep"] < 100
    assert found["default"] > 10 * found["keep"]


def test_a_users_own_setting_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    assert not keep_freed_memory()
