"""The cost model against rows that were really evaluated, and `--dry-run` of every command in each of its modes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Done

from sndcli.datasets.base import ImageSet
from sndcli.datasets.load import block_of, load
from sndcli.defenses.parse import DefenseSpec, parse
from sndcli.models.classifier import CIFAR10, Classifier
from sndcli.queries.oracle import Oracle
from sndcli.queries.sequential import expected
from sndcli.runs import cost
from sndcli.runs.config import RunConfig
from sndcli.runs.experiment import Experiment
from sndcli.runs.victim import Victim

Snd = Callable[..., Done]


def config(attack: str, defense: DefenseSpec, **changes: object) -> RunConfig:
    plain = RunConfig(attack=attack, dataset="cifar10", dataset_source="", dataset_digest="", model="", model_digest="",
                      defense=defense, images=2, budget=400, budgets=(200,), verify=20)  # fmt: skip
    return replace(plain, **changes)  # type: ignore[arg-type]


def small() -> tuple[ImageSet, Classifier]:
    """A network of one layer, and images that it is right about and that are not of the class it sees in noise."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.AvgPool2d(8), torch.nn.Flatten(), torch.nn.Linear(48, 10))
    model = Classifier(network, CIFAR10).eval()
    data = load("cifar10").part(torch.arange(300), "")
    with torch.no_grad():
        data = replace(data, labels=model(data.pixels()).argmax(1))
        grey = int(model(torch.full((1, *data.size), 0.5)).argmax(1))
    return data.part((data.labels != grey).nonzero().squeeze(1), ""), model


@pytest.mark.parametrize(
    ("attack", "sigma", "changes"),
    [
        ("hsja", 0.0, {}),
        ("hsja", 0.02, {}),
        ("hsja", 0.02, {"votes": 5, "mismatch": True, "budgets": (400,)}),
        ("simba", 0.0, {"eps": 1e-3, "mismatch": True}),
        ("simba", 0.02, {"eps": 1e-3, "mismatch": True}),
    ],
)
def test_the_model_counts_what_is_evaluated(
    tmp_path: Path, attack: str, sigma: float, changes: dict[str, object]
) -> None:
    """Never more than the bound, and near what is usual; a label attack and a score attack, with noise and without."""
    spec = parse("snd", sigma, None)
    run = config(attack, spec, **changes)
    data, model = small()
    victim = Victim.prepare(model, spec, torch.device("cpu"), 64)
    before = victim.defended.rows, victim.undefended.rows
    table = Experiment(run, data, victim, tmp_path).run()
    defended, bare = victim.defended.rows - before[0], victim.undefended.rows - before[1]
    found = cost.of_run(run, len(data))
    assert sum(table.column("queries").to_pylist()) <= found.most.paid
    assert defended <= found.most.defended
    assert bare <= found.most.bare
    # Report points that share a point are verified once, which in runs this short is often so.
    assert 0.5 * found.usual.defended <= defended <= 1.25 * found.usual.defended
    selected = -(-run.images // block_of(run.images)) * block_of(run.images)  # all are right here, not nine of ten
    usual = found.usual.bare - found.usual.selection + selected
    assert 0.5 * usual <= bare <= 1.25 * usual


def test_what_a_run_is_made_of() -> None:
    spec = DefenseSpec("snd", 0.01)
    run = config("hsja", spec, images=10, repeats=2, votes=4, mismatch=True)
    found = cost.of_run(run, 1200)
    assert found.most.paid == found.usual.paid == 10 * 2 * 400
    assert found.most.verification == 20 * 2 * 2 * 20  # images and seeds, report points, points of each, draws
    assert found.most.boundary == 20 * 2 * 25 * (1 + 14 + 9)
    assert found.usual.verification == round(20 * 2 * 2 * expected(20, 0.2)) < found.most.verification
    assert found.usual.boundary == round(20 * 2 * expected(25, 0.2) * (1 + 2 + 9)) < found.most.boundary
    assert found.most.clean == 20 * 3 * 20 + 16
    assert found.most.mismatch == 20 * 400 // 4
    assert (found.most.selection, found.usual.selection) == (1200, 20)
    assert found.most.total == found.most.defended + found.most.bare == found.most.paid + found.most.unpaid
    bare = cost.of_run(replace(run, defense=DefenseSpec()), 1200)
    assert (bare.most.verification, bare.most.boundary) == (20 * 2 * 2, 20 * 2 * 24)
    assert cost.of_run(replace(run, boundary=False), 1200).most.boundary == 0
    assert cost.of_run(replace(run, attack="simba"), 1200).most.boundary == found.most.boundary
    assert cost.of_run(replace(run, select="all"), 1200).most.selection == 0
    both = cost.together([found, bare])
    assert both.most.paid == 2 * found.most.paid


def test_time_is_that_of_both_models() -> None:
    passes = cost.Passes(paid=100, verification=50, boundary=25, clean=20, accuracy=5, mismatch=30, selection=10)
    assert passes.seconds(cost.Rates(defended=10, bare=20)) == pytest.approx(200 / 10 + 40 / 20)


SMALL = ("--images", 2, "--budget", 200, "--batch-size", 64)
MODES: list[Any] = [
    ("attack", "hsja", "--sigma", 0.01, *SMALL),
    ("attack", "simba", *SMALL),
    ("attack", "hsja", "--engine", "foolbox", "--sigma", 0.01, *SMALL),
    ("attack", "subspace", "--preset", "authors", *SMALL),
    ("adaptive", "hsja", "--sigma", 0.01, "--votes", 5, *SMALL),
    ("adaptive", "hsja", "--sigma", 0.01, "--votes", 5, "--per-vote-budget", *SMALL),
    ("adaptive", "hsja", "--sigma", 0.01, "--ladder", *SMALL),
    ("sigma-sweep", "hsja-na", "--sigmas", "0,0.01", "--plot", "sweep.svg", *SMALL),
    ("reproduce", "table2", "--images", 2, "--budget", 2000, "--where", "attack=hsja", "--batch-size", 64),
    ("audit", "--sigma", 0.01, "--quick", *SMALL),
    ("reproduce", "table5", "--where", "attack=none", "--images", 4, "--batch-size", 64),
]


@pytest.mark.parametrize("json_too", [False, True])
@pytest.mark.parametrize(
    "arguments",
    [pytest.param(mode, marks=[pytest.mark.slow] * bool({"table2", "audit"} & {*mode})) for mode in MODES],
    ids=lambda words: " ".join(map(str, words[:4])),
)
def test_a_dry_run_pays_nothing_and_writes_nothing(
    snd: Snd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...], json_too: bool
) -> None:
    def pay(*_: object, **__: object) -> None:
        raise AssertionError("a dry run asked a paid query")

    monkeypatch.setattr(Oracle, "_pay", pay)
    monkeypatch.setattr(Experiment, "run", pay)
    monkeypatch.chdir(tmp_path)
    done = snd(*arguments, "--dry-run", *(["--json"] if json_too else []))
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("*"))
    if json_too:
        answer = json.loads(done.stdout)
        lines = answer.get("rows") or answer["runs"]
        assert any(line["unpaid"] >= line["unpaid_usual"] > 0 for line in lines)
        assert all(line["seconds_at_most"] >= line["seconds"] for line in lines)


def test_every_command_with_a_dry_run_is_tried() -> None:
    import typer

    from sndcli.cli.app import app

    group = typer.main.get_command(app)
    able = {name for name, command in group.commands.items()  # type: ignore[attr-defined]
            if any("--dry-run" in parameter.opts for parameter in command.params)}  # fmt: skip
    assert able == {arguments[0] for arguments in MODES}


def test_a_ladder_lists_its_rungs(snd: Snd, tmp_path: Path) -> None:
    options = ("adaptive", "simba", "--sigma", 0.01, "--ladder", "--dry-run", "--out", tmp_path, *SMALL)
    rows = json.loads(snd(*options, "--json").stdout)["rows"]
    assert [row["name"] for row in rows] == ["T=1", "T=5", "T=10", "epsilon=0.5", "na"]
    assert [row["votes"] for row in rows] == [1, 5, 10, 1, 1]
    assert len({row["path"] for row in rows}) == len(rows)
    text = snd(*options).stdout
    assert "na: snd 0.01: at most 400 paid queries" in text
    assert "all 5: at most 2,000 paid queries, about" in text


def test_the_rate_is_that_of_the_defended_model(snd: Snd, tmp_path: Path) -> None:
    """RSE passes through its network several times for a query, so that a bare rate would promise too much."""
    model = ("--model", "resnet20", "--defense", "rse")
    options = ("attack", "null", *model, "--images", 2, "--batch-size", 64, "--dry-run", "--json")
    (row,) = json.loads(snd(*options, "--out", tmp_path).stdout)["rows"]
    assert row["rows_per_s"] < 0.8 * row["bare_rows_per_s"]
    passes = cost.Passes(**row["passes_usual"])
    rates = cost.Rates(row["rows_per_s"], row["bare_rows_per_s"])
    assert row["seconds"] == pytest.approx(passes.seconds(rates), rel=0.02, abs=0.1)


@pytest.mark.slow
def test_the_boundary_is_counted(snd: Snd, tmp_path: Path) -> None:
    """Before, 6,050 passes were announced where 12,033 followed."""
    options = ("attack", "hsja", "--sigma", 0.01, "--images", 2, "--budget", 400, "--dry-run", "--json")
    unpaid = [
        json.loads(snd(*options, "--out", tmp_path, *more).stdout)["rows"][0]["unpaid_usual"]
        for more in ((), ("--no-boundary",))
    ]
    assert unpaid[0] - unpaid[1] == round(2 * expected(25, 0.2) * 12)
