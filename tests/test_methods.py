"""``snd report --methods``: what a paper says of how figures were measured, and what it cites."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Done
from test_reports import BASE, HIT, MISS, write_run

from sndcli.attacks.registry import ATTACKS
from sndcli.defenses.parse import NAMES, DefenseSpec
from sndcli.reports import citations

Snd = Callable[..., Done]


def test_methods(snd: Snd, tmp_path: Path) -> None:
    write_run(tmp_path, [HIT, MISS])
    write_run(tmp_path, [HIT], replace(BASE, attack="square", preset="autoattack", norm="linf", eps=8 / 255, seed=3))
    write_run(tmp_path, [HIT], replace(BASE, attack="hsja-na", defense=DefenseSpec("rnp"), quantize=True))
    done = snd("report", tmp_path, "--methods")
    assert done.returncode == 0, done.stderr
    paragraph, *entries = done.stdout.rstrip().split("\n\n")
    for told in (r"\texttt{resnet20} (digest \texttt{m})", r"preset \texttt{authors}", r"preset \texttt{autoattack}",
                 r"$\sigma = 0.01$", "at most 1,000 queries", "100 and 1,000 queries", "8/255", "seed 0", "seed 3",
                 "each an 8-bit image",
                 "each an image that is not rounded to 8 bits", "100 new answers",
                 "made to expect noise", BASE.run_id):  # fmt: skip
        assert told in paragraph, told
    keys = [re.match(r"@\w+\{(\w+),", entry) for entry in entries]
    assert all(keys)
    found = {key.group(1) for key in keys if key}
    assert found == {*re.findall(r"\\cite\{(\w+)\}", paragraph)}
    assert found == {"sndcli", "byun2021small", "chen2020hopskipjump", "andriushchenko2020square",
                     "croce2020autoattack", "xie2018mitigating", "krizhevsky2009learning",
                     "he2016resnet"}  # fmt: skip
    assert all(entry.count("{") == entry.count("}") for entry in entries)


def test_methods_are_no_gate(snd: Snd, tmp_path: Path) -> None:
    write_run(tmp_path, [HIT])
    done = snd("report", tmp_path, "--methods", "--fail-if", "success_seen@1000 > 0")
    assert done.returncode == 2
    assert "need another report" in done.stderr


@pytest.mark.parametrize(("model", "key"), [
    ("resnet20-at", "he2016resnet"), ("resnet50@IMAGENET1K_V1", "he2016resnet"), ("vgg", "simonyan2015vgg"),
    ("efficientnet-lite0", "tan2019efficientnet"), ("efficientnet_b0@timm", "tan2019efficientnet"),
    ("wide_resnet50_2@IMAGENET1K_V2", None), ("resnetv2_50@timm", None), ("efficientnet", None), ("tiny", None),
])  # fmt: skip
def test_networks_have_the_paper_that_their_names_say(model: str, key: str | None) -> None:
    paper = citations.network(model)
    assert (paper and paper.key) == key


def test_every_attack_and_defense_has_a_paper() -> None:
    """And the year of its paper is that of the attack's summary."""
    assert {*ATTACKS} <= {*citations.ATTACKS, *citations.OURS}
    assert {*NAMES} == {*citations.DEFENSES, *citations.UNCITED, "none"}
    for name, paper in citations.ATTACKS.items():
        year = re.search(r"(.*) (\d{4})\)", ATTACKS[name].summary)
        if year:
            assert int(year.group(2)) == paper.year, name


@pytest.mark.parametrize("paper", {paper.key: paper for paper in citations.ATTACKS.values()}.values())
def test_authors_are_those_of_the_summary(paper: citations.Paper) -> None:
    (summary, *_) = [ATTACKS[name].summary for name, each in citations.ATTACKS.items() if each == paper]
    told = re.search(r"\((.*) \d{4}\)", summary)
    assert told
    names, authors = told.group(1).split(", "), paper.authors.split(" and ")
    assert len(names) == len(authors)
    assert all(author.endswith(f" {name}") for name, author in zip(names, authors, strict=True))
