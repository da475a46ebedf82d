"""What attacks say of themselves, what is listed of them, and the tables that are made of both."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import make_attack_tables
import pytest
from conftest import Done

from sndcli.attacks.registry import ATTACKS, find, spec_of
from sndcli.attacks.score import subspace
from sndcli.attacks.spec import AttackSpec, Preset, options_of
from sndcli.errors import ConfigError
from sndcli.reports import attack_tables

Snd = Callable[..., Done]
ROOT = Path(__file__).parents[1]
NO_TORCH = "import sys; {}; sys.exit(any(m == 'torch' for m in sys.modules))"


@dataclass(frozen=True)
class Options:
    length: float = 0.5
    narrow: bool = False


def nothing(oracle: object, streams: object, options: Options) -> None:
    """An attack that asks nothing."""


# -- the list and what it stands for -------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_what_is_listed_is_what_the_attack_says(name: str) -> None:
    entry, spec = ATTACKS[name], spec_of(name)
    assert (entry.name, entry.access, entry.norms, entry.summary) == (spec.name, spec.access, spec.norms, spec.summary)
    assert entry.presets == tuple(spec.presets)
    assert entry.by_norm == spec.by_norm
    assert spec.run.__module__.startswith("sndcli.attacks.")
    assert all(bool(preset.source) or preset.ours for preset in spec.presets.values()) or name == "null"


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_settings_and_options_that_a_spec_names_exist(name: str) -> None:
    spec = spec_of(name)
    for setting in (*spec.wider, *([spec.floor.format("0.01")] if spec.floor else [])):
        key = setting.partition("=")[0]
        having = [name for name, preset in spec.presets.items() if hasattr(preset.options, key)]
        assert having
        assert options_of(spec, having[0], (setting,)) != options_of(spec, having[0])
    aware = [preset for preset in spec.presets if spec.noise_aware(preset)]
    for preset in aware if spec.told else []:
        assert options_of(spec, preset, (spec.told.format("0.01"),)) != options_of(spec, preset)
    assert aware or not spec.told
    if isinstance(spec.uses_eps, str):
        assert any(spec.uses_eps in {f.name for f in fields(p.options)} for p in spec.presets.values())
    assert all(other in ATTACKS for other in spec.relatives)


def test_the_list_of_attacks_imports_no_torch() -> None:
    for code in (
        "import sndcli.attacks.registry, sndcli.attacks.spec, sndcli.attacks.ladder",
        "from sndcli.cli.app import app; app(['ls', 'attacks'], standalone_mode=False)",
    ):
        done = subprocess.run([sys.executable, "-c", NO_TORCH.format(code)], check=False, capture_output=True)
        assert done.returncode == 0, done.stderr
    assert b"hsja-na" in done.stdout


# -- a spec --------------------------------------------------------------------------------------------------


def spec_with(**changes: object) -> AttackSpec[Options]:
    given = {
        "name": "still", "access": "labels", "norms": ("l2", "linf"), "summary": "asks nothing", "run": nothing,
        "presets": {"one": Preset(Options()), "two": Preset(Options(length=2.0), noise_aware=True)},
    }  # fmt: skip
    return AttackSpec(**(given | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"presets": {}}, "at least one norm and one preset"),
        ({"norms": ()}, "at least one norm and one preset"),
        ({"access": "gradients"}, "labels or scores"),
        ({"by_norm": {"linf": "three"}}, "Unknown preset of still `three`"),
        ({"by_norm": {"l3": "one"}}, "Unknown norm of still `l3`"),
    ],
)
def test_a_spec_that_cannot_be_is_told(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        spec_with(**changes)


def test_defaults_of_a_norm() -> None:
    spec = spec_with(by_norm={"linf": "two"})
    assert [spec.default_preset(norm) for norm in (None, "l2", "linf")] == ["one", "one", "two"]
    assert options_of(spec, None, norm="linf").length == 2.0
    assert spec.presets_for("l2") == ["one"]
    assert spec.presets_for("linf") == ["one", "two"]
    assert [spec.noise_aware(preset) for preset in (None, "one", "two", "na")] == [False, False, True, False]


def test_what_a_spec_does_not_know() -> None:
    spec = spec_with()
    assert spec.scales_at(Options(), 3072, 1.0, 0.01) == (None, None)
    assert spec.paid_for(Options(), 100, 5) == 100
    assert spec.depends_on_eps({})  # perhaps
    confirmed = spec_with(uses_eps="narrow")
    assert [confirmed.depends_on_eps(options) for options in ({}, {"narrow": False}, {"narrow": True})] == [
        False,
        False,
        True,
    ]
    assert subspace.SPEC.paid_for(subspace.Options(authors_count=True), 10_000) == 15_001


def test_settings_parse_as_the_options_are() -> None:
    spec = spec_with()
    assert options_of(spec, "two", ("narrow=yes",)) == Options(2.0, True)
    for setting, message in (
        ("length", "Expected `--set key=value` but got `length`"),
        ("size=1", "Unknown option of still `size`"),
        ("length=much", "Expected `length` of still to be a number but got `much`"),
    ):
        with pytest.raises(ConfigError, match=message):
            options_of(spec, None, (setting,))


def test_an_attack_that_is_not_here_is_not_found() -> None:
    assert find("of-a-plug-in") is None
    assert find("null") is spec_of("null")


# -- tables --------------------------------------------------------------------------------------------------


def test_the_page_has_the_tables_of_the_specs() -> None:
    text = make_attack_tables.PAGE.read_text(encoding="utf-8")
    assert text == make_attack_tables.page(text), "run python tools/make_attack_tables.py"
    assert make_attack_tables.page(text.replace("HopSkipJump (Chen", "Hop (Chen")) == text
    with pytest.raises(ValueError, match="end of presets"):
        make_attack_tables.page(text.replace("<!-- end of presets -->", ""))


def test_a_table_says_whose_a_preset_is_and_when_it_is_taken() -> None:
    text = attack_tables.tables([spec_of("square"), spec_of("hsja")])
    assert re.search(r"^\| `square` \| .* \| scores \| L2, L∞ \|$", text, re.MULTILINE)
    assert re.search(r"^\| `square` \| `autoattack` \(default of L∞\) \| AutoAttack \|.*\| \|$", text, re.MULTILINE)
    assert re.search(r"^\| `square` \| `na` \| ours \|.*\| yes \|$", text, re.MULTILINE)
    wider = "`probe_scale=30`, `probe_scale=1000`"
    assert f"| `hsja` | {wider} | `floor=σ` | – | `hsja-na`, `popskipjump share` |" in text
