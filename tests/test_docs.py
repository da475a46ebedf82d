"""The documentation site: generated pages are up to date, and every page is in its navigation and builds strictly."""

from __future__ import annotations

import os
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
