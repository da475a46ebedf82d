"""Write, then rename: a reader never meets half a file, whatever ends the writer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sndcli.runs.writing import check_writable, replacing, write_text


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


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with replacing(path) as one, replacing(path) as other:
        assert one != other
        one.touch()
        other.touch()


def test_a_name_as_long_as_names_may_be(tmp_path: Path) -> None:
    path = tmp_path / ("a" * 250 + ".json")
    write_text(path, "there")
    assert path.read_text() == "there"
    with pytest.raises(OSError, match="too long"):
        write_text(tmp_path / ("a" * 300), "there")


def test_a_link_stays_a_link_and_a_pipe_a_pipe(tmp_path: Path) -> None:
    link, there = tmp_path / "link.json", tmp_path / "there.json"
    link.symlink_to(there)
    write_text(link, "new")
    assert link.is_symlink()
    assert there.read_text() == "new"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text(pipe, "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert pipe.is_fifo()


def test_whether_a_file_can_be_written_is_tried_without_a_trace(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "folder" / "a.svg")
    assert list(tmp_path.iterdir()) == []
    write_text(tmp_path / "a.svg", "old")
    check_writable(tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_text() == "old"
    with pytest.raises(FileExistsError):
        check_writable(tmp_path / "a.svg" / "b.svg")
    with pytest.raises(IsADirectoryError):
        check_writable(tmp_path)
