"""Any model: other packages and runtimes, and a user's own code."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from bright import GREY, THRESHOLD, picture_folder, scores_of
from conftest import Done
from torch import nn

import sndcli
from sndcli.defenses.parse import DefenseSpec
from sndcli.errors import ConfigError, DataError
from sndcli.models.classifier import Classifier
from sndcli.models.opaque import Logits, OpaqueModel
from sndcli.models.preprocessing import Preprocessing
from sndcli.models.resnet_cifar import ResNetCIFAR
from sndcli.models.sources import ARCHITECTURES, digest, load_model, open_model
from sndcli.runs import points
from sndcli.runs.victim import Victim

CPU = torch.device("cpu")


def write_onnx(path: Path, answers: str = "scores", batch: int | str = "n", size: tuple[int | str, ...] = GREY) -> Path:
    """The half-space as a graph: 40 (THRESHOLD, mean), or its softmax, or its argmax."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    constants = {"w": np.array([[0.0, 40.0]], np.float32), "b": np.array([THRESHOLD * 40, 0.0], np.float32)}
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["m"], keepdims=0),
        helper.make_node("Unsqueeze", ["m", "last"], ["u"]),
        helper.make_node("MatMul", ["u", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["s"]),
    ]  # fmt: skip
    axes = [numpy_helper.from_array(np.array([1, 2, 3]), "axes"), numpy_helper.from_array(np.array([1]), "last")]
    kinds = {
        "scores": ("s", TensorProto.FLOAT, 2),
        "probabilities": ("q", TensorProto.FLOAT, 2),
        "labels": ("y", TensorProto.INT64, None),
    }
    nodes += [helper.make_node("Softmax", ["s"], ["q"], axis=1)] if answers == "probabilities" else []
    nodes += [helper.make_node("ArgMax", ["s"], ["y"], axis=1, keepdims=0)] if answers == "labels" else []
    out, kind, classes = kinds[answers]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *size])],
        [helper.make_tensor_value_info(out, kind, [batch] if classes is None else [batch, classes])],
        [*axes, *(numpy_helper.from_array(value, name) for name, value in constants.items())],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


@pytest.fixture
def opened() -> Iterator[Callable[[str], OpaqueModel]]:
    def open_it(source: str) -> OpaqueModel:
        model = open_model(source)
        assert isinstance(model, OpaqueModel)
        return model

    return open_it  # type: ignore[return-value]


@pytest.mark.parametrize("batch", ["n", 3])
@pytest.mark.parametrize("answers", ["scores", "probabilities", "labels"])
def test_onnx(answers: str, batch: int | str, tmp_path: Path, opened: Callable[[str], OpaqueModel]) -> None:
    path = write_onnx(tmp_path / "m.onnx", answers, batch)
    model = opened(f"onnx:{path}" + ("?classes=2" if answers == "labels" else ""))
    facts = model.facts
    assert (facts.name, facts.input_size, facts.classes) == ("m@onnx", GREY, 2)
    assert (facts.access, facts.score) == (
        "labels" if answers == "labels" else "scores", "probabilities" if answers == "probabilities" else "logits"
    )  # fmt: skip
    x = torch.rand(7, *GREY)
    logits = Logits(model)(x)
    if answers == "labels":
        assert torch.equal(logits.argmax(1), scores_of(x).argmax(1))
    else:
        torch.testing.assert_close(logits.softmax(1), scores_of(x).softmax(1), atol=1e-5, rtol=1e-4)
    assert torch.equal(Logits(model)(x[:1]), logits[:1])  # the same bits in any batch
    write_onnx(path, answers, 5)
    assert opened(f"onnx:{path}?classes=2").facts.digest != facts.digest


def test_onnx_with_mean_and_std(tmp_path: Path, opened: Callable[[str], OpaqueModel]) -> None:
    path, x = write_onnx(tmp_path / "m.onnx"), torch.rand(2, *GREY)
    model = opened(f"onnx:{path}?mean=0.5&std=1/4")
    torch.testing.assert_close(model(x), scores_of((x - 0.5) * 4), atol=1e-4, rtol=1e-4)
    assert model.facts.digest != opened(f"onnx:{path}").facts.digest


@pytest.mark.parametrize(
    ("size", "query", "text"),
    [
        (("c", "h", "w"), "", r"does not say the size of its images: m\.onnx\?size=224"),
        ((1, "h", "w"), "?size=28&channels=3", r"takes images of \(1, None, None\), not \(3, 28, 28\)"),
        (GREY, "?size=32", r"takes images of \(1, 28, 28\), not"),
        ((28, 28, 3), "", "channels last"),
        (GREY, "?mean=1,2,3&std=1,2,3", "mean and std of 1 channels but got 3 numbers"),
        (GREY, "?size=x", "`size` to be a whole number of pixels"),
        (GREY, "?scores=odds", "`scores` to be logits or probabilities"),
        (GREY, "?klasses=3", "Did you mean `classes`"),
    ],
)
def test_onnx_refused(size: tuple[int | str, ...], query: str, text: str, tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "m.onnx", size=size)
    with pytest.raises(ConfigError, match=text):
        open_model(f"onnx:{path}{query}")


def test_files_that_are_no_models(tmp_path: Path) -> None:
    path = tmp_path / "broken"
    path.write_text("nothing")
    for prefix in ("onnx:", "torchscript:"):
        with pytest.raises(DataError, match=r"missing\.x does not exist"):
            open_model(f"{prefix}{tmp_path / 'missing.x'}")
        with pytest.raises(DataError, match="broken cannot be read as"):
            open_model(f"{prefix}{path}?size=8")
    with pytest.raises(ConfigError, match=r"onnx:a/b\.onnx"):
        open_model("a/b.onnx")


def test_torchscript(tmp_path: Path, opened: Callable[[str], OpaqueModel]) -> None:
    path, network = tmp_path / "m.pt", ResNetCIFAR(1, 5).eval()
    with pytest.warns(FutureWarning):
        torch.jit.trace(network, torch.rand(1, 3, 32, 32)).save(path)
    with pytest.raises(ConfigError, match="does not say the size"):
        open_model(f"torchscript:{path}")
    with pytest.raises(DataError, match="torchscript:"):
        load_model(f"file:{path}?arch=resnet20")
    model, x = opened(f"torchscript:{path}?size=32&norm=cifar10"), torch.rand(5, 3, 32, 32)
    assert model.facts.classes == 5
    torch.testing.assert_close(model(x), Classifier(network, sndcli_cifar10())(x))
    with pytest.raises(ConfigError, match="Expected a torch network here, but `torchscript:"):
        load_model(f"torchscript:{path}?size=32")


def sndcli_cifar10() -> sndcli.Normalisation:
    from sndcli.models.classifier import CIFAR10

    return CIFAR10


OWN = """
import numpy as np, torch
from torch import nn

class Bright(nn.Module):
    input_size, classes = (1, 28, 28), 2
    kind = "tensor"

    def forward(self, x):
        m = x.mean((1, 2, 3))
        scores = 40 * torch.stack([torch.full_like(m, 0.55), m], 1)
        if self.kind == "labels":
            return scores.argmax(1)
        if self.kind == "logits":
            from types import SimpleNamespace
            return SimpleNamespace(logits=scores)
        return {"tensor": scores, "tuple": (scores, m), "soft": scores.softmax(1), "text": "bright"}[self.kind]

def module(kind):
    def make():
        print("made")
        made = Bright()
        made.kind = kind
        return made
    return make

tensor, two, logits, soft, labels, text = map(module, ["tensor", "tuple", "logits", "soft", "labels", "text"])

def array():
    inner = Bright()
    def ask(x):
        print("asked")
        return inner(x).numpy()
    ask.input_size = (1, 28, 28)
    return ask

def hard():
    def ask(x):
        return (x.numpy().mean((1, 2, 3)) > 0.55).astype(np.int32)
    return ask

def number():
    return 7

def taken(x):
    return x
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a module of a name that no test has had."""
    import sys

    (tmp_path / f"own_{tmp_path.name}.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


@pytest.mark.parametrize(
    ("factory", "kind"),
    [("tensor", Classifier), ("two", Classifier), ("logits", Classifier), ("soft", Classifier), ("array", OpaqueModel),
     ("labels", OpaqueModel), ("hard", OpaqueModel)],
)  # fmt: skip
def test_a_factory_in_the_working_directory(
    factory: str, kind: type, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "?size=28&channels=1&classes=2" if factory == "hard" else ""
    model, x = open_model(f"py:own_{own.name}:{factory}{options}"), torch.rand(6, *GREY)
    assert isinstance(model, kind)
    assert model.input_size == GREY
    logits = Logits(model)(x) if isinstance(model, OpaqueModel) else model(x)
    if factory in ("labels", "hard"):
        assert torch.equal(logits.argmax(1), scores_of(x).argmax(1))
    else:
        torch.testing.assert_close(logits.softmax(1), scores_of(x).softmax(1), atol=1e-5, rtol=1e-5)
    assert capsys.readouterr().out == ""
    assert len(digest(model)) == 16


def test_a_factorys_digest_follows_its_source(own: Path) -> None:
    source = f"py:own_{own.name}:array"
    before = digest(open_model(source))
    assert digest(open_model(source)) == before
    (own / f"own_{own.name}.py").write_text(OWN + "\n# changed\n")
    assert digest(open_model(source)) != before


@pytest.mark.parametrize(
    ("factory", "text"),
    [("number", "return a model but got int"),
     ("text", "text is no classifier: it answers with str; expected a tensor"),
     ("taken", "without arguments"),
     ("nothing", "cannot be imported"), ("hard?size=28&channels=1", "say how many there are, as in py:own_"),
     ("array?size=28&channels=5&mean=1,2&std=1,2", "mean and std of 5 channels")],
)  # fmt: skip
def test_factories_that_are_refused(factory: str, text: str, own: Path) -> None:
    with pytest.raises(ConfigError, match=text):
        Victim.prepare(open_model(f"py:own_{own.name}:{factory}"), DefenseSpec(), CPU, 8)


# -- a model that is exported and read again ---------------------------------------------------------------------


@pytest.mark.slow
def test_what_load_model_returns_is_exported_to_onnx_and_answers_alike(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    model, path = sndcli.load_model("resnet20"), tmp_path / "resnet20.onnx"
    from sndcli.datasets import cifar10

    x = cifar10.load_shipped().pixels(torch.arange(32))
    rows = ({0: torch.export.Dim("n")},)
    torch.onnx.export(model, (x[:2],), str(path), dynamo=True, dynamic_shapes=rows, external_data=False, verbose=False)
    again = open_model(f"onnx:{path}")
    assert isinstance(again, OpaqueModel)
    assert again.input_size == model.input_size
    with torch.no_grad():
        expected = model(x)
    torch.testing.assert_close(again(x), expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(again(x).argmax(1), expected.argmax(1))


# -- hf and timm -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_saved_classifier_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    shape = {"num_channels": 3, "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
    theirs = transformers.ResNetForImageClassification(transformers.ResNetConfig(**shape, num_labels=5)).eval()
    theirs.save_pretrained(tmp_path / "mine")
    with pytest.raises(ConfigError, match="mine has no image processor: say size"):
        load_model(f"hf:{tmp_path}/mine")
    assert load_model(f"hf:{tmp_path}/mine?size=64&norm=none").input_size == (3, 64, 64)
    transformers.ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=0.8).save_pretrained(tmp_path / "mine")
    model, x = load_model(f"hf:{tmp_path}/mine"), torch.rand(4, 3, 32, 32)
    assert model.name == "mine@hf"
    assert model.preprocessing == Preprocessing(32, 40, "bicubic")
    assert model.normalisation.mean == (0.5, 0.5, 0.5)
    with torch.no_grad():
        torch.testing.assert_close(model(x), theirs((x - 0.5) / 0.5).logits)
    victim = Victim.prepare(model, DefenseSpec(), CPU, 8)
    torch.testing.assert_close(victim.undefended(x), model(x).detach(), atol=1e-4, rtol=1e-4)
    theirs.resnet.save_pretrained(tmp_path / "headless")
    with pytest.raises(DataError, match="no trained image classifier"):
        load_model(f"hf:{tmp_path}/headless?size=32&norm=none")
    with pytest.raises(DataError, match=r"Without --download only what is on this machine"):
        load_model("hf:nobody/nothing")


@pytest.mark.slow
def test_models_of_timm_that_were_saved(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    from timm.models import save_for_hf

    network = timm.create_model("resnet10t", num_classes=7, in_chans=1).eval()
    torch.save(network.state_dict(), tmp_path / "w.pth")
    model = load_model(f"timm:resnet10t?checkpoint={tmp_path}/w.pth&classes=7&channels=1&size=32&mean=0.5&std=0.5")
    x = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x), network((x - 0.5) / 0.5))
    assert (model.name, model.input_size) == ("resnet10t@w", (1, 32, 32))
    with pytest.raises(DataError, match=r"of another shape: fc\.weight"):
        load_model(f"timm:resnet10t?checkpoint={tmp_path}/w.pth&classes=8&channels=1&size=32")
    save_for_hf(timm.create_model("resnet10t", num_classes=7), tmp_path / "saved")
    saved = load_model(f"hf:{tmp_path}/saved")
    assert saved.name == "saved@timm"
    assert saved(torch.rand(1, *saved.input_size)).shape == (1, 7)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("torchvision:resnet18", r"not on this machine: --download fetches https://download\.pytorch"),
        pytest.param("timm:hf-hub:nobody/nothing_at_all", "--download allows fetching", marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_nothing_leaves_the_machine_unasked(
    source: str, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import socket

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(DataError, match=said):
        load_model(source)


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_cifar_resnets_of_every_depth(depth: int, millions: float) -> None:
    """Numbers of parameters of He et al. 2016, Table 6."""
    network = ARCHITECTURES[f"resnet{depth}"]()
    assert abs(sum(p.numel() for p in network.parameters()) / 1e6 - millions) < (0.03 if depth == 110 else 0.01)
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in network.modules()) == depth


# -- from the command line to a result ---------------------------------------------------------------------------


def test_a_grey_onnx_model_from_pictures_to_figures(snd: Callable[..., Done], tmp_path: Path) -> None:
    root = picture_folder(tmp_path / "digits", ("bright", "dark"))
    (tmp_path / "names.txt").write_text("dark\nbright\n")
    model = write_onnx(tmp_path / "m.onnx", "labels")
    common = ["--dataset", f"folder:{root}", "--classes", tmp_path / "names.txt", "--images", 2, "--batch-size", 16,
              "--verify", 10, "--budget", 100, "--out", tmp_path / "out", "--json"]  # fmt: skip
    hard = ["--model", f"onnx:{model}?classes=2"]
    for sigma in (0, 0.02):
        done = snd("attack", "hsja", *hard, *common, "--sigma", sigma, "--save-points")
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        (row,) = answer["rows"]
        assert (row["eps"], row["n"], row["failed"]) == (1.0, 2, 0)
        assert 90 < row["queries_max"] <= 100
        assert row["success_clean"]["value"] is not None
        kept = points.read(points.path_of(Path(answer["run"]["path"])))
        assert kept.submitted.shape == (2, *GREY)
        assert kept.classes == ("dark", "bright")
    for attack, extra, said in (
        ("square", [], "snd: `square` needs scores, but m@onnx answers with labels alone."),
        ("hsja", ["--defense", "pni"], "snd: `--defense pni` is a network of its own, but m@onnx can only be asked"),
        ("hsja", ["--compile"], "snd: `--compile` is for torch networks, but m@onnx can only be asked."),
    ):
        done = snd("attack", attack, *hard, *common, *extra, "--fresh")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.strip().splitlines()[-1].startswith(said)
    done = snd("accuracy", *hard, *common[:4], "--sigma", 0, "--sigma", 0.01, "--repeats", 2, "--json")
    assert [row["accuracy"]["mean"] for row in json.loads(done.stdout)["rows"]] == [1.0, 1.0]
    done = snd("accuracy", *hard, *common[:4], "--pgd", "l2:0.5:10")
    assert (done.returncode, "can only be asked" in done.stderr) == (2, True)


def test_eps_is_asked_for_between_the_usual_sizes(snd: Callable[..., Done], tmp_path: Path) -> None:
    root = picture_folder(tmp_path / "digits", ("a", "bright"))
    model = write_onnx(tmp_path / "m.onnx", size=(1, 96, 96))
    arguments = ["attack", "null", "--model", f"onnx:{model}", "--dataset", f"folder:{root}", "--out", tmp_path / "out",
                 "--images", 4, "--budget", 2, "--verify", 2, "--batch-size", 8, "--quiet"]  # fmt: skip
    done = snd(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("snd: Expected `--eps` for images of 96 x 96")
    assert len(done.stderr.strip().splitlines()) == 1
    assert snd(*arguments, "--eps", "2").returncode == 0
    assert snd(*arguments, "--norm", "linf").returncode == 0
