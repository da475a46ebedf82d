"""Peak memory of one gradient of HopSkipJump, in a process that does nothing else.

usage: python benchmarks/memory.py [--images 50] [--probes 10000] [--size 224]

The victim is a threshold on the mean pixel, so that what is measured is the attack's own: images, probes and sums. The
network's weights and activations come on top.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import torch
from torch import Tensor

from sndcli.attacks.decision.hsja import gradient_direction
from sndcli.queries.oracle import Oracle
from sndcli.runs.memory import keep_freed_memory
from sndcli.streams import ImageStreams


def peak_mb() -> float:
    """Highest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def victim(z: Tensor) -> Tensor:
    """Two logits: adversarial where the mean pixel exceeds ½."""
    value = z.flatten(1).mean(1) - 0.5
    return torch.stack([-value, value], 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--probes", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=224)
    a = parser.parse_args()
    keep_freed_memory()  # as `snd` does
    x0 = torch.full((a.images, 3, a.size, a.size), 0.5)
    oracle = Oracle(victim, x0, torch.zeros(a.images, dtype=torch.int64), budget=a.probes)
    everyone = torch.arange(a.images)
    streams = ImageStreams(0, range(len(x0)), "attack")
    delta, probes = torch.full((a.images,), 0.1), torch.full((a.images,), a.probes)
    before, start = peak_mb(), time.perf_counter()
    v = gradient_direction(oracle, x0, everyone, delta, probes, streams)
    seconds = time.perf_counter() - start
    cosine = v.flatten(1).sum(1) / v[0].numel() ** 0.5
    print(f"{a.images} x {a.probes} probes of {3 * a.size**2} values in {seconds:.0f} s")
    print(f"peak {peak_mb():.0f} MB, {before:.0f} MB of it before; cosine with the normal {float(cosine.mean()):.3f}")


if __name__ == "__main__":
    main()
