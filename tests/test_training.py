"""PGD, the objectives and the loop of `snd train`; the networks in the package against their cards."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import generator
from torch import Tensor, nn

from sndcli.datasets import cifar10
from sndcli.datasets.base import ImageSet
from sndcli.defenses import trained
from sndcli.errors import ConfigError, DataError
from sndcli.models import zoo
from sndcli.models.inference import Forward, optimise
from sndcli.models.sources import load_model
from sndcli.runs.accuracy import accuracy
from sndcli.training import loop
from sndcli.training.card import ship
from sndcli.training.loop import build, train, train_form_state, with_noise
from sndcli.training.objectives import objective_of
from sndcli.training.recipe import Recipe, recipe_of
from sndcli.training.robustness import PGD, robust_accuracy

CPU = torch.device("cpu")


def few(n: int) -> ImageSet:
    data = cifar10.load_shipped()
    order = torch.randperm(len(data), generator=generator(1))[:n]
    return ImageSet("cifar10", "a few", data.images[order], data.labels[order], data.ids[order], data.classes)


def tiny(defense: str, **changes: object) -> Recipe:
    """A recipe for a few steps on 16 x 16 crops."""
    small = {"start": "", "epochs": 2, "batch_size": 32, "warmup": 0.25, "small_epochs": 2, "small_size": 16}
    given = {"lr": 0.05, **small, **changes}
    return replace(recipe_of("resnet20", defense), **given)  # type: ignore[arg-type]


# -- PGD ------------------------------------------------------------------------------------------------------------


class Linear(nn.Module):
    """Logits ``(0, ⟨w, x⟩)``: the cross-entropy of label 0 rises along w."""

    def __init__(self) -> None:
        super().__init__()
        self.w = torch.randn(3 * 8 * 8, generator=generator(2))

    def forward(self, x: Tensor) -> Tensor:
        value = (x - 0.5).flatten(1) @ self.w
        return torch.stack([torch.zeros_like(value), value], 1)


@pytest.mark.parametrize("text", ["linf:8/255:10", "l2:0.5:10", "l2:0.5:1", "linf:0.1:20:0.01"])
def test_pgd_stays_in_the_ball_and_reaches_the_optimum_of_a_linear_model(text: str) -> None:
    """The optimum inside the cube is ε sign(w) or ε w / ‖w‖."""
    pgd, model = PGD.parse(text), Linear()
    x0 = torch.full((4, 3, 8, 8), 0.5)
    y = torch.zeros(4, dtype=torch.int64)
    x = pgd.perturb(model, x0, y, generator())
    d = (x - x0).flatten(1)
    length = d.abs().amax(1) if pgd.norm == "linf" else d.norm(dim=1)
    assert bool((length <= pgd.eps * (1 + 1e-5)).all())
    best = pgd.eps * (model.w.abs().sum() if pgd.norm == "linf" else model.w.norm())
    gained = model(x)[:, 1]
    assert bool((gained > (0.95 if pgd.steps > 1 else 0.7) * best).all())
    assert not x.requires_grad


def test_pgd_respects_the_cube_and_raises_the_loss_of_the_network() -> None:
    model, data = optimise(load_model("resnet20"), CPU), few(16)
    x0, y = data.pixels(), data.labels
    loss = nn.CrossEntropyLoss()
    for text in ("linf:8/255:3", "l2:0.5:3"):
        x = PGD.parse(text).perturb(model, x0, y, generator())
        assert x.min() >= 0
        assert x.max() <= 1
        assert loss(model(x), y) > 3 * loss(model(x0), y)


class Scattered(Linear):
    """The same answers, but gradients of one draw point anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.draws = generator(3)

    def forward(self, x: Tensor) -> Tensor:
        other = 5 * torch.randn(self.w.shape, generator=self.draws)
        return super().forward(x) + ((x - x.detach()).flatten(1) @ other)[:, None] * torch.tensor([0.0, 1.0])


def test_pgd_over_many_draws_finds_what_single_draws_hide() -> None:
    x0, y = torch.full((8, 3, 8, 8), 0.5), torch.zeros(8, dtype=torch.int64)
    best = 0.5 * float(Linear().w.norm())
    gained = [
        float(Linear()(PGD.parse(text).perturb(Scattered(), x0, y, generator()))[:, 1].mean()) / best
        for text in ("l2:0.5:5", "l2:0.5:5:eot=100")
    ]
    assert gained[0] < 0.6
    assert gained[1] > 0.9


@pytest.mark.parametrize(
    "text",
    [
        "linf",
        "linf:0:7",
        "l3:1:7",
        "l2:0.5:0",
        "l2:0.5:seven",
        "l2:1/0:3",
        "l2:nan:3",
        "l2:1:3:0:0",
        "l2:1:3:eot=0",
        "l2:1:3:eot=x",
    ],
)
def test_impossible_pgd_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="Expected"):
        PGD.parse(text)


# -- recipes and the loop -------------------------------------------------------------------------------------------


def test_recipes() -> None:
    assert recipe_of("resnet20") == Recipe()  # what it was before there were others
    paper = recipe_of("resnet20", "pni", "paper")
    assert [paper.lr_at(epoch) for epoch in (1, 80, 80.5, 120.5)] == pytest.approx([0.1, 0.1, 0.01, 0.001])
    assert PGD.parse(paper.pgd) == PGD("linf", 0.031, 7, 0.01)
    assert recipe_of("resnet32", "at").start == ""
    robust = recipe_of("resnet20", "at", "paper")  # the robustness library's defaults for CIFAR
    assert (robust.epochs, robust.weight_decay) == (150, 5e-4)
    assert [robust.lr_at(epoch) for epoch in (1, 50, 50.5, 100.5, 149)] == pytest.approx([0.1, 0.1, 0.01, 1e-3, 1e-3])
    short = paper.lasting(16)
    assert (short.milestones, short.clean_epochs, short.epochs) == ((8, 12), 0, 16)
    gaussian = recipe_of("resnet20", "gf")
    assert [gaussian.lr_at(epoch) for epoch in (0, 2.5, 5, 7.5, 10)] == pytest.approx(
        [0.01, 0.01 * (2 + 2**0.5) / 4, 0.005, 0.01 * (2 - 2**0.5) / 4, 0.0]
    )
    assert gaussian.sigma_max == pytest.approx(0.075)
    with pytest.raises(ConfigError, match="no recipe of a paper"):
        recipe_of("resnet20", "gf", "paper")
    with pytest.raises(ConfigError, match="Did you mean `rse`"):
        recipe_of("resnet20", "rsa")


@pytest.mark.slow
@pytest.mark.parametrize("defense", ["none", "rse", "pni", "at", "gf"])
def test_training_lowers_the_loss_and_a_killed_run_continues_bit_for_bit(defense: str, tmp_path: Path) -> None:
    recipe, data, test = tiny(defense), few(256), few(16)
    whole = train(recipe, data, test, tmp_path / "whole", CPU)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert losses[1] < losses[0]

    def killed(p: loop.Progress) -> None:
        if p.epoch == 1 and p.step == 2:  # in the middle of the second epoch
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, data, test, tmp_path / "killed", CPU, report=killed)
    again = train(recipe, data, test, tmp_path / "killed", CPU)
    for (name, one), (_, two) in zip(whole.state_dict().items(), again.state_dict().items(), strict=True):
        assert torch.equal(one, two), name
    with pytest.raises(ConfigError, match="another recipe"):
        train(replace(recipe, lr=0.01), data, test, tmp_path / "killed", CPU)


@pytest.mark.parametrize("defense", ["rse", "pni", "at", "gf"])
def test_a_few_steps_of_each_objective_lower_its_loss(defense: str) -> None:
    recipe, data = tiny(defense), few(16)
    model = build(recipe)
    network = with_noise(recipe, model, CPU) or model
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    objective, x = objective_of(recipe), data.pixels()[:, :, 8:24, 8:24]
    losses = []
    for _ in range(8):
        network.train()
        loss, _ = objective(network, x, data.labels, 0, generator())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
        assert network.training  # PGD ran in eval mode and went back
    assert sum(losses[-2:]) < 0.9 * sum(losses[:2])
    if defense == "pni":
        alphas = [p for name, p in network.named_parameters() if name.endswith("alpha")]
        assert all(bool((alpha != 0.25).any()) for alpha in alphas)


class Kept(nn.Module):
    """Keeps the images it was asked about."""

    def forward(self, x: Tensor) -> Tensor:
        self.asked = x
        return torch.zeros(len(x), 10)


def test_gaussian_fine_tuning_draws_a_noise_level_for_each_image() -> None:
    """σ ~ U(0, s): its mean over images is s / 2, its standard deviation s / √12, and the generator repeats both."""
    model, x, s = Kept(), torch.full((400, 3, 16, 16), 0.98), 0.075
    objective = objective_of(recipe_of("resnet20", "gf"))
    objective(model, x, torch.zeros(400, dtype=torch.int64), 0, generator(1))
    noise = (model.asked - x).flatten(1)
    levels = noise.std(1)
    assert float(levels.mean()) == pytest.approx(s / 2, rel=0.1)
    assert float(levels.std()) == pytest.approx(s / 12**0.5, rel=0.1)
    assert float(levels.max()) < 1.1 * s
    assert abs(float((noise / levels[:, None]).mean())) < 0.02
    assert bool((model.asked > 1).any()), "nothing is clipped"
    objective(model, x, torch.zeros(400, dtype=torch.int64), 0, generator(1))
    assert torch.equal((model.asked - x).flatten(1), noise)


def test_pgd_of_training_leaves_batch_norm_and_weights_alone() -> None:
    recipe = tiny("at")
    model, data = build(recipe), few(8)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.eval()
    PGD.parse(recipe.pgd).perturb(model, data.pixels(), data.labels, generator())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("defense", ["none", "rse", "pni"])
def test_what_is_shipped_is_what_was_trained(defense: str, tmp_path: Path) -> None:
    recipe, data = tiny(defense), few(16)
    model = build(recipe)
    network = (with_noise(recipe, model, CPU) or model).eval()
    path = tmp_path / f"mine-{defense}.safetensors"
    card = ship(recipe, network, path, data, CPU, ("linf:8/255:1",), 8)
    assert json.loads(path.with_suffix(".json").read_text())["sha256"] == zoo.checksum(path.read_bytes())
    assert card["robust"][0]["n"] == 8
    if defense == "none":
        again = load_model(f"file:{path}?arch=resnet20")
        assert torch.equal(again(data.pixels()), network(data.pixels()))
    else:
        weights = trained.read(f"file:{path}", defense)
        assert weights.settings == (network.settings if defense == "rse" else {})
        assert sum(a.numel() for a in weights.alphas.values()) == (698 if defense == "pni" else 0)


@pytest.mark.parametrize("defense", ["rse", "pni"])
def test_training_goes_on_from_weights_of_the_same_defense(defense: str, tmp_path: Path) -> None:
    recipe = tiny(defense)
    model = with_noise(recipe, build(recipe), CPU)
    assert model is not None
    for p in model.parameters():
        p.data += 0.01
    path = tmp_path / "first.safetensors"
    ship(recipe, model, path, few(8), CPU, pgd_images=0)
    again = replace(recipe, start=f"file:{path}")
    network = with_noise(again, build(again), CPU)
    assert network is not None
    kept = train_form_state(again, network)[1]
    for name, tensor in train_form_state(recipe, model)[1].items():
        assert torch.equal(kept[name], tensor), name


def test_networks_with_noise_are_not_compiled(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot follow the noise"):
        train(tiny("rse"), few(8), few(8), tmp_path, CPU, compiled=True)


# -- the zoo --------------------------------------------------------------------------------------------------------


HEAVY = ("resnet20-rse", "resnet20-pni")  # as their defenses are asked: many passes
CARDS = [pytest.param(name, marks=[pytest.mark.slow] if name in HEAVY else []) for name in zoo.available()]
SOME = 300  # images, of all networks but the victim, on whose answers figures rest


@pytest.mark.parametrize("name", CARDS)
def test_shipped_weights_are_those_of_their_card(name: str) -> None:
    """Checksum; accuracy on the 1,200 shipped images, or some of them, within four standard errors of the card's."""
    card = zoo.card(name)
    assert card["name"] == name
    assert card["arch"] == zoo.ENTRIES[name].arch
    assert card["defense"] == zoo.ENTRIES[name].trained_as
    assert card["sha256"] == zoo.checksum(zoo.weights(name))
    defense = zoo.ENTRIES[name].defense
    if defense:
        model: nn.Module = trained.defend(trained.read(name, defense), defense, CPU, torch.Generator())
    else:
        model = optimise(load_model(name), CPU)
    data, stated = cifar10.load_shipped() if name == "resnet20" else few(SOME), card["accuracy"]["value"]
    (value,) = accuracy(Forward(model, CPU), data, [0])
    assert abs(value - stated) < 4 * (stated * (1 - stated) / len(data)) ** 0.5


def test_a_network_that_is_not_shipped_says_how_to_make_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(zoo, "FOLDER", tmp_path)
    assert zoo.available() == []
    with pytest.raises(DataError, match=r"not in this installation.\nMake them: snd train resnet20 --defense at"):
        load_model("resnet20-at")
    with pytest.raises(DataError, match=r"--defense-weights file:runs/resnet20-pni/resnet20-pni\.safetensors"):
        trained.read("resnet20-pni", "pni")
    with pytest.raises(ConfigError, match="--model resnet20 --defense rse"):
        load_model("resnet20-rse")


def test_robust_accuracy_of_the_undefended_network() -> None:
    """PNI's paper, table 1: no defense, 0.0 % under PGD-7 at 8/255."""
    model = optimise(load_model("resnet20"), CPU)
    data = few(48)
    assert robust_accuracy(model, data, PGD.parse("linf:8/255:7"), CPU, 40) < 0.1
    assert robust_accuracy(model, data, PGD("linf", 1e-6, 1), CPU, 40) > 0.75
