"""What Blacklight's fingerprints have in common: of probes and their centre, of two probes, and of different pictures.

usage: python benchmarks/blacklight.py [--centres 40] [--images 1200]

On the test images in the package. Prints a Markdown table, a line for each standard deviation of Gaussian probes, and
the most hashes that any two different images share.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from torch import Tensor

from sndcli.datasets.load import load
from sndcli.defenses.blacklight import KEPT, Fingerprinter, Hashes

SCALES = (0.001, 0.003, 0.005, 0.008, 0.01, 0.013, 0.015, 0.02)
THRESHOLD = 25


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--centres", type=int, default=40)
    parser.add_argument("--images", type=int, default=1200)
    options = parser.parse_args()
    data = load("cifar10", None)
    fingerprint, generator = Fingerprinter(data.size, seed=0), torch.Generator().manual_seed(0)
    centres = data.pixels(torch.arange(options.centres))
    print("| a | shared with the centre | caught | two probes share | caught |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for scale in SCALES:
        one, two = (probes(centres, scale, generator, fingerprint) for _ in range(2))
        middle = [fingerprint(centre.numpy()) for centre in centres]
        cells = [cell(middle, one), cell(one, two)]
        print(f"| {scale:g} | " + " | ".join(cells) + " |")
    seen = [fingerprint(point.numpy()) for point in data.pixels(torch.arange(options.images))]
    hashes, images = np.unique(np.concatenate(seen), return_counts=True)
    most = max((len(np.intersect1d(a, b)) for a, b in pairs_with(seen, hashes[images > 1])), default=0)
    print(f"\nAny two of {options.images} different images share at most {most} of {KEPT} hashes.")


def pairs_with(seen: list[Hashes], common: Hashes) -> list[tuple[Hashes, Hashes]]:
    """All pairs of fingerprints that have one of the `common` hashes each; others share nothing."""
    some = [hashes for hashes in seen if np.isin(hashes, common).any()]
    return [(a, b) for k, a in enumerate(some) for b in some[:k]]


def probes(centres: Tensor, scale: float, generator: torch.Generator, fingerprint: Fingerprinter) -> list[Hashes]:
    """Of one Gaussian probe around each of `centres` ``[n, C, H, W]``."""
    noise = torch.randn(centres.shape, generator=generator)
    return [fingerprint(point.numpy()) for point in (centres + scale * noise).clamp(0, 1)]


def cell(first: list[Hashes], second: list[Hashes]) -> str:
    """The median number of shared hashes, and the share that is caught."""
    shared = np.array([len(np.intersect1d(a, b)) for a, b in zip(first, second, strict=True)])
    return f"{np.median(shared):.0f} | {100 * (shared >= THRESHOLD).mean():.0f} %"


if __name__ == "__main__":
    main()
