"""What the files around the package say of it: NOTICE, CITATION.cff, CHANGELOG.md, the version."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path

import sndcli

ROOT = Path(__file__).parents[1]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_notice_has_the_checksum_of_every_file_of_data() -> None:
    files = [*ROOT.glob("sndcli/models/weights/*.safetensors"), *ROOT.glob("sndcli/datasets/evaluation/*")]
    notice = text("NOTICE")
    assert {hashlib.sha256(path.read_bytes()).hexdigest() for path in files} == set(re.findall(r"[0-9a-f]{64}", notice))
    assert all(path.name in notice for path in files)


def test_version_stands_in_one_place() -> None:
    project = tomllib.loads(text("pyproject.toml"))["project"]
    assert "version" not in project
    assert project["dynamic"] == ["version"]
    assert not re.search(r"^version:", text("CITATION.cff"), re.MULTILINE)
    assert f"## [{sndcli.__version__}]" in text("CHANGELOG.md")


def test_types_are_shipped() -> None:
    assert (Path(sndcli.__file__).parent / "py.typed").is_file()
