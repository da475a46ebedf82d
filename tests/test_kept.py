"""``snd reproduce --no-run`` over the published result files: the page beside the paper can be made by anybody."""

from __future__ import annotations

import json
from pathlib import Path

import make_paper_tables
import pytest

from sndcli.analysis.frame import load
from sndcli.paper import published
from sndcli.paper.kept import fill, frames_in
from sndcli.paper.reproduce import Plan
from sndcli.reports.published import markdown

ROOT = Path(__file__).parents[1]
DATA = ROOT / "docs" / "results" / "data"
PAGE = ROOT / "docs" / "results" / "paper.md"


def case_of(table: str, attack: str | None, defense: str, sigma: float | None) -> published.Case:
    found = [c for c in published.cases(table) if (c.attack, c.defense, c.sigma) == (attack, defense, sigma)]
    return found[0]


@pytest.mark.parametrize(
    ("attack", "defense", "sigma"), [("hsja", "none", None), ("hsja", "snd", 0.01), ("geoda", "snd", 0.001)]
)
def test_figures_can_be_recomputed(attack: str, defense: str, sigma: float | None) -> None:
    case = case_of("table2", attack, defense, sigma)
    plan = Plan(case, case.cells, skipped="not run yet")
    frames = load(sorted((DATA / "table2").glob(f"{attack}_*.parquet")))[0]
    fill(plan, frames, DATA)
    assert plan.found
    assert not plan.skipped
    page = PAGE.read_text(encoding="utf-8")
    for line in markdown("table2", plan.found).splitlines():
        if line.startswith(f"| {attack}"):
            assert line in page


def test_another_network_norm_or_preset_is_another_run() -> None:
    case = case_of("table2", "hsja", "none", None)
    frames = load(sorted(DATA.glob("hsja_*_none_q5000_*.parquet")))[0]  # of the authors' preset; the paper's is ART's
    assert frames
    plan = Plan(case, case.cells, skipped="not run yet")
    fill(plan, frames, DATA)
    assert not plan.found
    assert plan.skipped


def test_parts_of_runs_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.parts").mkdir()
    source = next(DATA.glob("hsja_*_q500_*.parquet"))
    (tmp_path / "a.parts" / "0.parquet").write_bytes(source.read_bytes())
    assert not frames_in(tmp_path)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a.parquet").write_bytes(source.read_bytes())
    assert len(frames_in(tmp_path)) == 1


def test_clean_figures_say_what_they_are_of(tmp_path: Path) -> None:
    case = case_of("table1", None, "snd", 0.01)
    of = {"dataset": "cifar10", "model": "resnet20", "defense": "snd", "sigma": 0.01, "beta": None}
    for n, share in ((100, 0.5), (10_000, 0.9)):
        figures = {"accuracy": {"value": share, "lo": None, "hi": None, "std": 0.0, "n": n}}
        (tmp_path / f"clean_{n}.json").write_text(json.dumps({"of": of, "figures": figures}))
    (tmp_path / "clean_old.json").write_text(json.dumps({"accuracy": {"value": 1.0, "n": 10**6}}))
    plan = Plan(case, case.cells, skipped="not run yet")
    fill(plan, [], tmp_path)
    assert [(c["measure"], c["value"], c["n"], c["file"]) for c in plan.found] == [
        ("accuracy", 0.9, 10_000, "clean_10000.json")
    ]


@pytest.mark.slow
def test_the_page_is_made_from_the_files() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert make_paper_tables.page(text) == text
