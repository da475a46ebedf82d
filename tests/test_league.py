"""`snd league`: suites that are read strictly, groups and ranks by exact tests, one table and one page."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import Done

from sndcli.analysis.audit import Claim, Figure, Figures, Stepped, ratios_of
from sndcli.analysis.audit_words import flags
from sndcli.analysis.league import Placed, Price, table
from sndcli.analysis.statistics import Rate, rate
from sndcli.defenses.parse import DefenseSpec
from sndcli.errors import DataError, SndError
from sndcli.paper.evidence import Fact
from sndcli.reports import league as tables
from sndcli.reports.evidence import read_prices, write
from sndcli.runs.battery import L2, Step
from sndcli.runs.honest import Speed
from sndcli.runs.suite import Row, read

Snd = Callable[..., Done]
ROOT = Path(__file__).parents[1]
SUITES = sorted(ROOT.glob("suites/*.toml"))
N = 60


def row(name: str, family: str = "", own: bool = False) -> Row:
    return Row(name, family or name, DefenseSpec(), "m", own, "", 0.5 if name == "good" else None, False)


def figures(stand: int, right: float = 0.9, n: int = N, queries: float = 100.0, name: str = "d") -> Figures:
    """An audit of which the first `stand` images stand, and 100 pictures of which a share is right."""
    broken = {image: image >= stand for image in range(n)}
    share = rate(stand, n)
    accuracy = Figure(right, right - 0.02, right + 0.02)
    claims = tuple(
        Claim(access, broken, share, Figure(stand / n, 0, 1), Rate(1 - stand / n, 0, 1, n), 0.0, Figure(1, 1, 1), None)
        for access in ("labels", "both")
    )
    times = {"labels": {image: math.inf if image < stand else queries for image in range(n)}}
    bare = {"labels": dict.fromkeys(range(n), 50.0)}
    correct = {image: float(image < 100 * right) for image in range(100)}
    steps = tuple(Stepped(step, n, 0, 0, 0, 0.5, 10.0, None) for step in L2[1:2])
    return Figures(
        "m", "cifar10", name, "l2", 1.0, 1000, n, 0, "both", accuracy, 0.0, accuracy, Figure(0.0, 0.0, 0.0),
        Figure(0.0, 0.0, 0.0), claims, ratios_of(bare, times, 1000), steps, 0.1, 0.9, Speed(1.0, 1.0, 1.0, 1.0), True,
        True, ("run",), times, bare, correct, correct,
    )  # fmt: skip


def by_name(placed: tuple[Placed, ...]) -> dict[str, Placed]:
    return {one.row.name: one for one in placed}


# -- suites --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.name)
def test_entries_of_shipped_suites_are_valid(path: Path) -> None:
    """What somebody enters is read with nothing unknown in it, and names defenses that there are."""
    suite, rows = read(path)
    assert {*suite.against} <= {row.name for row in rows}
    assert rows[0].spec.name == "none"
    assert len({(row.model, row.spec) for row in rows}) == len(rows), "two entries are the same defense"
    for entry in suite.defense:
        assert entry.claimed is None or entry.cite, f"{entry.name}: a figure is claimed, and nobody cited"


def test_sweeps_are_lines_of_one_family(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(
        'against = []\n[[defense]]\nname = "SND"\nsweep = { sigma = [0.01, 0.02] }\n'
        '[[defense]]\nname = "u"\nspec = "noise:uniform"\nsweep = { sigma = [0.01] }\n'
        '[[defense]]\nname = "shift"\nspec = "aug"\nsweep = { shift = [1, 2] }\n'
    )
    _, rows = read(path)
    told = [(row.name, row.family, row.spec.words) for row in rows]
    assert told == [
        ("SND 0.01", "SND", "snd 0.01"), ("SND 0.02", "SND", "snd 0.02"),
        ("u 0.01", "u", "noise:kind=uniform,sigma=0.01"),
        ("shift 1", "shift", "aug:flip=0.5,shift=1"), ("shift 2", "shift", "aug:flip=0.5,shift=2"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("budge = 3", "unknown key `budge`"),
        ('[[defense]]\nname = "x"\ncited = "y"', "unknown key `defense.cited` of `x`"),
        ('[[defense]]\nname = "x"\nclaimed = 85', "`defense.claimed` of `x` to be at most 1"),
        ('[[defense]]\nname = "x"\nspec = "nois"', "`x`: Unknown defense"), ('battery = "snd-2"', "`battery`"),
        ('[[defense]]\nname = "a"\n[[defense]]\nname = "a"', "the name `a` stands twice"),
        ('against = ["best"]', "`against` names `best`"), ("= 3", "is no TOML"),
    ],
)  # fmt: skip
def test_suites_that_cannot_be(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "s.toml"
    more = "" if "[[" in text else '\n[[defense]]\nname = "none"\n'
    first = "" if "against" in text else "against = []\n"
    path.write_text(first + text + more)
    with pytest.raises(SndError, match=re.escape(told)):
        read(path)
    with pytest.raises(DataError):
        read(tmp_path / "none.toml")


# -- the table -----------------------------------------------------------------------------------------------


def test_few_images_make_groups_by_tests_against_the_references() -> None:
    rows = [("none", 5), ("SND 0.01", 20), ("good", 45), ("middle", 22), ("bad", 0), ("like none", 6)]
    found = by_name(table([(row(name), figures(stand)) for name, stand in rows], ["none", "SND 0.01"]).placed)
    groups = {name: one.standings["both"].group for name, one in found.items()}
    assert groups == {"none": 3, "SND 0.01": 2, "good": 1, "middle": 2, "bad": 3, "like none": 3}
    assert found["good"].standings["labels"].against == {"none": "more", "SND 0.01": "more"}
    assert next(iter(found)) == "good"
    assert all(one.standings["both"].ranks is None for one in found.values())


def test_many_images_make_ranks() -> None:
    rows = [("a", 500), ("b", 300), ("c", 299), ("d", 20)]
    found = by_name(table([(row(name), figures(stand, n=600)) for name, stand in rows], ["a"]).placed)
    assert {name: one.standings["both"].ranks for name, one in found.items()} == {
        "a": (1, 1), "b": (2, 3), "c": (2, 3), "d": (4, 4)
    }  # fmt: skip


def test_the_front_is_of_accuracy_and_robustness() -> None:
    rows = [(row("none"), figures(5)), (row("good"), figures(45)), (row("exact"), figures(20, right=0.99)),
            (row("worse"), figures(20, right=0.8))]  # fmt: skip
    front = {one.row.name: one.front for one in table(rows, ["none"]).placed}
    assert front == {"none": False, "good": True, "exact": True, "worse": False}


def test_another_network_is_compared_with_the_bare_one_of_the_league() -> None:
    rows = [(row("none"), figures(0, queries=100.0)), (row("robust", own=True), figures(0, right=0.8, queries=400.0))]
    found = by_name(table(rows, ["none"]).placed)["robust"].figures
    assert found.drop is not None
    assert found.drop.value == pytest.approx(0.1)
    ratio = found.ratios["labels"]
    assert ratio is not None
    assert ratio.value == 4.0


def test_one_pipe_table_with_a_line_a_defense() -> None:
    rows = [(row("none"), figures(5, name="none")), (row("good"), figures(45))]
    found = table(rows, ["none"], missing=["slow one"])
    text = tables.markdown(found)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 2
    assert {line.count("|") for line in lines} == {lines[0].count("|")}
    assert "Not finished: slow one." in text
    assert "Groups, since 60 images rank nothing" in text
    told = tables.rows(found).to_pylist()
    assert [(line["defense"], line["access"]) for line in told] == [
        ("good", "labels"), ("good", "both"), ("none", "labels"), ("none", "both")
    ]  # fmt: skip
    assert told[0]["robust_accuracy_value"] == pytest.approx(45 / 60)
    assert told[0]["reported"] == 0.5
    json.dumps(tables.as_dict(found), allow_nan=False)


def test_prices_of_a_file_stand_beside(tmp_path: Path) -> None:
    """By the words of the defense, on the league's own network only; ρ at one width of probes."""
    facts = [
        Fact("margin_noise", "none", None, None, 9, 0.0), Fact("agreement", "none", None, 0.01, 9, 0.5),
        Fact("agreement", "none", None, 0.02, 9, 1.0), Fact("price", "none", None, 0.02, 9, 1.25),
        Fact("least_price", "none", None, 0.02, 9, 1.25, 0.1, math.inf),
        Fact("margin_noise", "snd 1", None, None, 9, 1.0),
    ]  # fmt: skip
    write(facts, tmp_path / "p.parquet")
    prices = read_prices([tmp_path / "p.parquet"])
    assert prices == {"none": Price(0.0, 1.0, 1.25, math.inf)}
    rows = [(row("a"), figures(5)), (row("b", own=True), figures(4))]
    text = tables.markdown(table(rows, ["a"], prices=prices))
    line = next(line for line in text.splitlines() if line.startswith("|") and " a " in line)
    assert "| 0.000 | 1.00 | 1.2 | ∞ |" in line
    assert "ρ: how far" in text
    assert "ρ" not in tables.markdown(table(rows, ["a"]))
    told = tables.rows(table(rows, ["a"], prices=prices)).to_pylist()
    assert [(line["price"], line["price_predicted"]) for line in told if line["access"] == "both"] == [
        (1.25, math.inf), (None, None)
    ]  # fmt: skip
    json.dumps(tables.as_dict(table(rows, ["a"], prices=prices)), allow_nan=False)
    with pytest.raises(DataError, match="no table of"):
        read_prices([Path("pyproject.toml")])


def test_the_page_needs_nothing_and_has_two_pictures() -> None:
    rows = [
        (row("none"), figures(5, name="none")),
        (row("SND 1", "SND"), figures(20)),
        (row("SND 2", "SND"), figures(30)),
    ]
    text = tables.html(table(rows, ["none"]))
    assert text.count("<svg") == 2
    assert "default-src 'none'" in text
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", text)
    assert text.count("<table") == 1
    assert "times the queries" in text
    assert tables.html(table([], [])).count("<svg") == 0


def test_steps_of_a_battery_are_fixed() -> None:
    """Another content, order or constant is another battery."""
    assert [(s.name, s.access, s.role) for s in L2] == [
        ("transfer momentum", "labels", "transfer"), ("hsja-na sequential", "labels", "champion"),
        ("nes-na near", "scores", "champion"), ("square na", "scores", "attack"),
        ("popskipjump share", "labels", "attack"), ("subspace l2", "scores", "attack"),
        ("hsja authors", "labels", "yardstick"), ("square autoattack", "scores", "yardstick"),
    ]  # fmt: skip
    assert Step("a", "b", "labels", "transfer").serves("scores")


MODEL = """
import torch
from torch import nn

from sndcli import Classifier, Normalisation


def tiny():
    torch.manual_seed(0)
    network = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 10))
    return Classifier(network.eval(), Normalisation((0.5,) * 3, (0.25,) * 3), (3, 32, 32), "tiny")
"""


@pytest.mark.slow
def test_a_league_of_one_is_an_audit(snd: Snd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny_one.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tiny_one", raising=False)
    suite = tmp_path / "s.toml"
    suite.write_text(
        'budget = 60\nimages = 3\naccess = ["labels"]\nreference = ["none"]\nyardsticks = false\nagainst = ["none"]\n'
        '[[model]]\nname = "tiny"\nsource = "py:tiny_one:tiny"\n[[defense]]\nname = "none"\n'
        '[[defense]]\nname = "SND"\nsigma = 0.01\n'
    )
    part = snd("league", suite, "--only", "SND", "--out", tmp_path / "l", "--json")
    assert part.returncode == 0, part.stderr
    assert json.loads(part.stdout)["league"]["missing"] == ["none"]
    stopped = snd("league", suite, "--within", "0.0001s", "--out", tmp_path / "l")
    assert stopped.returncode in (2, 3)
    whole = snd("league", suite, "--out", tmp_path / "l", "--json")
    assert whole.returncode == 0, whole.stderr
    assert {path.name for path in (tmp_path / "l").glob("league.*")} == {
        "league.json", "league.parquet", "league.md", "league.html"
    }  # fmt: skip
    audit = snd(
        "audit", "--model", "py:tiny_one:tiny", "--sigma", 0.01, "--budget", 60, "--images", 3, "--access", "labels",
        "--reference", "none", "--quick", "--out", tmp_path / "a", "--json",
    )  # fmt: skip
    assert audit.returncode == 0, audit.stderr
    told = json.loads(audit.stdout)["audit"]
    (line,) = [one for one in json.loads(whole.stdout)["league"]["rows"] if one["defense"] == "SND"]
    for name in ("robust_accuracy", "robust_single", "accuracy", "drop", "inconsistent"):
        assert [line[f"{name}_{end}"] for end in ("value", "lo", "hi")] == [*told[name].values()]
    assert pq.read_table(tmp_path / "l" / "league.parquet").num_rows == 2
    done = snd("league", suite, "--only", "best", "--out", tmp_path / "l")
    assert (done.returncode, "Unknown defense of" in done.stderr) == (2, True)


def test_an_audit_says_that_queries_were_recognised() -> None:
    """A share of the queries of a step, and not before a twentieth of them."""
    f = figures(40)
    for share, told in ((0.04, False), (0.4, True)):
        steps = (replace(f.steps[0], blocked=share),)
        raised = {flag.name: flag.text for flag in flags(replace(f, steps=steps))}
        assert ("blocked" in raised) == told
    assert "40 percent of the queries of hsja-na" in raised["blocked"]


def test_a_defense_that_is_seen_to_contradict_itself_is_not_off() -> None:
    f = replace(figures(40), random=True, passes_differ=False)
    for disagree, told in ((0.0, True), (0.05, False)):
        raised = {flag.name for flag in flags(replace(f, inconsistent=Figure(disagree, 0.0, 0.1)))}
        assert ("defense_off" in raised) == told
