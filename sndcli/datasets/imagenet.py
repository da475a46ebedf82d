"""ImageNet-1k's validation pictures (Russakovsky et al. 2015), one folder a synset, whole or any part of them.

A label is the position of the folder's name in the list of the 1,000 synsets in the package, never in the listing of
the folder, so that a part of the data set keeps its labels. torchvision's own root, the usual ``val/n01440764/*.JPEG``
and the folder of the synsets itself are all read.
"""

from __future__ import annotations

import difflib
import re
from functools import cache
from importlib import resources
from pathlib import Path

from sndcli.datasets.classes import Mapping
from sndcli.datasets.folder import FolderSet, Reading, build, pictures, subfolders
from sndcli.errors import DataError

SYNSET = re.compile(r"n\d{8}")


@cache
def synsets() -> tuple[str, ...]:
    """The 1,000 synsets in the order of the labels (which is alphabetical)."""
    return tuple((resources.files("sndcli.datasets") / "imagenet_synsets.txt").read_text().split())


def load(data_dir: Path | None, reading: Reading) -> FolderSet:
    """The validation pictures under `data_dir`.

    Args:
        data_dir: holds ``val/`` with a folder for each synset, or is that folder.
        reading: how they become tensors; the preprocessing is that of the model that is to see them.

    Raises:
        DataError: no such folder, a folder in it that is no synset, or no pictures.
    """
    if data_dir is None:
        raise DataError(
            "ImageNet is not shipped, and no --data-dir (or SND_DATA) says where it is.\n"
            "Point it at a folder with val/n01440764/*.JPEG and so on; some of the 1,000 folders will do."
        )
    folder = data_dir / "val" if (data_dir / "val").is_dir() else data_dir
    if not folder.is_dir():
        raise DataError(f"{data_dir} does not exist.")
    names = [subfolder.name for subfolder in subfolders(folder)]
    if not any(SYNSET.fullmatch(name) for name in names):
        packed = next((p for p in (data_dir, folder) if (p / "ILSVRC2012_img_val.tar").is_file()), None)
        flat = bool(pictures(folder))
        raise DataError(
            f"No synset folders under {folder}.\nExpected val/n01440764/*.JPEG and so on"
            + (f"; {packed}/ILSVRC2012_img_val.tar is still packed: torchvision.datasets.ImageNet unpacks it."
               if packed else "; these pictures are not sorted into folders by synset." if flat else ".")
        )  # fmt: skip
    labels = {name: k for k, name in enumerate(synsets())}
    strange = [name for name in names if name not in labels]
    if strange:
        near = difflib.get_close_matches(strange[0], labels, n=1)
        raise DataError(
            f"{folder} has folders that are none of ImageNet's 1,000 synsets: {', '.join(strange[:4])}"
            f"{f' and {len(strange) - 4} more' if len(strange) > 4 else ''}."
            f"{f' The nearest to the first is {near[0]}.' if near else ''}\nMove them away, or use `folder:{folder}`."
        )
    return build("imagenet", folder, labels, synsets(), reading)


def load_folder(folder: Path, reading: Reading, mapping: Mapping | None = None) -> FolderSet:
    """Any pictures, one folder a class: ImageNet's labels where all folders are synsets, else numbered by name.

    Args:
        folder: of the class folders.
        reading: how pictures become tensors.
        mapping: which output of the model each folder is, where a user says so.

    Raises:
        DataError: no such folder, no pictures in its folders, or a folder that `mapping` does not have.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} does not exist.")
    names = tuple(subfolder.name for subfolder in subfolders(folder))
    if mapping is not None:
        mapping.check(names, folder)
        return build(f"folder:{folder.name}", folder, mapping.outputs, mapping.names, reading, mapped=True)
    classes = synsets() if names and set(names) <= set(synsets()) else names
    labels = {name: k for k, name in enumerate(classes)}
    return build(f"folder:{folder.name}", folder, labels, classes, reading)
