"""How a command ends: exit codes, one line for what went wrong, output where there is no UTF-8."""

from __future__ import annotations

import codecs
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Done

from sndcli.cli import terminal
from sndcli.cli.command import explained
from sndcli.errors import ConfigError, IncompleteError

Snd = Callable[..., Done]
SND = [sys.executable, "-m", "sndcli"]


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ConfigError("no."), 2, "no."),
        (IncompleteError("later."), 3, "later."),
        (MemoryError(), 3, "memory is full"),
        (OSError(errno.ENOSPC, "No space left on device"), 3, "No space left"),
        (OSError(errno.EFBIG, "File too large", "a.parquet"), 3, "File too large"),
        (PermissionError(errno.EACCES, "Permission denied", "/there"), 2, "/there cannot be used"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "/there"), 2, "/there cannot be used"),
    ],
)
def test_what_a_user_can_act_on_is_one_line(error: Exception, code: int, text: str) -> None:
    told, ended = explained(error)
    assert ended == code
    assert text in told
    assert "\n" not in told


def test_a_defect_is_no_failed_gate() -> None:
    """Code 70, and the traceback in a file that the line names."""
    try:
        int("x")
    except ValueError as error:
        told, code = explained(error)
    assert code == 70
    assert "ValueError: invalid literal" in told
    path = Path(told.split("The traceback is in ")[1].split(";")[0])
    assert "test_a_defect_is_no_failed_gate" in path.read_text()
    path.unlink()


def test_a_command_that_breaks_ends_with_70(snd: Snd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("sndcli.runs.prepare.open_model", lambda *_: 1 / 0)
    done = snd("attack", "null", "--images", 1, "--budget", 2, "--out", tmp_path)
    assert done.returncode == 70
    assert "ZeroDivisionError" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(list(tmp_path.glob("*.traceback"))) == 1


@pytest.mark.parametrize(
    "encoding", [pytest.param(e, marks=pytest.mark.slow) for e in ("latin-1", "cp1252")] + ["ascii"]
)
def test_output_without_utf_8(encoding: str, tmp_path: Path) -> None:
    """Every character has one in ASCII where the terminal cannot show it."""
    command = [*SND, "attack", "null", "--sigma", "0.01", "--images", "1", "--budget", "4", "--verify", "2"]
    done = subprocess.run(
        [*command, "--out", tmp_path, "--batch-size", "8"], capture_output=True, check=False, timeout=300,
        env=os.environ | {"PYTHONIOENCODING": encoding, "COLUMNS": "160"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode(encoding)
    assert "L2 <= 1" in text
    assert "?" not in text


def test_the_handler_knows_what_is_printed() -> None:
    """What the package prints beyond ASCII is in the table, but for words of documentation strings."""
    codecs.register_error(terminal.FALLBACK, terminal.in_ascii)
    assert "σ̂ ≤ ε".encode("ascii", terminal.FALLBACK) == b"sigma^ <= eps"
    assert "日".encode("ascii", terminal.FALLBACK) == b"?"


def test_a_reader_that_has_seen_enough() -> None:
    """``snd ls attacks | head -1`` ends without a complaint."""
    code = "import sys; print(sys.stdin.readline())"
    first = subprocess.Popen([*SND, "ls", "attacks"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert first.stdout is not None
    assert first.stderr is not None
    subprocess.run([sys.executable, "-c", code], stdin=first.stdout, check=True, timeout=60, capture_output=True)
    first.stdout.close()
    complaint = first.stderr.read()
    assert first.wait(timeout=60) == 0
    assert complaint == b""


@pytest.mark.slow
def test_sigterm_ends_as_ctrl_c_does(tmp_path: Path) -> None:
    command = [*SND, "attack", "hsja", "--sigma", "0.01", "--images", "3", "--budget", "5000", "--unit", "1"]
    process = subprocess.Popen([*command, "--out", tmp_path, "--batch-size", "64"], stderr=subprocess.PIPE, text=True)
    parts = tmp_path.glob
    for _ in range(600):
        if list(parts("*.parts/*.parquet")):
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    complaint = process.stderr.read()
    assert process.wait(timeout=60) == 143, complaint
    assert "interrupted" in complaint
    assert list(parts("*.parts/*.parquet"))
