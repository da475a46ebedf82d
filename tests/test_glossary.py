"""No column, measure, flag, attack or preset without a plain word for it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import make_glossary
import pytest
from conftest import Done

from sndcli import glossary
from sndcli.analysis import audit_words, flags, measures, tidy
from sndcli.attacks.registry import ATTACKS
from sndcli.cli.ls import DEFENSES
from sndcli.errors import ConfigError
from sndcli.runs import columns

Snd = Callable[..., Done]
ROOT = Path(__file__).parents[1]


def raised() -> set[str]:
    """Names of flags, as the code that raises them has them."""
    sources = [Path(str(module.__file__)).read_text(encoding="utf-8") for module in (flags, audit_words)]
    return set(re.findall(r'Flag\("(\w+)"', "".join(sources)))


def test_every_measure_flag_attack_and_preset_has_an_entry() -> None:
    assert set(glossary.MEASURES) == set(measures.MEASURES)
    assert set(glossary.FLAGS) == raised()
    assert set(glossary.ATTACKS) == set(ATTACKS)
    assert set(glossary.PRESETS) == {preset for entry in ATTACKS.values() for preset in entry.presets}
    assert set(DEFENSES) <= set(glossary.VALUES)


def test_every_column_has_an_entry_and_no_entry_is_of_none() -> None:
    named = {column.name for column in (*columns.COLUMNS, *tidy.COLUMNS)} | {e.name for e in columns.METADATA}
    known = {term.word for term in glossary.TERMS}
    assert named <= known
    assert set(glossary.COLUMNS) <= named


def test_flags_have_a_heading_on_their_page() -> None:
    text = (ROOT / "docs" / "flags.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^## (\w+)$", text, re.MULTILINE)) == raised()


def test_the_page_is_made_from_it() -> None:
    assert make_glossary.page() == make_glossary.PAGE.read_text(encoding="utf-8")
    assert all((ROOT / "docs" / page).is_file() for page in glossary.PAGES.values())


@pytest.mark.parametrize(
    ("word", "first"),
    [("floor", "floor"), ("noisy", "success_noisy"), ("Success-Noisy", "success_noisy"), ("σ", "sigma"),
     ("eps", "epsilon"), ("--votes", "votes"), ("best", "distance_best"), ("hsja_na", "hsja-na")],
)  # fmt: skip
def test_words_are_found_however_they_are_written(word: str, first: str) -> None:
    assert glossary.explain(word)[0].word == first


def test_an_unknown_word_names_the_nearest(snd: Snd) -> None:
    with pytest.raises(ConfigError, match="floor"):
        glossary.explain("flor")
    done = snd("explain", "flor")
    assert done.returncode == 2
    assert "floor" in done.stderr


def test_explain_prints_every_sense(snd: Snd) -> None:
    assert snd("explain", "floor").stdout.startswith("floor (measure): What merely sending the clean image")
    kinds = [row["kind"] for row in json.loads(snd("explain", "l2", "--json").stdout)["rows"]]
    assert kinds == ["preset"]
