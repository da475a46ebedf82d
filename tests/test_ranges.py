"""Options of attacks: of the type and in the range of their annotations, or refused with what was expected."""

from __future__ import annotations

from dataclasses import dataclass, fields

import pytest

from sndcli.attacks.ranges import Count, Odd, PositiveShare, parsed
from sndcli.attacks.registry import ATTACKS, spec_of
from sndcli.attacks.spec import options_of
from sndcli.errors import ConfigError


@dataclass(frozen=True)
class Plugin:
    schedule: tuple[float, ...] = (0.1, 0.2)
    n: int | None = None
    few: Count | None = 3
    votes: Odd = 1
    share: PositiveShare = 0.5
    loud: bool = False
    free: float = 0.0


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("schedule=0.5", (0.5,)),
        ("schedule=0.5, 1", (0.5, 1.0)),
        ("schedule=(0.5, 1)", (0.5, 1.0)),
        ("n=5", 5),
        ("n=none", None),
        ("n = None", None),
        ("few=none", None),
        ("votes=7", 7),
        ("share=1", 1.0),
        ("loud=yes", True),
        ("loud=0", False),
        ("free=-1e3", -1000.0),
    ],
)
def test_a_setting_is_what_its_annotation_says(setting: str, value: object) -> None:
    ((_, found),) = parsed(Plugin, [setting], "plugin").items()
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [
        ("schedule=a", "a number"),
        ("schedule=0.5,nan", "a finite number"),
        ("n=x", "a whole number"),
        ("n=1.5", "a whole number"),
        ("few=0", "at least 1"),
        ("few=-3", "at least 1"),
        ("few=99999999999999999999", "at most 2147483647"),
        ("votes=2", "an odd whole number"),
        ("votes=-1", "at least 1"),
        ("share=0", "more than 0"),
        ("share=1.1", "at most 1"),
        ("loud=banana", "true or false"),
        ("free=inf", "a finite number"),
        ("free=", "a number"),
    ],
)
def test_or_it_is_refused_with_what_was_expected(setting: str, wanted: str) -> None:
    key = setting.partition("=")[0]
    with pytest.raises(ConfigError, match=rf"Expected `{key}` of plugin to be {wanted} but got"):
        parsed(Plugin, [setting], "plugin")


@pytest.mark.parametrize("name", list(ATTACKS))
def test_every_preset_is_in_range_and_every_number_has_one(name: str) -> None:
    """And what an option's annotation makes of its default is the default, so that ids of runs stay."""
    spec = spec_of(name)
    for preset, each in spec.presets.items():
        texts = [f"{f.name}={getattr(each.options, f.name)}" for f in fields(each.options)]
        again = options_of(spec, preset, tuple(texts))
        assert repr(again) == repr(each.options)
    for text in ("nan", "inf", "banana"):
        for f in fields(each.options):
            if f.name == "sigma_hat" and text == "banana":
                continue
            with pytest.raises(ConfigError, match=f.name):
                options_of(spec, None, (f"{f.name}={text}",))
