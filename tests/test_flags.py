"""Each flag has a case that raises it and one that does not."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

import pytest

from sndcli.analysis import statistics
from sndcli.analysis.flags import flags
from sndcli.analysis.measures import MEASURES, Interval
from sndcli.analysis.setting import Setting
from sndcli.analysis.summary import Scales, Summary
from sndcli.defenses.parse import parse


def rate(successes: int, n: int = 100) -> Interval:
    found = statistics.rate(successes, n)
    return Interval(found.value, found.lo, found.hi)


def row(**changes: Any) -> Summary:
    """A clean run of a noise-aware attack: nothing to complain about."""
    base = {
        "attack": "hsja-na", "engine": "native", "preset": "sequential", "votes": 1, "norm": "l2", "eps": 1.0,
        "dataset": "cifar10", "model": "resnet20", "defense": "snd", "sigma": 0.01, "beta": None,
        "n": 100, "budget": 1000, "success_seen": rate(62), "success_noisy": rate(60), "floor": 0.05,
        "probe": 0.01, "search": 0.005, "sigma_all": None, "passes_differ": True, "sigma_round": 0.0,
        "rounding_share": 0.0,
    }  # fmt: skip
    told: dict[str, Any] = base | changes
    setting = Setting(**{f.name: told[f.name] for f in fields(Setting) if f.name in told})
    scales = Scales(**{f.name: told[f.name] for f in fields(Scales)})
    return Summary(setting, (0,), told["budget"], {key: told.get(key) for key in MEASURES}, scales)


def names(*rows: Summary) -> set[str]:
    return {flag.name for flag in flags(rows)}


def test_a_clean_run_raises_nothing() -> None:
    assert names(row(), row(budget=2000, success_noisy=rate(70), success_seen=rate(72))) == set()
    assert flags([]) == []


@pytest.mark.parametrize(
    ("name", "raising", "quiet"),
    [
        ("seen_above_noisy", {"success_noisy": rate(30)}, {"success_noisy": rate(55)}),
        ("floor_explains", {"floor": 0.4}, {"floor": 0.3}),
        ("probe_below_noise", {"probe": 3e-4}, {"probe": None, "search": None}),
        ("search_below_noise", {"search": 1e-4}, {"search": 2e-3}),
        ("no_noise_aware", {"attack": "hsja", "preset": None}, {"attack": "geoda", "preset": "na"}),
        ("defense_off", {"passes_differ": False}, {"passes_differ": None}),
        ("rounding_defends", {"rounding_share": 0.21}, {"rounding_share": 0.19}),
        (
            "rounding_defends",
            {"defense": "none", "sigma": 0.0, "passes_differ": None, "sigma_round": 8e-4, "rounding_share": None},
            {"defense": "none", "sigma": 0.0, "passes_differ": None},
        ),
    ],
)
def test_flags_of_one_row(name: str, raising: dict[str, Any], quiet: dict[str, Any]) -> None:
    assert names(row(**raising)) == {name}
    assert names(row(**quiet)) == set()


@pytest.mark.parametrize("kind", ["gauss", "uniform", "laplace", "sign"])
def test_the_noise_of_other_defenses_is_known_too(kind: str) -> None:
    """As that of snd; of noise that is not the same in all directions nothing is claimed."""
    spec = parse(f"aug+noise:{kind}", None, None)
    written = {"sigma": 0.0, "defense": spec.name, "sigma_all": spec.noise}
    assert names(row(**written)) == set()
    assert names(row(**written, probe=3e-4)) == {"probe_below_noise"}
    assert names(row(**written, search=1e-4)) == {"search_below_noise"}
    older = {"sigma": 0.0, "defense": spec.name, "sigma_all": None}  # a file that compared with no noise
    assert names(row(**older, probe=3e-4, search=1e-4)) == set()


WORST = [
    ("seen_above_noisy", [{"success_noisy": rate(30)}]),
    ("success_falls", [{"budget": 10_000}, {"budget": 20_000, "success_noisy": rate(52)}]),
    ("floor_explains", [{"floor": 0.4}]),
    ("probe_below_noise", [{"probe": 6e-6}]),
    ("probe_below_noise", [{"probe": 4e-3}]),
    ("search_below_noise", [{"search": 1e-6}]),
    ("no_noise_aware", [{}]),
    ("defense_off", [{"passes_differ": False}]),
    ("rounding_defends", [{"precision": "bf16", "sigma_round": 3e-3, "rounding_share": 0.3}]),
    ("rounding_defends", [{"precision": "bf16", "defense": "none", "sigma": 0.0, "passes_differ": None,
                           "sigma_round": 8e-4, "rounding_share": None}]),
    ("too_few_images", [{"n": 10, "success_noisy": rate(6, 10), "success_seen": rate(6, 10)},
                        {"n": 10, "success_noisy": rate(4, 10), "success_seen": rate(6, 10), "sigma": 0.005}]),
]  # fmt: skip


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("attack", ["hsja", "simba", "hsja-na"])
@pytest.mark.parametrize(("name", "changes"), WORST)
def test_a_flag_is_read_by_anyone(name: str, changes: list[dict[str, Any]], attack: str, norm: str) -> None:
    """What, so what, do this: at most 25 words, no symbols, and a command at the end."""
    raised = flags([row(**{"attack": attack, "preset": None, "norm": norm} | change) for change in changes])
    found = [flag.text for flag in raised if flag.name == name]
    if name == "no_noise_aware" and attack == "hsja-na":
        assert found == []
        return
    for text in found:
        prose, _, command = text.partition("`")
        assert len(text.split()) <= 25, text
        assert re.fullmatch(r"[A-Za-z0-9 ,.;:']+", prose), text
        assert re.fullmatch(r"snd [^`]+`", command), text
    assert found


def test_flags_of_test_steps_name_the_ratio() -> None:
    (flag,) = flags([row(attack="hsja", preset=None, probe=0.01 / 1731), row()])
    assert flag.text == (
        "This attack's test steps are 1,700 times smaller than the noise: it cannot see. Failure proves nothing; "
        "run `snd attack hsja-na`"
    )


def test_the_images_that_a_flag_asks_for_are_enough() -> None:
    one = {"n": 10, "success_seen": rate(6, 10)}
    (flag,) = flags([row(success_noisy=rate(6, 10), **one), row(sigma=0.005, success_noisy=rate(4, 10), **one)])
    assert flag.where.endswith(", beside snd 0.005")
    n = int(flag.text.split("--images ")[1].strip("`"))
    more = {"n": n, "success_seen": rate(round(0.6 * n), n)}
    shares = ((0.01, 0.6), (0.005, 0.4))
    assert flags([row(sigma=sigma, success_noisy=rate(round(p * n), n), **more) for sigma, p in shares]) == []


def test_success_that_falls_with_budget() -> None:
    assert names(row(), row(budget=2000, success_noisy=rate(52))) == {"success_falls"}
    assert names(row(), row(budget=2000, success_noisy=rate(57))) == set()
    one_image = row(n=4, success_noisy=rate(2, 4), success_seen=rate(2, 4))
    assert names(one_image, row(n=4, budget=2000, success_noisy=rate(1, 4), success_seen=rate(2, 4))) == set()


def test_a_difference_that_chance_explains() -> None:
    few = {"n": 10, "success_seen": rate(6, 10)}
    one, other = row(success_noisy=rate(6, 10), **few), row(sigma=0.005, success_noisy=rate(4, 10), **few)
    assert names(one, other) == {"too_few_images"}
    many = row(n=1000, success_noisy=rate(600, 1000)), row(n=1000, sigma=0.005, success_noisy=rate(400, 1000))
    assert "too_few_images" not in names(*many)
    assert names(row(n=10, success_noisy=rate(6, 10), **{"success_seen": rate(6, 10)}), row(sigma=0.005)) == set()


def test_an_undefended_model_needs_no_noise_aware_attack() -> None:
    bare = row(attack="hsja", defense="none", sigma=0.0, passes_differ=None, probe=6e-6, search=6e-6)
    assert names(bare) == set()


def test_one_aware_rung_is_enough() -> None:
    assert names(row(attack="hsja", preset=None), row()) == set()


def test_points_that_were_not_stored_raise_nothing_false() -> None:
    """``snd report --at`` knows what was seen there, not what fresh draws confirm."""
    unknown = {"success_noisy": None, "success_clean": None}
    assert names(row(**unknown), row(budget=2000, **unknown), row(sigma=0.005, **unknown)) == set()
    assert names(row(floor=0.4, **unknown)) == {"floor_explains"}


def test_a_flag_says_where() -> None:
    (flag,) = flags([row(success_noisy=rate(30))])
    assert flag.where == "hsja-na sequential, snd 0.01 on resnet20, Q=1,000"
    assert str(flag).startswith("flag: seen_above_noisy: ")
    assert set(flag.as_dict()) == {"name", "text", "where"}
