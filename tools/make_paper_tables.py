"""Writes the tables of docs/results/paper.md, between its markers, from the result files in docs/results/data.

usage: python tools/make_paper_tables.py
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from markers import filled

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results" / "paper.md"
COMMAND = ("reproduce", "all", "--no-run", "--format", "md", "--out", "docs/results/data", "--quiet")


def page(text: str) -> str:
    """The page with its tables made anew.

    Raises:
        ValueError: a marker is missing.
    """
    done = subprocess.run(
        [sys.executable, "-m", "sndcli", *COMMAND], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return filled(text, {"tables": done.stdout.strip()}, Path(__file__).name)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
