"""Writes the tables of docs/attacks.md, between its markers, from the attacks' specs.

usage: python tools/make_attack_tables.py
"""

from __future__ import annotations

from pathlib import Path

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
    for name, table in TABLES.items():
        begin, end = f"<!-- {name}: made by tools/make_attack_tables.py -->", f"<!-- end of {name} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"Expected one `{begin}` and one `{end}`.")
        before, after = text.partition(begin)[0], text.partition(end)[2]
        text = f"{before}{begin}\n\n{table(specs)}\n\n{end}{after}"
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
