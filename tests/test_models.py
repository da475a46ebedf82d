from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from sndcli.datasets import cifar10
from sndcli.defenses.parse import parse
from sndcli.errors import ConfigError, DataError
from sndcli.models.checkpoint import save_weights
from sndcli.models.classifier import Classifier, Normalisation
from sndcli.models.inference import Forward, measure_batch_size, optimise
from sndcli.models.resnet_cifar import BasicBlock, resnet20
from sndcli.models.sources import load_model
from sndcli.runs.victim import Victim

CPU = torch.device("cpu")


def test_resnet20_is_the_published_one() -> None:
    network = resnet20()
    assert sum(p.numel() for p in network.parameters()) == 269_722
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    assert network(torch.rand(1, 3, 35, 35)).shape == (1, 10)


def test_shortcut_is_option_a() -> None:
    block = resnet20().layer2[0]
    assert isinstance(block, BasicBlock)
    x = torch.rand(1, 16, 8, 8)
    shortcut = block.shortcut(x)
    assert torch.equal(shortcut[:, 8:24], x[:, :, ::2, ::2])
    assert shortcut[:, :8].abs().sum() == shortcut[:, 24:].abs().sum() == 0


def test_shipped_weights_reach_their_accuracy_on_the_shipped_images() -> None:
    """91.31 % of the 10,000; the 1,200 shipped images give it within four standard errors."""
    data = cifar10.load_shipped()
    forward = Forward(optimise(load_model("resnet20"), CPU), CPU)
    correct = (forward(data.pixels()).argmax(1) == data.labels).double().mean().item()
    assert abs(correct - 0.9131) < 4 * (0.9131 * 0.0869 / 1200) ** 0.5


def test_inference_gives_the_plain_networks_logits_whatever_the_batch() -> None:
    model = load_model("resnet20")
    x = torch.rand(37, 3, 32, 32)
    forward = Forward(optimise(model, CPU), CPU, batch_size=16)
    with torch.no_grad():
        torch.testing.assert_close(forward(x), model(x), atol=1e-4, rtol=1e-4)
    other = Forward(optimise(model, CPU), CPU, batch_size=64)
    assert torch.equal(forward(x), other(x))
    assert torch.equal(torch.cat([forward(row[None]) for row in x]), other(x))
    assert other.rows == 2 * 37


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="compiling needs a C++ compiler")
def test_a_compiled_network_gives_the_same_logits_whatever_the_batch() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4))
    model = Classifier(network.eval(), Normalisation((0.5,) * 3, (0.25,) * 3), (3, 8, 8), "tiny")
    x = torch.rand(37, 3, 8, 8)
    few, many = (Victim.prepare(model, parse("snd", 0.0, None), CPU, rows, compiled=True) for rows in (24, 64))
    with torch.no_grad():
        torch.testing.assert_close(few.undefended(x), model(x), atol=1e-5, rtol=1e-5)
    assert torch.equal(few.undefended(x), many.undefended(x))
    assert torch.equal(torch.cat([many.undefended(row[None]) for row in x]), many.undefended(x))


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in load_model("resnet20").network.state_dict().items()}


def test_checkpoint_wrappers_and_prefixes_are_taken_off(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    prefixed = {f"module.{k}": v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    torch.save({"state_dict": prefixed, "best_prec1": 91.0}, tmp_path / "a.th")
    model = load_model(f"file:{tmp_path}/a.th?arch=resnet20&mean=0,0,0&std=1,1,1")
    assert torch.equal(model.network.conv1.weight, state["conv1.weight"])  # type: ignore[union-attr,arg-type]
    assert model.normalisation == Normalisation((0, 0, 0), (1, 1, 1))


def test_own_weights_make_the_round_trip(tmp_path: Path) -> None:
    model = load_model("resnet20")
    save_weights(model, "resnet20", tmp_path / "b.safetensors")
    again = load_model(f"file:{tmp_path}/b.safetensors?arch=resnet20")
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(model(x), again(x))


def test_checkpoints_that_do_not_fit_name_their_keys(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    del state["linear.bias"]
    state["extra"] = torch.zeros(1)
    state["conv1.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "c.pt")
    with pytest.raises(DataError, match=r"missing: linear\.bias; unexpected: extra; of another shape: conv1\.weight"):
        load_model(f"file:{tmp_path}/c.pt?arch=resnet20")


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": nn.Linear(1, 1)}, tmp_path / "d.pt")
    with pytest.raises(DataError, match="cannot be read as tensors"):
        load_model(f"file:{tmp_path}/d.pt?arch=resnet20")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("resnet2O", "Did you mean `resnet20`"),
        ("file:nowhere.pt?arch=resnet20", "does not exist"),
        ("file:nowhere.pt", r"\?arch=NAME"),
        ("file:nowhere.pt?arch=resnet21", "Did you mean"),
        ("file:nowhere.pt?arch=resnet20&men=1", "Did you mean `mean`"),
        ("dir/model.pt", "file:dir/model.pt"),
        ("torchvision:resnet5O", "Did you mean `resnet50`"),
        ("torchvision:resnet50/V9", "weights of resnet50"),
        ("py:sndcli.models.resnet_cifar", "py:package.module:factory"),
        ("py:no_such_package_here:make", "cannot be imported"),
        ("py:sndcli.queries.oracle:REFUSED", "is not callable"),
    ],
)
def test_wrong_sources_say_what_was_expected(source: str, message: str) -> None:
    with pytest.raises((ConfigError, DataError), match=message):
        load_model(source)


def test_torchvision_carries_its_own_preprocessing() -> None:
    model = load_model("torchvision:resnet18/random")
    assert model.input_size == (3, 224, 224)
    assert model.normalisation.mean == (0.485, 0.456, 0.406)


def test_python_factories() -> None:
    model = load_model("py:sndcli.models.resnet_cifar:resnet20")
    assert isinstance(model, Classifier)
    assert model.name == "resnet20"


def test_the_batch_size_is_chosen_by_rows_per_second() -> None:
    """A pass of fixed cost favours the largest batch; a cost that grows with the square of the rows the smallest."""

    class Slow(nn.Module):
        def __init__(self, power: int) -> None:
            super().__init__()
            self.power = power

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            time.sleep(0.002 * (len(x) / 32) ** self.power)
            return x.flatten(1)[:, :2]

    assert measure_batch_size(Slow(0), (3, 8, 8), CPU) == 256
    assert measure_batch_size(Slow(2), (3, 8, 8), CPU) == 32
