"""Writes the tables of docs/data.md and docs/reports.md, between their markers, from the columns and the measures.

usage: python tools/make_data_tables.py
"""

from __future__ import annotations

from pathlib import Path

from sndcli.analysis import measures, tidy
from sndcli.runs import columns

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {
    DOCS / "data.md": {"tidy": tidy.markdown, "columns": columns.markdown},
    DOCS / "reports.md": {"measures": measures.markdown},
}


def page(path: Path) -> str:
    """A page with its tables made anew.

    Raises:
        ValueError: a marker is missing.
    """
    text = path.read_text(encoding="utf-8")
    for name, table in PAGES[path].items():
        begin, end = f"<!-- {name}: made by tools/make_data_tables.py -->", f"<!-- end of {name} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"Expected one `{begin}` and one `{end}` in {path}.")
        before, after = text.partition(begin)[0], text.partition(end)[2]
        text = f"{before}{begin}\n\n{table()}\n\n{end}{after}"
    return text


if __name__ == "__main__":
    for made in PAGES:
        made.write_text(page(made), encoding="utf-8")
