from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Done

from sndcli.analysis.frame import Frame
from sndcli.analysis.ladder import Climb, ladder
from sndcli.analysis.setting import Setting
from sndcli.attacks.ladder import VOTES, Rung, rungs
from sndcli.attacks.registry import ATTACKS, spec_of
from sndcli.attacks.spec import options_of
from sndcli.errors import ConfigError
from sndcli.runs import results

Snd = Callable[..., Done]


@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "null"])
def test_every_rung_can_be_run(name: str) -> None:
    """Votes 1, 5 and 10 first; every preset and setting parses; names are told apart."""
    found = rungs(name, None, (), spec_of(name).norms[0], "0.01", 0.01)
    assert [r.votes for r in found[:3]] == list(VOTES)
    for rung in found:
        options_of(spec_of(rung.attack), rung.preset, rung.settings)
    assert len({r.name for r in found}) == len(found)


@pytest.mark.parametrize(
    ("name", "preset"),
    [(name, preset) for name, entry in ATTACKS.items() if name != "null" for preset in entry.presets],
)
def test_every_preset_has_a_ladder_that_can_be_run(name: str, preset: str) -> None:
    """Its rungs ask for no option that the preset lacks."""
    spec = spec_of(name)
    found = rungs(name, preset, (), spec.norms[0], "0.01", 0.01)
    for rung in found:
        options_of(spec_of(rung.attack), rung.preset, rung.settings)
    if name == "ba" and preset != "na":
        wide = "delta=0.1" if preset.startswith("art") else "spherical_step=0.1"
        assert [rung.name for rung in found][3:5] == [wide, "na"]


def test_the_ladder_of_hsja_has_its_relatives_where_the_norm_allows() -> None:
    names = [r.attack for r in rungs("hsja", None, (), "l2", "estimate", 0.01)]
    assert {"hsja-na", "popskipjump"} <= set(names)
    assert {r.attack for r in rungs("hsja", None, (), "linf", "estimate", 0.01)} == {"hsja", "hsja-na"}
    with pytest.raises(ConfigError, match="no ladder"):
        rungs("null", None, (), "l2", "estimate", 0.01)


def test_the_worst_case_is_taken_image_by_image() -> None:
    def run(held: list[float], p_adv: list[float]) -> Frame:
        column, zeros, no = np.array(held)[:, None], np.zeros(3), np.zeros(3, dtype=bool)
        return Frame(
            run={"id": "", "config": {}}, setting=Setting("x", "native", "d", "m", "snd", 0.01, None, 1, "l2", 1.0),
            budget=10, budgets=[10], seed=np.zeros(3, dtype=int), image=np.arange(3), best=column,
            last=column, submitted=column, p_adv=np.array(p_adv)[:, None], adv_clean=no[:, None],
            p_adv_submitted=np.array(p_adv)[:, None], queries=np.full(3, 9), p0=zeros,
            p_mis_clean=zeros, initially_wrong=no, failed=no, mismatches=np.full(3, np.nan),
            blocked=np.zeros(3), detected_at=np.full(3, np.inf),
        )  # fmt: skip

    one = Climb(Rung("one", "hsja"), run([0.5, 0.5, 2.0], [0.9, 0.1, 1.0]))
    two = Climb(Rung("two", "ba", ours=True), run([0.5, 0.9, 3.0], [0.6, 0.8, 1.0]))
    (level,) = ladder([one, two]).at
    at: Any = level.as_dict()
    assert [r["success_noisy"]["value"] for r in at["rungs"]] == pytest.approx([1 / 3, 2 / 3])
    assert at["worst"]["success_noisy"]["value"] == pytest.approx(2 / 3)
    assert at["worst"]["success_clean"]["value"] == 0
    assert [r["alone"] for r in at["rungs"]] == [0, 1]
    assert [r["paid"] for r in at["rungs"]] == [9, 9]
    other = replace(two.frame, image=np.arange(1, 4))
    with pytest.raises(ValueError, match="same images"):
        ladder([one, Climb(two.rung, other)])


@pytest.mark.slow
def test_ladder_pays_the_same_for_every_rung(snd: Snd, tmp_path: Path) -> None:
    """SimBA asks to its budget or its success; with an ε of nothing all rungs pay all of it."""
    options = ("--sigma", 0.01, "--images", 2, "--budget", 60, "--budgets", 30, "--eps", 1e-6, "--verify", 4)
    done = snd("adaptive", "simba", "--ladder", *options, "--no-progress", "--json", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    names = [rung["rung"] for rung in answer["ladder"]["rungs"]]
    assert names == ["T=1", "T=5", "T=10", "epsilon=0.5", "na"]
    assert [rung["ours"] for rung in answer["ladder"]["rungs"]] == [False] * 3 + [True] * 2
    files = list(tmp_path.glob("*.parquet"))
    assert len(files) == len(names)
    for file in files:
        assert results.read(file).column("queries").to_pylist() == [60, 60]
    assert [at["budget"] for at in answer["ladder"]["at"]] == [30, 60]
    for at in answer["ladder"]["at"]:
        assert {rung["paid"] for rung in at["rungs"]} == {at["budget"]}
        for success in ("success_seen", "success_noisy", "success_clean"):
            assert at["worst"][success]["value"] >= max(rung[success]["value"] for rung in at["rungs"])
    assert not {"no_noise_aware"} & {flag["name"] for flag in answer["flags"]}


@pytest.mark.slow
def test_border_flags_and_plain_tables(snd: Snd, tmp_path: Path) -> None:
    options = ("--sigma", 0.01, "--images", 2, "--budget", 120, "--verify", 4, "--batch-size", 64, "--no-progress")
    done = snd("attack", "hsja", *options, "--out", tmp_path / "a.parquet")
    assert done.returncode == 0, done.stderr
    table = snd("report", tmp_path / "a.parquet", "--format", "md").stdout
    for word in ("submitted", "verified", "boundary"):
        assert f"| {word} L2 |" in table
    assert done.stdout.rstrip().endswith("run `snd attack hsja-na`.")
    for name in ("probe_below_noise", "search_below_noise", "no_noise_aware"):
        assert f"flag: {name}" in done.stderr
    (first, _) = results.read(tmp_path / "a.parquet").to_pylist()
    assert len(first["distance_boundary"]) == len(first["budgets"])
    assert "flag:" not in snd("report", tmp_path / "a.parquet", "-q").stderr
    flags = json.loads(snd("report", tmp_path / "a.parquet", "--json").stdout)["flags"]
    assert {"no_noise_aware", "probe_below_noise"} <= {flag["name"] for flag in flags}
    assert snd("attack", "hsja", *options, "--no-boundary", "--out", tmp_path / "b.parquet").returncode == 0
    assert "boundary" not in snd("report", tmp_path / "b.parquet", "--format", "md").stdout
    assert results.read(tmp_path / "b.parquet").column("distance_boundary").null_count == 2


def test_a_ladder_needs_a_folder_and_an_attack(snd: Snd) -> None:
    for arguments, message in (
        (("hsja", "--out", "a.parquet"), "folder"),
        (("null",), "no ladder"),
        (("hsja", "--sigma-hat", "much"), "sigma_hat"),
        (("hsja", "--engine", "foolbox"), "native"),
    ):
        done = snd("adaptive", *arguments, "--ladder")
        assert done.returncode == 2
        assert message in done.stderr
