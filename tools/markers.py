"""Tables between the markers of a page."""

from __future__ import annotations

from collections.abc import Mapping


def filled(text: str, tables: Mapping[str, str], tool: str) -> str:
    """A page with its tables made anew.

    Args:
        text: of the page.
        tables: by the names in its markers.
        tool: file that makes them, as the markers call it.

    Raises:
        ValueError: a marker is missing, or there twice.
    """
    for name, table in tables.items():
        begin, end = f"<!-- {name}: made by tools/{tool} -->", f"<!-- end of {name} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"Expected one `{begin}` and one `{end}`.")
        before, after = text.partition(begin)[0], text.partition(end)[2]
        text = f"{before}{begin}\n\n{table}\n\n{end}{after}"
    return text
