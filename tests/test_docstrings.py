"""The examples in docstrings give what they say. Only modules that have any are imported."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import sndcli

PACKAGE = Path(sndcli.__file__).parent
MODULES = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("module", MODULES)
def test_examples_of(module: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(module.removesuffix(".__init__")))
    assert failed == 0
    assert tried > 0
