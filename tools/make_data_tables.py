"""Writes the tables of docs/data.md and docs/reports.md, between their markers, from the columns and the measures.

usage: python tools/make_data_tables.py
"""

from __future__ import annotations

from pathlib import Path

from markers import filled

from sndcli.analysis import measures, tidy
from sndcli.runs import columns

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {
    DOCS / "data.md": {"tidy": tidy.markdown, "columns": columns.markdown, "metadata": columns.metadata_markdown},
    DOCS / "reports.md": {"measures": measures.markdown},
}


def page(path: Path) -> str:
    """A page with its tables made anew.

    Raises:
        ValueError: a marker is missing.
    """
    tables = {name: table() for name, table in PAGES[path].items()}
    return filled(path.read_text(encoding="utf-8"), tables, Path(__file__).name)


if __name__ == "__main__":
    for made in PAGES:
        made.write_text(page(made), encoding="utf-8")
