"""From the name on the command line to images, and the choice of which of them are attacked."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from sndcli.datasets import cifar10, imagenet
from sndcli.datasets.base import ImageSet
from sndcli.datasets.classes import read_mapping
from sndcli.datasets.folder import Reading
from sndcli.errors import ConfigError, DataError, unknown

NAMES = ("cifar10", "imagenet", "folder:DIR")
Select = Literal["correct", "all"]


def data_dir_of(option: Path | None) -> Path | None:
    """``--data-dir``, else the environment variable ``SND_DATA``, else nothing."""
    if option is not None:
        return option
    variable = os.environ.get("SND_DATA")
    return Path(variable) if variable else None


def load(
    name: str,
    data_dir: Path | None = None,
    download: bool = False,
    reading: Reading | None = None,
    classes: Path | None = None,
) -> ImageSet:
    """The evaluation split of a data set.

    ``cifar10`` is the full test split where `data_dir` is given (fetched first with `download`), and the shipped
    evaluation images otherwise; ``imagenet`` the validation pictures under `data_dir`; ``folder:DIR`` any pictures,
    one folder a class.

    Args:
        name: of the data set.
        data_dir: where it is.
        download: fetch it first where it is not there (CIFAR-10 only).
        reading: how pictures are brought to the model's input; for data sets of files.
        classes: a file that says which output of the model each folder is; for ``folder:DIR``.

    Raises:
        ConfigError: no such data set, one that cannot be downloaded, or one that takes no `classes`.
        DataError: missing or corrupt files.
    """
    if classes is not None and not name.startswith("folder:"):
        raise ConfigError(f"`--classes` is for `--dataset folder:DIR`; the labels of {name} are known.")
    if name == "folder:":
        raise ConfigError("Expected `folder:DIR`, a folder with one folder a class, but got `folder:`.")
    if name == "imagenet" or name.startswith("folder:"):
        if reading is None:
            raise ConfigError(f"`{name}` needs a model to be brought to its input's size.")
        try:
            if name == "imagenet":
                return imagenet.load(data_dir, reading)
            mapping = None if classes is None else read_mapping(classes)
            return imagenet.load_folder(Path(name.removeprefix("folder:")).expanduser(), reading, mapping)
        except DataError:
            if download and name == "imagenet":
                raise ConfigError("ImageNet's terms allow no download from here; put it into --data-dir.") from None
            raise
    if name != "cifar10":
        raise unknown("dataset", name, NAMES)
    if data_dir is None and not download:
        return cifar10.load_shipped()
    root = data_dir if data_dir is not None else Path("data")
    if download and not (root / "cifar-10-batches-bin").is_dir() and not (root / "cifar-10-batches-py").is_dir():
        cifar10.download(root)
    return cifar10.load("test", root)


def block_of(count: int) -> int:
    """Images that are classified together while `count` are chosen: each answer of a remote model costs something.

    Example:
        >>> block_of(2), block_of(50), block_of(1000)
        (8, 50, 128)
    """
    return min(128, max(8, count))


def choose(
    data: ImageSet, count: int, select: Select, seed: int, predict: Callable[[Tensor], Tensor], fewer: bool = False
) -> Tensor:
    """Positions of `count` images, in the order of a permutation drawn from `seed`.

    Args:
        data: where to choose from.
        count: how many.
        select: ``correct`` keeps images that the **undefended** model classifies correctly, so that the choice
            is the same for every defense; ``all`` keeps any.
        seed: of the permutation.
        predict: labels ``[M]`` of the undefended model for images ``[M, C, H, W]``.
        fewer: take those that qualify where they are fewer than `count`.

    Raises:
        ConfigError: fewer than `count` images qualify.
    """
    if count < 1:
        raise ConfigError(f"Expected `--images` to be at least 1 but got {count}.")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    kept: list[int] = []
    for block in order.split(block_of(count)):
        if len(kept) >= count:
            break
        index = data.readable(block)
        fits = predict(data.pixels(index)) == data.labels[index] if select == "correct" else slice(None)
        kept += index[fits].tolist()
    if len(kept) < count and not (fewer and kept):
        raise ConfigError(
            f"Expected `--images` of at most {len(kept)} but got {count}: {data.source} has no more that qualify."
        )
    return torch.tensor(kept[:count])
