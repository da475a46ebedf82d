"""What a setting is called: everywhere the same, no two alike, and everything can be chosen by."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Done
from test_reports import BASE, HIT, MISS, write_run

from sndcli.analysis import frame, labels, summary, where
from sndcli.analysis.flags import flags
from sndcli.analysis.setting import Setting, setting_of
from sndcli.defenses.parse import DefenseSpec
from sndcli.errors import ConfigError, DataError
from sndcli.reports import grid
from sndcli.runs.columns import OF_RUN
from sndcli.runs.config import RunConfig
from sndcli.runs.files import RunFiles

Snd = Callable[..., Done]

# One change of a config each: two runs that differ in it have to read differently.
CHANGES: dict[str, dict[str, Any]] = {
    "attack": {"attack": "ba"}, "engine": {"engine": "foolbox"}, "preset": {"preset": "art"},
    "settings": {"settings": ("gamma=2.0",)}, "dataset": {"dataset": "imagenet"},
    "dataset_digest": {"dataset_digest": "e"},
    "model": {"model": "resnet56"}, "model_digest": {"model_digest": "m2"}, "defense": {"defense": DefenseSpec("rnp")},
    "sigma": {"defense": DefenseSpec("snd", 0.02)}, "close sigma": {"defense": DefenseSpec("snd", 0.0100000001)},
    "beta": {"defense": DefenseSpec("snd", 0.01, 2.0)}, "clip": {"defense": DefenseSpec("snd", 0.01, clip=True)},
    "weights": {"defense": DefenseSpec("snd", 0.01, weights="w")}, "votes": {"votes": 5}, "norm": {"norm": "linf"},
    "weights_digest": {"defense": DefenseSpec("snd", 0.01, weights="w", weights_digest="1")},
    "eps": {"eps": 0.5}, "close eps": {"eps": 1.00000001}, "select": {"select": "all"},
    "select_by": {"select_by": "resnet56 f00"}, "quantize": {"quantize": True}, "precision": {"precision": "bf16"},
    "compiled": {"compiled": True}, "references": {"references": (("ref-vgg", "abc"),)},
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_runs_that_differ_are_neither_pooled_nor_named_alike(tmp_path: Path, change: str) -> None:
    config = replace(BASE, **CHANGES[change])
    write_run(tmp_path, [HIT])
    write_run(tmp_path, [MISS], config)
    frames = frame.load([tmp_path])[0]
    rows = [row for row in summary.summarise(frames) if row.budget == 1000]
    assert len({row.setting.label for row in rows}) == len(rows) == 2
    assert len({json.dumps(row.setting.as_dict()) for row in rows}) == 2
    told = [where.facts(one) for one in frames]
    different = [key for key in where.KEYS if told[0].get(key) != told[1].get(key) and key != "run"]
    assert different, "no key of --where tells them apart"
    assert len(where.choose(frames, [("run", config.run_id)])) == 1
    named = {(table.title, line.cells) for table in grid.grids(rows) for part in table.parts for line in part}
    assert len(named) == 2


def test_every_field_of_a_config_is_told_or_may_vary() -> None:
    """A field that somebody adds to the config must not get lost between two rows that read alike."""
    config = json.loads(json.dumps(BASE.as_dict()))
    one, two = setting_of(config), setting_of(config | {"new_field": 3})
    first, second = labels.tell_apart([one, two]).values()
    assert first.label != second.label
    assert "new_field=3" in second.label
    assert two.as_dict()["new_field"] == 3
    further = setting_of(config | {"eps_also": [0.5]})
    assert labels.tell_apart([one, further])[further].tags == ("eps_also=0.5",)
    assert {column.name for column in OF_RUN} <= {*where.KEYS}


def test_noise_of_length_zero_is_no_noise_by_whatever_name(tmp_path: Path) -> None:
    for k, spec in enumerate((DefenseSpec(), DefenseSpec("snd", 0.0), DefenseSpec("snd", 0.0, 2.0, clip=True))):
        write_run(tmp_path, [HIT], replace(BASE, defense=spec), first_image=k)
        assert spec.words == replace(BASE, defense=spec).defended == "none"
        assert "_none_" in replace(BASE, defense=spec).file_name
    rows = summary.summarise(frame.load([tmp_path])[0])
    assert [(row.n, row.setting.defended) for row in rows] == [(3, "none")] * 2
    assert DefenseSpec("rnp+snd", 0.0).words == DefenseSpec("rnp").words == "rnp"
    write_run(tmp_path, [MISS], replace(BASE, defense=DefenseSpec(), budget=2000), first_image=1)  # the longest speaks
    (group,) = frame.grouped(frame.load([tmp_path])[0]).values()
    assert [f.budget for f in group] == [1000, 1000, 1000, 2000]
    assert summary.summarise(group)[0].number("success_seen") == pytest.approx(2 / 3)


def test_one_setting_reads_the_same_in_config_setting_and_file() -> None:
    config = replace(BASE, preset="art", quantize=True, votes=5)
    setting = setting_of(config.as_dict())
    assert (
        (setting.attacked, setting.defended)
        == (config.attacked, config.defended)
        == ("hsja art", "snd 0.01, T=5, 8-bit")
    )
    assert config.file_name.startswith("hsja-art_cifar10_resnet20_snd-0.01-T5-8-bit_q1000_")
    assert replace(BASE, norm="linf", eps=8 / 255).as_dict()["eps"] == 8 / 255
    assert setting_of(replace(BASE, norm="linf", eps=8 / 255).as_dict()).bound == "L∞ ≤ 8/255"
    alone = labels.tell_apart([setting])[setting]
    assert alone.label == "hsja art against snd 0.01, T=5, 8-bit on resnet20, cifar10, L2 ≤ 1"


def test_a_file_under_an_earlier_name_is_the_run(tmp_path: Path) -> None:
    path = write_run(tmp_path, [HIT])
    older = path.rename(tmp_path / f"once-called-otherwise_{BASE.run_id[:8]}.parquet")
    files = RunFiles(tmp_path, BASE)
    assert files.path == older
    assert files.finished() is not None
    assert RunFiles(tmp_path, replace(BASE, seed=1)).path.name == replace(BASE, seed=1).file_name


def test_models_of_one_name_have_their_digests_beside_it() -> None:
    def setting(digest: str, attack: str = "hsja") -> Setting:
        return setting_of(replace(BASE, attack=attack, model_digest=digest).as_dict())

    one, two, other = setting("aaaaaaaa11"), setting("bbbbbbbb22"), setting("bbbbbbbb22", "ba")
    told = labels.tell_apart([one, two, other])
    assert [told[s].modelled for s in (one, two, other)] == ["resnet20@aaaaaaaa", *["resnet20@bbbbbbbb"] * 2]
    assert labels.tell_apart([two, other])[two].modelled == "resnet20"
    assert labels.shortened(["aaaaaaaa1", "aaaaaaaa2"]) == {"aaaaaaaa1": "aaaaaaaa1", "aaaaaaaa2": "aaaaaaaa2"}


def test_a_preset_whose_numbers_changed_is_told_by_them() -> None:
    config = BASE.as_dict()
    changed = config | {"options": {**config["options"], next(iter(config["options"])): 77}}
    told = labels.tell_apart([setting_of(config), setting_of(changed)])
    assert [s.tags for s in told.values()][1] == (f"{next(iter(config['options']))}=77",)


def test_flags_keep_models_apart(tmp_path: Path) -> None:
    """An attack that knows of the noise says nothing of another model of the same name."""
    write_run(tmp_path, [HIT], replace(BASE, attack="hsja-na"))
    write_run(tmp_path, [HIT], replace(BASE, model_digest="another"))
    found = [f for f in flags(summary.summarise(frame.load([tmp_path])[0])) if f.name == "no_noise_aware"]
    assert [flag.where for flag in found] == ["snd 0.01 on resnet20@another"]


# -- --where ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [("attack=hsja", 2), ("run=RUN", 1), ("model_digest=m", 2), ("quantize=true", 1), ("sigma=1e-2", 2),
     ("beta=none", 2), ("settings=gamma=2.0", 1), ("settings=none", 1), ("options.gamma=2", 1), ("eps=255/255", 2)],
)  # fmt: skip
def test_runs_are_chosen_by(tmp_path: Path, text: str, found: int) -> None:
    write_run(tmp_path, [HIT])
    write_run(tmp_path, [HIT], replace(BASE, quantize=True, settings=("gamma=2.0",)))
    frames = frame.load([tmp_path])[0]
    pair = where.pair_of(text.replace("RUN", BASE.run_id[:6]))
    assert len(where.choose(frames, [pair])) == found


def test_errors_name_the_nearest(tmp_path: Path) -> None:
    write_run(tmp_path, [HIT])
    frames = frame.load([tmp_path])[0]
    with pytest.raises(ConfigError, match="Did you mean `model_digest`"):
        where.pair_of("modeldigest=a")
    with pytest.raises(ConfigError, match="attack=hsja"):
        where.pair_of("hsja")
    with pytest.raises(DataError, match="Did you mean `attack=hsja`"):
        where.choose(frames, [where.pair_of("attack=hjsa")])
    with pytest.raises(DataError, match="There, run is"):
        where.choose(frames, [("run", "ffff")])
    with pytest.raises(DataError, match="run is"):  # three characters could be anything
        where.choose(frames, [("run", BASE.run_id[:3])])


def test_the_row_of_the_json_says_all(snd: Snd, tmp_path: Path) -> None:
    config: RunConfig = replace(BASE, quantize=True, precision="bf16")
    path = write_run(tmp_path, [HIT], config)
    row = json.loads(snd("report", path, "--json").stdout)["rows"][0]
    for key in ("quantize", "precision", "preset", "select", "clip", "model_digest", "dataset_digest", "references"):
        assert key in row, key
    assert (row["run"], row["quantize"], row["precision"]) == (config.run_id, True, "bf16")
    assert row["options"]["gamma"] == config.as_dict()["options"]["gamma"]
    assert row["label"] == "hsja against snd 0.01, 8-bit, bf16 on resnet20, cifar10, L2 ≤ 1"
    assert "8-bit" in snd("report", path).stdout
    assert "′" not in snd("report", path).stdout
