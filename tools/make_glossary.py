"""Writes the tables of docs/glossary.md, between their markers, from `sndcli.glossary`.

usage: python tools/make_glossary.py
"""

from __future__ import annotations

from pathlib import Path

from markers import filled

from sndcli import glossary

PAGE = Path(__file__).parents[1] / "docs" / "glossary.md"


def page() -> str:
    """The page with its tables made anew.

    Raises:
        ValueError: a marker is missing.
    """
    return filled(PAGE.read_text(encoding="utf-8"), {"terms": glossary.markdown()}, Path(__file__).name)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
