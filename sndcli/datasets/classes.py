"""Which output of a model each folder of pictures is: the file of ``--classes``."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sndcli.errors import DataError, first_line

MOST = 100_000  # outputs


@dataclass(frozen=True)
class Mapping:
    """Folders and outputs.

    Attributes:
        outputs: name of a folder -> index of the model's output that it stands for; several may share one.
        names: of the outputs, in their order; the number where no folder has it.
        path: of the file.
    """

    outputs: dict[str, int]
    names: tuple[str, ...]
    path: Path

    def check(self, folders: Iterable[str], where: Path) -> None:
        """Every folder has an output.

        Raises:
            DataError: one has not; names it and the nearest.
        """
        strange = [name for name in folders if name not in self.outputs]
        if strange:
            near = difflib.get_close_matches(strange[0], self.outputs, n=1)
            raise DataError(
                f"{self.path} does not say which output the folder {where / strange[0]} is"
                f"{f' (nor {len(strange) - 1} more)' if len(strange) > 1 else ''}."
                f"{f' The nearest name in it is {near[0]}.' if near else ''}"
            )


def read_mapping(path: Path) -> Mapping:
    """A text file with one folder's name a line, line k (from 0) being output k; or JSON.

    JSON is a list of names in the order of the outputs, or an object ``{"folder": output}``.

    Raises:
        DataError: missing, not of these forms, or a name that stands in it twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {first_line(error)}") from None
    if text.lstrip()[:1] in ("{", "["):
        pairs = _of_json(path, text)
    else:
        pairs = [(line.strip(), k) for k, line in enumerate(text.splitlines()) if line.strip()]
    outputs = dict(pairs)
    if not outputs:
        raise DataError(f"{path} names no folder. Expected one name a line, in the order of the model's outputs.")
    twice = [name for name, output in pairs if outputs[name] != output]
    if twice:
        raise DataError(f"{path} has the folder {twice[0]} twice.")
    named = {output: name for name, output in reversed(outputs.items())}
    return Mapping(outputs, tuple(named.get(k, str(k)) for k in range(max(named) + 1)), path)


def _of_json(path: Path, text: str) -> list[tuple[str, int]]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise DataError(f"{path} is no JSON: {first_line(error)}") from None
    if isinstance(found, list) and all(isinstance(name, str) for name in found):
        return [(name, k) for k, name in enumerate(found)]
    if isinstance(found, dict) and all(type(k) is int and 0 <= k < MOST for k in found.values()):
        return list(found.items())
    raise DataError(f'{path} is neither a list of names nor an object of {{"folder": output}} with outputs from 0.')
