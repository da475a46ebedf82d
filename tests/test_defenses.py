from __future__ import annotations

import pytest
import torch
from conftest import SHAPE, generator
from torch import nn

from sndcli import SmallNoise
from sndcli.defenses.parse import DefenseSpec, parse
from sndcli.errors import ConfigError


def noise_of(defense: SmallNoise, rows: int, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    x = torch.full((rows, *shape), 0.5)
    return defense.perturb(x) - x


def test_noise_has_the_stated_size_and_is_fresh_for_every_row() -> None:
    noise = noise_of(SmallNoise(nn.Flatten(), 0.01, generator=generator()).eval(), 64).flatten(1)
    assert noise.std().item() == pytest.approx(0.01, rel=0.01)
    assert noise.mean().item() == pytest.approx(0.0, abs=1e-4)
    cosine = torch.corrcoef(noise) - torch.eye(64)
    assert cosine.abs().max() < 0.1


def test_two_copies_in_one_batch_and_two_passes_differ() -> None:
    defense = SmallNoise(nn.Flatten(), 0.01).eval()
    x = torch.full((1, *SHAPE), 0.5).repeat(2, 1, 1, 1)
    first = defense(x)
    assert bool((first[0] != first[1]).any())
    assert bool((first != defense(x)).any())


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 5, 7)])
@pytest.mark.parametrize("beta", [None, 2.0])
def test_a_rows_noise_does_not_depend_on_the_batch(shape: tuple[int, ...], beta: float | None) -> None:
    one = SmallNoise(nn.Flatten(), 0.01, beta, generator=generator(1))
    two = SmallNoise(nn.Flatten(), 0.01, beta, generator=generator(1))
    together = noise_of(one, 11, shape)
    apart = torch.cat([noise_of(two, rows, shape) for rows in (1, 4, 6)])
    assert torch.equal(together, apart)


def test_beta_scales_each_row_once() -> None:
    """E‖noise‖ halves with a = b; the paper gives 0.275 for σ = 0.01 against 0.550."""
    lengths = noise_of(SmallNoise(nn.Flatten(), 0.01, 2.0, generator=generator()), 4000).flatten(1).norm(dim=1)
    assert lengths.mean().item() == pytest.approx(0.01 * 3072**0.5 / 2, rel=0.03)
    assert lengths.std().item() > 0.08  # a constant scale would give 0.007


def test_reseeding_repeats_the_stream() -> None:
    defense = SmallNoise(nn.Flatten(), 0.01, 1.0)
    defense.reseed(7)
    first = noise_of(defense, 3)
    defense.reseed(7)
    assert torch.equal(first, noise_of(defense, 3))
    defense.reseed(8)
    assert not torch.equal(first, noise_of(defense, 3))


def test_zero_sigma_does_not_touch_the_input() -> None:
    x = torch.rand(2, *SHAPE)
    assert SmallNoise(nn.Identity(), 0.0)(x) is x


def test_clip_and_quantize() -> None:
    x = torch.cat([torch.zeros(1, *SHAPE), torch.ones(1, *SHAPE)])
    assert SmallNoise(nn.Identity(), 0.1)(x).max() > 1
    clipped = SmallNoise(nn.Identity(), 0.1, clip=True)(x)
    assert clipped.min() >= 0
    assert clipped.max() <= 1
    levels = SmallNoise(nn.Identity(), 0.1, quantize=True)(x) * 255
    torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("sigma", "beta"), [(-0.1, None), (float("nan"), None), (0.1, 0.0), (0.1, -1.0)])
def test_impossible_noise_is_refused(sigma: float, beta: float | None) -> None:
    with pytest.raises(ConfigError, match="Expected"):
        SmallNoise(nn.Flatten(), sigma, beta)


def test_parsing() -> None:
    assert parse(None, None, None) == DefenseSpec("none")
    assert parse(None, 0.02, None) == DefenseSpec("snd", 0.02)
    assert parse("snd", None, 2.0) == DefenseSpec("snd", 0.01, 2.0)
    with pytest.raises(ConfigError, match="Did you mean `snd`"):
        parse("sdn", None, None)
    with pytest.raises(ConfigError, match="belong to"):
        parse("none", 0.01, None)
