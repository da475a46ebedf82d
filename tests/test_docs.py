"""The documentation site: generated pages are up to date, and every page is in its navigation and builds strictly."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import make_cli_reference
import pytest

ROOT = Path(__file__).parents[1]


def test_the_reference_of_commands_is_up_to_date() -> None:
    page = make_cli_reference.PAGE.read_text(encoding="utf-8")
    assert page == make_cli_reference.reference(), "run tools/make_cli_reference.py"


def test_the_site_builds(tmp_path: Path) -> None:
    """Strictly: no dead link, no missing anchor, no page outside the navigation."""
    pytest.importorskip("material")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "-q",
        "-f",
        str(ROOT / "mkdocs.yml"),
        "-d",
        str(tmp_path),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "cli.html").is_file()


WORDS = 26  # what a table's cell may have; more is a paragraph, and stands in the text
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "cli.md"], ids=lambda page: page.name)
def test_no_cell_of_a_table_holds_a_paragraph(page: Path) -> None:
    """But for tables that are made from docstrings."""
    written = re.sub(r"<!-- (\w+): made by .*?<!-- end of \1", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line for line in written.splitlines() if line.startswith("|")]
    long = [cell.strip() for line in lines for cell in line.split("|") if len(cell.split()) > WORDS]
    assert not long
