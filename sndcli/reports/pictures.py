"""The images of a run as PNG files: clean, attacked, and how they differ, from the points beside its result.

A picture has 8 bits a channel, so an attacked image in a file is the submitted point *rounded*, which the network may
call by another name than the point itself.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sndcli.errors import DataError
from sndcli.runs import points
from sndcli.runs.writing import replacing, write_text

CHANNELS = (1, 3)  # that a picture can have: grey or colours
GREY = 128  # of a difference picture: no difference
INDEX = "index.csv"
HEADER = ("seed", "image_id", "true", "submitted_as", "picture_as", "changed_by_rounding", "amplified")
MOST_NAMED = 5

Pixels = NDArray[np.uint8]  # [H, W, C]


@dataclass(frozen=True)
class Saved:
    """What was written.

    Attributes:
        folder: of the run's pictures.
        images: how many images have some.
        attacked: those among them that have a submitted point.
        changed: names of those whose label the rounding to 8 bits changes; None where the file does not say.
    """

    folder: Path
    images: int
    attacked: int
    changed: tuple[str, ...] | None

    @property
    def text(self) -> str:
        """In a line."""
        line = f"written: {self.folder}, pictures of {self.images} images, {self.attacked} of them attacked"
        if self.changed is None:
            return f"{line}; whether rounding to 8 bits changes a label was not kept by the version that wrote the run"
        if not self.changed:
            return f"{line}; rounding to 8 bits changes no label"
        more = ", ..." if len(self.changed) > MOST_NAMED else ""
        named = ", ".join(self.changed[:MOST_NAMED])
        return f"{line}; rounding to 8 bits changes the label of {len(self.changed)}: {named}{more}"


def save(result: Path, folder: Path) -> Saved:
    """Writes ``<name>_clean.png``, ``_attacked.png`` and ``_difference.png`` for each image, and an index.

    They go to a folder named as the result. An image without a submitted point has only the first. A difference is
    amplified until its largest value is full, around a middle grey; by how much stands in ``index.csv``.

    Args:
        result: a result file with points beside it.
        folder: where the run's folder goes.

    Raises:
        DataError: no points, or images that are neither grey nor have three colours.
    """
    kept = points.read(points.path_of(result))
    if kept.clean.shape[1] not in CHANNELS:
        raise DataError(f"Images of {kept.clean.shape[1]} channels are no pictures: {result} has no PNG files.")
    into = folder / result.stem
    known, names = kept.rounded_label, kept.classes
    rows: list[tuple[object, ...]] = []
    changed: list[str] = []
    for k, (seed, image, label) in enumerate(
        zip(kept.seed.tolist(), kept.image_id.tolist(), kept.label.tolist(), strict=True)
    ):
        name = f"seed{seed}_image{image:06d}"
        clean: Pixels = kept.clean[k].permute(1, 2, 0).numpy()
        _write(clean, into / f"{name}_clean.png")
        if not bool(kept.has_submitted[k]):
            rows.append((seed, image, names[label], "", "", "", ""))
            continue
        attacked: Pixels = np.rint(kept.submitted[k].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        difference, gain = amplified(clean, attacked)
        _write(attacked, into / f"{name}_attacked.png")
        _write(difference, into / f"{name}_difference.png")
        was = int(kept.bare_label[k])
        now = None if known is None else int(known[k])
        if now is not None and now != was:
            changed.append(name)
        said = ("", "") if now is None else (names[now], "yes" if now != was else "no")
        rows.append((seed, image, names[label], names[was], *said, f"{gain:.3g}"))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([HEADER, *rows])
    write_text(into / INDEX, text.getvalue())
    attacked_images = int(kept.has_submitted.sum())
    return Saved(into, len(rows), attacked_images, None if known is None else tuple(changed))


def amplified(clean: Pixels, attacked: Pixels) -> tuple[Pixels, float]:
    """The difference of two pictures around a middle grey, and how much it is amplified; 0 where they are the same."""
    difference = attacked.astype(np.float64) - clean
    largest = float(np.abs(difference).max())
    gain = (255 - GREY) / largest if largest else 0.0
    shown: Pixels = np.rint(GREY + gain * difference).astype(np.uint8)
    return shown, gain


def _write(pixels: Pixels, path: Path) -> None:
    with replacing(path) as temporary:
        Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(temporary, "PNG")
