"""Pictures in one folder a class, decoded when they are asked for.

A folder of 50,000 pictures is listed, not read: `ImageSet.pixels` decodes what it is asked for, in several threads
(Pillow decodes and resizes outside Python's lock), and keeps it as uint8 while the process lives.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from sndcli.datasets.base import ImageSet
from sndcli.errors import DataError, first_line
from sndcli.models.preprocessing import Preprocessing

SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
CACHE_BYTES = 4 * 2**30  # decoded pictures kept; beyond it they are decoded again


def _silent(_: str) -> None:
    pass


@dataclass(frozen=True)
class Reading:
    """How picture files become tensors.

    Attributes:
        preprocessing: from a decoded picture to uint8 ``[C, H, W]``.
        skip_broken: leave out pictures that cannot be decoded, instead of an error.
        warn: told of each that is left out.
    """

    preprocessing: Preprocessing
    skip_broken: bool = False
    warn: Callable[[str], None] = _silent


@dataclass(frozen=True)
class FolderSet(ImageSet):
    """An `ImageSet` whose pictures are files. `images` has no rows; its shape tells their size.

    Attributes:
        files: ``[N]`` paths, in the order of the labels.
        root: what the paths are told relative to.
        reading: how they become tensors.
        mapped: whether a user said which output each folder is; there may then be outputs that none is.
    """

    files: tuple[Path, ...]
    root: Path
    reading: Reading
    mapped: bool = False
    _cache: dict[int, Tensor] = field(default_factory=dict, repr=False)
    _broken: set[int] = field(default_factory=set, repr=False)

    @property
    def left_out(self) -> int:
        """Pictures found broken so far."""
        return len(self._broken)

    @property
    def outputs_may_be_more(self) -> bool:
        """`mapped`."""
        return self.mapped

    def readable(self, index: Tensor) -> Tensor:
        """Those of the positions `index` whose pictures can be decoded.

        Raises:
            DataError: one cannot, and `skip_broken` is off.
        """
        self._decode(index.tolist())
        return torch.tensor([k for k in index.tolist() if k not in self._broken], dtype=torch.int64)

    def pixels(self, index: Tensor | None = None) -> Tensor:
        """Pictures in [0, 1], float32; all, or those at positions `index`.

        Raises:
            DataError: a file cannot be decoded; names it.
        """
        wanted = list(range(len(self))) if index is None else index.tolist()
        decoded = self._decode(wanted)
        broken = [k for k in wanted if k in self._broken]
        if broken:
            raise DataError(f"{self.files[broken[0]]} cannot be decoded.")
        if not wanted:
            return torch.empty(0, *self.size)
        return torch.stack([decoded[k] for k in wanted]).to(torch.float32) / 255.0

    def digest(self) -> str:
        """A short hash of the files' names and sizes, their labels and the preprocessing; no picture is read."""
        h = hashlib.sha256(repr(self.reading.preprocessing).encode())
        for file, label in zip(self.files, self.labels.tolist(), strict=True):
            h.update(f"{file.relative_to(self.root).as_posix()}\0{file.stat().st_size}\0{label}\n".encode())
        return h.hexdigest()[:16]

    def _decode(self, wanted: Sequence[int]) -> dict[int, Tensor]:
        """uint8 ``[C, H, W]`` of each position that can be decoded; the others are noted in `_broken`."""
        missing = [k for k in dict.fromkeys(wanted) if k not in self._cache and k not in self._broken]
        fresh: dict[int, Tensor] = {}
        for k, (picture, problem) in zip(missing, self._threads.map(self._read, missing), strict=True):
            if picture is not None:
                fresh[k] = picture
            elif not self.reading.skip_broken:
                raise DataError(f"{self.files[k]} cannot be decoded: {problem}.\n--skip-broken leaves such files out.")
            else:
                self._broken.add(k)
                self.reading.warn(f"{self.files[k]} is left out: {problem}.")
        decoded = {k: self._cache[k] for k in wanted if k in self._cache} | fresh
        room = CACHE_BYTES // math.prod(self.size)
        for _ in range(min(len(self._cache), len(self._cache) + len(fresh) - room)):
            self._cache.popitem()  # the last in: a scan that is repeated then finds its beginning
        self._cache.update(fresh)
        return decoded

    def _read(self, k: int) -> tuple[Tensor | None, str]:
        from PIL import Image

        try:
            with Image.open(self.files[k]) as picture:
                return self.reading.preprocessing(picture), ""
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            return None, first_line(error).rstrip(".")

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())


def pictures(folder: Path) -> list[Path]:
    """The picture files directly in `folder`, by name."""
    found = (entry for entry in os.scandir(folder) if entry.name.lower().endswith(SUFFIXES) and entry.name[0] != ".")
    return sorted((Path(entry.path) for entry in found if entry.is_file()), key=lambda path: path.name)


def subfolders(folder: Path) -> list[Path]:
    """The folders in `folder`, by name, hidden ones left out."""
    found = (entry for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != ".")
    return sorted((Path(entry.path) for entry in found), key=lambda path: path.name)


def build(
    name: str,
    folder: Path,
    labels: dict[str, int],
    classes: tuple[str, ...],
    reading: Reading,
    mapped: bool = False,
) -> FolderSet:
    """The set of all pictures in the subfolders, all of which `labels` names.

    Raises:
        DataError: no picture in any of them.
    """
    files: list[Path] = []
    targets: list[int] = []
    for subfolder in subfolders(folder):
        found = pictures(subfolder)
        files += found
        targets += [labels[subfolder.name]] * len(found)
    if not files:
        raise DataError(f"No pictures in the folders under {folder}.\nExpected files such as {folder}/CLASS/NAME.JPEG.")
    size = reading.preprocessing.size
    p = reading.preprocessing
    how = f"{'both sides' if p.squash else 'shorter side'} {p.resize} ({p.interpolation}), central {size}"
    if p.width is not None:
        how = f"squashed to {size} x {p.width} ({p.interpolation})"
    return FolderSet(
        name, f"{len(files)} pictures of {len(set(targets))} classes, {how}",
        torch.empty(0, *p.shape, dtype=torch.uint8), torch.tensor(targets), _ids(files), classes,
        tuple(files), folder, reading, mapped,
    )  # fmt: skip


def _ids(files: list[Path]) -> Tensor:
    """The official numbers where all files are called ``ILSVRC2012_val_NNNNNNNN``, else positions."""
    stems = [file.stem.split("_")[-1] for file in files if file.stem.startswith("ILSVRC2012_val_")]
    if len(stems) == len(files) == len(set(stems)) and all(stem.isdecimal() for stem in stems):
        return torch.tensor([int(stem) for stem in stems])
    return torch.arange(len(files))
