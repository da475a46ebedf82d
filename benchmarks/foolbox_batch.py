"""What Foolbox's HopSkipJump makes of a batch: distance and queries against the number of images in it.

usage: python benchmarks/foolbox_batch.py

Victim: a half-space in 3072 dimensions whose minimal distance is 0.1; eight identical images, ten steps of Foolbox's
attack, once image by image and once in one batch. Queries are counted a row at a time. The native attack, given the
same queries an image, is beside them.
"""

from __future__ import annotations

import warnings

import foolbox
import torch
from torch import Tensor, nn

from sndcli.attacks.decision import hsja
from sndcli.queries.oracle import Oracle
from sndcli.streams import ImageStreams

MARGIN, IMAGES, STEPS = 0.1, 8, 10


class HalfSpace(nn.Module):
    """Wrong iff w · (z - 0.5) > m."""

    def __init__(self) -> None:
        super().__init__()
        w = torch.randn(3072, generator=torch.Generator().manual_seed(1))
        self.w, self.rows = w / w.norm(), 0
        self.eval()

    def forward(self, z: Tensor) -> Tensor:
        self.rows += len(z)
        value = (z - 0.5).flatten(1) @ self.w - MARGIN
        return torch.stack([-value, value], 1)


def foolbox_distances(batch: int) -> tuple[Tensor, float]:
    """Distances over the minimum, and mean queries an image, in batches of `batch`."""
    victim = HalfSpace()
    model = foolbox.PyTorchModel(victim, bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.HopSkipJumpAttack(steps=STEPS)
    x = torch.full((IMAGES, 3, 32, 32), 0.5)
    found = []
    torch.manual_seed(0)
    for piece in x.split(batch):
        adversarial = attack.run(model, piece, foolbox.criteria.Misclassification(torch.zeros(len(piece)).long()))
        found.append((adversarial - piece).flatten(1).norm(dim=1) / MARGIN)
    return torch.cat(found), victim.rows / IMAGES


def main() -> None:
    warnings.filterwarnings("ignore")
    print("| attack | batch | queries an image | median D/m | range |\n| --- | ---: | ---: | ---: | --- |")
    for batch in (1, IMAGES):
        found, queries = foolbox_distances(batch)
        spread = f"{found.min():.2f} to {found.max():.2f}"
        print(f"| Foolbox HopSkipJump | {batch} | {queries:.0f} | {found.median():.2f} | {spread} |")
        budget = round(queries)
        x = torch.full((IMAGES, 3, 32, 32), 0.5)
        oracle = Oracle(HalfSpace(), x, torch.zeros(IMAGES).long(), budget=budget)
        hsja.run(oracle, ImageStreams(0, range(len(oracle.x0)), "attack"), hsja.Options())
        ours = oracle.ledger.best / MARGIN
        spread = f"{ours.min():.2f} to {ours.max():.2f}"
        print(f"| native | {IMAGES} | {budget} | {ours.median():.2f} | {spread} |")


if __name__ == "__main__":
    main()
