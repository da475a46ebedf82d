"""The grid of runs: the same bits whatever the work unit, and with ``SND_GRID=before.json`` as on another revision."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from grid import Digests, differing, digests

SOME = ("hsja art", "square na", "simba-dct dct", "ba foolbox")


def test_what_differs_is_found() -> None:
    before: Digests = {"a": {"queries": "1", "p0": "2", "gone": "3"}, "only": {"p0": "1"}}
    after: Digests = {"a": {"queries": "1", "p0": "9", "new": "4"}}
    assert differing(before, after) == ["a: p0"]
    assert differing(before, before) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", SOME)
def test_units_do_not_matter(name: str) -> None:
    whole, parts = digests(unit=6, only=name), digests(unit=4, only=name)
    assert whole
    assert differing(whole, parts) == []


@pytest.mark.slow
@pytest.mark.skipif("SND_GRID" not in os.environ, reason="SND_GRID names no file of digests")
def test_the_other_revision_has_the_same_bits() -> None:
    before: Digests = json.loads(Path(os.environ["SND_GRID"]).read_text())
    assert differing(before, digests()) == []
