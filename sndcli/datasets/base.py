"""What every data set looks like to the rest of the program."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sndcli.errors import ConfigError


@dataclass(frozen=True)
class ImageSet:
    """Images of one size with labels.

    Attributes:
        name: e.g. ``cifar10``.
        source: which copy it is, in words; printed and stored with every result.
        images: ``[N, C, H, W]``, uint8, or float32 in [0, 1].
        labels: int64 ``[N]``.
        ids: int64 ``[N]``, stable across copies (CIFAR-10: position in the official test file).
        classes: names in the order of the labels.
    """

    name: str
    source: str
    images: Tensor
    labels: Tensor
    ids: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> tuple[int, ...]:
        """``(C, H, W)`` of every image."""
        return tuple(self.images.shape[1:])

    @property
    def left_out(self) -> int:
        """How many of the images turned out not to be readable; 0 but for folders of files."""
        return 0

    @property
    def outputs_may_be_more(self) -> bool:
        """Whether the model may have outputs beyond `classes`; only where a user said which output a folder is."""
        return False

    def readable(self, index: Tensor) -> Tensor:
        """Those of the positions `index` whose images can be had: all of them, but for folders of files."""
        return index

    def pixels(self, index: Tensor | None = None) -> Tensor:
        """Images in [0, 1], float32; all, or those at positions `index`."""
        chosen = self.images if index is None else self.images[index]
        return chosen.to(torch.float32) / (255.0 if chosen.dtype == torch.uint8 else 1.0)

    def positions(self, ids: Sequence[int]) -> Tensor:
        """int64 ``[n]``: where the images of these ids are.

        Raises:
            ConfigError: one of them is not among these images.
        """
        where = {image: k for k, image in enumerate(self.ids.tolist())}
        missing = [image for image in ids if image not in where]
        if missing:
            raise ConfigError(f"Expected `--image-ids` of {self.source}, which has no image {missing[0]}.")
        return torch.tensor([where[image] for image in ids], dtype=torch.int64)

    def part(self, index: Tensor, source: str) -> ImageSet:
        """The images at positions `index`, ids kept."""
        return replace(self, source=source, images=self.images[index], labels=self.labels[index], ids=self.ids[index])

    def without(self, ids: Tensor, which: str) -> ImageSet:
        """The images whose id is not among `ids`; itself where all are."""
        kept = ~torch.isin(self.ids, ids)
        return self if bool(kept.all()) else self.part(kept.nonzero().squeeze(1), f"{self.source}, without {which}")

    def digest(self) -> str:
        """A short hash of pixels, labels and ids, to tell copies apart."""
        h = hashlib.sha256()
        for tensor in (self.images, self.labels, self.ids):
            h.update(tensor.contiguous().numpy().tobytes())
        return h.hexdigest()[:16]
