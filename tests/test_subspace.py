"""The Subspace attack on linear victims and references, its dropped layers, and its reference models."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SHAPE, D, Done, generator, streams
from test_score_attacks import Linear
from torch import Tensor, nn

from sndcli.attacks.registry import REFERENCES
from sndcli.attacks.score import subspace
from sndcli.datasets import cifar10
from sndcli.errors import ConfigError
from sndcli.models.classifier import IDENTITY, Classifier
from sndcli.models.dropping import Coins, dropping
from sndcli.models.inference import Forward, optimise
from sndcli.models.reference import Reference
from sndcli.models.reference_cifar import ref_vgg
from sndcli.models.resnet_cifar import resnet20
from sndcli.models.sources import load_model
from sndcli.queries.oracle import Oracle
from sndcli.runs import results
from sndcli.streams import Streams
from sndcli.training.augment import cutout, jitter
from sndcli.training.recipe import recipe_of

CPU = torch.device("cpu")
LINF = subspace.SPEC.presets["linf"].options
Snd = Callable[..., Done]


def linear_network(w: Tensor, sign: float = 1.0) -> nn.Module:
    """Logits (0, w · x)."""
    linear = nn.Linear(D, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.stack([torch.zeros(D), sign * w]))
        linear.bias.zero_()
    return nn.Sequential(nn.Flatten(), linear)


def reference(network: nn.Module, size: tuple[int, ...] = SHAPE) -> Reference:
    return Reference(Classifier(network, IDENTITY, size), CPU)


def attack(victim: Linear, references: list[Reference], options: subspace.Options, budget: int, n: int = 2,
           norm: str = "linf", eps: float = 8 / 255, budgets: list[int] | None = None) -> Oracle:  # fmt: skip
    x0 = torch.full((n, *SHAPE), 0.5)
    y = torch.zeros(n, dtype=torch.int64)
    oracle = Oracle(victim, x0, y, budget=budget, budgets=budgets, norm=norm, eps=eps)
    oracle.check(scores=True)
    subspace.run(oracle, streams(), options, references)
    return oracle


# -- the algorithm -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 3, 6])
def test_reference_equal_to_the_victim_needs_the_predicted_iterations(steps: int) -> None:
    """Every step goes along sign(w), so margin / (lr ‖w‖₁) iterations suffice; each costs three queries."""
    victim = Linear(margin=1.0)
    gain = victim.w.abs().sum().item() / 255
    victim.margin = steps * gain - 0.02  # beyond the reach of the last iteration's probes
    oracle = attack(victim, [reference(linear_network(victim.w))], LINF, budget=100)
    assert oracle.ledger.stop_reason == ["success"] * 2
    assert oracle.ledger.used.tolist() == [1 + 3 * steps] * 2
    assert oracle.ledger.phases["probe"].tolist() == [2 * steps] * 2
    expected = 0.5 + steps / 255 * victim.w.sign().view(SHAPE)
    torch.testing.assert_close(oracle.close().submitted[0][0], expected, atol=1e-6, rtol=0)


def test_a_negated_reference_walks_the_same_way() -> None:
    """Only the line of r matters: the probes find its sign. With dropped layers, too."""
    victim, budgets = Linear(margin=30.0), [31, 61, 121]
    submitted = [
        attack(victim, [reference(linear_network(victim.w, sign))], LINF, 121, eps=0.5, budgets=budgets)
        .close()
        .submitted
        for sign in (1.0, -1.0)
    ]
    for one, other in zip(*submitted, strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(submitted[0][2], submitted[0][0])


def test_a_step_of_the_prior_has_l1_norm_one() -> None:
    v, r = torch.randn(2, 5, *SHAPE, generator=generator())
    moved = subspace.update(v, r, torch.tensor([3.0, -0.1, 1e-9, 0.0, float("nan")]), 1.0) - v
    assert moved.flatten(1).abs().sum(1).tolist() == pytest.approx([1, 1, 1, 0, 0], abs=1e-3)
    directions = (moved * r).flatten(1).sum(1).sign().tolist()
    assert directions == [1, -1, 1, 0, 0]


class Aligned:
    """A reference whose gradients are random with a given cosine to w."""

    def __init__(self, w: Tensor, cosine: float) -> None:
        self.w, self.cosine, self.generator = w, cosine, generator(11)

    def vjp(self, x: Tensor, s: Tensor, rate: float, _: Streams, __: Tensor) -> Tensor:
        noise = torch.randn(len(x), D, generator=self.generator)
        noise -= (noise @ self.w)[:, None] * self.w
        noise /= noise.norm(dim=1, keepdim=True)
        gradient: Tensor = self.cosine * self.w + (1 - self.cosine**2) ** 0.5 * noise
        return gradient.view_as(x)


@pytest.mark.parametrize(
    ("cosine", "sigma", "expected"),
    [
        (0.3, 0.0, (0.71, 0.91, 0.95)),
        (0.3, 0.01, (0.71, 0.86, 0.86)),
        (0.1, 0.0, (0.30, 0.57, 0.70)),
        (0.1, 0.01, (0.24, 0.44, 0.46)),
        (0.03, 0.01, (0.06, 0.07, 0.07)),
    ],
)
def test_prior_aligns_with_the_gradient(
    cosine: float, sigma: float, expected: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """cos(v, ∇L) after 10 / 50 / 100 iterations, the image frozen, with and without noise on the loss."""
    victim, priors, update = Linear(margin=1.0, sigma=sigma), [], subspace.update

    def recording(*args: object) -> Tensor:
        priors.append(update(*args))  # type: ignore[arg-type]
        return priors[-1]

    monkeypatch.setattr(subspace, "update", recording)
    options = subspace.Options(image_lr=0.0)
    attack(victim, [Aligned(victim.w, cosine)], options, 301, n=16, eps=math.inf)  # type: ignore[list-item]
    found = [
        torch.nn.functional.cosine_similarity(priors[k - 1].flatten(1), victim.w[None]).mean().item()
        for k in (10, 50, 100)
    ]
    assert found == pytest.approx(expected, abs=0.05)


def test_drop_schedule() -> None:
    rates = [subspace.drop_rate(t, subspace.Options()) for t in (0, 9, 10, 110, 500)]
    assert rates == pytest.approx([0, 0, 0, 0.316, 0.496], abs=5e-4)


def test_the_next_direction_is_about_the_best_wrong_class() -> None:
    scores = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])
    s = subspace.cotangent(scores, torch.tensor([1, 0]))
    assert s.tolist() == [[0, -1, 1], [-1, 0, 1]]


@pytest.mark.parametrize(("budget", "votes", "paid"), [(10_000, 1, 15_001), (1, 1, 2), (20_000, 2, 30_002)])
def test_the_authors_count(budget: int, votes: int, paid: int) -> None:
    assert subspace.SPEC.paid_for(subspace.SPEC.presets["authors"].options, budget, votes) == paid
    assert subspace.SPEC.paid_for(LINF, budget, votes) == budget


def test_every_image_draws_its_own_reference() -> None:
    one, other = Aligned(torch.eye(D)[0], 1.0), Aligned(torch.eye(D)[1], 1.0)
    x = torch.zeros(1000, 3, 32, 32)
    r = subspace.directions(x, torch.zeros(1000, 2), [one, other], 0.0, streams(), torch.arange(1000)).flatten(1)  # type: ignore[list-item]
    assert torch.equal(r[:, :2].sum(1), torch.ones(1000))
    assert r[:, 0].mean().item() == pytest.approx(0.5, abs=0.06)


def coins() -> Coins:
    """Coins of all places from one generator."""
    g = generator()
    return lambda like, _: torch.rand(like.shape, generator=g)


# -- dropped layers ------------------------------------------------------------------------------------------


def test_everything_dropped_leaves_the_blocks_that_change_the_shape() -> None:
    from torchvision.models import resnet18

    x = torch.rand(2, 3, 64, 64, generator=generator())
    net = resnet18(weights=None).eval()
    net.fc = nn.Identity()
    ours = resnet20().eval()
    with torch.no_grad():
        stem = net.maxpool(net.relu(net.bn1(net.conv1(x))))
        expected = net.avgpool(net.layer4[0](net.layer3[0](net.layer2[0](stem)))).flatten(1)
        with dropping(net, 1.0, coins()):
            torch.testing.assert_close(net(x), expected)
        plain = ours(x)
        with dropping(ours, 1.0, coins()):
            torch.testing.assert_close(ours(x), ours.linear.bias.expand(2, 10))
        assert torch.equal(ours(x), plain)  # left as it was


def test_plain_networks_are_thinned_after_every_convolution() -> None:
    network, seen = ref_vgg().eval(), []
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.Linear):
            module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.rand(1, 3, 32, 32, generator=generator()).expand(16, 3, 32, 32)
    with torch.no_grad(), dropping(network, 0.3, coins()):
        out = network(x)
    assert len(seen) == 7  # six batch-norms and the linear layer
    for entering in seen[:-1]:
        assert (entering == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)
    with torch.no_grad():
        first = network.features[0](x[:1])
    kept = seen[0][seen[0] != 0] * 0.7
    torch.testing.assert_close(kept, first.expand(16, -1, -1, -1)[seen[0] != 0])
    assert out.unique(dim=0).shape[0] == 16  # every image has coins of its own


def test_residual_blocks_are_skipped_for_each_image_alone() -> None:
    network = resnet20().eval()
    entering: list[Tensor] = []
    network.layer1[1].register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0]))
    x = torch.rand(1, 3, 32, 32, generator=generator()).expand(400, 3, 32, 32)
    with torch.no_grad(), dropping(network, 0.25, coins()):
        network(x)
        stem = torch.relu(network.bn1(network.conv1(x[:1])))
    skipped = (entering[0] - stem).abs().flatten(1).amax(1) < 1e-5
    assert skipped.float().mean().item() == pytest.approx(0.25, abs=0.09)


# -- reference models ----------------------------------------------------------------------------------------


def test_vjp_is_the_adjoint_of_the_jacobian() -> None:
    w = torch.randn(D, generator=generator(4))
    x, s = torch.rand(3, *SHAPE), torch.tensor([[0.0, 1.0], [1.0, -1.0], [5.0, 0.5]])
    found = reference(linear_network(w)).vjp(x, s, 0.0, streams(), torch.arange(len(x)))
    torch.testing.assert_close(found.flatten(1), s[:, 1:] * w)


def test_vjp_of_a_network_of_another_size() -> None:
    """Resizing belongs to the network: <Jᵀs, dx> = s · (f(x + dx) - f(x)) for a linear one."""
    network = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(3 * 64, 4))
    model = reference(network, (3, 64, 64))
    x, dx = torch.rand(2, 2, *SHAPE, generator=generator())
    s = torch.randn(2, 4, generator=generator(1))
    with torch.no_grad():
        f = [model.model(torch.nn.functional.interpolate(z, (64, 64), mode="bilinear")) for z in (x, x + dx)]
    product = (model.vjp(x, s, 0.0, streams(), torch.arange(len(x))) * dx).flatten(1).sum(1)
    torch.testing.assert_close(product, (s * (f[1] - f[0])).sum(1), atol=1e-4, rtol=1e-3)


def test_a_gradient_does_not_depend_on_the_batch() -> None:
    model = Reference(Classifier(ref_vgg(), IDENTITY), CPU)
    x, s = torch.rand(70, *SHAPE, generator=generator()), torch.randn(70, 10, generator=generator(1))
    whole = model.vjp(x, s, 0.0, streams(), torch.arange(len(x)))
    some = torch.tensor([0, 33, 69])
    torch.testing.assert_close(model.vjp(x[some], s[some], 0.0, streams(), some), whole[some], atol=1e-5, rtol=1e-4)
    assert model.rows == 73
    assert all(p.grad is None for p in model.model.parameters())


def test_references_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="does not fit 1000 classes"):
        Reference(Classifier(ref_vgg(), IDENTITY), CPU).check(SHAPE, 1000)
    broken = linear_network(torch.full((D,), float("nan")))
    with pytest.raises(ConfigError, match="weights are broken"):
        reference(broken).check(SHAPE, 2)


def test_proxy_images_are_neither_attacked_nor_trained_on() -> None:
    ids = cifar10.proxy_ids()
    assert len(ids) == len(ids.unique()) == 2000
    assert not torch.isin(ids, cifar10.load_shipped().ids).any()
    assert hashlib.sha256(ids.numpy().tobytes()).hexdigest()[:16] == "d911bf4b956c1228"
    root = os.environ.get("SND_DATA")
    if not root:
        pytest.skip("needs the full CIFAR-10: set SND_DATA")
    proxy, shipped, trained = (cifar10.load("proxy", Path(root)), cifar10.load_shipped(),
                               cifar10.load("train", Path(root)))  # fmt: skip
    assert torch.equal(proxy.ids, ids)
    mine = {image.numpy().tobytes() for image in proxy.images}
    assert not mine & {image.numpy().tobytes() for image in shipped.images}
    assert not mine & {image.numpy().tobytes() for image in trained.images}


def test_images_can_be_left_out_by_id() -> None:
    data = cifar10.load_shipped()
    left = data.without(data.ids[:3], "three")
    assert len(left) == len(data) - 3
    assert torch.equal(left.ids, data.ids[3:])
    assert torch.equal(left.images, data.images[3:])
    assert data.without(cifar10.proxy_ids(), "none") is data


def test_augmentations_do_what_they_say() -> None:
    images = torch.full((500, 3, 32, 32), 200, dtype=torch.uint8)
    cut = cutout(images, 12, generator())
    grey = (cut == 120).all(1).flatten(1).sum(1)
    assert int(grey.max()) == 144
    assert int(grey.min()) >= 36
    assert bool(((cut == 120) | (cut == 200)).all())
    changed = jitter(images, 0.25, generator()).float().mean((2, 3)) / 200
    assert changed.min() >= 0.74
    assert changed.max() <= 1.26
    assert changed.std(0).tolist() == pytest.approx([0.25 / 3**0.5] * 3, rel=0.15)


def test_recipes_by_split() -> None:
    assert recipe_of("resnet20").as_dict()["drop"] == 0
    proxy = recipe_of("ref-vgg", split="proxy")
    assert proxy.split == "proxy"
    assert 0 < proxy.small_epochs < proxy.epochs


# -- the command line ----------------------------------------------------------------------------------------

SMALL = ("--images", 2, "--budget", 31, "--verify", 4, "--no-progress", "--json")


@pytest.mark.slow
def test_references_on_the_command_line(snd: Snd, snd_process: Snd, tmp_path: Path) -> None:
    given = ("--reference", "torchvision:resnet18/random", "--reference", "resnet20")
    refused = snd_process("attack", "subspace", *SMALL, *given, "--out", tmp_path)
    assert refused.returncode == 2
    assert "does not fit 10 classes" in refused.stderr
    runs = {}
    for source in ("resnet20", "none"):
        done = snd("attack", "subspace", *SMALL, "--reference", source, "--out", tmp_path / f"{source}.parquet")
        assert done.returncode == 0, done.stderr
        runs[source] = json.loads(done.stdout)
    assert runs["resnet20"]["run"]["config"]["references"][0][0] == "resnet20"
    assert len(runs["resnet20"]["run"]["config"]["references"][0][1]) == 16
    assert "references" not in runs["none"]["run"]["config"]
    assert runs["resnet20"]["run"]["id"] != runs["none"]["run"]["id"]
    row = runs["resnet20"]["rows"][-1]
    assert row["norm"] == "linf"
    assert row["eps"] == pytest.approx(8 / 255)
    assert row["success_seen"]["value"] == 1.0  # a white box: the reference is the victim


@pytest.mark.slow
def test_budgets_by_the_authors_count(snd: Snd, tmp_path: Path) -> None:
    options = ("--images", 2, "--budget", 20, "--budgets", 10, "--verify", 2, "--no-progress", "--json", "--eps", 1e-6)
    done = snd("attack", "subspace", *options, "--preset", "authors", "--reference", "none", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "20 queries by the authors' count are 31 paid ones" in done.stderr
    assert [row["budget"] for row in json.loads(done.stdout)["rows"]] == [16, 31]
    (path,) = tmp_path.glob("*.parquet")
    for row in results.read(path).to_pylist():
        assert dict(row["queries_by_phase"]) == {"check": 1, "probe": 20, "iterate": 10}


def test_adaptive_subspace_pays_for_every_vote(snd: Snd, tmp_path: Path) -> None:
    options = ("--images", 2, "--budget", 32, "--verify", 2, "--no-progress", "--json", "--eps", 1e-6)
    done = snd("adaptive", "subspace", *options, "--votes", 3, "--reference", "none", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("*.parquet")
    assert {row["queries"] for row in results.read(path).to_pylist()} == {30}


def test_other_attacks_take_no_references(snd: Snd) -> None:
    done = snd("attack", "hsja", "--reference", "resnet20")
    assert done.returncode == 2
    assert "takes no reference models" in done.stderr


@pytest.mark.parametrize(("name", "accuracy"), [("ref-vgg", 0.7017), ("ref-wide", 0.6658)])
def test_shipped_references_reach_their_accuracy(name: str, accuracy: float) -> None:
    """As measured on the shipped images, docs/results/references.md."""
    data = cifar10.load_shipped()
    forward = Forward(optimise(load_model(name), CPU), CPU)
    correct = (forward(data.pixels()).argmax(1) == data.labels).double().mean().item()
    assert correct == pytest.approx(accuracy, abs=0.003)


def test_shipped_references_point_along_the_victims_gradient() -> None:
    """A surrogate is of use where its gradient has a cosine with the victim's far above chance (0.018)."""
    data = cifar10.load_shipped()
    x, y = data.pixels(torch.arange(32)), data.labels[:32]
    victim = load_model("resnet20")
    s = subspace.cotangent(victim(x).softmax(1).detach(), y)
    mine = Reference(victim, CPU).vjp(x, s, 0.0, streams(), torch.arange(len(x))).flatten(1)
    for name in REFERENCES["cifar10"]:
        theirs = Reference(load_model(name), CPU).vjp(x, s, 0.0, streams(), torch.arange(len(x))).flatten(1)
        assert torch.nn.functional.cosine_similarity(mine, theirs).mean().item() > 0.05
