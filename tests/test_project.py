"""What the files around the package say of it: NOTICE, CITATION.cff, CHANGELOG.md, constraints.txt, the version."""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
import re
import tomllib
from pathlib import Path

import pytest
import readme_commands

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


def test_constraints_name_every_dependency_and_no_host() -> None:
    lines = text("constraints.txt").splitlines()
    said = [line for line in lines if line.startswith("#")]
    pinned = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in pinned)
    parts = tomllib.loads(text("pyproject.toml"))
    groups = [parts["project"]["dependencies"], *parts["project"]["optional-dependencies"].values()]
    groups += parts["dependency-groups"].values()
    wanted = {re.split(r"[<>=]", entry)[0] for group in groups for entry in group if isinstance(entry, str)}
    missing = wanted - {line.split("==")[0] for line in pinned}
    assert all(name in "".join(said) for name in missing), missing


MODULES = [
    module.name
    for module in pkgutil.walk_packages(sndcli.__path__, "sndcli.", onerror=lambda name: None)
    if not module.name.endswith("__main__")
]


@pytest.mark.parametrize("module", MODULES)
def test_module_can_be_imported(module: str) -> None:
    assert importlib.import_module(module)


def test_every_command_of_the_readme_has_a_rule() -> None:
    found = readme_commands.commands(text("README.md"))
    assert "snd attack hsja,hsja-na --sigma 0,0.01 --images 20 --budget 600" in found
    assert "snd report results/*.parquet --fail-if 'success_noisy@2000 > 0.25'" in found
    assert all(readme_commands.reason(command) or readme_commands.shorter(command) is not None for command in found)
    assert all(any(part in command for command in found) for part in readme_commands.LEFT_OUT)
