"""One verdict: what it says, and that every format says the same."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from conftest import Done
from test_reports import BASE, HIT, MISS, count, write_run

from sndcli.analysis import baseline, frame, gates, summary, verdict
from sndcli.analysis.verdict import Verdict, judge
from sndcli.reports import github, junit, markdown

Snd = Callable[..., Done]


def rows_of(folder: Path) -> list[summary.Summary]:
    return summary.summarise(frame.load([folder])[0])


def judged(folder: Path, *rules: str) -> Verdict:
    return judge(rows_of(folder), [gates.parse(rule, count) for rule in rules])


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Of 20 images 12 fall to hsja at 100 queries, 3 to ba, and on σ = 0.02 one."""
    write_run(tmp_path, [HIT] * 12 + [MISS] * 8)
    write_run(tmp_path, [HIT] * 3 + [MISS] * 17, replace(BASE, attack="ba"))
    write_run(tmp_path, [HIT] + [MISS] * 19, replace(BASE, defense=replace(BASE.defense, sigma=0.02)))
    return tmp_path


def test_the_state_follows_from_gates_and_baseline(runs: Path, tmp_path: Path) -> None:
    assert judged(runs).state == "none"
    assert judged(runs, "success_noisy@1000 > 0.6").state == "passed"  # 0.6 is not above 0.6
    failed = judged(runs, "success_noisy@1000 > 0.5", "n < 5")
    assert [gate.state for gate in failed.gates] == ["failed", "passed"]
    assert failed.sentence.startswith("Failed: 1 of 2 gates failed (success_noisy@1000 > 0.5).")
    (failure,) = failed.gates[0].failures
    assert (failure.where, failure.value) == ("hsja against snd 0.01 on resnet20, cifar10, L2 ≤ 1, Q=1,000", 0.6)
    unchecked = judged(runs, "success_noisy@1000 > 0.5", "p_mis > 0.5")
    assert unchecked.state == "unchecked"  # whatever else failed: what cannot be checked is no answer
    assert "1 of 2 gates could not be checked" in unchecked.sentence
    assert unchecked.failures
    old = tmp_path / "old"
    write_run(old, [MISS] * 20)
    comparisons, _ = baseline.compare(frame.load([runs])[0], frame.load([old])[0])
    assert judge(rows_of(runs), (), comparisons).state == "failed"
    assert "significant regressions in" in judge(rows_of(runs), (), comparisons).sentence


def test_headlines_are_the_strongest_attack_on_each_victim(runs: Path) -> None:
    write_run(runs, [HIT] * 20, replace(BASE, attack="null", budget=500))  # the floor is no attack
    one, two = judged(runs).headlines
    assert (one.attack, one.victim, one.budget, one.attacks) == (
        "hsja",
        "snd 0.01 on resnet20 (cifar10, L2 ≤ 1)",
        1000,
        2,
    )
    assert (one.value.value, two.value.value) == (0.6, 0.05)
    assert not one.aware
    assert one.text() == f"{one.victim}: 60.0 % [38.7, 78.1] by hsja at 1,000 queries, n=20"
    write_run(runs, [HIT] * 13 + [MISS] * 7, replace(BASE, attack="hsja-na"))
    best = judged(runs).headlines[0]
    assert (best.attack, best.aware, best.attacks) == ("hsja-na", True, 3)


def test_where_only_seen_is_known_it_is_said(runs: Path) -> None:
    rows = summary.summarise(frame.load([runs], events=True)[0], at=[300])
    best = judge(rows).headlines[0]
    assert best.measure == "success_seen"
    assert " % seen [" in best.text()
    assert verdict.headlines([]) == []


def test_every_format_says_the_same(runs: Path, snd: Snd, tmp_path: Path) -> None:
    gate, xml = ("--fail-if", "success_noisy.lo@1000 > 20%"), tmp_path / "junit.xml"
    done = {name: snd("report", runs, *gate, "--format", name) for name in ("table", "md", "json", "github")}
    assert snd("report", runs, *gate, "--junit", xml, "-q").returncode == 1
    assert {d.returncode for d in done.values()} == {1}
    told = json.loads(done["json"].stdout)["verdict"]
    sentence = told["sentence"]
    assert told["state"] == "failed"
    assert done["md"].stdout.startswith(f"## Robustness: failed\n\n{sentence}\n")
    for title in ("### Gates", "### Figures", "### Flags"):
        assert title in done["md"].stdout
    assert "".join(done["table"].stdout.split()).endswith("".join(sentence.split()))
    assert done["github"].stdout.startswith(f"::error title=snd%3A Failed::{sentence.replace('%', '%25')}\n")
    assert f'value="{sentence.split(" (")[0]}' in xml.read_text(encoding="utf-8")
    table = snd("report", runs, env={"COLUMNS": "80"}).stdout
    assert "No gate" not in table  # who asked for none is not told so


def test_junit_has_one_case_a_gate_a_comparison_and_a_flag(runs: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    write_run(old, [MISS] * 20)
    comparisons, _ = baseline.compare(frame.load([runs])[0], frame.load([old])[0])
    rules = [gates.parse(text, count) for text in ("success_noisy@1000 > 0.5", "n < 5", "p_mis > 0.5")]
    found = judge(rows_of(runs), rules, comparisons)
    root = ET.fromstring(junit.junit(found))
    (suite,) = root
    cases = suite.findall("testcase")
    assert len(cases) == 3 + len(comparisons) + len(found.flags) == int(suite.attrib["tests"])
    assert len({(case.attrib["classname"], case.attrib["name"]) for case in cases}) == len(cases)
    assert [len(case.findall("failure")) for case in cases[:3]] == [1, 0, 0]
    assert cases[2].find("error") is not None
    regressions = [case for case in cases if case.attrib["classname"] == "snd.baseline" and len(case)]
    assert len(regressions) == len(found.regressions) == int(suite.attrib["failures"]) - 1
    assert {case[0].tag for case in cases[3 + len(comparisons) :]} == {"skipped"}
    assert int(suite.attrib["skipped"]) == len(found.flags) > 0


def test_xml_survives_whatever_a_name_holds(tmp_path: Path) -> None:
    write_run(tmp_path, [HIT], replace(BASE, model='a<b>&"c"\x00\x1b'))
    (suite,) = ET.fromstring(junit.junit(judged(tmp_path, "success_seen > 0.5")))
    (failure,) = suite.findall("testcase/failure")
    assert 'a<b>&"c"\ufffd\ufffd' in str(failure.text)


def test_annotations_are_escaped(tmp_path: Path) -> None:
    write_run(tmp_path, [HIT], replace(BASE, model="100%,\r\n::error::x"))
    text = github.commands(judged(tmp_path, "success_seen > 0.5", "p_mis > 0.1"))
    assert "\r" not in text
    for line in text.splitlines():
        assert re.fullmatch(r"::(error|warning|notice) title=(?:[^,:%]|%25|%3A|%2C)*::(?:[^%]|%25|%0D|%0A)*", line)
    assert "100%25,%0D%0A::error::x" in text
    assert text.splitlines()[0].startswith("::error ")


def test_markdown_of_a_name_is_text(tmp_path: Path) -> None:
    write_run(tmp_path, [HIT], replace(BASE, model="<script>"))
    text = markdown.summary(judged(tmp_path), rows_of(tmp_path))
    assert "&lt;script>" in text.split("### Figures")[0]


def test_a_gate_that_cannot_be_checked_still_leaves_a_report(runs: Path, snd: Snd, tmp_path: Path) -> None:
    xml = tmp_path / "junit.xml"
    done = snd("report", runs, "--fail-if", "success_noisy@999 > 0.5", "--junit", xml, "--json")
    assert done.returncode == 2
    assert "Did you mean `@1000`?" in done.stderr
    assert json.loads(done.stdout)["verdict"]["state"] == "unchecked"
    assert 'errors="1"' in xml.read_text()


def test_gates_name_the_nearest(snd: Snd, runs: Path) -> None:
    for wrong, hint in (("noisy > 0.1", "success_noisy"), ("sucess_seen > 0.1", "success_seen"),
                        ("success_seen.low > 0.1", "lo")):  # fmt: skip
        done = snd("report", runs, "--fail-if", wrong)
        assert done.returncode == 2
        assert f"Did you mean `{hint}`?" in done.stderr
    assert "has no interval" in snd("report", runs, "--fail-if", "floor.hi > 0.1").stderr
