"""The paper's protocol in ``snd reproduce``: what it takes over where ours differs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Done

from sndcli.datasets import cifar10
from sndcli.datasets.load import choose
from sndcli.defenses.parse import DefenseSpec
from sndcli.models.sources import digest, load_model
from sndcli.paper import published
from sndcli.paper.noise import noise_length
from sndcli.paper.reproduce import Plan, Wanted, plan_of
from sndcli.runs import results
from sndcli.runs.listener import Listener
from sndcli.runs.request import Request

Snd = Callable[..., Done]
AT_CASE = published.Case(
    "table8", "subspace", "authors", "cifar10", "resnet20", "linf", 1e-6, 24, "pgd-at+snd", 0.01, None, 1, False,
    (published.Cell("success_seen", 10, 0.5), published.Cell("success_seen_net", 20, 0.5)),
)  # fmt: skip
OPTIONS = ("--verify", 2, "--no-progress", "--json")


def planned(case: published.Case, limit: int | None = None, references: tuple[str, ...] | None = None) -> Plan:
    usual = Request(attack="null", references=references)
    return plan_of(case, Wanted(usual=usual, limit=limit, images=4, at_model="resnet20-at"), Listener())


def case_of(table: str, **wanted: Any) -> published.Case:
    return next(c for c in published.cases(table) if all(getattr(c, k) == v for k, v in wanted.items()))


@pytest.mark.parametrize(("table", "attack"), [("table1", None), ("table2", "hsja"), ("table7", None)])
def test_noise_is_clipped(table: str, attack: str | None) -> None:
    noisy = planned(case_of(table, attack=attack, defense="snd", sigma=0.01, dataset="cifar10"))
    assert noisy.job is not None
    assert noisy.job.config.defense == DefenseSpec("snd", 0.01, clip=True)
    bare = planned(case_of(table, attack=attack, sigma=0.001, dataset="cifar10"))
    assert bare.job is not None
    assert bare.job.config.defense.clip


@pytest.mark.parametrize(
    ("sigma", "clipped", "plain"), [(0.001, 0.0552, 0.0554), (0.01, 0.5507, 0.5543), (0.02, 1.0981, 1.1084)]
)
def test_lengths_of_table_7_are_those_of_clipped_noise(sigma: float, clipped: float, plain: float) -> None:
    """The paper prints 0.055, 0.550 and 1.098."""
    data = cifar10.load_shipped()
    everyone = torch.arange(len(data))
    assert noise_length(DefenseSpec("snd", sigma, clip=True), data, everyone) == pytest.approx(clipped, rel=1e-3)
    assert noise_length(DefenseSpec("snd", sigma), data, everyone) == pytest.approx(plain, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "table", "changed"),
    [("simba", "table3", {"anywhere": True}), ("simba-dct", "table3", {"anywhere": True, "order": "auto"}),
     ("bandit-td", "table3", {"ball": 0.98}), ("subspace", "table8", {"authors_count": True})],
)  # fmt: skip
def test_attacks_take_the_papers_settings(name: str, table: str, changed: dict[str, Any]) -> None:
    case = replace(case_of(table, attack=name, defense="none"), dataset="cifar10", model="resnet20")
    job = planned(case).job
    assert job is not None
    assert changed.items() <= job.config.as_dict()["options"].items()
    for line in published.protocol(table):
        assert "our" in line  # each says what our own protocol does


def test_a_budget_limits_paid_queries_whatever_the_count() -> None:
    """20 by the authors' count are 31 paid ones, 10 are 16."""
    assert [c.budget for c in planned(AT_CASE, 30).cells] == [10]
    found = planned(AT_CASE, 31, references=("none",))
    assert [c.budget for c in found.cells] == [10, 20]
    assert found.points == {16: 10, 31: 20}
    assert found.job is not None
    assert (found.job.config.budget, found.job.config.report_points) == (31, [16, 31])


@pytest.mark.slow
def test_rows_of_the_trained_network_follow_the_baselines_images(
    snd: Snd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images that the baseline gets right, the trained network's errors among them; report points as the paper's Q."""
    monkeypatch.setattr(published, "cases", lambda _: [AT_CASE])
    done = snd("reproduce", "table8", "--at-model", "resnet20-at", "--reference", "none", *OPTIONS, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert {(c["measure"], c["budget"], c["paid"], c["n"]) for c in answer["cells"]} == {
        ("success_seen", 10, 16, 24), ("success_seen_net", 20, 31, 24)}  # fmt: skip
    assert any("--select-by" in line for line in answer["protocol"]["table8"])
    (path,) = tmp_path.glob("*.parquet")
    table = results.read(path)
    config = results.run_of(table)["config"]
    baseline = load_model("resnet20")
    assert config["select_by"] == f"resnet20 {digest(baseline)}"
    assert (config["model"], config["defense"]["clip"], config["preset"]) == ("resnet20-at", True, "authors")
    data = cifar10.load_shipped()
    with torch.no_grad():
        right = choose(data, 24, "correct", 0, lambda x: baseline(x).argmax(1))
        trained = load_model("resnet20-at")(data.pixels(right)).argmax(1)
    assert table.column("image_id").to_pylist() == data.ids[right].tolist()
    assert bool((trained != data.labels[right]).any())  # which our own choice would have left out


@pytest.mark.slow
def test_a_table_is_run_in_shares(snd: Snd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both shares and `snd merge` make the runs that the command without shares only reads."""
    case = replace(AT_CASE, attack="simba", preset=None, norm="l2", images=2, defense="snd")
    monkeypatch.setattr(published, "cases", lambda _: [case])
    run = ("reproduce", "table2", *OPTIONS, "--out", tmp_path)
    for k in (1, 2):
        done = snd(*run, "--shard", f"{k}/2")
        assert done.returncode == 0, done.stderr
        (row,) = json.loads(done.stdout)["rows"]
        assert (row["units_finished"], row["units"]) == (k, 2)
    assert snd("merge", tmp_path).returncode == 0
    (path,) = tmp_path.glob("*.parquet")
    made = path.stat().st_mtime_ns
    cells = json.loads(snd(*run).stdout)["cells"]
    assert [(cell["budget"], cell["n"]) for cell in cells] == [(10, 2), (20, 2)]
    assert path.stat().st_mtime_ns == made
    refused = snd(*run, "--shard", "1/2", "--within", "8h")
    assert refused.returncode == 2
    assert "--images" in refused.stderr


def test_select_by(snd: Snd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attacked model by its name is no other, and no other run; `all` asks no model."""
    monkeypatch.setattr("sndcli.runs.estimate.PROBE_S", 0.0)
    common = (
        "attack",
        "null",
        "--batch-size",
        8,
        "--images",
        3,
        "--budget",
        4,
        *OPTIONS,
        "--dry-run",
        "--out",
        tmp_path,
    )
    config = json.loads(snd(*common, "--select-by", "resnet20").stdout)["run"]["config"]
    assert "select_by" not in config
    assert config == json.loads(snd(*common).stdout)["run"]["config"]
    refused = snd(*common, "--select-by", "resnet20", "--select", "all")
    assert refused.returncode == 2
    assert "no --select-by" in refused.stderr
    for command in (("adaptive", "null", "--votes", 2), ("sigma-sweep", "null", "--sigmas", "0,0.01")):
        other = json.loads(snd(*command, *common[2:], "--select-by", "resnet20-at").stdout)["run"]["config"]
        assert other["select_by"].startswith("resnet20-at ")
