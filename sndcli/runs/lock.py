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
DOOR_S = 5.0  # that a share waits for another that is just coming in


class _Busy(Exception):
    """Another process has the lock; where it signs."""

    def __init__(self, holder: Path) -> None:
        self.holder = holder


def _of(name: str, share: str) -> str:
    """The name of the lock or the holder's file of one share."""
    stem, dot, end = name[1:].partition(".")
    return f".{stem}-{share}{dot}{end}" if share else name


@contextmanager
def alone(folder: Path, output: Path, share: str = "") -> Iterator[None]:
    """While inside, no other process that asks has `folder`. The system gives the lock back if the process dies.

    Several processes have it at once where each asks for another `share` of it. Folders that are made for it and empty
    at the end are removed.

    Args:
        folder: where the parts of the output are.
        output: what a second process is told of.
        share: a name; none: all of it.

    Raises:
        ConfigError: the folder cannot be made or written.
        IncompleteError: another process has it.
    """
    try:
        lock, made = _acquired(folder, share)
    except _Busy as busy:
        raise IncompleteError(
            f"{output} is being written by {_holder(busy.holder)}.\n"
            "Nothing of it was touched; when it has ended, the same command can be run again."
        ) from None
    holder = folder / _of(HOLDER, share)
    try:
        _sign(holder)
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
            (folder / _of(LOCK, share)).unlink(missing_ok=True)
        lock.release()
        if share:
            _shut(folder)
        _remove_empty([folder, *made])


def holders(folder: Path) -> dict[str, str]:
    """Share (empty: the whole) -> who has it, in words, of those that are held now."""
    found = {}
    for path in sorted(folder.glob(f"{LOCK}*")):
        share = path.name.removeprefix(LOCK).removeprefix("-")
        if _held(path):
            found[share] = _holder(folder / _of(HOLDER, share))
    if len(found) > 1:
        found.pop("", None)  # the door, which a share has just gone through
    return found


def _held(path: Path) -> bool:
    """Whether another process has the lock at `path`, which is there."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except (OSError, NotImplementedError):
        return False
    lock.release()
    return False


def _acquired(folder: Path, share: str) -> tuple[FileLock, list[Path]]:
    """The lock, and the folders that were made for it, the innermost first.

    The lock of the whole is the door: a share goes through it to its own, and whoever wants the whole stays in it and
    sees that no share is inside.

    Raises:
        _Busy: another process has it.
        ConfigError: the folder cannot be made or written.
    """
    made: list[Path] = []
    try:
        for _ in range(TRIES):
            made = _make(folder) or made
            lock = FileLock(folder / LOCK)
            with suppress(FileNotFoundError):  # the other has just ended, and removed the folder
                lock.acquire(timeout=DOOR_S if share else 0)
                if (folder / LOCK).exists():
                    return (_through(folder, lock, share) if share else _all(folder, lock)), made
                lock.release()
    except Timeout:
        raise _Busy(folder / HOLDER) from None
    except NotImplementedError:  # a file system without locks: as good as one that nobody else uses
        return lock, made
    except OSError as error:
        _remove_empty(made)
        if error.errno in FULL:
            raise
        raise ConfigError(f"`--out` {folder} cannot be written: {error.strerror}.") from None
    raise _Busy(folder / HOLDER)


def _through(folder: Path, door: FileLock, share: str) -> FileLock:
    """The lock of a share, whose `door` was opened.

    Raises:
        _Busy: another process has this share.
    """
    lock = FileLock(folder / _of(LOCK, share))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise _Busy(folder / _of(HOLDER, share)) from None
    finally:
        door.release()
    return lock


def _all(folder: Path, door: FileLock) -> FileLock:
    """The `door`, where no share is behind it; what killed ones left is removed.

    Raises:
        _Busy: one is.
    """
    for path in folder.glob(f"{LOCK}-*"):
        holder = folder / _of(HOLDER, path.name.removeprefix(f"{LOCK}-"))
        if _held(path):
            door.release()
            raise _Busy(holder)
        path.unlink(missing_ok=True)
        holder.unlink(missing_ok=True)
    return door


def _shut(folder: Path) -> None:
    """A share has ended: the last one removes the door."""
    door = FileLock(folder / LOCK)
    with suppress(Timeout, OSError, NotImplementedError):
        door.acquire(timeout=0)
        if not [*folder.glob(f"{LOCK}-*")]:
            (folder / LOCK).unlink(missing_ok=True)
        door.release()


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
