"""An attack of a package that is built and installed: flags, ladder, scales and tables work for it as for ours."""

from __future__ import annotations

import importlib.metadata
import json
import math
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Done

from sndcli.attacks import registry
from sndcli.attacks.ladder import Rung, rungs
from sndcli.attacks.registry import spec_of
from sndcli.reports import attack_tables
from sndcli.runs import results

Snd = Callable[..., Done]
QUICK = ("--model", "py:wandering:tiny", "--select", "all", "--images", 2, "--budget", 60, "--budgets", 25,
         "--verify", 4, "--no-border", "--batch-size", 64, "--no-progress")  # fmt: skip
D = 3072

PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "wandering"
version = "1.2"

[project.entry-points."sndcli.attacks"]
wander = "wandering:SPEC"
later = "wandering.later:SPEC"
former = "wandering.former:SPEC"
former-keywords = "wandering.former_keywords:SPEC"

[tool.setuptools]
packages = ["wandering"]
"""
ATTACK = '''
"""Random points around the image; with `votes`, one that several answers agree on."""

from dataclasses import dataclass

import torch
from torch import nn

from sndcli import Classifier, Normalisation
from sndcli.attacks.spec import AttackSpec, Preset


@dataclass(frozen=True)
class Options:
    length: float = 0.05
    stop: float = 1e-3
    votes: int = 1
    sigma_hat: str = "0"
    authors_count: bool = False


def run(oracle, streams, options):
    for _ in range(oracle.budget):
        image = oracle.active.nonzero().squeeze(1)
        if not len(image):
            return
        points = oracle.x0[image] + options.length / 3072**0.5 * streams.normal(image, oracle.x0)
        for _ in range(options.votes):
            oracle.adversarial(points, image, "wander")


def scales(options, d, distance, sigma):
    noise = sigma if options.sigma_hat == "estimate" else float(options.sigma_hat)
    return max(options.length * distance / d**0.5, noise), options.stop


SPEC = AttackSpec(
    name="wander",
    access="labels",
    norms=("l2", "linf"),
    presets={
        "plain": Preset(Options(), source="folklore"),
        "knowing": Preset(Options(stop=0.05, votes=3, sigma_hat="estimate"), noise_aware=True, ours=True, note="votes"),
        "published": Preset(Options(votes=5, stop=0.05), noise_aware=True, source="a paper"),
        "halves": Preset(Options(authors_count=True), source="their code"),
        "flat": Preset(Options(length=0.01)),
    },
    summary="random points around the image",
    run=run,
    by_norm={"linf": "flat"},
    scales=scales,
    wider=("length=1", "length=5"),
    floor="stop={}",
    told="sigma_hat={}",
    relatives={"popskipjump": "share", "rays": None},
    uses_eps="authors_count",
    paid=lambda options, count, votes: 2 * count if options.authors_count else count,
    api=1,
)


def tiny():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    return Classifier(network.eval(), Normalisation((0.5,) * 3, (0.25,) * 3), (3, 32, 32), "tiny")
'''
LATER = """
from dataclasses import replace

from wandering import SPEC

SPEC = replace(SPEC, name="later", api=2)
"""
FORMER = """
from sndcli.attacks.registry import AttackSpec
from wandering import Options, run

OPTIONS = {"default": Options()}
SPEC = AttackSpec("former", "wandering.former", "labels", ("l2",), ("default",), "as version 0.1 had it")
"""
FORMER_KEYWORDS = """
from sndcli.attacks.spec import AttackSpec

SPEC = AttackSpec(name="former-keywords", module="wandering.former", access="labels", norms=("l2",), presets=("a",))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the package's wheel is unpacked, as an installer does."""
    source = tmp_path_factory.mktemp("source")
    (source / "pyproject.toml").write_text(PROJECT)
    (source / "wandering").mkdir()
    for name, text in (
        ("__init__", ATTACK),
        ("later", LATER),
        ("former", FORMER),
        ("former_keywords", FORMER_KEYWORDS),
    ):
        (source / "wandering" / f"{name}.py").write_text(text)
    code = "from setuptools import build_meta; print(build_meta.build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    folder = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(source / done.stdout.splitlines()[-1]).extractall(folder)
    return folder


@pytest.fixture(autouse=True)
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the path of this process, with nothing of it imported."""
    monkeypatch.syspath_prepend(site)
    for name in [name for name in sys.modules if name.split(".")[0] == "wandering"]:
        monkeypatch.delitem(sys.modules, name)


def attacked(snd: Snd, out: Path, *arguments: object) -> tuple[dict[str, Any], results.Metadata, str]:
    """The JSON object of a run, what its file says of it, and stderr."""
    done = snd("attack", "wander", "--sigma", 0.01, *arguments, *QUICK, "--json", "--out", out)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    return answer, results.run_of(results.read(Path(answer["run"]["path"]))), done.stderr


def test_the_package_is_installed_and_nothing_is_imported_before_it_is_asked_for(snd: Snd) -> None:
    assert importlib.metadata.version("wandering") == "1.2"
    assert "Did you mean `wander`" in snd("attack", "wandr").stderr
    assert "wandering" not in sys.modules
    assert "Known: flat, halves, knowing, plain, published" in snd("attack", "wander", "--preset", "x").stderr


@pytest.mark.slow
def test_scales_and_flags(snd: Snd, tmp_path: Path) -> None:
    """The plain one looks less far than the noise; the one that knows does not."""
    answer, run, stderr = attacked(snd, tmp_path)
    assert run["scales"] == {"probe": pytest.approx(0.05 / D**0.5), "search": 1e-3}
    assert run["config"]["options"]["stop"] == 1e-3
    assert re.fullmatch("wandering 1.2 [0-9a-f]{12}", run["config"]["plugins"]["wander"])
    raised = {flag["name"] for flag in answer["flags"]}
    assert {"probe_below_noise", "search_below_noise", "no_noise_aware"} <= raised
    assert "flag: no_noise_aware" in stderr

    for preset in ("knowing", "published"):
        answer, run, _ = attacked(snd, tmp_path, "--preset", preset)
        raised = {flag["name"] for flag in answer["flags"]}
        assert not {"search_below_noise", "no_noise_aware"} & raised
        assert ("probe_below_noise" in raised) == (preset == "published")
    assert attacked(snd, tmp_path, "--preset", "knowing")[1]["scales"] == {"probe": 0.01, "search": 0.05}

    answer, run, _ = attacked(snd, tmp_path, "--preset", "published", "--defense", "noise:uniform,sigma=0.02+snd")
    both = math.hypot(0.01, 0.02)  # the noise of another defense counts beside that of snd
    assert run["scales"]["sigma_all"] == pytest.approx(both)
    (flag,) = [flag for flag in answer["flags"] if flag["name"] == "probe_below_noise"]
    probe = run["scales"]["probe"]
    assert probe is not None
    assert f"{both / probe:.0f} times" in flag["text"]

    _, run, _ = attacked(snd, tmp_path, "--norm", "linf")
    assert run["config"]["options"]["length"] == 0.01  # its own default of that norm
    assert run["scales"] == {"probe": None, "search": None}


def test_its_ladder() -> None:
    plain = [Rung(f"T={votes}", "wander", None, ("votes=2",), votes) for votes in (1, 5, 10)]
    changed = ("length=1",), ("length=5",), ("stop=0.01",), ("length=5", "stop=0.01")
    wide = [Rung(", ".join(extra), "wander", None, ("votes=2", *extra), ours=True) for extra in changed]
    told = ("sigma_hat=0.02",)
    aware = [Rung("knowing", "wander", "knowing", told, ours=True), Rung("published", "wander", "published", told)]
    others = [Rung("popskipjump", "popskipjump", "share", ours=True), Rung("rays", "rays")]
    assert rungs("wander", None, ("votes=2",), "l2", "0.02", 0.01) == [*plain, *wide, *aware, *others]
    flat = rungs("wander", None, ("votes=2",), "linf", "0.02", 0)
    assert flat == [*plain, *wide[:2], *aware, others[1]]


@pytest.mark.slow
def test_its_ladder_runs(snd: Snd, tmp_path: Path) -> None:
    done = snd("adaptive", "wander", "--ladder", "--sigma", 0.01, *QUICK, "--json", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    ours = {rung["rung"]: rung["ours"] for rung in answer["ladder"]["rungs"]}
    assert (ours["T=10"], ours["knowing"], ours["published"], ours["popskipjump"]) == (False, True, False, True)
    files = [results.run_of(results.read(path))["config"] for path in tmp_path.glob("*.parquet")]
    assert len(files) == len(ours) == 11
    (knowing,) = [config for config in files if config["preset"] == "knowing"]
    assert knowing["options"]["sigma_hat"] == "estimate"
    assert not {"no_noise_aware"} & {flag["name"] for flag in answer["flags"]}


def test_counts_of_its_authors_and_another_bound(snd: Snd, tmp_path: Path) -> None:
    for preset, count in (("halves", 60), ("plain", 30)):
        _, run, stderr = attacked(snd, tmp_path / preset, "--preset", preset)
        assert ("60 queries by the authors' count are 120 paid ones" in stderr) == (preset == "halves")
        assert run["config"]["budget"] == 2 * count
        (path,) = (tmp_path / preset).glob("*.parquet")
        told = snd("report", path, "--eps", 0.5).stderr
        assert ("wander halves: which points are asked about or submitted depends on ε" in told) == (preset == "halves")


def test_lists_and_tables(snd: Snd) -> None:
    lines = {line.split()[0]: line for line in snd("ls", "attacks").stdout.splitlines()}
    presets = "plain, knowing, published, halves, flat (default of linf)"
    assert lines["wander"] == f"wander      labels l2/linf  random points around the image; presets: {presets}"
    assert "api=2" in lines["later"]  # which does not keep the others from being listed
    assert "hsja" in lines
    text = attack_tables.tables([spec_of("wander")])
    assert "| `wander` | `published` | a paper | – | yes |" in text
    assert "| `wander` | `flat` (default of L∞) | – | – | |" in text
    assert (
        "| `wander` | `length=1`, `length=5` | `stop=σ` | `knowing`, `published` | `popskipjump share`, `rays` |"
        in text
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("later", "`later` was written for api=2 of AttackSpec; this snd has api=1."),
        ("former", "an AttackSpec names its `run=` and `presets={name: Preset(options)}`, and no `module` any more"),
        ("former-keywords", "an AttackSpec names its `run=` and `presets={name: Preset(options)}`, and no `module`"),
    ],
)
def test_another_form_is_refused_in_one_line(snd: Snd, tmp_path: Path, name: str, message: str) -> None:
    for arguments in (("attack", name), ("adaptive", name, "--ladder")):
        done = snd(*arguments, *QUICK, "--out", tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert registry.find(name) is None
    assert not registry.noise_aware(name)
