"""How defenses with parameters are written, and what that makes of a run's identity."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sndcli.defenses.parse import DefenseSpec, parse, settle
from sndcli.errors import ConfigError
from sndcli.models import zoo
from sndcli.models.sources import load_model
from sndcli.runs.config import RunConfig

BASE = RunConfig("hsja", "cifar10", "s", "d", "resnet20", "m")


def spec(text: str, sigma: float | None = None) -> DefenseSpec:
    return parse(text, sigma, None)


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("aug", "aug:flip=0.5,shift=2"),
        ("aug:shift=1,flip=0", "aug:flip=0,shift=1"),
        ("noise", "noise:kind=gauss,sigma=0.01"),
        ("rnp", "rnp"),
        ("rnp:mean,sizes=whole+snd", "rnp:border=mean,sizes=whole+snd"),
        ("rfd:0.5", "rfd:nu=0.5"),
        ("rfd:layer=layer2,nu=1", "rfd:nu=1,layer=layer2"),
        ("noise:uniform", "noise:kind=uniform,sigma=0.01"),
        ("noise:kind=salt-pepper", "noise:kind=salt-pepper,p=0.001"),
        ("noise:low,sigma=0.02,f=8", "noise:kind=low,sigma=0.02,f=8"),
        ("set:resnet20|vgg", "set:models=resnet20|vgg,mean=1"),
        ("set:file:a%2Cb.safetensors?arch=resnet20|vgg", "set:models=file:a%2Cb.safetensors?arch=resnet20|vgg,mean=1"),
        ("gate:0.7(noise:sigma=0.05)", "gate:tau=0.7,temperature=1(noise:kind=gauss,sigma=0.05)"),
        ("gate:1(aug+logit)+snd", "gate:tau=1,temperature=1(aug:flip=0.5,shift=2+logit:tau=1)+snd"),
        ("smooth:5+rls", "smooth:n=5,sigma=0.1+rls:low=0.5,high=10"),
        ("noise:sigma=0.0123456789+snd", "noise:kind=gauss,sigma=0.0123456789+snd"),
    ],
)
def test_every_defense_is_written_in_one_way(written: str, canonical: str) -> None:
    assert spec(written).name == canonical
    assert spec(canonical) == spec(written)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("aug:shft=1", "Did you mean `shift`"),
        ("aug:1,flip=1", "`flip` twice"),
        ("aug:flip=1,flip=1", "key=value"),
        ("aug:flip=2", "`flip` to be a number of at least 0 and at most 1"),
        ("aug:shift=x", "`shift`"),
        ("aug(noise)", "without parentheses"),
        ("rnp:men", "Did you mean `mean`"),
        ("rfd", "needs `nu`"),
        ("aug+rfd:1", "so it is innermost"),
        ("aug+aug:shift=2", "each defense once"),
        ("noise:unifrom", "Did you mean `uniform`"),
        ("noise:uniform,p=0.1", "`p` belongs to salt-pepper"),
        ("noise:sigma=nan", "finite"),
        ("set", "needs `models`"),
        ("set:vgg|vgg", "different networks"),
        ("set:vgg|resnet20,mean=3", "at most 2"),
        ("snd+set:vgg", "innermost"),
        ("snd:0.1", "--sigma"),
        ("none+aug", "stands alone"),
        ("augm", "Did you mean `aug`"),
        ("gate:0.7(noise", "in parentheses"),
        ("gate:0.7", "around another defense"),
        ("gate:0.7(snd)", "noise:sigma=0.01"),
        ("gate:0.7(set:vgg)", "cannot stand in a `gate`"),
        ("gate:0.7(augm)", "Did you mean `aug`"),
        ("smooth:n=0", "at least 1"),
        ("rls:3,high=2", "`low`"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(written: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        spec(written)


def test_whether_it_is_random_comes_from_the_defense() -> None:
    random = {"aug": True, "aug:flip=0,shift=0": False, "aug:flip=1,shift=0": False, "noise:sigma=0": False,
              "noise:salt-pepper,p=0": False, "set:vgg": False, "set:vgg|resnet20": True, "noise:sign": True,
              "set:vgg|resnet20,mean=2": False, "gate:0.5(noise)": True, "gate:0.5(noise:sigma=0)": False,
              "gate:0(noise)": False, "aaa-sine": False, "rls": True, "logit:0": False}  # fmt: skip
    assert {text: spec(text).random for text in random} == random
    assert spec("aug:flip=0,shift=0+snd", 0.01).random
    assert not spec("aug:flip=0,shift=0+snd", 0.0).random


def test_ids_of_runs_of_old_stay(tmp_path: Path) -> None:
    """As they were before defenses had parameters."""
    ids = {
        DefenseSpec(): "ecceebe3c768", DefenseSpec("snd", 0.01): "62171369d678",
        DefenseSpec("rnp+snd", 0.02, 2.0): "d4b413106a71",
        DefenseSpec("pni", weights="file:x/y.safetensors", weights_digest="7"): "0ed1568e53b6",
    }  # fmt: skip
    assert {each: replace(BASE, defense=each).run_id for each in ids} == ids


def test_a_set_is_known_by_its_weights_and_not_by_their_folder(tmp_path: Path) -> None:
    ids, model = set(), load_model("resnet20")
    for folder in ("a", "b(1)"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "net.safetensors"
        shutil.copyfile(str(zoo.FOLDER / "resnet20-seed1.safetensors"), path)
        text = str(path).replace("(", "%28").replace(")", "%29")
        made = settle(spec(f"set:file:{text}?arch=resnet20|resnet20"), model)
        assert made.words == "set:models=net|resnet20,mean=1"
        config = replace(BASE, defense=made)
        assert str(tmp_path) not in str(config.as_dict())
        ids.add(config.run_id)
    assert len(ids) == 1
    assert replace(BASE, defense=replace(made, weights_digest="other")).run_id not in ids


def test_the_noise_that_every_direction_sees() -> None:
    """Squares add up; noise of another shape, inside a gate or inside the network is not among it."""
    assert spec("noise").noise == spec("snd", 0.01).noise == 0.01
    assert spec("noise:sigma=0.03+aug+snd", 0.04).noise == pytest.approx(0.05)
    for text in ("none", "aug", "noise:grey", "noise:low", "noise:contrast", "gate:0.5(noise)", "logit", "rfd:1"):
        assert spec(text).noise == 0, text
    assert all((spec("noise:laplace").only_noise, spec("noise+snd", 0.01).only_noise, spec("snd", 0.01).only_noise))
    assert not any(spec(text).only_noise for text in ("none", "aug+noise", "noise:grey", "rfd:1", "noise:sigma=0"))
