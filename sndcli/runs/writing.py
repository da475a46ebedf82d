"""Write, then rename: what is read under a file's own name is always whole."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

KEPT = 40  # characters of a name that its temporary one begins with; a name has room for 255 bytes


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, in a folder that is there; what is written to it becomes `path` at the end.

    Where the body raises, what was at `path` stays, and nothing is left beside it. No two writers share a name. What
    a link points to is replaced, and not the link; a device or pipe is written to as it is.

    Raises:
        OSError: the folder cannot be made or written; its `filename` is that of the folder, or `path`.
    """
    path = Path(os.path.realpath(path))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        os.stat(path)  # a name that is too long is told before anything is written
    temporary = path.with_name(f"{path.name[:KEPT]}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.filename == str(temporary):  # what a user knows of is the file that was to be there
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Before hours of work: a file can be written there. Nothing is left.

    Raises:
        OSError: it cannot.
    """
    made = [folder for folder in path.parents if not folder.is_dir()]
    if path.exists() and not path.is_file() and not path.is_dir():
        return  # a device or a pipe
    try:
        with suppress(_Tried), replacing(path) as temporary:
            temporary.touch()
            raise _Tried
    finally:
        for folder in made:
            with suppress(OSError):  # it could not be made
                folder.rmdir()


class _Tried(Exception):
    """The end of a trial."""


def write_text(path: Path, text: str) -> None:
    """Writes a text file so."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
