from __future__ import annotations

import pytest
import torch
from conftest import generator
from scipy.stats import chisquare
from torch import nn

from sndcli import ResizePad, SmallNoise
from sndcli.defenses.base import Defense
from sndcli.defenses.parse import DefenseSpec, build, parse
from sndcli.errors import ConfigError
from sndcli.models.classifier import IDENTITY, Classifier
from sndcli.models.inference import Forward, optimise
from sndcli.models.sources import load_model
from sndcli.runs.victim import Victim

CPU = torch.device("cpu")


@pytest.mark.parametrize(("side", "smallest", "canvas"), [(32, 33, 35), (224, 232, 248), (299, 310, 331)])
def test_sizes_are_those_of_the_paper(side: int, smallest: int, canvas: int) -> None:
    defense = ResizePad(nn.Identity(), generator=generator())
    assert defense(torch.rand(3, 3, side, side)).shape == (3, 3, canvas, canvas)
    r, top, left = defense.geometry(20_000, side)
    assert (int(r.min()), int(r.max())) == (smallest, canvas)
    for offset in (top, left):
        assert offset.min() == 0
        assert bool((offset + r <= canvas).all())
        assert bool((offset + r == canvas).any())


def test_geometry_is_uniform() -> None:
    r, top, left = ResizePad(nn.Identity(), generator=generator()).geometry(60_000, 224)
    counts = torch.bincount(r - 232)
    # r = round(224 s): the first value is hit from 232.24 on, the last up to 247.98
    width = torch.ones(17, dtype=torch.float64)
    width[0], width[-1] = 232.5 - 224 * 310 / 299, 224 * 331 / 299 - 247.5
    assert chisquare(counts.numpy(), (width / width.sum() * 60_000).numpy()).pvalue > 1e-3
    for offset in (top, left):
        assert chisquare(torch.bincount(offset[r == 240]).numpy()).pvalue > 1e-3
    joint = torch.bincount(top[r == 246] * 3 + left[r == 246], minlength=9)
    assert chisquare(joint.numpy()).pvalue > 1e-3


def test_the_picture_is_there_enlarged_on_grey() -> None:
    x = torch.rand(40, 3, 32, 32, generator=generator(5)) * 0.4
    defense = ResizePad(nn.Identity(), generator=generator(1))
    canvases = defense(x)
    r, top, left = ResizePad(nn.Identity(), generator=generator(1)).geometry(40, 32)
    for k in range(40):
        side, above, before = int(r[k]), int(top[k]), int(left[k])
        expected = torch.full((3, 35, 35), 0.5)
        enlarged = nn.functional.interpolate(x[k : k + 1], size=(side, side), mode="nearest")[0]
        expected[:, above : above + side, before : before + side] = enlarged
        assert torch.equal(canvases[k], expected)


def test_zero_after_the_normalisation_and_whole_sizes() -> None:
    """What the network sees of the border is 0; r is uniform on all but the largest size, as in the authors' code."""
    model = load_model("resnet20").eval()
    seen: list[torch.Tensor] = []
    model.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    defense = build(parse("rnp:border=mean,sizes=whole", None, None), model, CPU)
    assert isinstance(defense, ResizePad)
    defense(torch.ones(400, 3, 32, 32))
    border = (seen[0] - (1 - model.mean) / model.std).abs().amax(1) > 1e-5
    assert float((seen[0].abs().amax(1) * border).max()) < 1e-5
    assert bool(border.flatten(1).any(1).all())
    r, top, _ = defense.geometry(4000, 32)
    counts = torch.bincount(r)[33:]
    assert counts.tolist() == pytest.approx([2000, 2000], abs=150)
    assert (top + r).max() == 35
    with pytest.raises(ConfigError, match="border"):
        ResizePad(nn.Identity(), border="mean")


def test_a_full_size_canvas_has_no_border() -> None:
    x = torch.zeros(8, 3, 16, 16)
    assert bool((ResizePad(nn.Identity(), 1.5, 1.5)(x) == 0).all())
    assert torch.equal(ResizePad(nn.Identity(), 1.0, 1.0)(x + 0.2), x + 0.2)


def test_a_constant_image_of_the_borders_value_never_changes() -> None:
    x = torch.full((32, 3, 32, 32), 0.5)
    logits = ResizePad(load_model("resnet20").eval())(x)
    torch.testing.assert_close(logits, logits[:1].expand(32, -1), atol=1e-5, rtol=1e-5)


def test_two_copies_in_one_batch_and_two_passes_differ() -> None:
    defense = ResizePad(nn.Flatten()).eval()
    x = torch.rand(1, 3, 224, 224).repeat(2, 1, 1, 1)
    first = defense(x)
    assert bool((first[0] != first[1]).any())
    assert bool((first != defense(x)).any())


def test_a_rows_geometry_and_logits_do_not_depend_on_the_batch() -> None:
    fast = optimise(load_model("resnet20"), CPU)
    x = torch.rand(37, 3, 32, 32, generator=generator())
    answers = []
    for size in (8, 16, 64):
        defense = ResizePad(fast, generator=generator(3))
        answers.append(Forward(defense, CPU, size)(x))
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])


def test_outermost_is_last_and_each_draws_for_itself() -> None:
    model = Classifier(nn.Flatten(), IDENTITY, (3, 32, 32))
    noisy_first = build(parse("rnp+snd", 0.01, None), model, CPU)
    sized_first = build(parse("snd+rnp", 0.01, None), model, CPU)
    assert isinstance(noisy_first, SmallNoise)
    assert isinstance(noisy_first.model, ResizePad)
    assert isinstance(sized_first, ResizePad)
    assert isinstance(sized_first.model, SmallNoise)
    assert noisy_first.generator is not noisy_first.model.generator
    x = torch.full((4, 3, 32, 32), 0.5)
    # Noise before the geometry leaves the border grey; after it, the border is noisy too.
    before, after = (d(x).view(4, 3, 35, 35) for d in (noisy_first, sized_first))
    assert bool((before == 0.5).any())
    assert not bool((after == 0.5).any())
    for defense in (noisy_first, sized_first):
        assert isinstance(defense, Defense)
        defense.reseed(7)
        first = defense(x)
        assert bool((first != defense(x)).any())
        defense.reseed(7)
        assert torch.equal(first, defense(x))


def test_the_geometry_under_noise_is_that_without_it() -> None:
    """`rnp` inside `snd` draws what `rnp` alone would from the same stream: the noise takes nothing from it."""
    model = Classifier(nn.Flatten(), IDENTITY, (3, 32, 32))
    both = build(DefenseSpec("rnp+snd", 0.0), model, CPU)
    alone = build(DefenseSpec("rnp"), model, CPU)
    assert isinstance(both, Defense)
    assert isinstance(alone, Defense)
    both.reseed(5)
    alone.reseed(1_005)
    x = torch.rand(3, 3, 32, 32)
    assert torch.equal(both(x), alone(x))


def test_parsing() -> None:
    assert parse("rnp", None, None) == DefenseSpec("rnp")
    assert parse("rnp", None, None).random
    assert parse("rnp+snd", None, None) == DefenseSpec("rnp+snd", 0.01)
    with pytest.raises(ConfigError, match="belong to"):
        parse("rnp", 0.01, None)
    with pytest.raises(ConfigError, match="smallest"):
        ResizePad(nn.Identity(), 0.9)


def test_a_network_of_one_size_only_is_told_in_one_line() -> None:
    class Fixed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.shape[-1] == 224, f"Wrong image height! Expected 224 but got {x.shape[-1]}!"
            return x.mean(dim=(2, 3))

    model = Classifier(Fixed(), IDENTITY, (3, 224, 224), "fixed")
    Victim.prepare(model, DefenseSpec("none"), CPU, 8)
    with pytest.raises(ConfigError, match=r"Model fixed behind `--defense rnp` fails .* 248") as caught:
        Victim.prepare(model, DefenseSpec("rnp"), CPU, 8)
    assert "\n" not in str(caught.value)
