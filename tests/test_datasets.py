from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from sndcli.datasets import cifar10
from sndcli.datasets.load import choose, load
from sndcli.errors import ConfigError, DataError


def test_shipped_images_are_120_a_class_with_their_ids() -> None:
    data = cifar10.load_shipped()
    assert len(data) == 1200
    assert torch.bincount(data.labels).tolist() == [120] * 10
    assert data.ids.unique().numel() == 1200
    assert data.images.shape == (1200, 3, 32, 32)
    assert data.images.dtype == torch.uint8
    assert 0 <= data.pixels().min() < data.pixels().max() <= 1
    assert data.digest() == "00f5a9b01de18506"


def test_choice_is_drawn_by_the_seed_and_keeps_the_correct_ones() -> None:
    data = cifar10.load_shipped()

    def predict(x: torch.Tensor) -> torch.Tensor:
        return (x.flatten(1)[:, 0] * 10).long()  # right now and then

    first = choose(data, 50, "correct", 0, predict)
    assert bool((predict(data.pixels(first)) == data.labels[first]).all())
    assert torch.equal(first, choose(data, 50, "correct", 0, predict))
    assert torch.equal(first[:20], choose(data, 20, "correct", 0, predict))
    assert not torch.equal(first, choose(data, 50, "correct", 1, predict))
    assert len(choose(data, 1200, "all", 0, predict)) == 1200
    with pytest.raises(ConfigError, match="at most"):
        choose(data, 1200, "correct", 0, predict)


def write_binary(root: Path, count: int = 10_000) -> None:
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    (folder / "test_batch.bin").write_bytes(np.zeros((count, 3073), np.uint8).tobytes())


def test_missing_truncated_and_altered_files_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No CIFAR-10 under"):
        load("cifar10", tmp_path)
    write_binary(tmp_path / "short", 9_999)
    with pytest.raises(DataError, match="expected 30730000 bytes"):
        load("cifar10", tmp_path / "short")
    write_binary(tmp_path / "zeros")
    with pytest.raises(DataError, match="SHA-256"):
        load("cifar10", tmp_path / "zeros")


def test_python_layout_is_read_without_running_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    rng = np.random.default_rng(0)
    batch = {b"data": rng.integers(0, 256, (10_000, 3072), dtype=np.uint8), b"labels": [3] * 10_000}
    (folder / "test_batch").write_bytes(pickle.dumps(batch))
    with pytest.raises(DataError, match="SHA-256"):
        load("cifar10", tmp_path)  # read whole, then found not to be CIFAR-10

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (eval, ("1 + 1",))

    (folder / "test_batch").write_bytes(pickle.dumps({b"data": Evil(), b"labels": []}))
    with pytest.raises(DataError, match="not allowed"):
        load("cifar10", tmp_path)


def test_full_test_split_agrees_with_the_shipped_images() -> None:
    import os

    root = os.environ.get("SND_DATA")
    if not root:
        pytest.skip("needs the full CIFAR-10: set SND_DATA")
    full, shipped = cifar10.load("test", Path(root)), cifar10.load_shipped()
    assert torch.equal(full.images[shipped.ids], shipped.images)
    assert torch.equal(full.labels[shipped.ids], shipped.labels)


def test_unknown_dataset() -> None:
    with pytest.raises(ConfigError, match="Did you mean `cifar10`"):
        load("cifar100")
