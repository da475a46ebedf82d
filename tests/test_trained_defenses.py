"""RSE and PNI: the formulas of their noise, one draw a row, and how a user names them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import SHAPE, Done, generator
from torch import Tensor, nn

from sndcli.defenses.base import Defense
from sndcli.defenses.noise_layers import RSE
from sndcli.defenses.parametric_noise import PNI, SharedPNI, noise_scales
from sndcli.defenses.parse import DefenseSpec, build, parse, settle
from sndcli.defenses.small_noise import SmallNoise
from sndcli.defenses.trained import read
from sndcli.errors import ConfigError, DataError
from sndcli.models.checkpoint import save_weights
from sndcli.models.classifier import IDENTITY, Classifier, Normalisation
from sndcli.models.inference import Forward, fold_batch_norm, optimise
from sndcli.models.sources import load_model
from sndcli.runs.config import RunConfig

CPU = torch.device("cpu")
DRAWS = 3000


class Stem(nn.Module):
    """One convolution without padding, so that on 3 x 3 images its output is ``⟨W_c, patch⟩``."""

    def __init__(self, channels: int = 4, size: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, size, bias=False)
        nn.init.normal_(self.conv.weight, generator=generator(5))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out.flatten(1)


def stem(normalisation: Normalisation = IDENTITY) -> Classifier:
    return Classifier(Stem(), normalisation, (3, 3, 3), "stem").eval()


def stem_weight(model: Classifier) -> Tensor:
    assert isinstance(model.network, Stem)
    return model.network.conv.weight.detach().clone()


def alphas_of(network: nn.Module, value: float) -> dict[str, Tensor]:
    layers = ((k, m) for k, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear))
    return {f"{name}.alpha": torch.linspace(value / 2, value, len(layer.weight)) for name, layer in layers}


def pni(alpha: float = 0.1) -> PNI:
    model = load_model("resnet20")
    return PNI(model, alphas_of(model.network, alpha), CPU, generator=generator(2)).eval()


def rse(**settings: float) -> RSE:
    return RSE(optimise(load_model("resnet20"), CPU), generator=generator(2), **settings).eval()  # type: ignore[arg-type]


# -- RSE ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pixel_units", [False, True])
def test_rse_variance_at_the_stem(pixel_units: bool) -> None:
    """Var over passes of output c is σ² ‖W_c‖² in the space that the convolution sees: σ, or σ / std on pixels."""
    normalisation = Normalisation((0.5, 0.5, 0.5), (0.25, 0.2, 0.5))
    model = stem(normalisation)
    w = stem_weight(model)
    sigma = 0.2 / torch.tensor(normalisation.std).view(3, 1, 1) if pixel_units else torch.full((3, 1, 1), 0.2)
    expected = (sigma**2 * w**2).flatten(1).sum(1)
    defense = RSE(model, 0.2, pixel_units=pixel_units, generator=generator()).train()  # one pass, plain outputs
    with torch.no_grad():
        out = defense(torch.rand(1, 3, 3, 3, generator=generator(1)).expand(DRAWS, 3, 3, 3))
    torch.testing.assert_close(out.var(0), expected, rtol=0.12, atol=0)


def test_rse_has_one_noise_before_each_of_the_19_convolutions() -> None:
    model = load_model("resnet20")
    seen: dict[str, float] = {}

    def probe(name: str) -> Callable[..., None]:
        return lambda _, inputs: seen.__setitem__(name, float(inputs[0].std()))

    defense = RSE(model, 0.2, 0.1, pixel_units=False, generator=generator()).train()
    model.eval()  # batch-norm's statistics stay; noise and passes are as in training
    for module in model.network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.zeros_(module.weight)
    for name, module in model.network.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(probe(name))
    gray = torch.tensor(model.normalisation.mean).view(1, 3, 1, 1).expand(4, *SHAPE)
    for module in model.network.modules():
        if isinstance(module, nn.BatchNorm2d):  # constant maps, so what varies is the noise alone
            nn.init.zeros_(module.bias)
            module.running_mean.zero_()  # type: ignore[union-attr]
    with torch.no_grad():
        defense(gray)
    assert len(seen) == len(defense.streams) == 19
    assert seen.pop("conv1") == pytest.approx(0.2, rel=0.03)
    for value in seen.values():
        assert value == pytest.approx(0.1, rel=0.05)


def test_rse_without_noise_is_the_plain_network() -> None:
    x = torch.rand(5, *SHAPE, generator=generator())
    plain = load_model("resnet20")(x)
    torch.testing.assert_close(rse(sigma_init=0.0, sigma_inner=0.0)(x), plain.log_softmax(1), atol=1e-4, rtol=1e-4)


def test_rse_is_the_mean_of_the_softmax_and_settles_with_more_passes() -> None:
    """Averages of n passes spread as 1/√n."""
    x = torch.full((1, 3, 3, 3), 0.5)

    def spread(passes: int) -> float:
        defense = RSE(stem(), 0.2, passes=passes, generator=generator(3)).eval()
        with torch.no_grad():
            p = defense(x.expand(1000, 3, 3, 3)).exp()
        torch.testing.assert_close(p.sum(1), torch.ones(1000))
        return float(p.std(0).mean())

    assert spread(1) / spread(16) == pytest.approx(4.0, rel=0.15)


# -- PNI ------------------------------------------------------------------------------------------------------------


def patches() -> Tensor:
    return torch.rand(2, 3, 3, 3, generator=generator(4))


@pytest.mark.parametrize("shared", [False, True])
def test_pni_variance_and_covariance(shared: bool) -> None:
    """Var = α_c² s² ‖patch‖²; two rows of a pass have Cov = α_c² s² ⟨patch₁, patch₂⟩ if they share the draw, else 0."""
    model = stem()
    w = stem_weight(model)
    alphas = alphas_of(model.network, 0.4)
    defense: Defense = SharedPNI(model, generator()) if shared else PNI(model, alphas, CPU, generator=generator())
    if isinstance(defense, SharedPNI):
        defense.set_alphas(alphas)
    x = patches()
    with torch.no_grad():
        if shared:
            out = torch.stack([defense(x) for _ in range(DRAWS)])
        else:
            out = defense(x.repeat(DRAWS, 1, 1, 1)).view(DRAWS, 2, -1)
    unit = (alphas["conv.alpha"] * w.std()) ** 2
    flat = x.flatten(1)
    torch.testing.assert_close(out.mean(0), flat @ w.flatten(1).T, atol=0.1, rtol=0.1)
    torch.testing.assert_close(out.var(0), flat.square().sum(1)[:, None] * unit, rtol=0.12, atol=0)
    covariance = ((out[:, 0] - out[:, 0].mean(0)) * (out[:, 1] - out[:, 1].mean(0))).mean(0)
    expected = (flat[0] @ flat[1]) * unit if shared else torch.zeros(4)
    assert bool(((covariance - expected).abs() < 0.12 * (flat[0].norm() * flat[1].norm()) * unit).all())


def test_pni_without_alpha_is_the_plain_network_and_deterministic() -> None:
    x = torch.rand(5, *SHAPE, generator=generator())
    defense = pni(alpha=0.0)
    first = defense(x)
    assert torch.equal(first, defense(x))
    torch.testing.assert_close(first, load_model("resnet20")(x), atol=1e-4, rtol=1e-4)


def test_pni_noise_is_folded_with_the_batch_norms() -> None:
    """Folding scales filter c by γ_c / √(v_c + ε), and the noise by the same."""
    model = load_model("resnet20")
    alphas = alphas_of(model.network, 0.3)
    folded = noise_scales(model.network, fold_batch_norm(model.network, SHAPE), alphas)
    conv, bn = model.network.layer2[0].conv1, model.network.layer2[0].bn1  # type: ignore[union-attr,index]
    g = (bn.weight / (bn.running_var + bn.eps).sqrt()).abs()
    torch.testing.assert_close(
        folded["layer2.0.conv1"], (alphas["layer2.0.conv1.alpha"] * conv.weight.std() * g).detach()
    )


def test_pni_per_row_and_shared_agree_in_distribution() -> None:
    """Mean and spread of the logits of ResNet-20, folded and grouped against the trained form."""
    model = load_model("resnet20")
    alphas = alphas_of(model.network, 0.2)
    x = torch.rand(1, *SHAPE, generator=generator(9))
    with torch.no_grad():
        rows = PNI(model, alphas, CPU, generator=generator(1))(x.expand(96, *SHAPE))
        form = SharedPNI(model, generator(2)).eval()
        form.set_alphas(alphas)
        shared = torch.cat([form(x) for _ in range(96)])
    standard_error = (rows.var(0) / 96 + shared.var(0) / 96).sqrt()
    assert bool(((rows.mean(0) - shared.mean(0)).abs() < 4.5 * standard_error).all())
    assert rows.std(0).mean() == pytest.approx(shared.std(0).mean().item(), rel=0.25)
    assert shared.std(0).mean() > 0.05


def test_shared_rows_of_one_pass_agree() -> None:
    form = SharedPNI(load_model("resnet20"), generator()).eval()
    with torch.no_grad():
        out = form(torch.full((8, *SHAPE), 0.5))
        torch.testing.assert_close(out[0].expand(8, -1), out, atol=1e-4, rtol=1e-4)
        assert bool((form(torch.full((8, *SHAPE), 0.5)) - out).abs().max() > 1e-2)


def test_pni_has_698_factors() -> None:
    form = SharedPNI(load_model("resnet20"), generator())
    assert sum(value.numel() for key, value in form.state().items() if key.endswith(".alpha")) == 698
    assert sum(p.numel() for p in form.parameters()) == 270_420


# -- both -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [rse, pni])
def test_copies_differ_and_batches_do_not_matter(make: Callable[[], Defense]) -> None:
    defense = make()
    forward = Forward(defense, CPU, 16)
    x = torch.rand(1, *SHAPE, generator=generator()).repeat(11, 1, 1, 1)
    defense.reseed(7)
    together = forward(x)
    assert bool((together[0] != together[1]).any())
    defense.reseed(7)
    apart = torch.cat([forward(x[:rows]) for rows in (1, 4, 6)])
    assert torch.equal(together, apart)
    defense.reseed(8)
    assert not torch.equal(together, forward(x))


def test_outer_noise_reseeds_the_network_inside() -> None:
    defense = SmallNoise(pni(), 0.01)
    x = torch.rand(2, *SHAPE, generator=generator())
    defense.reseed(3)
    first = defense(x)
    defense.reseed(3)
    assert torch.equal(first, defense(x))


@pytest.fixture
def weights(tmp_path: Path) -> dict[str, str]:
    """Files as `snd train` writes them, made of the shipped ResNet-20."""
    model = load_model("resnet20")
    extra = {"defense": "rse", "settings": '{"sigma_init": 0.05, "sigma_inner": 0.02}'}
    save_weights(model, "resnet20", tmp_path / "rse.safetensors", None, extra)
    state = model.network.state_dict() | alphas_of(model.network, 0.1)
    save_weights(model, "resnet20", tmp_path / "pni.safetensors", state, {"defense": "pni", "settings": "{}"})
    return {name: f"file:{tmp_path}/{name}.safetensors" for name in ("rse", "pni")}


def test_names_and_their_order(weights: dict[str, str]) -> None:
    spec = parse("pni+snd", 0.02, None, weights=weights["pni"])
    assert spec.random
    assert parse("pni", None, None).random
    model = load_model("resnet20")
    defended = build(settle(spec, model), model, CPU)
    assert isinstance(defended, SmallNoise)
    assert isinstance(defended.model, PNI)
    assert isinstance(build(parse("pni-shared", None, None, weights=weights["pni"]), model, CPU), SharedPNI)
    trained = build(parse("rse", None, None, weights=weights["rse"]), model, CPU)
    assert isinstance(trained, RSE)
    assert trained.settings == {"sigma_init": 0.05, "sigma_inner": 0.02, "passes": 5, "pixel_units": True}


@pytest.mark.parametrize(
    ("name", "sigma", "given", "message"),
    [
        ("snd+pni", 0.01, None, "innermost"),
        ("rse+pni", None, None, "innermost"),
        ("pmi", None, None, "Did you mean `pni`"),
        ("pni", 0.01, None, "belong to `snd`"),
        ("snd", 0.01, "resnet20-pni", "`--defense-weights` belong to"),
    ],
)
def test_impossible_combinations(name: str, sigma: float | None, given: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(name, sigma, None, weights=given)


def test_weights_are_checked(weights: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a network of `rse`"):
        read(weights["rse"], "pni")
    with pytest.raises(ConfigError, match="--defense pni --defense-weights"):
        load_model(weights["pni"] + "?arch=resnet20")
    save_weights(load_model("resnet20"), "resnet20", tmp_path / "plain.safetensors")
    with pytest.raises(ConfigError, match="of no defense"):
        read(f"file:{tmp_path}/plain.safetensors", "rse")
    with pytest.raises(ConfigError, match="Unknown network of a defense `mine-rse`"):
        settle(parse("rse", None, None), Classifier(nn.Flatten(), IDENTITY, SHAPE, "mine"))
    with pytest.raises(DataError, match="do not exist"):
        read("file:nowhere.safetensors", "rse")
    (tmp_path / "broken.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    with pytest.raises(DataError, match="cannot be read"):
        read(f"file:{tmp_path}/broken.safetensors", "rse")
    model = load_model("resnet20")
    alphas = alphas_of(model.network, 0.1)
    del alphas["linear.alpha"]
    with pytest.raises(DataError, match=r"linear\.alpha"):
        PNI(model, alphas)


def test_the_digest_of_the_weights_is_part_of_the_run_and_their_folder_is_not(
    weights: dict[str, str], tmp_path: Path
) -> None:
    model = load_model("resnet20")

    def run_id(source: str) -> str:
        spec = settle(parse("pni", None, None, weights=source), model)
        return RunConfig("null", "cifar10", "", "", "resnet20", "", spec).run_id

    here = Path(weights["pni"].removeprefix("file:"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "pni.safetensors").write_bytes(here.read_bytes())
    assert run_id(weights["pni"]) == run_id(f"file:{tmp_path}/other/pni.safetensors")
    state = model.network.state_dict() | alphas_of(model.network, 0.2)
    save_weights(model, "resnet20", tmp_path / "other" / "pni.safetensors", state, {"defense": "pni"})
    assert run_id(weights["pni"]) != run_id(f"file:{tmp_path}/other/pni.safetensors")
    plain = RunConfig("null", "cifar10", "", "", "resnet20", "", DefenseSpec("snd", 0.01))
    assert "weights" not in plain.as_dict()["defense"]


def test_attack_on_pni_behind_small_noise(snd: Callable[..., Done], weights: dict[str, str], tmp_path: Path) -> None:
    done = snd(
        "attack", "null", "--defense", "pni+snd", "--sigma", "0.01", "--defense-weights", weights["pni"], "--images", 3,
        "--budget", 8, "--verify", 4, "--out", tmp_path, "--json", "-q", "--batch-size", 16,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert '"defense": "pni+snd"' in done.stdout
    assert '"weights": "pni"' in done.stdout


def test_grouped_convolution_is_the_rows_own_convolution() -> None:
    """With strides and a bias: each row against its own weights, one at a time."""
    from sndcli.defenses.parametric_noise import RowNoise
    from sndcli.defenses.streams import Stream

    layer = nn.Conv2d(3, 4, 3, stride=2, padding=1)
    noisy = RowNoise(layer, torch.full((4,), 0.3), Stream(CPU))
    h = torch.rand(5, 3, 9, 9, generator=generator())
    noisy.draw(5)
    drawn = noisy.drawn
    assert drawn is not None
    assert not drawn[5:].any()  # for the rows of padding
    with torch.no_grad():
        out = noisy(h)
        rows = [F.conv2d(row[None], w, layer.bias, 2, 1) for row, w in zip(h, drawn[:5], strict=True)]
    torch.testing.assert_close(out, torch.cat(rows))
