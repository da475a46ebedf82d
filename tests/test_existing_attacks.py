"""The examples with attacks of other libraries, beside our own on the same half-space."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from conftest import half_space, oracle_on, streams, submitted_distance

from sndcli.attacks.one_image import OneImage, one_image
from sndcli.attacks.registry import spec_of
from sndcli.attacks.spec import options_of

FILE = Path(__file__).parents[1] / "examples" / "existing_attacks.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("existing_attacks", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def median(run: object, name: str, preset: str | None, budget: int) -> float:
    """Median distance submitted by one of ours, or by a function for one image."""
    oracle = oracle_on(half_space(margin=0.5), 4, budget)
    oracle.check()
    spec = one_image(run) if callable(run) else spec_of(name)
    spec.run(oracle, streams(3), options_of(spec, preset if run is None else None))
    used = oracle.close().used.tolist()
    assert all(budget - 50 < paid <= budget for paid in used), used  # ART's form keeps a reserve
    return float(submitted_distance(oracle).median())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "function", "twin", "preset"),
    [("art", "art_hsja", "hsja", "art"), ("foolbox", "foolbox_ba", "ba", "foolbox")],
)
def test_it_is_as_good_as_its_native_twin(
    example: ModuleType, package: str, function: str, twin: str, preset: str
) -> None:
    pytest.importorskip(package)
    f: OneImage = getattr(example, function)
    torch.manual_seed(0)
    theirs, ours = median(f, "", None, 1500), median(None, twin, preset, 1500)
    assert theirs == pytest.approx(ours, rel=0.5)


@pytest.mark.parametrize("function", ["art_hsja", "foolbox_ba"])
@pytest.mark.slow
def test_its_budget_is_exact(example: ModuleType, function: str) -> None:
    pytest.importorskip(function.split("_", maxsplit=1)[0])
    h = half_space()
    oracle = oracle_on(h, 2, 60)
    spec = one_image(getattr(example, function))
    spec.run(oracle, streams(), options_of(spec, None))
    assert oracle.close().used.tolist() == [60, 60]
    assert h.rows == 120
