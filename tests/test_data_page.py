"""docs/data.md: its tables are those of the code, and its one-liners give the figures of the report."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import make_data_tables
import pyarrow.parquet as pq
import pytest
from conftest import Done

from sndcli.analysis import frame, measures, summary, tidy
from sndcli.analysis.summary import Summary
from sndcli.runs import results

Snd = Callable[..., Done]
ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
PUBLISHED = sorted((ROOT / "docs" / "results" / "data").glob("hsja_*_q5000_*.parquet"))
KEYS = ("attack", "defense", "sigma", "budget")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def key_of(row: Summary) -> tuple[str, str, float, int]:
    return row.setting.attack, row.setting.defense, row.setting.sigma, row.budget


@pytest.fixture
def reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, snd: Snd) -> dict[tuple[str, str, float, int], Summary]:
    """Published runs in `results`, written by the present schema, the page's export of them, and their summaries."""
    for path in PUBLISHED:
        table = results.read(path)
        results.write_table(tmp_path / "results" / path.name, table, results.run_of(table))
    monkeypatch.chdir(tmp_path)
    files = sorted(Path("results").glob("*.parquet"))
    assert snd("report", *files, "--format", "parquet", "--out", "rows.parquet").returncode == 0
    rows = summary.summarise(frame.load(files)[0])
    assert len(rows) > len(files) > 1
    return {key_of(row): row for row in rows}


def test_tables_are_up_to_date() -> None:
    for path in make_data_tables.PAGES:
        assert path.read_text(encoding="utf-8") == make_data_tables.page(path), "run tools/make_data_tables.py"


def test_every_measure_is_computed_and_explained(reported: dict[tuple[str, str, float, int], Summary]) -> None:
    for row in reported.values():
        assert [*row.figures] == [measure.key for measure in measures.TABLE]
    assert all(measure.meaning and measure.known in measures.KNOWN for measure in measures.TABLE)
    assert {*measures.OLD.values()} <= {*measures.MEASURES}


def test_pandas_reproduces_the_table(reported: dict[tuple[str, str, float, int], Summary]) -> None:
    pytest.importorskip("pandas")
    found: dict[str, Any] = {}
    exec(blocks("python")[0], found)
    assert len(found["table"]) == len(reported)
    for key, row in reported.items():
        mean = found["table"].loc[key]
        for name in ("seen", "noisy", "as_submitted", "clean"):
            assert mean[name] == pytest.approx(row.number(f"success_{name}"), abs=1e-12), (key, name)
        assert mean["floor"] == pytest.approx(row.number("floor"), abs=1e-12)
        assert found["last"].loc[key] == pytest.approx(row.number("distance_last"))
        assert found["best"].loc[key] == pytest.approx(row.number("distance_best"))


def test_duckdb_reproduces_the_table(reported: dict[tuple[str, str, float, int], Summary]) -> None:
    duckdb = pytest.importorskip("duckdb")
    exported, direct = (duckdb.sql(block).fetchall() for block in blocks("sql"))
    assert len(exported) == len(reported)
    for attack, defense, sigma, budget, n, *figures in exported:
        row = reported[attack, defense, sigma, budget]
        names = ("success_seen", "success_noisy", "success_as_submitted", "success_clean", "floor", "distance_last",
                 "distance_best")  # fmt: skip
        assert n == row.n
        assert figures == pytest.approx([row.number(name) for name in names], abs=1e-12)
    for attack, budget, seen, noisy in direct:
        mine = [row for key, row in reported.items() if (key[0], key[3]) == (attack, budget)]
        weight = sum(row.n for row in mine)
        for share, name in ((seen, "success_seen"), (noisy, "success_noisy")):
            assert share == pytest.approx(sum(row.n * (row.number(name) or 0.0) for row in mine) / weight)


def test_metadata_as_the_page_reads_it(reported: dict[tuple[str, str, float, int], Summary]) -> None:
    found: dict[str, Any] = {"path": next(Path("results").glob("*.parquet"))}
    exec(blocks("python")[1], found)
    assert found["run"]["config"]["attack"] == "hsja"


def test_what_is_not_known_is_null_and_the_longest_run_speaks(tmp_path: Path, snd: Snd) -> None:
    """At a budget that was not stored nothing was verified; at a stored one every image stands once."""
    (path,) = [p for p in PUBLISHED if "none" in p.name]
    twice = tmp_path / "twice.parquet"
    twice.write_bytes(path.read_bytes())
    rows = tidy.tidy(frame.load([path, twice], events=True)[0], at=[700])
    known = summary.summarise(frame.load([path], events=True)[0], at=[700])[0]
    assert len(rows) == known.n
    assert rows.schema == tidy.SCHEMA
    for name in ("noisy", "clean", "as_submitted", "distance_last", "distance_submitted", "p_adv"):
        assert rows.column(name).null_count == len(rows), name
    assert sum(rows.column("seen").to_pylist()) / len(rows) == known.number("success_seen")
    out = tmp_path / "out" / "rows.parquet"
    done = snd("report", path, "--format", "parquet", "--out", out, "--where", "budget=5000", "-q")
    assert (done.returncode, done.stdout) == (0, "")
    written = pq.read_table(out)
    assert set(written.column("budget").to_pylist()) == {5000}
    assert set(written.column("run_budget").to_pylist()) == {5000}
    assert all(math.isfinite(d) for d in written.column("distance_last").to_pylist())


def test_the_file_is_asked_for(tmp_path: Path, snd: Snd) -> None:
    assert snd("report", PUBLISHED[0], "--format", "parquet").returncode == 2
    assert snd("report", PUBLISHED[0], "--out", tmp_path / "a.parquet").returncode == 2


def test_runs_are_chosen_by_any_column_and_old_names_are_noted(snd: Snd) -> None:
    (path,) = [p for p in PUBLISHED if "none" in p.name]
    assert snd("report", path, "--where", "quantize=false", "--where", "select=correct", "-q").returncode == 0
    assert snd("report", path, "--where", "quantize=true", "-q").returncode == 2
    old = snd("report", path, "--fail-if", "l2_claimed@5000 > 1000")
    assert old.returncode == 0
    assert "note: l2_claimed is distance_submitted now" in old.stderr
    new = snd("report", path, "--fail-if", "distance_submitted@5000 < 1000")
    assert new.returncode == 1
    assert "is distance_submitted now" not in new.stderr
