"""Writes the tables of docs/attacks.md, between its markers, from the attacks' specs.

usage: python tools/make_attack_tables.py
"""

from __future__ import annotations

from pathlib import Path

from markers import filled

from sndcli.attacks.registry import ATTACKS, spec_of
from sndcli.reports import attack_tables

PAGE = Path(__file__).parents[1] / "docs" / "attacks.md"
TABLES = {"attacks": attack_tables.attacks, "presets": attack_tables.presets, "ladders": attack_tables.ladders}


def page(text: str) -> str:
    """The page with its tables made anew.

    Raises:
        ValueError: a marker is missing.
    """
    specs = [spec_of(name) for name in ATTACKS]
    return filled(text, {name: table(specs) for name, table in TABLES.items()}, Path(__file__).name)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
