"""Pictures of any depth, size and number of channels, and which output of a model a folder is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from bright import GREY, Bright, picture_folder
from PIL import Image
from torch import nn

from sndcli.datasets import imagenet
from sndcli.datasets.classes import read_mapping
from sndcli.datasets.folder import Reading
from sndcli.datasets.load import load
from sndcli.datasets.protocol import usual_eps
from sndcli.defenses.parse import DefenseSpec
from sndcli.errors import ConfigError, DataError
from sndcli.models.classifier import IDENTITY, Classifier
from sndcli.models.preprocessing import Preprocessing, fitting, whole
from sndcli.runs.victim import Victim

CPU = torch.device("cpu")


def test_sixteen_bit_greys_are_scaled(tmp_path: Path) -> None:
    values = (np.arange(64).reshape(8, 8) * 1040).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    for channels in (1, 3):
        pixels = Preprocessing(8, 8, channels=channels)(Image.open(tmp_path / "a.png"))
        assert pixels.shape == (channels, 8, 8)
        assert np.array_equal(pixels[0].numpy(), np.round(values / 257).astype(np.uint8))
    Image.fromarray(np.full((8, 8), 2**20, np.int32)).save(tmp_path / "b.tif")
    with pytest.raises(ValueError, match="more than 16 bits"):
        Preprocessing(8, 8)(Image.open(tmp_path / "b.tif"))
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "c.tif")
    with pytest.raises(ValueError, match="floating point"):
        Preprocessing(8, 8)(Image.open(tmp_path / "c.tif"))


def test_inputs_that_are_not_square_or_not_rgb() -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8))
    assert fitting((1, 10, 24))(picture).shape == (1, 10, 24)
    assert fitting((4, 12, 12))(picture).shape == (4, 12, 12)
    assert fitting((3, 32, 32)) == whole(32)
    assert repr(whole(32)) == "Preprocessing(size=32, resize=32, interpolation='bilinear', squash=False)"  # in digests
    with pytest.raises(ConfigError, match="the model takes 6"):
        fitting((6, 8, 8))
    with pytest.raises(ValueError, match="for each of 1 channels"):
        Classifier(nn.Flatten(), IDENTITY, GREY)


def test_classes_map_folders_to_outputs(tmp_path: Path) -> None:
    root = picture_folder(tmp_path / "data")
    names = tmp_path / "names.txt"
    names.write_text("bright\nother\ndark\n")
    data = load(f"folder:{root}", reading=Reading(fitting(GREY)), classes=names)
    assert data.size == GREY
    assert data.classes == ("bright", "other", "dark")
    assert data.labels.tolist() == [0] * 4 + [2] * 4
    names.write_text(json.dumps({"bright": 3, "dark": 0}))
    mapped = load(f"folder:{root}", reading=Reading(fitting(GREY)), classes=names)
    assert mapped.classes == ("dark", "1", "2", "bright")
    assert mapped.digest() != data.digest()
    names.write_text("bright\ndarck\n")
    with pytest.raises(DataError, match=r"does not say which output the folder .*dark is.*nearest name in it is"):
        load(f"folder:{root}", reading=Reading(fitting(GREY)), classes=names)
    with pytest.raises(ConfigError, match="`--classes` is for `--dataset folder:DIR`"):
        load("cifar10", classes=names)
    for text, said in (("", "names no folder"), ('{"a": -1}', "neither a list"), ("[1, 2]", "neither a list"),
                       ("{", "is no JSON"), ("a\nb\na", "the folder a twice")):  # fmt: skip
        names.write_text(text)
        with pytest.raises(DataError, match=said):
            read_mapping(names)
    with pytest.raises(DataError, match="cannot be read"):
        read_mapping(tmp_path)


def test_a_model_may_have_more_outputs_than_are_mapped(tmp_path: Path) -> None:
    root = picture_folder(tmp_path / "data", ("bright",))
    plain = imagenet.load_folder(root, Reading(fitting(GREY)))
    victim = Victim.prepare(Bright(input_size=GREY), DefenseSpec(), CPU, 8)
    with pytest.raises(ConfigError, match=r"Expected 2 classes for bright but folder:data has 1 \(--classes says"):
        victim.fit_to(plain)
    (tmp_path / "names").write_text("bright\n")
    victim.fit_to(imagenet.load_folder(root, Reading(fitting(GREY)), read_mapping(tmp_path / "names")))
    assert victim.classes == 2
    (tmp_path / "names").write_text("a\nb\nbright\n")
    with pytest.raises(ConfigError, match="Expected 2 classes for bright but folder:data has 3"):
        victim.fit_to(imagenet.load_folder(root, Reading(fitting(GREY)), read_mapping(tmp_path / "names")))


def test_the_usual_eps_is_by_size() -> None:
    assert [usual_eps("folder:x", (1, side, side)) for side in (28, 64, 160, 224)] == [1.0, 1.0, 5.0, 5.0]
    assert usual_eps("imagenet", (3, 96, 96)) == 5.0
    assert usual_eps("cifar10", (3, 96, 96)) == 1.0
    with pytest.raises(ConfigError, match="Expected `--eps` for images of 96 x 96"):
        usual_eps("folder:x", (3, 96, 96))
