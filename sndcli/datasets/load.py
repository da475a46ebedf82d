"""From the name on the command line to images, and the choice of which of them are attacked."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from sndcli.datasets import cifar10
from sndcli.datasets.base import ImageSet
from sndcli.errors import ConfigError, unknown

NAMES = ("cifar10",)
Select = Literal["correct", "all"]


def data_dir_of(option: Path | None) -> Path | None:
    """``--data-dir``, else the environment variable ``SND_DATA``, else nothing."""
    if option is not None:
        return option
    variable = os.environ.get("SND_DATA")
    return Path(variable) if variable else None


def load(name: str, data_dir: Path | None = None, download: bool = False) -> ImageSet:
    """The evaluation split of a data set.

    ``cifar10`` is the full test split where `data_dir` is given (fetched first with `download`), and the shipped
    evaluation images otherwise.

    Raises:
        ConfigError: no such data set.
        DataError: missing or corrupt files.
    """
    if name not in NAMES:
        raise unknown("dataset", name, NAMES)
    if data_dir is None and not download:
        return cifar10.load_shipped()
    root = data_dir if data_dir is not None else Path("data")
    if download and not (root / "cifar-10-batches-bin").is_dir() and not (root / "cifar-10-batches-py").is_dir():
        cifar10.download(root)
    return cifar10.load("test", root)


def choose(data: ImageSet, count: int, select: Select, seed: int, predict: Callable[[Tensor], Tensor]) -> Tensor:
    """Positions of `count` images, in the order of a permutation drawn from `seed`.

    Args:
        data: where to choose from.
        count: how many.
        select: ``correct`` keeps images that the **undefended** model classifies correctly, so that the choice
            is the same for every defense; ``all`` keeps any.
        seed: of the permutation.
        predict: labels ``[M]`` of the undefended model for images ``[M, C, H, W]``.

    Raises:
        ConfigError: fewer than `count` images qualify.
    """
    if count < 1:
        raise ConfigError(f"Expected `--images` to be at least 1 but got {count}.")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    kept: list[int] = []
    for index in order.split(128):
        if len(kept) >= count:
            break
        fits = predict(data.pixels(index)) == data.labels[index] if select == "correct" else slice(None)
        kept += index[fits].tolist()
    if len(kept) < count:
        raise ConfigError(
            f"Expected `--images` of at most {len(kept)} but got {count}: {data.source} has no more that qualify."
        )
    return torch.tensor(kept[:count])
