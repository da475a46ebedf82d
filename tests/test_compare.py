"""``snd compare``: any two settings, paired on the images that both have."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Done
from scipy.stats import binomtest
from test_reports import BASE, HIT, LATE, MISS, write_run

from sndcli.analysis import baseline, frame, sides
from sndcli.defenses.parse import DefenseSpec
from sndcli.errors import DataError
from sndcli.runs.config import RunConfig

Snd = Callable[..., Done]
NONE = DefenseSpec()
BA = replace(BASE, attack="ba")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """hsja and ba against noise and nothing: of the 20 images ba misses 12 that hsja finds, and finds one it misses."""
    write_run(tmp_path, [HIT] * 14 + [MISS] * 6)
    write_run(tmp_path, [HIT] * 2 + [MISS] * 12 + [HIT] + [MISS] * 5, BA)
    write_run(tmp_path, [HIT] * 20, replace(BASE, defense=NONE))
    write_run(tmp_path, [HIT] * 19 + [LATE], replace(BA, defense=NONE))
    return tmp_path


def pairs_of(folder: Path, a: str, b: str) -> tuple[list[sides.Pair], list[str]]:
    from sndcli.analysis import where

    frames = frame.load([folder])[0]
    chosen = [sides.pairs_of(text) for text in (a, b)]
    keys = [key for pairs in chosen for key, _ in pairs if key != where.RUN]
    one, two = (where.choose(frames, pairs) for pairs in chosen)
    return sides.compare(one, two, keys)


def test_two_attacks_are_paired_image_by_image(runs: Path) -> None:
    pairs, notes = pairs_of(runs, "attack=hsja,sigma=0.01", "attack=ba,sigma=0.01")
    (pair,) = pairs
    assert (pair.shared, pair.a, pair.b) == ("snd 0.01, resnet20, cifar10, L2 ≤ 1", "hsja", "ba")
    assert not notes
    last = next(c for c in pair.comparisons if (c.budget, c.measure) == (1000, "success_noisy"))
    assert (last.n, last.old_rate, last.new_rate, last.worse, last.better) == (20, 0.7, 0.15, 1, 12)
    assert last.difference == pytest.approx(-0.55)
    assert last.lo < last.difference < last.hi
    assert last.p == binomtest(1, 13).pvalue
    assert last.p < last.p_adjusted == pytest.approx(4 * last.p)  # two report points, two measures
    assert pair.sentence().startswith(f"{pair.shared}: ba has a lower success_noisy than hsja: -55.0 points [")
    back = pairs_of(runs, "attack=ba,sigma=0.01", "attack=hsja,sigma=0.01")[0][0]
    assert next(c for c in back.comparisons if c.budget == 1000).difference == pytest.approx(0.55)


def test_several_settings_are_matched_on_what_they_were_not_chosen_by(runs: Path) -> None:
    write_run(runs, [HIT], replace(BASE, attack="geoda"))
    pairs, _ = pairs_of(runs, "hsja", "ba")
    assert [pair.shared.split(",")[0] for pair in pairs] == ["none", "snd 0.01"]
    pairs, notes = pairs_of(runs, "defense=none", "sigma=0.01")
    assert [(pair.shared.split(",")[0], pair.a, pair.b) for pair in pairs] == [
        ("ba", "none", "snd 0.01"), ("hsja", "none", "snd 0.01"),
    ]  # fmt: skip
    assert notes == ["geoda against snd 0.01 on resnet20, cifar10, L2 ≤ 1 is only in B."]
    write_run(runs, [HIT], replace(BASE, attack="geoda", preset="na"))
    with pytest.raises(DataError, match=r"A stands for .*\nExpected one of them: add preset=none or preset=na"):
        pairs_of(runs, "geoda", "ba")


def test_models_of_one_name_are_compared_and_told_apart(tmp_path: Path) -> None:
    new = replace(BASE, model_digest="22222222ff")
    write_run(tmp_path, [HIT, HIT, MISS], replace(BASE, model_digest="11111111ff"))
    write_run(tmp_path, [HIT, MISS, MISS], new)
    (pair,), _ = pairs_of(tmp_path, "model_digest=1111", new.run_id[:7])
    assert (pair.a, pair.b) == ("resnet20@11111111", "resnet20@22222222")
    assert {(c.n, c.old_digest, c.new_digest) for c in pair.comparisons} == {(3, "11111111ff", "22222222ff")}


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    write_run(tmp_path, [HIT] * 3)
    write_run(tmp_path, [HIT] * 3, BA, first_image=100)
    with pytest.raises(DataError, match="shares no image and seed"):
        pairs_of(tmp_path, "hsja", "ba")
    with pytest.raises(DataError, match="is on both sides"):
        pairs_of(tmp_path, "hsja", "attack=hsja")
    write_run(tmp_path, [HIT] * 3, replace(BASE, attack="geoda", eps=0.5))
    pairs, notes = pairs_of(tmp_path, "hsja", "geoda")
    assert notes == ["A is bounded by L2 ≤ 1, B by L2 ≤ 0.5: each success is within its own bound."]
    write_run(tmp_path, [HIT] * 3, replace(BASE, attack="rays", norm="linf", eps=8 / 255))
    (pair,), _ = pairs_of(tmp_path, "hsja", "rays")
    assert {c.median for c in pair.comparisons} == {None}  # lengths of two norms have no difference
    assert pairs


@pytest.mark.parametrize("format", ["table", "md", "latex"])
def test_80_columns_are_enough(runs: Path, snd: Snd, format: str) -> None:
    done = snd("compare", "hsja", "ba", runs, "--format", format, env={"COLUMNS": "80"})
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    row = next(line for line in lines if "-55.0" in line and "points" not in line)
    assert all(cell in row for cell in ("70.0", "15.0", "1/12"))  # of one comparison, in one line
    assert "B succeeds and A does" in done.stdout


def test_csv_and_json_parse_back(runs: Path, snd: Snd) -> None:
    text = snd("compare", "hsja", "ba", runs, "--where", "sigma=0.01", "--format", "csv").stdout
    found = json.loads(snd("compare", "hsja", "ba", runs, "--where", "sigma=0.01", "--json").stdout)
    (pair,) = found["pairs"]
    lines = list(csv.DictReader(io.StringIO(text)))
    assert len(lines) == len(pair["rows"]) == 4
    for line, row in zip(lines, pair["rows"], strict=True):
        assert float(line["difference"]) == pytest.approx(row["difference"], rel=1e-3)
        assert (line["a_setting"], line["b_setting"], line["shared"]) == ("hsja", "ba", pair["shared"])
    assert max(len(line.split(",hsja")[0]) for line in text.splitlines()[1:]) <= 80  # the figures; then come names
    assert (pair["a"]["attack"], pair["b"]["attack"], pair["a"]["sigma"]) == ("hsja", "ba", 0.01)
    assert pair["a"]["label"] == "hsja against snd 0.01 on resnet20, cifar10, L2 ≤ 1"


def test_files_folders_and_budgets(runs: Path, tmp_path: Path, snd: Snd) -> None:
    one, two = runs / BASE.file_name, runs / BA.file_name
    found = json.loads(snd("compare", one, two, "--json", "--at", "60").stdout)
    assert [row["budget"] for row in found["pairs"][0]["rows"]] == [60]  # at 60 only seen is known
    other = tmp_path / "other"
    write_run(other, [MISS] * 20)
    write_run(other, [MISS] * 20, BA)
    folders = json.loads(snd("compare", runs, other, "--json", "--where", "sigma=0.01").stdout)
    assert [pair["a"]["attack"] for pair in folders["pairs"]] == ["ba", "hsja"]
    assert snd("compare", one, two, runs).returncode == 2


def test_mistakes_name_the_nearest(runs: Path, snd: Snd) -> None:
    for a, hint in (("hjsa", "attack=hsja"), ("atack=ba", "attack"), ("sigma=0.02,attack=ba", "sigma is 0.0, 0.01"),
                    ("missing.parquet", "missing.parquet does not exist")):  # fmt: skip
        done = snd("compare", a, "ba", runs)
        assert done.returncode == 2
        assert hint in done.stderr, done.stderr
        assert len(done.stderr.splitlines()) <= 2


# -- what a baseline matches --------------------------------------------------------------------------------------


def matched(tmp_path: Path, new: RunConfig, *old: RunConfig) -> tuple[set[tuple[str, str]], list[str]]:
    write_run(tmp_path / "new", [HIT] * 4, new)
    for config in old:
        write_run(tmp_path / "old", [MISS] * 4, config)
    found, notes = baseline.compare(*(frame.load([tmp_path / name])[0] for name in ("new", "old")))
    return {(c.old, c.new) for c in found}, notes


def test_new_weights_have_the_old_ones_as_their_counterpart(tmp_path: Path) -> None:
    """Also beside another model, and both are told apart by their digests."""
    write_run(tmp_path / "new", [HIT] * 4, replace(BASE, model="resnet56"))
    words, notes = matched(
        tmp_path, replace(BASE, model_digest="22222222"), replace(BASE, model_digest="11111111"),
        replace(BASE, model="resnet56"),
    )  # fmt: skip
    assert words == {("snd 0.01 on resnet20@11111111", "snd 0.01 on resnet20@22222222"), ("snd 0.01 on resnet56",) * 2}
    assert not notes


def test_two_copies_of_a_model_find_their_own(tmp_path: Path) -> None:
    one, two = (replace(BASE, model_digest=digest) for digest in ("11111111", "22222222"))
    write_run(tmp_path / "new", [HIT] * 4, one)
    words, _ = matched(tmp_path, two, one, two)
    assert words == {(f"snd 0.01 on resnet20@{d}",) * 2 for d in ("11111111", "22222222")}


def test_what_else_differs_is_noted(tmp_path: Path) -> None:
    _, (note,) = matched(tmp_path, replace(BASE, precision="bf16"), BASE)
    assert "precision (fp32 there, bf16 here)" in note
