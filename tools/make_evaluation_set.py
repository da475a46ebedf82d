"""Makes sndcli/datasets/evaluation/cifar10.npz: 1,200 CIFAR-10 test images, 120 a class, lossless.

usage: python tools/make_evaluation_set.py DATA_DIR

DATA_DIR holds the official files. The draw is NumPy's PCG64 with the seed below, class by class in label order.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from sndcli.datasets import cifar10

SEED = 20210412
PER_CLASS = 120


def main(data_dir: Path) -> None:
    test = cifar10.load("test", data_dir)
    labels = test.labels.numpy()
    rng = np.random.default_rng(SEED)
    chosen = [rng.choice(np.flatnonzero(labels == k), PER_CLASS, replace=False) for k in range(10)]
    ids = np.sort(np.concatenate(chosen))
    tall = test.images.numpy()[ids].transpose(0, 2, 3, 1).reshape(-1, 32, 3)
    png = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(tall)).save(png, format="PNG", optimize=True)
    target = Path(cifar10.__file__).parent / "evaluation" / "cifar10.npz"
    target.parent.mkdir(exist_ok=True)
    np.savez(
        target,
        png=np.frombuffer(png.getvalue(), np.uint8),
        labels=labels[ids].astype(np.uint8),
        ids=ids.astype(np.uint16),
    )
    assert bool((cifar10.load_shipped().images == test.images[ids]).all())
    print(f"{target}: {len(ids)} images, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
