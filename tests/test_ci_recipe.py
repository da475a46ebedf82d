"""The recipe of docs/ci.md works as written, from the second commit on."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import torch
from conftest import Done
from test_reports import BASE, HIT, MISS, write_run

from sndcli.models.checkpoint import save_weights
from sndcli.models.sources import load_model

Snd = Callable[..., Done]
PAGE = (Path(__file__).parents[1] / "docs" / "ci.md").read_text(encoding="utf-8")
(SCRIPT,) = re.findall(r"```sh\n(#!/bin/sh\n.*?)```", PAGE, re.DOTALL)


def gate() -> str:
    return next(re.finditer(r"^gate='(.*)'$", SCRIPT, re.MULTILINE))[1]


def test_the_report_of_the_recipe(snd: Snd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its options but for the page, which takes long to draw, on results that stand for those of two commits."""
    monkeypatch.chdir(tmp_path)
    line = next(line for line in SCRIPT.splitlines() if line.startswith("snd report"))
    options = shlex.split(line.split("|")[0].replace('"$gate"', shlex.quote(gate())).split(" > summary")[0])[3:]
    del options[options.index("--html") : options.index("--html") + 2]
    config = replace(BASE, attack="hsja-na", budget=2000, budgets=(2000,))
    write_run(tmp_path / "baseline", [HIT] * 5 + [MISS] * 45, replace(config, model_digest="11111111"))
    new = [write_run(tmp_path / name, [HIT] * hits + [MISS] * (50 - hits), replace(config, model_digest="22222222"))
           for name, hits in (("better", 4), ("worse", 13), ("bad", 40))]  # fmt: skip
    for path, code, said in zip(new, (0, 1, 1), ("passed", "failed", "failed"), strict=True):
        done = snd("report", path.parent, "--baseline", "baseline", *options)
        assert done.returncode == code
        assert done.stdout.startswith(f"## Robustness: {said}\n")
        assert "resnet20@11111111" in done.stdout
        (suite,) = ET.parse(tmp_path / "junit.xml").getroot()
        assert int(suite.attrib["failures"]) == {"better": 0, "worse": 2, "bad": 3}[path.parent.name]
    assert snd("report", tmp_path / "better", *options).returncode == 0  # the first commit has no baseline


@pytest.mark.slow
def test_the_recipe_over_two_commits(shell: dict[str, str], tmp_path: Path) -> None:
    """In a repository of its own; 2 images and 40 queries instead of 50 and 2,000."""
    small = SCRIPT.replace("--images 50", "--images 2 --verify 4 --no-boundary").replace("2000", "40")
    assert small.count("40") >= 3
    work = tmp_path / "work"
    work.mkdir()
    (work / "robustness.sh").write_text(small)
    (work / ".gitignore").write_text("results/\n*.html\n*.xml\nsummary.md\n")

    def run(*command: str, **more: str) -> subprocess.CompletedProcess[str]:
        env = {**shell, **more}
        names = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        return subprocess.run(
            command, cwd=work, env=env | names, capture_output=True, text=True, timeout=300, check=False
        )

    def commit(message: str) -> None:
        for command in (["git", "add", "-A"], ["git", "commit", "-qm", message]):
            done = run(*command)
            assert done.returncode == 0, done.stderr

    assert run("git", "init", "-q").returncode == 0
    model = load_model("resnet20")
    save_weights(model, "resnet20", work / "model.safetensors")
    commit("A model")
    first = run("sh", "robustness.sh", "accept")
    assert first.returncode == 0, first.stderr
    assert (work / "summary.md").read_text().startswith("## Robustness: passed")
    assert "Against the baseline" not in first.stdout
    assert len([*(work / "baseline").glob("*.parquet")]) == 1
    commit("Its baseline")

    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.network.parameters():
            weight.add_(1e-3 * torch.randn(weight.shape, generator=noise))
    save_weights(model, "resnet20", work / "model.safetensors")
    commit("New weights")
    second = run("sh", "robustness.sh", GITHUB_ACTIONS="true")
    assert second.returncode == 0, second.stderr  # two images cannot show a regression
    assert "### Against the baseline" in second.stdout
    old, new = re.findall(r"^- (?:old|new): (.*)$", second.stdout, re.MULTILINE)
    assert old != new
    assert [re.sub("@[0-9a-f]{8}$", "", text) for text in (old, new)] == ["snd 0.01 on resnet20@model"] * 2
    assert "::notice title=snd%3A Passed::" in second.stdout
    assert {case.attrib["classname"] for case in ET.parse(work / "junit.xml").iter("testcase")} >= {
        "snd.gates", "snd.baseline",
    }  # fmt: skip
    again = run("sh", "robustness.sh")
    assert "already there" in again.stderr
    assert (work / "report.html").is_file()
    assert run("git", "status", "--porcelain").stdout == ""  # what the recipe writes is ignored or committed
