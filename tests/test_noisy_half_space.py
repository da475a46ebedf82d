"""Published attacks on the noisy half-space (σ/m = 0.05: the clean label never flips), and their query counters."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import D, HalfSpace, half_space, oracle_on, submitted_distance
from test_attacks import M, attack, in_subspace
from torch import Tensor

from sndcli.attacks.registry import ATTACKS
from sndcli.queries.oracle import Oracle

SIGMA = 0.005
PUBLISHED = [("hsja", "authors"), ("hsja", "art"), ("ba", "foolbox"), ("ba", "art"), ("sign-opt", "authors"),
             ("rays", "authors"), ("geoda", "authors")]  # fmt: skip


def boundary(h: HalfSpace, points: Tensor) -> Tensor:
    """Distance in units of m at which the majority answer flips on the ray through each point."""
    direction = (points - 0.5).flatten(1)
    distance: Tensor = direction.norm(dim=1)
    return distance / (direction @ h.w).clamp_min(1e-12)


def p_adv(h: HalfSpace, points: Tensor) -> Tensor:
    margin = (points - 0.5).flatten(1) @ h.w - h.margin
    return 0.5 * torch.erfc(-margin / SIGMA / math.sqrt(2))


def attacked(name: str, preset: str, sigma: float, budget: int = 1500, n: int = 2) -> tuple[HalfSpace, Oracle]:
    h = half_space(1, sigma=sigma)
    if name == "geoda":
        h.w = in_subspace()
    return h, attack(oracle_on(h, n, budget, norm=ATTACKS[name].norms[0]), name, preset)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "preset"), PUBLISHED)
def test_noise_far_below_the_margin_breaks_the_published_probes(name: str, preset: str) -> None:
    """Boundary distances grow by a factor (7 to 16 m at 10,000 queries where the noiseless runs reach 1.2 to 2.5 m)."""
    found = []
    for sigma in (0.0, SIGMA):
        h, oracle = attacked(name, preset, sigma)
        found.append(boundary(h, oracle.close().submitted[-1]).median().item())
    quiet, noisy = found
    assert noisy > 1.4 * quiet


@pytest.mark.parametrize(("name", "preset"), [
    pytest.param("ba", "foolbox", marks=pytest.mark.slow), ("ba", "art"),
    pytest.param("rays", "authors", marks=pytest.mark.slow),
])  # fmt: skip
def test_single_vote_acceptance_ratchets(name: str, preset: str) -> None:
    """Accepting lucky answers leaves a point that the majority answer is not fooled by, closer than its boundary."""
    h, oracle = attacked(name, preset, SIGMA, 3000 if preset == "art" else 1500, n=8)  # ART's form walks in later
    submitted = oracle.close().submitted[-1]
    assert p_adv(h, submitted).median() < 0.4
    claimed = (submitted - 0.5).flatten(1).norm(dim=1) / M
    assert (claimed / boundary(h, submitted)).median() < 0.98


def test_votes_shrink_the_noise_at_the_boundary() -> None:
    """A bisection on majorities of r ends within σ√(π/2r) of the boundary; with one vote within σ."""
    spread = {}
    for votes in (1, 25):
        h = half_space(1, sigma=0.02)
        oracle = attack(oracle_on(h, 12, 40 * votes, votes=votes), "hsja", iterations=0)
        submitted = oracle.close().submitted[-1]
        spread[votes] = ((submitted - 0.5).flatten(1) @ h.w - M).abs().median().item()
    assert spread[25] < 0.5 * spread[1]


# -- counters ------------------------------------------------------------------------------------------------


def test_geoda_counts_follow_the_allocation() -> None:
    """An iteration asks its q_i probes, one step along the normal, and ⌈log2(width/tolerance)⌉ points."""
    from sndcli.attacks.decision.geoda_plan import allocate

    h = half_space(1)
    h.w = in_subspace()
    oracle = attack(oracle_on(h, 1, 1000), "geoda")
    phases = {k: int(v[0]) for k, v in oracle.close().phases.items()}
    plan = allocate(1000)
    assert sum(plan[:-1]) < phases["gradient"] <= sum(plan)
    assert phases["line"] == len(plan)
    assert 0.95 * 1000 < int(oracle.ledger.used) <= 1000


def test_rays_counts_follow_the_formula() -> None:
    """A rejected flip costs 1; an accepted one 1 + ⌈log2(ρ/1e-3)⌉, ρ being the radius it improves on."""
    h = half_space(1)
    oracle = attack(oracle_on(h, 1, 250, norm="linf", budgets=list(range(1, 251))), "rays")
    ledger = oracle.close()
    radii = submitted_distance(oracle)[0] * math.sqrt(D)
    changed = (radii[1:] < radii[:-1]).nonzero().flatten()
    finite = changed[radii[changed].isfinite()]
    spent = 0
    for k in finite.tolist():
        spent += math.ceil(math.log2(radii[k].item() / 1e-3))
    first = math.ceil(math.log2(math.sqrt(D) / 1e-3))
    searched = int(ledger.phases["bisection"][0])
    assert abs(searched - first - spent) <= 1 + math.ceil(math.log2(radii[-1].item() / 1e-3))
    assert int(ledger.phases["flip"][0]) + searched + 1 == 250


def test_ba_art_counts_twenty_candidates_a_trial() -> None:
    oracle = attack(oracle_on(half_space(1), 1, 2000), "ba", "art")
    phases = {k: int(v[0]) for k, v in oracle.close().phases.items()}
    assert set(phases) == {"check", "start", "orthogonal", "source"}
    assert phases["source"] > 0
    assert sum(phases.values()) == 2000
