"""HSJA-NA beyond its table: far ends that a vote checks, L∞, priors by size; and warm starts."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import SHAPE, D, HalfSpace, half_space, oracle_on, streams
from scipy.fft import dctn
from test_transfer import direction, reference
from torch import Tensor

from sndcli.attacks.common.noise import voted
from sndcli.attacks.common.prior import priors
from sndcli.attacks.decision.hsja_na_step import in_l2, stepped_out
from sndcli.attacks.registry import spec_of
from sndcli.attacks.spec import options_of
from sndcli.models.reference import Reference
from sndcli.queries.oracle import Oracle


def slab(thickness: float) -> tuple[HalfSpace, Oracle]:
    """Adversarial only between 0.1 and 0.1 + `thickness` along the normal."""
    h = half_space(1)

    def victim(z: Tensor) -> Tensor:
        value = (z - 0.5).flatten(1) @ h.w - h.margin
        inside = torch.minimum(value, thickness - value)
        return torch.stack([-inside, inside], 1)

    return h, oracle_on(victim, 2, 100)


@pytest.mark.parametrize(("thickness", "asked"), [(2.0, 2), (0.3, 6), (1e-6, 18)])
def test_a_step_is_halved_until_a_vote_calls_its_end_adversarial(thickness: float, asked: int) -> None:
    """A step of length 1 from the boundary: 0.3 deep, a quarter of it is inside; too thin, nothing is."""
    h, oracle = slab(thickness)
    image, normal = torch.arange(2), h.w.view(1, *SHAPE).expand(2, *SHAPE)
    x = 0.5 + 0.1 * normal
    far, found = stepped_out(oracle, x, x + normal, image, 0.0, 8, voted(9, 2))
    assert found.tolist() == [thickness > 0.1] * 2
    assert oracle.ledger.used.tolist() == [asked] * 2
    if thickness > 0.1:
        torch.testing.assert_close(far, x + normal * 2.0 ** (1 - asked / 2))
    whole, taken = stepped_out(oracle, x, x + normal, image, 0.1, 0, voted(9, 2))
    assert bool(taken.all())
    torch.testing.assert_close(whole, 0.5 + 1.1 * (x + normal - 0.5))
    assert oracle.ledger.used.tolist() == [asked] * 2  # nobody was asked


def attacked(oracle: Oracle, **changes: object) -> Oracle:
    spec = spec_of("hsja-na")
    settings = tuple(f"{k}={v}" for k, v in {"colour": 0, "window": 0, **changes}.items())
    spec.run(oracle, streams(), options_of(spec, None, settings))
    oracle.close()
    return oracle


def test_linf_finds_the_signs_of_the_normal_under_noise() -> None:
    """The optimum is m/‖w‖₁; lengths that noise is compared with are L2's, or nothing would be projected finely."""
    h = half_space(1, margin=0.25, sigma=0.01)
    oracle = attacked(oracle_on(h, 2, 1000, norm="linf"))
    found, everyone = oracle.ledger.submitted[0], torch.arange(2)
    border = oracle.distance(found, everyone) * 0.25 / ((found - 0.5).flatten(1) @ h.w)
    assert 1.0 <= float(border.mean() / (0.25 / h.w.abs().sum())) < 6.5
    assert float(in_l2(oracle, found, torch.arange(2)).max()) < 60 * float(
        oracle.distance(found, torch.arange(2)).max()
    )
    assert oracle.ledger.phases["step"].min() > 0


@pytest.mark.slow
def test_linf_gets_as_near_as_l2() -> None:
    """Of the optimum, within 15 %: summed gradients add up in L∞ as steps do in L2."""
    ratios = {}
    for norm in ("l2", "linf"):
        h = half_space(1, margin=0.25, sigma=0.01)
        oracle = attacked(oracle_on(h, 4, 5000, norm=norm))
        found = oracle.ledger.submitted[0]
        border = oracle.distance(found, torch.arange(4)) * 0.25 / ((found - 0.5).flatten(1) @ h.w)
        best = 0.25 / (float(h.w.abs().sum()) if norm == "linf" else 1.0)
        ratios[norm] = float(border.median()) / best
    assert ratios["linf"] == pytest.approx(ratios["l2"], rel=0.15)


def test_probes_are_as_measured_on_pictures_of_the_size() -> None:
    assert priors(None, None, None, 32) == (priors(0.8, 0.6, 0, 224)[0],) * 2
    probes, starts = priors(None, 0.0, None, 224)
    u = probes.draw(streams(), torch.arange(3), torch.empty(0, 3, 64, 64))
    assert float(u.var()) == pytest.approx(1.0, rel=0.05)
    energy = torch.from_numpy(dctn(u.numpy(), axes=(2, 3), norm="ortho")).square()
    assert float(energy[:, :, :16, :16].sum() / energy.sum()) == pytest.approx(1.0, abs=1e-6)
    grey = starts.draw(streams(), torch.arange(3), torch.empty(0, 3, 64, 64))
    common = float(3 * grey.mean(1).square().sum() / grey.square().sum())
    assert common == pytest.approx((1 + 2 * 0.8) / 3, abs=0.05)


def test_probes_are_no_wider_than_they_may_be() -> None:
    h = half_space(1)
    sent: list[Tensor] = []

    def victim(z: Tensor) -> Tensor:
        sent.append(z)
        return h(z)

    attacked(oracle_on(victim, 1, 200, eps=math.inf), widest=0.002, sigma_hat=0.01, start_scale=0.2)
    block = max(sent, key=len)
    spread = (block - block.mean(0)).flatten(1).norm(dim=1)
    assert float(spread.max()) <= 0.002 * math.sqrt(D) * 1.01


# -- warm starts ---------------------------------------------------------------------------------------------


def warm(
    name: str, w: Tensor, budget: int, norm: str = "l2", n: int = 3, sigma: float = 0.01
) -> tuple[Oracle, HalfSpace]:
    """Of a half-space at 0.3, with one linear reference network of the normal `w`."""
    h = half_space(1, margin=0.3, sigma=sigma)
    eps = 1.0 if norm == "l2" else 0.03
    oracle = oracle_on(h, n, budget, norm=norm, eps=eps)
    oracle.check(scores=spec_of(name).access == "scores")
    spec = spec_of(name)
    spec.run(oracle, streams(), options_of(spec, None, ("colour=0", "window=0")), [reference(w, 0.3)])
    oracle.close()
    return oracle, h


def beyond(oracle: Oracle, h: HalfSpace) -> Tensor:
    """``[N]``: how far beyond the boundary the ray of the submitted point is at ε; below 0: it never gets there."""
    found = oracle.ledger.submitted[-1]
    everyone = torch.arange(len(found))
    return (found - 0.5).flatten(1) @ h.w / oracle.distance(found, everyone) * oracle.eps - h.margin


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("name", ["hsja-na", "nes-na"])
def test_a_reference_like_the_victim_is_a_start_at_once(name: str, norm: str) -> None:
    """Its normal has the cosine 0.6 to the victim's, so that its point of the surface is adversarial."""
    h = half_space(1)
    other = direction(9)
    other = other - (other @ h.w) * h.w
    oracle, h = warm(name, 0.6 * h.w + 0.8 * other / other.norm(), 40, norm)
    assert bool((beyond(oracle, h) > 0.2).all())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hsja-na", "nes-na"])
def test_a_reference_that_knows_nothing_is_no_hindrance(name: str) -> None:
    """Its normal is at right angles to the victim's. The attack gets there as without it."""
    h = half_space(1)
    other = direction(9)
    oracle, h = warm(name, other - (other @ h.w) * h.w, 1000)
    assert bool((beyond(oracle, h) > -0.1).all())


def test_warm_starts_take_no_references_for_granted() -> None:
    """With an empty list an attack is what it is without one."""
    spec, options = spec_of("nes-na"), options_of(spec_of("nes-na"), None)
    ends = []
    nothing: list[list[Reference]] = [[]]
    for more in (nothing[:0], nothing):
        oracle = oracle_on(half_space(1, sigma=0.01), 2, 60, eps=1.0)
        oracle.check(scores=True)
        spec.run(oracle, streams(), options, *more)
        ends.append(oracle.close().submitted[-1])
    assert torch.equal(*ends)
