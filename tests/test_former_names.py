"""Names of version 0.1 that are still taken: an option, a config's key, the tensors of a points file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Done
from safetensors.torch import save_file

from sndcli.runs import points
from sndcli.runs.config import RunConfig


@pytest.mark.parametrize(("option", "measured"), [("--no-border", False), ("--border", True), ("--no-boundary", False)])
def test_the_option_by_both_names(snd: Callable[..., Done], option: str, measured: bool) -> None:
    done = snd("attack", "null", "--images", 1, "--budget", 5, option, "--dry-run", "--json", "-q")
    assert done.returncode == 0, done.stderr
    assert bool(json.loads(done.stdout)["rows"][0]["passes"]["boundary"]) is measured


def test_help_shows_the_new_name_only(snd: Callable[..., Done]) -> None:
    told = snd("attack", "--help").stdout
    assert "--no-boundary" in told
    assert "border" not in told


def test_the_config_keeps_its_key_and_so_its_id() -> None:
    """The ids are those of the revision before the field was renamed."""
    config = RunConfig("hsja", "cifar10", "s", "d", "resnet20", "m")
    assert config.as_dict()["border"] is True
    assert "boundary" not in config.as_dict()
    assert config.run_id == "ecceebe3c768"
    assert RunConfig("nes", "cifar10", "s", "d", "resnet20", "m", norm="linf", boundary=False).run_id == "932ae685c890"


def test_points_of_before_are_read(tmp_path: Path) -> None:
    one = points.Points(
        image_id=torch.tensor([7]), seed=torch.tensor([0]), label=torch.tensor([3]),
        clean=torch.zeros(1, 3, 2, 2, dtype=torch.uint8), submitted=torch.rand(1, 3, 2, 2),
        has_submitted=torch.tensor([True]), bare_label=torch.tensor([4]), classes=("a", "b"), run_id="x",
    )  # fmt: skip
    new, old = tmp_path / "new.safetensors", tmp_path / "old.safetensors"
    points.write(new, one)
    former = {"submitted": "held", "has_submitted": "has_held"}
    tensors = {former.get(name, name): getattr(one, name) for name in points.TENSORS}
    save_file(tensors, old, metadata={"run": "x", "classes": json.dumps(["a", "b"])})
    for path in (new, old):
        read = points.read(path)
        assert torch.equal(read.submitted, one.submitted)
        assert torch.equal(read.has_submitted, one.has_submitted)
