"""What must hold for every defense with parameters, in `CASES`; more on each below it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from conftest import CPU, SHAPE, generator
from torch import Tensor, nn

from sndcli.defenses.augment import RandomAugment
from sndcli.defenses.base import Defense, settle_sources
from sndcli.defenses.coarse import RandomJPEG, RandomLevels
from sndcli.defenses.gate import ConfidenceGate
from sndcli.defenses.input_noise import KINDS, SPREADS, InputNoise
from sndcli.defenses.model_set import ModelSet
from sndcli.defenses.output_noise import LogitNoise, LogitScaling
from sndcli.defenses.parse import build, parse
from sndcli.defenses.random_features import RandomFeatures
from sndcli.defenses.registry import ENTRIES
from sndcli.defenses.score_curve import ScoreCurve, Shape
from sndcli.defenses.small_noise import SmallNoise
from sndcli.defenses.smoothing import Smoothing
from sndcli.defenses.terms import name_of, parts
from sndcli.errors import ConfigError
from sndcli.models.classifier import IDENTITY, Classifier
from sndcli.models.inference import Forward, optimise
from sndcli.models.sources import load_model
from sndcli.runs import results
from sndcli.runs.listener import Listener
from sndcli.runs.prepare import prepare
from sndcli.runs.request import Request
from sndcli.streams import ImageStreams, drawing

CASES = {  # a defense, and the same with nothing in it
    **{f"noise:{kind}": f"noise:{kind},{'sigma' if kind in SPREADS else 'p'}=0" for kind in KINDS},
    "aug": "aug:flip=0,shift=0",
    "set:resnet20|resnet20-seed1|vgg": "",
    "set:resnet20|resnet20-seed1|vgg,mean=2": "",
    "rfd:nu=2": "rfd:0",
    "rfd:1,layer=layer1.0": "rfd:nu=0,layer=layer1.0",
    "rnp": "",
    "rnp:border=mean,sizes=whole": "",
    "smooth:n=3,sigma=5": "",
    "gate:0.9(noise:sigma=0.3)": "gate:0(noise)",
    "gate:1(aug+logit)": "gate:1(aug:flip=0,shift=0+logit:0)",
    "logit": "logit:0",
    "rls": "rls:1,high=1",
    "aaa-linear": "",
    "jpeg:5,high=60": "",
    "bits:8": "",
    "blacklight": "",
    "aaa-sine": "",
    "aug+noise:sigma=0.005": "aug:flip=0,shift=0+noise:sigma=0",
}


class Small(nn.Module):
    """A network with one convolution, ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.linear = nn.Linear(8 * 64, 10)
        for k, parameter in enumerate(self.parameters()):
            nn.init.normal_(parameter, std=0.3, generator=generator(k))

    def forward(self, x: Tensor) -> Tensor:
        out = nn.functional.avg_pool2d(self.layer1(x), 4)
        logits: Tensor = self.linear(out.flatten(1))
        return logits


def small() -> Classifier:
    return optimise(Classifier(Small(), IDENTITY, SHAPE, "small"), CPU)


def defended(text: str) -> Defense:
    made = build(parse(text, None, None), small(), CPU)
    assert isinstance(made, Defense)
    made.reseed(5)
    return made.eval()


def images(rows: int = 5) -> Tensor:
    return torch.rand(rows, *SHAPE, generator=generator(9))


def test_every_defense_with_parameters_is_here() -> None:
    assert {name_of(part) for text in CASES for part in parts(text)} == {*ENTRIES}


@pytest.mark.parametrize("text", CASES)
@torch.no_grad()
def test_canaries(text: str) -> None:
    made = defended(text)
    forward = Forward(made, CPU, 64)
    copies = images(1).repeat(16, 1, 1, 1)
    state = torch.get_rng_state()
    together = forward(copies)
    several = len(together.unique(dim=0)) > 1  # a draw for each row of a batch
    assert several == parse(text, None, None).random
    made.reseed(5)
    assert torch.equal(together, forward(copies))  # from the seed alone
    assert torch.equal(state, torch.get_rng_state())
    made.reseed(5)
    apart = torch.cat([forward(row[None]) for row in copies])
    assert torch.equal(together, apart)  # so the spread within a batch is that between batches
    if CASES[text]:
        bare, without = Forward(small(), CPU)(images()), Forward(defended(CASES[text]), CPU)(images())
        torch.testing.assert_close(without, bare, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("text", CASES)
def test_an_images_answers_are_its_own(text: str) -> None:
    made, x = defended(text), images()
    assert settle_sources(made)
    image = torch.tensor([0, 1, 1, 2, 3, 0, 4, 1, 1, 1, 4])

    def logits(which: Tensor, batch: int) -> Tensor:
        forward = Forward(made, CPU, batch)
        with drawing(ImageStreams(5, range(100, 105), "defense"), which):
            return forward(x[which])

    together = logits(image, 64)
    assert torch.equal(together, logits(image, 8))
    for one in range(5):
        assert torch.equal(together[image == one], logits(image[image == one], 64))


# -- noise ---------------------------------------------------------------------------------------------------


def field(kind: str, sigma: float = 0.01, f: int | None = None) -> Tensor:
    x = torch.full((400, *SHAPE), 0.5)
    return InputNoise(nn.Identity(), kind, sigma, f=f, generator=generator(1)).perturb(x) - x


@pytest.mark.parametrize("kind", ["gauss", "uniform", "laplace", "sign", "grey", "chroma", "low", "high"])
def test_all_noise_of_pixels_has_one_length(kind: str) -> None:
    noise = field(kind, f=8 if kind in ("low", "high") else None)
    assert bool(noise.isfinite().all())
    assert float(noise.square().mean().sqrt()) == pytest.approx(0.01, rel=0.01)
    assert float(noise.mean()) == pytest.approx(0, abs=2e-4)


def test_a_linear_score_sees_the_covariance() -> None:
    """Var(w · η) = σ² wᵀ C w."""
    w = torch.randn(SHAPE, generator=generator(3), dtype=torch.float64)
    grey, mean = w.sum(0), w.mean(0, keepdim=True)
    expected = {"gauss": w, "uniform": w, "laplace": w, "sign": w, "grey": grey, "chroma": (w - mean) * math.sqrt(1.5)}
    for kind, seen in expected.items():
        score = (field(kind).double() * w).sum((1, 2, 3))
        assert float(score.std()) == pytest.approx(0.01 * float(seen.norm()), rel=0.12), kind


def test_colours_and_bands() -> None:
    grey, chroma = field("grey"), field("chroma")
    assert torch.equal(grey[:, 0], grey[:, 1])
    assert float(chroma.sum(1).abs().max()) < 1e-6
    basis = torch.cos(math.pi * torch.arange(32)[:, None] * (2 * torch.arange(32) + 1) / 64)
    basis = basis / basis.norm(dim=1, keepdim=True)
    for kind in ("low", "high"):
        power = (basis @ field(kind, f=8)[:50] @ basis.T).square().mean((0, 1))
        corner = float(power[:8, :8].sum() / power.sum())
        assert corner == pytest.approx(1.0 if kind == "low" else 0.0, abs=1e-5), kind


def test_gaussian_noise_is_that_of_snd() -> None:
    noise, snd = (make(nn.Identity(), sigma=0.02, generator=generator(4)) for make in (InputNoise, SmallNoise))
    assert torch.equal(noise(images()), snd(images()))


def test_noise_of_a_number_an_image() -> None:
    grey = torch.full((3, *SHAPE), 0.3)
    torch.testing.assert_close(InputNoise(nn.Identity(), "contrast")(grey), grey)
    for kind in ("brightness", "gamma"):
        change = InputNoise(nn.Identity(), kind)(grey)
        assert len(change.unique()) == 3
    dark = InputNoise(nn.Identity(), "gamma", 5.0)(torch.zeros(50, *SHAPE))
    assert bool(dark.isfinite().all())


def test_salt_and_pepper_are_binomial() -> None:
    x = torch.full((500, *SHAPE), 0.5)
    changed = InputNoise(nn.Identity(), "salt-pepper", p=0.01, generator=generator(2)).perturb(x)
    counts = (changed != 0.5).sum((2, 3)).double()
    assert torch.equal(counts[:, 0], counts[:, 2])  # a pixel, not a channel
    assert float(counts[:, 0].mean()) == pytest.approx(10.24, abs=4 * math.sqrt(10.24 / 500))
    assert float(counts[:, 0].var()) == pytest.approx(10.24 * 0.99, rel=0.3)
    assert {*changed.unique().tolist()} == {0.0, 0.5, 1.0}


# -- flips and shifts ----------------------------------------------------------------------------------------


def test_flips_and_shifts_are_what_they_say() -> None:
    x = images(1)
    flipped = RandomAugment(nn.Identity(), flip=1, shift=0)(x)
    assert torch.equal(flipped, x.flip(3))
    made = RandomAugment(nn.Identity(), flip=0, shift=2, generator=generator(1))
    rows = made(x.repeat(200, 1, 1, 1))
    made.reseed(1)
    made.generator.manual_seed(generator(1).initial_seed())
    _, down, right = made.geometry(200)
    padded = nn.functional.pad(x, (2, 2, 2, 2), mode="reflect")
    for row, dy, dx in zip(rows[:30], down.tolist(), right.tolist(), strict=False):
        assert torch.equal(row, padded[0, :, 2 - dy : 34 - dy, 2 - dx : 34 - dx])
    assert len({*zip(down.tolist(), right.tolist(), strict=True)}) == 25
    symmetric = x + x.flip(3)
    assert torch.equal(RandomAugment(nn.Identity(), shift=0)(symmetric), symmetric)


def test_states_are_equally_likely() -> None:
    flips, down, right = RandomAugment(nn.Identity(), generator=generator(0)).geometry(20_000)
    counts = torch.bincount(flips.long() * 25 + (down + 2) * 5 + right + 2, minlength=50).double()
    assert float(((counts - 400) ** 2 / 400).sum()) < 90  # χ² of 49 degrees, beyond 99.9 %


# -- sets ----------------------------------------------------------------------------------------------------


class Says(nn.Module):
    """One class, whatever it sees."""

    def __init__(self, label: int) -> None:
        super().__init__()
        self.label = label

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.one_hot(torch.full((len(x),), self.label), 3).float()


def test_members_are_chosen_for_each_row() -> None:
    made = ModelSet([Says(k) for k in range(3)], generator=generator(0))
    counts = made(torch.zeros(9_000, 1, 1, 1)).sum(0)
    assert float(((counts - 3_000) ** 2 / 3_000).sum()) < 14  # χ² of 2 degrees, beyond 99.9 %


def test_a_set_of_one_or_of_copies_is_the_model() -> None:
    model, x = small(), images()
    for made in (ModelSet([model]), ModelSet([model, model, model]), ModelSet([model] * 3, mean=2)):
        torch.testing.assert_close(made(x).softmax(1), model(x).softmax(1))


def test_the_mean_is_of_different_members() -> None:
    found = ModelSet([Says(k) for k in range(3)], 2, generator=generator(0))(torch.zeros(60, 1, 1, 1)).softmax(1)
    high, low = (math.e + 1) / (math.e + 2) / 2, 1 / (math.e + 2)
    for row in found.sort(1, descending=True).values:
        torch.testing.assert_close(row, torch.tensor([high, high, low]))


# -- votes ---------------------------------------------------------------------------------------------------


class Ramp(nn.Module):
    """Two classes, the second where the first pixel is above 1/2."""

    def forward(self, x: Tensor) -> Tensor:
        value = x[:, 0, 0, 0] - 0.5
        return torch.stack([-value, value], 1)


def flips(made: nn.Module, offset: float, rows: int = 4_000) -> float:
    """Share of answers of the second class at a point `offset` beyond the boundary."""
    x = torch.full((rows, 1, 1, 1), 0.5 + offset)
    return float((made(x).argmax(1) == 1).double().mean())


def phi(value: float) -> float:
    return (1 + math.erf(value / math.sqrt(2))) / 2


def test_a_vote_of_one_is_a_noisy_pass() -> None:
    one, noise = (
        Smoothing(small(), 1, 0.3, generator=generator(1)),
        InputNoise(small(), "gauss", 0.3, generator=generator(1)),
    )
    assert torch.equal(one(images()).argmax(1), noise(images()).argmax(1))


def test_a_vote_narrows_the_noise() -> None:
    """Beside the boundary the vote flips as one pass under σ √(π/(2n)) does; of very many it flips never."""
    sigma, n = 0.1, 25
    width = sigma * math.sqrt(math.pi / (2 * n))
    for offset in (-width, 0.5 * width, width):
        found = flips(Smoothing(Ramp(), n, sigma, generator=generator(2)), offset)
        assert found == pytest.approx(phi(offset / width), abs=0.03)
    assert flips(Smoothing(Ramp(), 4_001, sigma, generator=generator(2)), 2 * width, 50) == 1


def test_scores_of_a_vote_are_shares_and_unanswered_rows_stay_so() -> None:
    shares = Smoothing(Ramp(), 8, 0.1, generator=generator(3))(torch.full((3, 1, 1, 1), 0.5)).softmax(1)
    torch.testing.assert_close(shares * 8, (shares * 8).round())
    assert bool(Smoothing(Ramp(), 8)(torch.full((2, 1, 1, 1), math.nan)).isnan().all())


# -- gates ---------------------------------------------------------------------------------------------------


class Counts(nn.Module):
    """`inside`, and how many rows it was asked about."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside, self.rows = inside, 0

    def forward(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        out: Tensor = self.inside(x)
        return out


def test_a_gate_is_the_model_or_what_is_inside() -> None:
    model, x = small(), images(40)
    clean = model(x)
    sure = clean.softmax(1).amax(1)
    tau = float(sure.median())
    counts = Counts(model)
    mixed = ConfidenceGate(counts, LogitNoise(counts, 5.0, generator=generator(1)), tau)(x)
    same = (mixed == clean).all(1)
    assert torch.equal(same, sure > tau)
    assert counts.rows == 40 + int((sure <= tau).sum())  # 1 + P(open) passes
    inner = LogitNoise(model, 5.0, generator=generator(1))
    closed, opened = (ConfidenceGate(model, LogitNoise(model, 5.0, generator=generator(1)), t)(x) for t in (0, 1))
    assert torch.equal(closed, clean)
    assert torch.equal(opened, inner(x))


# -- answers -------------------------------------------------------------------------------------------------


def test_logit_noise_flips_by_the_margin() -> None:
    """A margin M flips with Φ(-M/(√2 τ))."""
    found = flips(LogitNoise(Ramp(), 0.2, generator=generator(1)), 0.1, 20_000)
    assert found == pytest.approx(phi(0.2 / (math.sqrt(2) * 0.2)), abs=0.012)


def test_scaling_keeps_the_label_and_is_undone_by_division() -> None:
    logits = 3 * torch.randn(500, 10, generator=generator(1), dtype=torch.float64)

    def ratio(scores: Tensor) -> Tensor:
        centred = scores.log_softmax(1) - scores.log_softmax(1).mean(1, keepdim=True)
        found: Tensor = centred / centred.norm(dim=1, keepdim=True)
        return found

    scaled = LogitScaling(nn.Identity(), generator=generator(2))(logits)
    assert torch.equal(scaled.argmax(1), logits.argmax(1))
    assert float((scaled / logits.float()).min()) >= 0.499
    assert float((scaled / logits.float()).max()) <= 10.001
    torch.testing.assert_close(ratio(scaled.double()), ratio(logits), atol=1e-5, rtol=0)
    assert float((ratio(0.5 * logits) - ratio(10 * logits)).abs().max()) < 1e-14


def test_curves_have_their_shape() -> None:
    linear, sine = ScoreCurve(nn.Identity(), "linear"), ScoreCurve(nn.Identity(), "sine")
    for start in (0.0, 4.0, 8.0):
        margins = start + torch.tensor([0.4, 1.4, 3.4])
        torch.testing.assert_close(linear.target(margins).diff(), -margins.diff())
        torch.testing.assert_close(linear.target(margins), 2 * start + 4 - margins)
    for end in (6.0, 12.0):
        before, after = sine.target(torch.tensor([end - 1e-4, end + 1e-4]))
        assert float(before) == pytest.approx(float(after), abs=2e-3)
    lengths = torch.linspace(0, 6, 601)[1:-1]
    assert float(sine.target(lengths).min()) > 0


@pytest.mark.parametrize("shape", ["linear", "sine"])
def test_curves_keep_labels_and_move_margins(shape: Shape) -> None:
    logits = 4 * torch.randn(10_000, 10, generator=generator(1))
    made = ScoreCurve(nn.Identity(), shape)
    moved = made(logits)
    assert torch.equal(moved.argmax(1), logits.argmax(1))
    before, after = (z.topk(2, 1).values for z in (logits, moved))
    missed = (after[:, 0] - after[:, 1] - made.target(before[:, 0] - before[:, 1])).abs()
    assert float(missed.median()) < 0.2
    sure = (logits.softmax(1).amax(1) - moved.softmax(1).amax(1)).abs()
    assert float(sure.median()) < 0.1  # both are reached for some logits only


# -- coarser images ------------------------------------------------------------------------------------------


def test_levels_are_unbiased() -> None:
    x = torch.full((20_000, 1, 1, 1), 0.37)
    found = RandomLevels(nn.Identity(), 8, generator=generator(1)).perturb(x).double()
    assert float(found.mean()) == pytest.approx(0.37, abs=4 * (1 / 7) / math.sqrt(12 * 20_000))
    assert float(found.var()) == pytest.approx(1 / (12 * 49), rel=0.03)


def test_jpeg_of_the_highest_quality_hardly_changes_grey() -> None:
    smooth = torch.linspace(0, 1, 32).expand(2, 1, 32, 32)
    change = (RandomJPEG(nn.Identity(), 100, 100)(smooth) - smooth).abs()
    assert float(change.max()) <= 2.5 / 255
    assert float((RandomJPEG(nn.Identity(), 5, 5)(images(1)) - images(1)).abs().max()) > 0.05


# -- noise inside the network ------------------------------------------------------------------------------------


@pytest.mark.slow
@torch.no_grad()
def test_noise_before_the_average_is_noise_on_the_logits() -> None:
    """Its covariance is ν²WWᵀ/P, P being the places that are averaged; the bare network stays as it is."""
    network = optimise(load_model("resnet20"), CPU)
    bare, x = Forward(network, CPU), images(1)
    before = bare(x)
    made = RandomFeatures(network, 0.5, generator=generator()).eval()
    assert made.layer == "layer3"
    logits = Forward(made, CPU, 128)(x.expand(4000, *SHAPE)) - before
    w = load_model("resnet20").state_dict()["network.linear.weight"].double()
    expected = 0.5**2 * w @ w.T / 64
    found = logits.double().T.cov()
    assert float((found - expected).abs().max()) < 0.1 * float(expected.diag().max())
    assert float(logits.mean(0).abs().max()) < 5 * float(expected.diag().max().sqrt()) / 4000**0.5
    assert torch.equal(bare(x), before)
    shared = {p.data_ptr() for p in network.parameters()}
    assert {p.data_ptr() for p in made.parameters()} == shared


class Untraceable(Small):
    """One that `torch.fx` cannot follow."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if bool(x.isfinite().all()) else x.flatten(1)[:, :10]


@pytest.mark.slow
@torch.no_grad()
def test_noise_inside_networks_that_cannot_be_traced_and_layers_that_are_not_there() -> None:
    traced, other = (optimise(Classifier(n, IDENTITY, SHAPE, "small"), CPU) for n in (Small(), Untraceable()))
    one, two = (RandomFeatures(n, 0.7, "layer1", generator=generator()).eval() for n in (traced, other))
    torch.testing.assert_close(one(images()), two(images()))
    assert torch.equal(other(images()), optimise(Classifier(Untraceable(), IDENTITY, SHAPE), CPU)(images()))
    for network in (traced, other):
        with pytest.raises(ConfigError, match="layer1"):
            RandomFeatures(network, 0.7, "layr1")
    with pytest.raises(ConfigError, match="--compile"):
        RandomFeatures(optimise(Classifier(Small(), IDENTITY, SHAPE, "small"), CPU, (16,)), 0.7)


def test_a_gate_that_pictures_do_not_open_is_found_to_be_on(tmp_path: Path) -> None:
    """The network is sure of its first images, so that answers about these never differ; on the way between they do."""
    spec = parse("gate:0.9(noise:sigma=0.1)", None, None)
    request = Request(attack="null", defense=spec, images=3, budget=2, verify=2, boundary=False, out=tmp_path)
    job = prepare(request, Listener())
    victim = job.victim(spec)
    found = job.run(spec, lambda: victim)
    assert results.run_of(found.table)["passes_differ"] is True
    index = job.data.positions(found.table.column("image_id").to_pylist())
    assert float(victim.undefended(job.data.pixels(index)).softmax(1).amax(1).min()) > 0.9
