"""The points an attack would submit at the end, kept beside the result file for galleries and for re-checking.

One safetensors file a run, ``<result>.points.safetensors``; n rows in the order of the result's rows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sndcli.errors import DataError
from sndcli.runs.writing import replacing

FORMER = {"submitted": "held", "has_submitted": "has_held"}  # names in files of version 0.1, which are still read
TENSORS = ("image_id", "seed", "label", "clean", "submitted", "has_submitted", "bare_label")
LATER = "rounded_label"  # not in the first files


@dataclass(frozen=True)
class Points:
    """What is kept of each image.

    Attributes:
        image_id, seed, label: int64 ``[n]``.
        clean: uint8 ``[n, C, H, W]``, the clean image rounded to 8 bits.
        submitted: float32 ``[n, C, H, W]`` in [0, 1], exactly the point that was submitted; the clean image where
            `has_submitted` is false.
        has_submitted: bool ``[n]``.
        bare_label: int64 ``[n]``, what the undefended model calls `submitted`.
        rounded_label: int64 ``[n]``, what it calls `submitted` rounded to 8 bits; None in files that lack it.
        classes: names of the labels.
        run_id: of the run.
    """

    image_id: Tensor
    seed: Tensor
    label: Tensor
    clean: Tensor
    submitted: Tensor
    has_submitted: Tensor
    bare_label: Tensor
    classes: tuple[str, ...]
    run_id: str
    rounded_label: Tensor | None = None


def path_of(result: Path) -> Path:
    """Where the points of a result file are."""
    return result.with_suffix(".points.safetensors")


def write(path: Path, points: Points) -> None:
    """Writes under a temporary name, then renames."""
    kept = [*TENSORS, *([LATER] if points.rounded_label is not None else [])]
    tensors = {name: getattr(points, name).cpu().contiguous() for name in kept}
    with replacing(path) as temporary:
        temporary.write_bytes(save(tensors, {"run": points.run_id, "classes": json.dumps(points.classes)}))


def read(path: Path) -> Points:
    """The points of one file.

    Raises:
        DataError: missing, damaged, or another kind of file.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            there = set(file.keys())
            tensors = {name: file.get_tensor(name if name in there else FORMER.get(name, name)) for name in TENSORS}
            tensors |= {LATER: file.get_tensor(LATER)} if LATER in there else {}
        return Points(**tensors, classes=tuple(json.loads(metadata["classes"])), run_id=metadata["run"])
    except FileNotFoundError:
        raise DataError(f"{path} does not exist. `snd attack --save-points` writes it.") from None
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise DataError(f"{path} does not hold the points of a run: {error}.") from None


def merge(paths: Sequence[Path], into: Path) -> None:
    """Joins the points of the units of a run.

    Raises:
        DataError: one of them cannot be read.
    """
    parts = [read(path) for path in paths]
    kept = [*TENSORS, *([LATER] if all(part.rounded_label is not None for part in parts) else [])]
    joined = {name: torch.cat([getattr(part, name) for part in parts]) for name in kept}
    write(into, Points(**joined, classes=parts[0].classes, run_id=parts[0].run_id))
