"""The examples of docs/extending.md, as written there."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pages
import pytest
import torch
from conftest import Done

from sndcli import plugins
from sndcli.attacks.spec import options_of
from sndcli.datasets import cifar10
from sndcli.models.inference import Forward, optimise
from sndcli.models.sources import load_model
from sndcli.queries.oracle import Oracle
from sndcli.streams import ImageStreams

Snd = Callable[..., Done]
PAGE = Path(__file__).parent.parent / "docs" / "extending.md"
SMALL = ("--images", 3, "--budget", 40, "--budgets", 20, "--verify", 4, "--no-progress", "-q")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> set[str]:
    """The page's modules and entry points, as if their packages were installed. Names of its modules."""
    page = PAGE.read_text()
    modules = set()
    for name, content in pages.files(page).items():
        (tmp_path / name).write_text(content)
        modules.add(name.removesuffix(".py"))
    points = [
        importlib.metadata.EntryPoint(name, value, group)
        for group, name, value in re.findall(r'\[project\.entry-points\."(.+?)"\]\n(\S+) = "(\S+)"\n', page)
    ]
    real = importlib.metadata.entry_points

    def entry_points(**select: Any) -> Any:
        mine = [p for p in points if all(getattr(p, key) == value for key, value in select.items())]
        return [*real(**select), *mine]

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    for name in modules:
        monkeypatch.delitem(sys.modules, name, raising=False)
    return modules


def test_examples_as_packages(snd: Snd, installed: set[str], tmp_path: Path) -> None:
    assert plugins.names(plugins.ATTACKS) == ["walk-in"]
    assert not installed & set(sys.modules)  # naming them imports nothing
    done = snd("attack", "walk-in", "--model", "py:my_models:tiny", "--select", "all", "--defense",
               "brightness+snd", "--sigma", 0.01, "--set", "delta=2", *SMALL, "--out", tmp_path, "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)["rows"][-1]
    assert (row["attack"], row["defense"], row["model"]) == ("walk-in", "brightness+snd", "tiny")
    assert row["failed"] == 0
    assert row["queries_max"] == 40
    assert "walk-in" in snd("ls", "attacks").stdout
    assert "brightness" in snd("ls", "defenses").stdout
    assert "Did you mean `walk-in`" in snd("attack", "walk-im").stderr
    assert "Did you mean `brightness`" in snd("attack", "hsja", "--defense", "brightnes").stderr


def test_examples_from_files(snd: Snd, installed: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert installed == {"my_models", "my_function", "my_attacks", "my_defenses", "my_test", "my_figure"}
    for attack in ("py:my_function:towards_others", "py:my_attacks:PATCHES"):
        done = snd("attack", attack, "--defense", "py:my_defenses:Gain?strength=0.2", *SMALL, "--out", tmp_path / "out",
                   "--json")  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["rows"][-1]["failed"] == 0
    figure = [sys.executable, str(tmp_path / "my_figure.py"), *map(str, sorted((tmp_path / "out").glob("*.parquet")))]
    lines = subprocess.run(figure, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == 2
    assert all("of 3 images ever answered wrong" in line for line in lines)


@pytest.mark.slow
def test_examples_keep_the_contracts_and_succeed(installed: set[str]) -> None:
    import my_attacks  # type: ignore[import-not-found]
    import my_test  # type: ignore[import-not-found]

    my_test.test_contracts()
    data, model = cifar10.load_shipped(), load_model("resnet20")
    x, y = data.pixels(torch.arange(12)), data.labels[:12]
    for spec, share in ((my_attacks.WALK_IN, 0.4), (my_attacks.PATCHES, 0.2)):
        oracle = Oracle(Forward(optimise(model, torch.device("cpu")), torch.device("cpu")), x, y, budget=1500, eps=1.0)
        oracle.check(scores=spec.access == "scores")
        spec.run(oracle, ImageStreams(0, range(12), "attack"), options_of(spec, None))
        assert (oracle.close().best <= 1.0).double().mean() > share


def test_a_broken_package_is_one_line(snd: Snd, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = importlib.metadata.EntryPoint("broken", "no_such_module:SPEC", plugins.ATTACKS)
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda **select: [broken] if select["group"] == broken.group else []
    )
    done = snd("attack", "broken")
    assert done.returncode == 2
    assert "cannot be imported: No module named 'no_such_module'" in done.stderr


def test_a_defense_that_is_changed_where_it_is_defined_is_another_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its entry point names the package, which only passes it on."""
    package = tmp_path / "passing_on"
    package.mkdir()
    (package / "__init__.py").write_text("from passing_on.inside import Own\n")
    (package / "inside.py").write_text("class Own:\n    width = 0.05\n")
    point = importlib.metadata.EntryPoint("own", "passing_on:Own", plugins.DEFENSES)
    monkeypatch.setattr(
        importlib.metadata,
        "entry_points",
        lambda **select: [point] if select["group"] == point.group and select.get("name", "own") == "own" else [],
    )
    monkeypatch.syspath_prepend(tmp_path)
    before = plugins.identities("null", ["own"])
    (package / "inside.py").write_text("class Own:\n    width = 0.5\n")
    assert plugins.identities("null", ["own"]) != before
