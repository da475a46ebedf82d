"""One writer an output: the second is told who the first is, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Done

from sndcli.errors import IncompleteError
from sndcli.runs.lock import HOLDER, LOCK, alone

Snd = Callable[..., Done]
RUN = ("attack", "null", "--images", 1, "--budget", 2, "--verify", 2, "--batch-size", 8, "--no-progress")


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_second_run_says_who_is_at_it_and_touches_nothing(snd: Snd, tmp_path: Path) -> None:
    out = tmp_path / "a.parquet"
    parts = out.with_suffix(".parts")
    with alone(parts, out):
        (parts / "seed0-unit0000.parquet").write_text("of the first")
        before = everything(tmp_path)
        for fresh in ((), ("--fresh",)):
            done = snd(*RUN, *fresh, "--out", out)
            assert done.returncode == 3
            assert f"{out} is being written by process {os.getpid()} on {socket.gethostname()} since 20" in done.stderr
            assert len(done.stderr.strip().splitlines()) <= 3  # what data it is, and the two lines
            assert everything(tmp_path) == before
        (parts / "seed0-unit0000.parquet").unlink()
    assert everything(tmp_path) == set()
    assert snd(*RUN, "--out", out).returncode == 0
    assert everything(tmp_path) == {"a.parquet"}


def test_a_refused_run_leaves_no_folder(snd: Snd, tmp_path: Path) -> None:
    done = snd(*RUN, "--images", 5000, "--out", tmp_path / "new" / "folder")
    assert done.returncode == 2
    assert "5000" in done.stderr
    assert everything(tmp_path) == set()


def test_what_is_in_a_folder_stays(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    with alone(folder, folder):
        (folder / "last.pt").write_text("an epoch")
    assert everything(tmp_path) == {"new", "new/folder", "new/folder/last.pt"}


def test_a_lock_that_is_not_signed_yet(tmp_path: Path) -> None:
    with alone(tmp_path, tmp_path):
        (tmp_path / HOLDER).write_text("{")
        with pytest.raises(IncompleteError, match="another process"), alone(tmp_path, tmp_path):
            pass
        assert (tmp_path / LOCK).exists()


def test_a_training_folder_has_one_writer(snd: Snd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sndcli.datasets import cifar10

    shipped = cifar10.load_shipped()
    monkeypatch.setattr(cifar10, "load", lambda split, root: shipped)
    with alone(tmp_path, tmp_path):
        done = snd("train", "--epochs", 1, "--out", tmp_path)
    assert done.returncode == 3
    assert f"process {os.getpid()}" in done.stderr
    assert everything(tmp_path) == set()


@pytest.mark.slow
def test_the_lock_of_a_killed_process_is_free(snd: Snd, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sndcli", "attack", "hsja", "--images", "2", "--budget", "20000", "--unit", "1"]
    out = tmp_path / "a.parquet"
    process = subprocess.Popen([*command, "--batch-size", "64", "--out", out], stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            if (tmp_path / "a.parts" / HOLDER).exists():
                break
            time.sleep(0.1)
        refused = snd("attack", "hsja", "--images", 2, "--budget", 20000, "--batch-size", 64, "--out", out)
        assert refused.returncode == 3
        assert f"process {process.pid} on" in refused.stderr
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (tmp_path / "a.parts" / LOCK).exists()
    with alone(tmp_path / "a.parts", out):
        pass
    assert not (tmp_path / "a.parts" / LOCK).exists()
