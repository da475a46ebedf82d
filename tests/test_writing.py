"""Write, then rename: a reader never meets half a file, whatever ends the writer."""

from __future__ import annotations

from pathlib import Path

import pytest

from sndcli.runs.writing import replacing, write_text


def test_what_is_there_stays_until_the_whole_is_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    write_text(path, "old ε")
    with replacing(path) as temporary:
        temporary.write_text("half")
        assert path.read_text(encoding="utf-8") == "old ε"
    assert path.read_text() == "half"
    assert list(path.parent.iterdir()) == [path]


def _failing(path: Path, error: BaseException) -> None:
    with replacing(path) as temporary:
        temporary.write_text("half")
        raise error


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_writer_that_ends_early_leaves_what_was_there(error: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_text(path, "old")
    with pytest.raises(type(error)):
        _failing(path, error)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
