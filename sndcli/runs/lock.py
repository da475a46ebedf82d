"""One writer an output: a second process is told who the first is, and touches nothing of its."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from sndcli.errors import FULL, ConfigError, IncompleteError

LOCK, HOLDER = ".snd-lock", ".snd-holder.json"  # in the folder; they are gone when the writer has ended
TRIES = 5  # another writer may end, and remove its lock, between our steps


@contextmanager
def alone(folder: Path, output: Path) -> Iterator[None]:
    """While inside, no other process that asks has `folder`. The system gives the lock back if the process dies.

    Folders that are made for it and empty at the end are removed.

    Args:
        folder: where the parts of the output are.
        output: what a second process is told of.

    Raises:
        ConfigError: the folder cannot be made or written.
        IncompleteError: another process has it.
    """
    try:
        lock, made = _acquired(folder)
    except Timeout:
        raise IncompleteError(
            f"{output} is being written by {_holder(folder / HOLDER)}.\n"
            "Nothing of it was touched; when it has ended, the same command can be run again."
        ) from None
    try:
        _sign(folder / HOLDER)
        yield
    finally:
        with suppress(OSError):
            (folder / HOLDER).unlink(missing_ok=True)
            (folder / LOCK).unlink(missing_ok=True)
        lock.release()
        _remove_empty([folder, *made])


def _acquired(folder: Path) -> tuple[FileLock, list[Path]]:
    """The lock, and the folders that were made for it, the innermost first.

    Raises:
        Timeout: another process has it.
        ConfigError: the folder cannot be made or written.
    """
    made: list[Path] = []
    try:
        for _ in range(TRIES):
            made = _make(folder) or made
            lock = FileLock(folder / LOCK)
            with suppress(FileNotFoundError):  # the other has just ended, and removed the folder
                lock.acquire(timeout=0)
                if (folder / LOCK).exists():
                    return lock, made
                lock.release()
    except Timeout:
        raise
    except NotImplementedError:  # a file system without locks: as good as one that nobody else uses
        return lock, made
    except OSError as error:
        _remove_empty(made)
        if error.errno in FULL:
            raise
        raise ConfigError(f"`--out` {folder} cannot be written: {error.strerror}.") from None
    raise Timeout(str(folder / LOCK))


def _make(folder: Path) -> list[Path]:
    """Makes the folder; those that were not there, the innermost first."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # something is in it
            folder.rmdir()


def _sign(path: Path) -> None:
    since = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
    path.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}), encoding="utf-8")


def _holder(path: Path) -> str:
    """Who has the lock, in words."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return f"process {told['pid']} on {told['host']} since {told['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has the lock, and has not signed yet
        return "another process"
