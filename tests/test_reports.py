"""Reports over result files: figures, formats, gates, baselines, plots and the page."""

from __future__ import annotations

import base64
import csv
import hashlib
import html
import io
import json
import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import OLDEST, Done, plain, write_as_schema_1

from sndcli import __version__
from sndcli.analysis import baseline, curves, frame, gates, notes, summary
from sndcli.attacks.decision import hsja
from sndcli.attacks.spec import Preset
from sndcli.datasets.load import load
from sndcli.defenses.parse import DefenseSpec
from sndcli.errors import ConfigError, DataError
from sndcli.models.inference import Forward
from sndcli.paper import published
from sndcli.reports import grid, latex, plots, tables
from sndcli.runs import columns, results
from sndcli.runs.config import RunConfig
from sndcli.runs.job import Job

Snd = Callable[..., Done]
BASE = RunConfig(
    "hsja", "cifar10", "made up", "d", "resnet20", "m", DefenseSpec("snd", 0.01), budget=1000, budgets=(100,)
)


def write_run(
    folder: Path, events: Sequence[Sequence[tuple[int, float]]], config: RunConfig = BASE, p_adv: float = 1.0,
    first_image: int = 0, **changes: Any,
) -> Path:  # fmt: skip
    """A result file of these improvement events, one list an image; the point submitted is the closest wrong answer."""
    points, rows, told, run_id = config.report_points, [], config.as_dict(), config.run_id
    for k, found in enumerate(events):
        best = [min((d for q, d in found if q <= b), default=math.inf) for b in points]
        rows.append(columns.of_config(told) | {
            "run_id": run_id, "seed": config.seed, "image_id": first_image + k, "label": 0,
            "status": "ok", "stop_reason": "budget", "queries": config.budget,
            "queries_by_phase": [("walk", config.budget)], "budgets": points, "distance_best": best,
            "distance_last": [0.5] * len(points), "distance_submitted": best, "p_adv": [p_adv] * len(points),
            "adv_clean": [False] * len(points), "p_adv_submitted": [p_adv] * len(points),
            "adv_clean_submitted": [False] * len(points), "verify_draws": 10, "p0": 0.0, "p_mis_clean": 0.0,
            "clean_draws": 30, "initially_wrong": False, "mismatches": None, "event_query": [q for q, _ in found],
            "event_distance": [d for _, d in found],
        } | changes)  # fmt: skip
    path = folder / config.file_name
    table = pa.Table.from_pylist(rows, schema=columns.SCHEMA)
    results.write_table(path, table, {"id": run_id, "config": told, "wall_s": 1.0, "versions": {}})
    return path


HIT, LATE, MISS = [(50, 0.5)], [(60, 3.0), (700, 0.9)], [(40, 2.0)]


def summaries_of(*paths: Path, **how: Any) -> list[summary.Summary]:
    return summary.summarise(frame.load(paths, events=True)[0], **how)


def rows_of(*paths: Path, **how: Any) -> list[dict[str, Any]]:
    return plain(summaries_of(*paths, **how))


def test_known_rows(tmp_path: Path) -> None:
    """Two of four images within ε at the end, one of them by 100 queries."""
    early, late = rows_of(write_run(tmp_path, [HIT, LATE, MISS, []]))
    assert (early["budget"], late["budget"]) == (100, 1000)
    assert (early["success_seen"]["value"], late["success_seen"]["value"]) == (0.25, 0.5)
    assert early["distance_best"] == pytest.approx((2.0 + 3.0) / 2)  # of 0.5, 2, 3, ∞
    assert late["distance_best"] == pytest.approx((0.9 + 2.0) / 2)


@pytest.mark.parametrize(
    ("budget", "eps", "expected"), [(49, 1.0, 0), (50, 0.4, 0), (700, 1.0, 2), (60, 3.0, 3), (1000, 0.9, 2)]
)
def test_any_point_from_the_events(tmp_path: Path, budget: int, eps: float, expected: int) -> None:
    (row,) = rows_of(write_run(tmp_path, [HIT, LATE, MISS, []]), at=[budget], eps=eps)
    assert row["success_seen"]["value"] == expected / 4
    assert (row["success_as_submitted"] is None) == (budget not in (100, 1000))
    assert (row["success_noisy"] is None) == (budget not in (100, 1000) or eps != BASE.eps)  # no boundary is stored
    assert row["distance_last"] is None or budget in (100, 1000)


@pytest.mark.parametrize(
    ("attack", "preset", "told"),
    [("hsja", None, False), ("ba", "na", True), ("hsja-na", None, True), ("hsja-na", "majority", False),
     ("simba", None, True)],
)  # fmt: skip
def test_another_bound_is_noted_where_points_depend_on_it(
    tmp_path: Path, attack: str, preset: str | None, told: bool
) -> None:
    frames = [frame.frame_of(results.read(write_run(tmp_path, [HIT], replace(BASE, attack=attack, preset=preset))))]
    assert any("submitted depends on ε" in line for line in notes.recompute_notes(frames, (), 0.5)) == told
    assert not notes.recompute_notes(frames, (), 1.0)


def test_net_keeps_every_image_in_the_denominator(tmp_path: Path) -> None:
    """Four images, one wrong from the start: (3 seen - 1) of 4, not 2 of 3."""
    at_once = write_run(tmp_path / "a", [[(1, 0.0)]], first_image=0, initially_wrong=True)
    others = write_run(tmp_path / "b", [HIT, HIT, MISS], first_image=1)
    row = next(r for r in rows_of(at_once, others) if r["budget"] == 100)
    assert (row["n"], row["initially_wrong"], row["success_seen"]["value"]) == (4, 1, 0.75)
    assert row["success_seen_net"]["value"] == 0.5


def test_longest_run_speaks_and_shorter_points_stay(tmp_path: Path) -> None:
    write_run(tmp_path, [HIT, MISS], replace(BASE, budget=200))
    write_run(tmp_path, [HIT, LATE])
    found = {row["budget"]: row for row in rows_of(tmp_path)}
    assert sorted(found) == [100, 200, 1000]
    assert [found[b]["n"] for b in (100, 200, 1000)] == [2, 2, 2]
    assert found[1000]["success_seen"]["value"] == 1.0


def test_seeds_are_pooled_with_their_spread(tmp_path: Path) -> None:
    write_run(tmp_path, [HIT, HIT, MISS, MISS])
    write_run(tmp_path, [HIT, HIT, HIT, MISS], replace(BASE, seed=1))
    (*_, found) = summaries_of(tmp_path)
    (row,) = plain([found])
    assert (row["n"], row["seed"]) == (8, [0, 1])
    assert row["success_seen"]["value"] == 5 / 8
    assert row["over_seeds"]["success_seen"] == {"mean": 0.625, "std": pytest.approx(0.1768, abs=1e-4)}
    assert "62.5 ± 17.7 [" in found.text("success_seen")


def test_settings_that_differ_are_not_pooled(tmp_path: Path) -> None:
    write_run(tmp_path, [HIT])
    write_run(tmp_path, [MISS], replace(BASE, quantize=True))
    write_run(tmp_path, [MISS], replace(BASE, eps=0.5))
    assert len(rows_of(tmp_path)) == 6
    shown = [line.cells for made in grid.grids(summaries_of(tmp_path)) for part in made.parts for line in part]
    assert len(shown) == 6  # none hides another


@pytest.mark.slow
def test_real_events_equal_a_run_with_these_report_points(snd: Snd, tmp_path: Path) -> None:
    options = ("attack", "hsja", "--sigma", 0.01, "--images", 3, "--budget", 250, "--verify", 4,
               "--no-boundary", "--batch-size", 64, "--no-progress", "-q")  # fmt: skip
    assert snd(*options, "--budgets", "50", "--out", tmp_path / "few.parquet").returncode == 0
    assert snd(*options, "--budgets", "50,120,217", "--out", tmp_path / "many.parquet").returncode == 0
    asked = snd("report", tmp_path / "few.parquet", "--at", "120,217", "--json")
    direct = snd("report", tmp_path / "many.parquet", "--json")
    assert "not stored and cannot be recomputed" in asked.stderr
    theirs = {row["budget"]: row for row in json.loads(direct.stdout)["rows"]}
    mine = json.loads(asked.stdout)["rows"]
    assert [row["budget"] for row in mine] == [120, 217]
    for row in mine:
        for key in ("success_seen", "success_seen_net", "distance_best", "floor", "queries_mean"):
            assert row[key] == theirs[row["budget"]][key], key
        assert row["success_noisy"] is None
    wide = snd("report", tmp_path / "few.parquet", "--at", "50", "--eps", "5", "--json")
    (row,) = json.loads(wide.stdout)["rows"]
    closest = [record["distance_best"][0] for record in results.read(tmp_path / "few.parquet").to_pylist()]
    assert row["success_seen"]["value"] == np.mean([d <= 5 for d in closest])


def test_csv_and_latex_parse_back(tmp_path: Path) -> None:
    write_run(tmp_path, [HIT, LATE, MISS, []])
    write_run(tmp_path, [[], [], [], []], replace(BASE, attack="ba"))
    rows = summaries_of(tmp_path)
    parsed = list(csv.DictReader(io.StringIO(tables.csv_text(rows))))
    assert len(parsed) == len(rows)
    for line, row in zip(parsed, plain(rows), strict=True):
        assert float(line["success_seen"]) == row["success_seen"]["value"]
        assert float(line["success_noisy_hi"]) == row["success_noisy"]["hi"]
        for name in ("distance_best", "distance_submitted", "distance_verified"):
            assert float(line[name]) == (math.inf if row[name] is None else row[name])
        assert line["distance_boundary"] == ""  # not measured
    write_run(tmp_path, [MISS, [], [], []], replace(BASE, norm="linf", eps=8 / 255, model="py:a_b:C#%"))
    text = latex.latex(summaries_of(tmp_path))
    stack = []  # every environment that begins ends, in its order
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        stack.append(name) if kind == "begin" else stack.pop(stack.index(name, -1))
    assert not stack
    for command in (r"\centering", r"\label{tab:", r"\caption{", r"\toprule", r"\bottomrule"):
        assert text.count(command) == text.count(r"\begin{table}") == 2  # one a comparison
    assert len({*re.findall(r"\\label\{([a-z0-9:-]+)\}", text)}) == 2
    for one in text.split("\n\n"):
        columns = re.search(r"\\begin\{tabular\}\{@\{\}([lr]+)@\{\}\}", one)
        assert columns is not None
        body = [line for line in one.splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {len(columns[1]) - 1}
        assert one.count("{") == one.count("}")
    assert text.isascii()
    assert r"$\infty$" in text
    assert not re.search(r"(?<!\\)[%_#]", text)


def test_golden_markdown(tmp_path: Path) -> None:
    assert tables.markdown(summaries_of(write_run(tmp_path, [HIT, LATE, MISS, []]))) == GOLDEN


GOLDEN = """\
**hsja against snd 0.01 on resnet20, cifar10, L2 ≤ 1, n = 4**

| Q | seen % | noisy % | clean % | floor % | best L2 | as submitted % | last L2 |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| 100 | 25.0 [4.6, 69.9] | 25.0 [4.6, 69.9] | 0.0 [0.0, 49.0] | 0.0 | 2.50 | 25.0 [4.6, 69.9] | 0.50 |
| 1,000 | 50.0 [15.0, 85.0] | 50.0 [15.0, 85.0] | 0.0 [0.0, 49.0] | 0.0 | 1.45 | 50.0 [15.0, 85.0] | 0.50 |

% of images [95 % Wilson]; best: median distance; last: mean of the last query's"""


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_a_table_fits_its_terminal_and_breaks_no_interval(tmp_path: Path, snd: Snd, width: int) -> None:
    others = [replace(BASE, attack="simba-dct", preset="dct-fitted", votes=4), replace(BASE, attack="hsja-na"),
              replace(BASE, defense=DefenseSpec("snd", 0.01, 0.5)),
              replace(BASE, norm="linf", eps=8 / 255)]  # fmt: skip
    for config in (BASE, *others):
        write_run(tmp_path, [HIT] * 9 + [MISS] * 2, config)
    write_run(tmp_path, [HIT] * 3, replace(BASE, attack="ba"))
    done = snd("report", tmp_path, "-q", env={"COLUMNS": str(width)})
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= width
    rows = [line for line in lines if re.search(r"\d \[", line)]
    assert len(rows) == 2 * 6  # a line for each setting and budget
    assert all(len(re.findall(r"\d\.\d \[[\d.]+,\s?[\d.]+\]", line)) >= 3 for line in rows)
    assert not any(line.rstrip().endswith("…") for line in lines)
    titles = [k for k, line in enumerate(lines) if line.startswith("resnet20") or "against" in line]
    assert len(titles) == 2  # one table for each bound
    assert "L∞ ≤ 8/255" in lines[titles[1]]
    captions = [line for line in lines if line.startswith("% of images [95 % Wilson]")]
    assert len(captions) == 2


def test_corrupt_foreign_and_old_files_are_named(tmp_path: Path, snd: Snd) -> None:
    good = write_run(tmp_path, [HIT])
    table = pq.read_table(good)
    pq.write_table(
        table.replace_schema_metadata({**table.schema.metadata, b"schema_version": b"0"}), tmp_path / "old.parquet"
    )
    pq.write_table(pa.table({"a": [1]}), tmp_path / "foreign.parquet")
    (tmp_path / "cut.parquet").write_bytes(good.read_bytes()[:500])
    (tmp_path / "empty.parquet").write_bytes(b"")
    wrong = table.set_column(table.column_names.index("budgets"), "budgets", pa.array(["x"]))
    pq.write_table(wrong.replace_schema_metadata(table.schema.metadata), tmp_path / "types.parquet")
    done = snd("report", tmp_path)
    assert done.returncode == 0
    for name, why in (("old", "version 0"), ("foreign", "not written by snd"), ("cut", "not a readable"),
                      ("empty", "not a readable"), ("types", "columns of another type")):  # fmt: skip
        assert re.search(rf"warning: .*{name}\.parquet .*{why}", done.stderr)
    assert snd("report", tmp_path, "--strict").returncode == 2


# -- gates ----------------------------------------------------------------------------------------------------


def count(text: str, option: str) -> int:
    from sndcli.cli.options import count as real

    return real(text, option)


def test_gate_grammar() -> None:
    gate = gates.parse(" success_noisy.hi @ 2k >= 25 % ", count)
    assert (gate.measure, gate.part, gate.budget, gate.operator, gate.number) == (
        "success_noisy",
        "hi",
        2000,
        ">=",
        0.25,
    )
    for wrong in (
        "success_noisy", "success_noisy > 2", "noisy > 0.1", "success_seen@x > 0.1", "floor.hi > 0.1",
        "success_seen > nan", "success_seen == 0.1", "__import__('os') > 1", "success_seen > 0.1 or 1",
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            gates.parse(wrong, count)


def test_gate_says_what_it_leaves_out_and_never_passes_the_unmeasured(tmp_path: Path) -> None:
    write_run(tmp_path, [HIT])
    write_run(tmp_path, [HIT], replace(BASE, attack="ba", budgets=(300,)))
    rows = summaries_of(tmp_path)
    failed, gaps = gates.check(gates.parse("success_seen@100 > 0.5", count), rows)
    assert [row.setting.attack for row in failed] == ["hsja"]
    assert len(gaps) == 1
    assert "ba" in gaps[0]
    with pytest.raises(DataError, match="matches no row"):
        gates.check(gates.parse("success_seen@2000 > 0.5", count), rows)
    with pytest.raises(DataError, match="not known"):
        gates.check(gates.parse("p_mis > 0.5", count), rows)
    with pytest.raises(DataError, match="not known"):
        gates.check(gates.parse("distance_boundary > 0.5", count), rows)
    never = summaries_of(write_run(tmp_path / "never", [[]]))
    assert gates.check(gates.parse("distance_verified > 100", count), never)[0]
    assert not gates.check(gates.parse("distance_best < 100", count), never)[0]  # no success is far away, not near


def test_files_of_protocol_1_keep_their_distances_and_are_compared_as_far_as_they_go(tmp_path: Path) -> None:
    """What they call p_adv is of the points as they were submitted; success_noisy is not known of them."""
    path = write_run(tmp_path / "old", [[], [], []])
    table = pq.read_table(path)
    write_as_schema_1(path, table, OLDEST)
    (row,) = summaries_of(path, at=(1000,))
    assert row.figures["success_noisy"] is None
    assert row.number("success_as_submitted") == 0
    assert gates.check(gates.parse("distance_verified > 100", count), [row])[0]  # infinite, not unknown
    for kind in ("queries", "eps"):
        plots.draw(frame.load([path], events=True)[0], kind)
    now = write_run(tmp_path / "new", [HIT, HIT, HIT])  # which measured no boundary
    for kind in ("queries", "eps"):
        plots.draw(frame.load([now], events=True)[0], kind, eps=0.5 if kind == "queries" else None)
    found, notes = baseline.compare(frame.load([now])[0], frame.load([path])[0])
    assert {c.measure for c in found} == {"success_seen"}
    assert any("success_noisy at 1,000 queries is not compared" in line for line in notes)


def test_exit_codes_of_a_pipeline(snd_process: Snd, snd: Snd, tmp_path: Path) -> None:
    path = write_run(tmp_path, [HIT, LATE, MISS, []])
    failed = snd_process("report", path, "--fail-if", "success_noisy@1000 > 0.25")
    assert failed.returncode == 1
    assert "gate failed: success_noisy@1000 > 0.25: hsja against snd 0.01" in failed.stderr
    assert "seen" in failed.stdout
    cases = [
        (("--fail-if", "success_noisy@1000 > 0.5"), 0),
        (("--fail-if", "success_noisy@1000 > 0.5", "--fail-if", "success_seen.lo@100 > 1%"), 1),
        (("--fail-if", "success_noisy@1001 > 0.5"), 2),
        (("--fail-if", "success_noisy@1000"), 2),
        (("--where", "attack=ba"), 2),
        (("--where", "attack=hsja", "--where", "sigma=0.01", "--fail-if", "n < 5"), 1),
        (("--where", "colour=red"), 2),
        (("--where", "budget=100", "--fail-if", "success_seen > 0.3"), 0),
        (("--at", "5000"), 2),
        (("--interval", "wald"), 2),
        (("--plot", "a.gif"), 2),
        (("--baseline",), 2),
    ]
    for options, code in cases:
        assert snd("report", path, *options).returncode == code, options


def test_baseline_fails_on_a_regression_and_only_then(snd: Snd, tmp_path: Path) -> None:
    old = write_run(tmp_path / "old", [MISS] * 20)
    worse = write_run(tmp_path / "worse", [HIT] * 12 + [MISS] * 8)
    little = write_run(tmp_path / "little", [HIT] * 3 + [MISS] * 17)
    done = snd("report", worse, "--baseline", old, "--json")
    assert done.returncode == 1
    assert "regression: hsja" in done.stderr
    answer = json.loads(done.stdout)["baseline"]
    assert {c["worse"] for c in answer} == {12}
    assert answer[0]["p"] == pytest.approx(2 * 0.5**12)
    assert snd("report", little, "--baseline", old).returncode == 0
    assert snd("report", old, "--baseline", worse).returncode == 0
    # as a shell expands old/*.parquet, and options may follow
    more = write_run(tmp_path / "more", [MISS] * 5, replace(BASE, attack="ba"))
    both = snd("report", worse, "--baseline", old, more, "--format", "md")
    assert both.returncode == 1
    assert "ba against snd 0.01 on resnet20, cifar10, L2 ≤ 1 is only in the baseline" in both.stderr
    elsewhere = write_run(tmp_path / "elsewhere", [MISS] * 3, first_image=500)
    assert snd("report", worse, "--baseline", elsewhere).returncode == 2


def test_baseline_compares_what_may_differ(tmp_path: Path) -> None:
    old = frame.load([write_run(tmp_path / "a", [HIT, HIT], replace(BASE, model="one"))])[0]
    new = frame.load([write_run(tmp_path / "b", [HIT, MISS], replace(BASE, model="two"))])[0]
    found, _ = baseline.compare(new, old)
    assert {(c.old, c.new) for c in found} == {("snd 0.01 on one", "snd 0.01 on two")}
    last = found[-1]
    assert (last.n, last.worse, last.better, last.p) == (2, 0, 1, 1.0)
    other = frame.load([write_run(tmp_path / "c", [HIT], replace(BASE, eps=0.5))])[0]
    with pytest.raises(DataError, match="Nothing"):
        baseline.compare(new, other)


# -- pictures and the page ------------------------------------------------------------------------------------


class Cells(HTMLParser):
    """Texts of all table cells, with what is inside them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inside = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "td":
            self.inside = True
            self.found.append("")

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.found[-1] += data

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "td"


def test_pictures_and_page_of_a_real_run_with_points(snd: Snd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sndcli.reports.charts.able", lambda: False)  # as without the extra
    options = ("attack", "hsja", "--sigma", 0.01, "--images", 4, "--seed", 1, "--budget", 120, "--budgets", 60,
               "--verify", 4, "--unit", 2, "--batch-size", 64, "--no-progress", "-q", "--save-points",
               "--out", tmp_path)  # fmt: skip
    assert snd(*options).returncode == 0
    for kind in ("queries", "distance", "eps", "gallery"):
        for suffix in ("svg", "png"):
            picture = tmp_path / f"{kind}.{suffix}"
            done = snd("report", tmp_path, "--plot", picture, "--kind", kind, "-q")
            assert done.returncode == 0, done.stderr
            assert picture.read_bytes()[:5] == (b"<?xml" if suffix == "svg" else b"\x89PNG\r")
    page = tmp_path / "page.html"
    done = snd("report", tmp_path, "--html", page, "--json")
    text = page.read_text()
    assert re.search(rf"read by snd {re.escape(__version__)} on \d{{4}}-\d\d-\d\d with `.+`", text)
    for wrong in ("<script src", "<link", "@import", "url(http", "url(//", "onload=", "onclick="):
        assert wrong not in text
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert html.unescape(policy).startswith(
        "default-src 'none'; script-src " + " ".join(f"'sha256-{h}'" for h in hashes) + ";"
    )
    assert text.index("No gate was set") < text.index("Headline figures") < text.index("Attacks side by side")
    for reference in re.findall(r"""\b(?:src|href)\s*=\s*["']([^"']*)""", text):
        assert reference.startswith(("data:", "#")), reference
    cells = Cells()
    cells.feed(text)
    (*_, last) = summaries_of(tmp_path)
    assert all(last.text(key) in cells.found for key in grid.shown([last]))
    assert {"distance_boundary", "success_clean", "floor"} <= {*grid.shown([last])}
    flags = json.loads(done.stdout)["flags"]
    assert "no_noise_aware" in [flag["name"] for flag in flags]
    assert text.count('<p class="flag">') == len(flags)
    (file,) = tmp_path.glob("*.parquet")
    handed = sum(math.isfinite(record["distance_submitted"][-1]) for record in results.read(file).to_pylist())
    assert handed > 0
    assert text.count("data:image/png;base64,") == 3 * min(3, handed)  # an image that found no start has no point
    assert text.count("Outside ε.") == text.count('class="pictures outside"') == min(3, handed)  # 120 queries are few
    assert text.count("<svg") == 3
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))


@pytest.mark.slow
def test_points_are_the_verified_ones_and_survive_a_resume(snd: Snd, tmp_path: Path) -> None:
    from sndcli.runs import points

    options = ("attack", "hsja", "--images", 4, "--budget", 150, "--budgets", 50, "--verify", 4, "--unit", 2,
               "--no-boundary", "--batch-size", 64, "--no-progress", "-q")  # fmt: skip
    out = tmp_path / "a.parquet"
    assert snd(*options, "--save-points", "--out", out).returncode == 0
    kept, records = points.read(points.path_of(out)), results.read(out).to_pylist()
    assert kept.image_id.tolist() == [record["image_id"] for record in records]
    distance = (kept.submitted - kept.clean.float() / 255).flatten(1).norm(dim=1).tolist()
    expected = [record["distance_submitted"][-1] for record in records]
    known = kept.has_submitted.tolist()
    assert [d if has else math.inf for d, has in zip(distance, known, strict=True)] == pytest.approx(expected)
    wrong = (kept.bare_label != kept.label).tolist()
    assert [w and h for w, h in zip(wrong, known, strict=True)] == [r["adv_clean"][-1] for r in records]
    plain = tmp_path / "b.parquet"
    assert snd(*options, "--out", plain).returncode == 0
    assert results.read(plain).to_pylist() == records
    refused = snd(*options, "--save-points", "--out", plain)
    assert refused.returncode == 2
    assert "--fresh" in refused.stderr
    points.path_of(out).write_bytes(b"broken")
    assert snd("report", out, "--plot", tmp_path / "g.svg", "--kind", "gallery").returncode == 2


@pytest.mark.parametrize("far", [20.0, 0.01])
def test_a_bound_far_from_all_distances_takes_no_room(tmp_path: Path, far: float) -> None:
    frames, _ = frame.load([write_run(tmp_path, [[(50, far)]] * 8)], events=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*not applied")  # matplotlib's layout, where axes have collapsed
        plots.save(plots.draw(frames, "distance"), tmp_path / "far.png")


def test_curves_begin_where_something_changes_and_end_where_they_are_known(tmp_path: Path) -> None:
    few = [[(300, 0.5)]] * 5 + [[(800, 0.25)]] * 3 + [[]] * 2  # of ten, the interval is from the second to the ninth
    frames, _ = frame.load([write_run(tmp_path, few)], events=True)
    seen = curves.seen_along_queries("a", frames)
    assert 200 < curves.begins([seen]) < 300
    found = curves.distance_along_queries("a", frames)
    assert np.isinf(found.hi).all()
    shown = curves.bounded(found)
    assert np.isnan(shown.y[found.x < 800]).all()  # five of ten: half of them, and no more
    last = found.x >= 800
    assert shown.y[last] == pytest.approx(0.5)
    assert shown.hi[last] == pytest.approx(shown.y[last])
    assert shown.lo[last] == pytest.approx(0.25)
    figure = plots.draw(frames, "distance")
    (axes,) = figure.axes
    top = axes.get_ylim()[1]
    bands = [np.asarray(path.vertices) for band in axes.collections for path in band.get_paths()]
    assert bands
    assert all(band[:, 1].max() < top for band in bands)
    assert axes.get_xlim()[0] >= 700
    assert "L2" in axes.get_ylabel()
    assert "ε = 1" in [text.get_text() for text in axes.texts]


def test_pictures_carry_the_colours_of_the_page(tmp_path: Path) -> None:
    frames, _ = frame.load([write_run(tmp_path, [HIT] * 8)], events=True)
    text = plots.inline_svg(plots.draw(frames, "queries"), "a <b>")
    assert "var(--line-0, #0072B2)" in text
    assert plots.INK not in text
    assert 'aria-label="a &lt;b&gt;"' in text


def test_lines_differ_without_colour() -> None:
    styles = [plots.style(k) for k in range(plots.MOST_LINES)]
    assert len({(s["color"], str(s["linestyle"])) for s in styles}) == plots.MOST_LINES
    assert len({(str(s["linestyle"]), s["marker"]) for s in styles[:10]}) == 10


# -- the paper ------------------------------------------------------------------------------------------------


def test_published_numbers() -> None:
    """Spot checks against the paper's tables, and their sizes."""
    cells = {(c.attack, c.label, cell.measure, cell.budget): cell.value
             for t in published.table_names("all") for c in published.cases(t) for cell in c.cells}  # fmt: skip
    assert cells["hsja", "snd 0.01", "success_seen", 2000] == pytest.approx(0.165)
    assert cells["ba", "none", "success_seen", 10000] == pytest.approx(0.846)
    assert cells["hsja", "snd 0.01, T=20", "success_seen", 200000] == pytest.approx(0.466)
    assert cells["sign-opt", "snd 0.001", "distance_last", 20000] == 88.29
    assert cells["subspace", "pgd-at+snd 0.01", "success_seen_net", 20000] == pytest.approx(0.164)
    assert cells["geoda", "snd 0.01", "p_mis", 10000] == 0.391
    assert cells[None, "snd 0.02 β=0.5", "accuracy", None] == pytest.approx(0.8999)
    sizes = {t: sum(len(c.cells) for c in published.cases(t)) for t in published.table_names("all")}
    assert sizes == {"table1": 12, "table2": 60, "table3": 180, "table4": 20, "table5": 10, "table6": 16,
                     "table7": 72, "table8": 42}  # fmt: skip
    assert [t for t in sizes if published.assumptions(t)] == ["table8"]


def test_one_run_serves_several_tables() -> None:
    def runs(table: str) -> set[tuple[object, ...]]:
        return {(c.attack, c.label, c.preset, c.mismatch) for c in published.cases(table) if c.attack == "hsja"}

    assert runs("table5") <= runs("table2")
    assert ("hsja", "snd 0.01", "art", True) in runs("table7") & runs("table4")


def test_verdict() -> None:
    case = published.cases("table2")[0]
    cell = published.Cell("success_seen", 2000, 0.165)
    assert published.verdict(cell, case, 0.18, 100) == "agrees"
    assert published.verdict(cell, case, 0.9, 100).startswith("differs by +73.5 points")


@pytest.mark.slow
def test_reproduce_lists_and_skips(snd: Snd, tmp_path: Path) -> None:
    options = ("--images", 4, "--budget", 2000, "--out", tmp_path)
    listed = json.loads(snd("reproduce", "table4", *options, "--dry-run", "--json").stdout)
    (run,) = [line for line in listed["runs"] if line["state"] == "to run"]
    assert (run["queries"], listed["total"]["queries"]) == (8000, 8000)
    assert run["seconds"] > 0
    assert all(line["state"] == "skipped: no figure within 2,000 queries" for line in listed["runs"] if line is not run)
    assert not list(tmp_path.iterdir())
    some = snd(
        "reproduce", "table2", *options, "--where", "attack=hsja", "--where", "sigma=0.01", "--dry-run", "--json"
    )
    assert [(r["attack"], r["defense"]) for r in json.loads(some.stdout)["runs"]] == [("hsja", "snd 0.01")]
    assert run["unpaid"] > run["unpaid_usual"] > 4 * 3 * 12  # among others the majorities along rays
    bare = snd("reproduce", "table5", "--images", 4, "--no-mismatch", "--out", tmp_path, "--dry-run", "--json")
    assert {r["attack"] for r in json.loads(bare.stdout)["runs"]} == {None}  # the others have no figure but P_mis
    unmatched = snd("reproduce", "table2", *options, "--where", "attack=square")
    assert unmatched.returncode == 2
    assert "No run of table2 has attack=square." in unmatched.stderr
    none = snd("reproduce", "table8", *options)
    assert none.returncode == 2
    assert "Nothing of it can be run here" in none.stderr
    assert "Did you mean `table1`" in snd("reproduce", "tabel1").stderr


@pytest.mark.slow
def test_reproduce_runs_once(snd: Snd, tmp_path: Path) -> None:
    options = ("reproduce", "table4", "--images", 2, "--budget", 2000, "--verify", 4, "--out", tmp_path, "-q", "--json")
    first = json.loads(snd(*options).stdout)
    (cell,) = first["cells"]
    assert (cell["published"], cell["budget"], cell["n"]) == (pytest.approx(0.165), 2000, 2)
    assert {"value", "lo", "hi"} == set(cell["success_noisy"]) == set(cell["success_clean"])
    page = snd(*options[:-1], "--format", "md").stdout
    assert f"| hsja | snd 0.01 | seen | 2,000 | 16.5 | {100 * cell['value']:.1f} [" in page
    (path,) = tmp_path.glob("*.parquet")
    stamp = path.stat().st_mtime_ns
    assert json.loads(snd(*options).stdout) == first
    assert path.stat().st_mtime_ns == stamp


@pytest.mark.slow
def test_reproduce_finds_the_runs_of_a_trained_defense(snd: Snd, tmp_path: Path) -> None:
    which = ("--where", "defense=pni", "--where", "attack=hsja", "--images", 2, "--budget", 2000, "--verify", 4)
    options = ("reproduce", "table2", *which, "--out", tmp_path, "--json")
    (cell,) = json.loads(snd(*options).stdout)["cells"]
    assert json.loads(snd(*options, "--no-run").stdout)["cells"] == [cell]


@pytest.mark.slow
def test_reproduce_clean_figures(snd: Snd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("reproduce", "table5", "--images", 40, "--budget", 100, "--out", tmp_path, "--json")
    unrun = json.loads(snd(*options, "--no-run").stdout)
    assert not unrun["cells"]
    assert "not run yet" in {line["reason"] for line in unrun["skipped"]}
    done = snd(*options)
    cells = json.loads(done.stdout)["cells"]
    assert [(c["defense"], c["measure"], c["published"]) for c in cells] == [
        ("snd 0.001", "p_mis_clean", 0.002), ("snd 0.01", "p_mis_clean", 0.021)]  # fmt: skip
    assert all(0 <= c["value"] < 0.2 for c in cells)
    assert [c["n"] for c in cells] == [40, 40]
    assert len(list(tmp_path.glob("clean_*.json"))) == 2
    assert json.loads(snd(*options, "--no-run").stdout)["cells"] == cells
    monkeypatch.setattr("sndcli.paper.reproduce.PROTOCOL", 3)  # a later law
    assert not json.loads(snd(*options, "--no-run").stdout)["cells"]


def test_mismatch_on_clean_images_is_of_images_that_are_right(
    snd: Snd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the paper; the bare model was asked about every one of them."""
    shares = []

    def spy(self: Job, victim: Any, spec: Any, data: Any, seeds: Sequence[int]) -> list[float]:
        bare = Forward(victim.defended.model.model, victim.defended.device, 64)  # without the noise
        shares.append(float((bare(data.pixels()).argmax(1) == data.labels).double().mean()))
        true = dict(zip(load("cifar10").ids.tolist(), load("cifar10").labels.tolist(), strict=True))
        assert data.labels.tolist() == [true[image] for image in data.ids.tolist()]  # not what the bare model says
        return [1.0] * len(seeds)

    monkeypatch.setattr(Job, "accuracy", spy)
    options = ("--where", "sigma=0.01", "--where", "attack=none", "--images", 200, "--batch-size", 64)
    done = snd("reproduce", "table5", *options, "--out", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    assert shares == [1.0]


def test_a_preset_whose_numbers_change_is_another_run(monkeypatch: pytest.MonkeyPatch) -> None:
    before = BASE.run_id
    assert BASE.as_dict()["options"]["initial_evals"] == 100
    changed = replace(hsja.SPEC.presets["authors"].options, initial_evals=50)
    monkeypatch.setitem(hsja.SPEC.presets, "authors", Preset(changed))
    assert BASE.run_id != before
