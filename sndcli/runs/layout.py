"""How a run is divided into units, kept beside its parts: so that others can do some of them, and know which lack."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from sndcli.errors import DataError
from sndcli.runs.unit import Unit
from sndcli.runs.writing import write_text

FILE = "units.json"
UNIT = 100  # images that share a loop; of 25, small networks take a quarter longer for each


@dataclass(frozen=True)
class Layout:
    """The units of a run.

    Attributes:
        run_id: of the run.
        unit: images that share a loop, at most.
        units: all, in the order of the result's rows.
    """

    run_id: str
    unit: int
    units: tuple[Unit, ...]

    def write(self, parts: Path, over: bool) -> None:
        """Keeps it in the folder of the parts; where one is there, only if it goes `over` that one."""
        text = _PLAIN.dump_json(self).decode()
        if over:
            write_text(parts / FILE, text)
            return
        mine = parts / f"{FILE}.{secrets.token_hex(4)}.tmp"
        mine.write_text(text, encoding="utf-8")
        try:
            os.link(mine, parts / FILE)  # of several shares that begin at once, one succeeds
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            write_text(parts / FILE, text)
        finally:
            mine.unlink()


_PLAIN = TypeAdapter(Layout)


def read(parts: Path) -> Layout | None:
    """The one in a folder of parts; None where there is none.

    Raises:
        DataError: it is damaged.
    """
    try:
        return _PLAIN.validate_json((parts / FILE).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        raise DataError(f"{parts / FILE} is damaged. Without it the same command continues.") from None


def units_of(chosen: Tensor, ids: Tensor, seed: int, repeats: int, unit: int) -> tuple[Unit, ...]:
    """The units of a run.

    Args:
        chosen: positions of its images.
        ids: of all images of the data.
        seed, repeats: as of its config.
        unit: images of a unit, at most.
    """
    return tuple(
        Unit(seed + repeat, number, tuple(index.tolist()), tuple(ids[index].tolist()))
        for repeat in range(repeats)
        for number, index in enumerate(chosen.split(unit))
    )


def size_for(images: int, repeats: int, at_once: int) -> int:
    """Images of a unit, so that `at_once` workers all have one; never more than `UNIT`.

    Example:
        >>> size_for(100, 1, 1), size_for(100, 1, 2), size_for(100, 2, 2), size_for(10, 1, 64)
        (100, 50, 100, 1)
    """
    return max(1, min(UNIT, -(-images // max(1, -(-at_once // repeats)))))
