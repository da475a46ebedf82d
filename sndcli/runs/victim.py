"""The model under attack, bare and defended, ready to be asked; and its clean accuracy."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sndcli.datasets.base import ImageSet
from sndcli.defenses.base import Defense, settle_sources
from sndcli.defenses.parse import DefenseSpec, build
from sndcli.errors import ConfigError, DataError, first_line
from sndcli.models.classifier import Classifier
from sndcli.models.inference import Forward, Precision, measure_batch_size, optimise
from sndcli.streams import ImageStreams, Purpose, Streams, UnitStreams, hashed

COMPILED_ROWS = 16


@dataclass
class Victim:
    """The undefended and the defended model, ready to be asked."""

    classifier: Classifier
    undefended: Forward
    defended: Forward
    per_image: bool = True  # whether every defense draws for each image from a stream of its own

    @classmethod
    def prepare(
        cls,
        model: Classifier,
        defense: DefenseSpec,
        device: torch.device,
        batch_size: int,
        precision: Precision = "fp32",
        compiled: bool = False,
    ) -> Victim:
        """Folds, moves and wraps; checks that a forward pass of the stated input size is finite.

        A `batch_size` of 0 is measured, without the defense and before compiling. On the CPU a network is compiled for
        at most `COMPILED_ROWS` rows: as fast a row as more, and less padding where an attack asks about a few images.
        """
        fast = optimise(model, device)
        x = torch.rand(2, *model.input_size, generator=torch.Generator().manual_seed(0))
        logits = _try(Forward(fast, device), x, f"Model {model.name}")
        if not bool(logits.isfinite().all()):
            raise DataError(f"Model {model.name} returns NaN or infinite logits: its weights are broken.")
        batch_size = batch_size or measure_batch_size(fast, model.input_size, device)
        if compiled:
            fast = optimise(model, device, min(batch_size, COMPILED_ROWS) if device.type == "cpu" else batch_size)
        defended = build(defense, fast, device)
        victim = cls(
            fast,
            Forward(fast, device, batch_size, precision),
            Forward(defended, device, batch_size, precision),
            settle_sources(defended),
        )
        _try(victim.defended, x, f"Model {model.name} behind `--defense {defense.name}`")
        return victim

    def fit_to(self, data: ImageSet) -> None:
        """Checks that the data set's size and classes are the model's.

        Raises:
            ConfigError: they are not.
        """
        size = data.size
        if size != self.classifier.input_size:
            raise ConfigError(
                f"Expected images of {self.classifier.input_size} for {self.classifier.name} "
                f"but {data.name} has {size}."
            )
        classes = self.undefended(torch.zeros(1, *size)).shape[1]
        if classes != len(data.classes):
            raise ConfigError(
                f"Expected {classes} classes for {self.classifier.name} but {data.name} has {len(data.classes)}."
            )

    def streams(self, seed: int, image_ids: Tensor, unit: int, purpose: Purpose) -> Streams:
        """The streams of a work unit's images for a purpose; a defense with a stream of its own is restarted.

        On CUDA one stream serves the whole unit, whose number then counts.
        """
        if not self.per_image and purpose != "attack":
            self.reseed(hashed(seed, unit, purpose))
        if self.defended.device.type == "cpu":
            return ImageStreams(seed, image_ids.tolist(), purpose)
        return UnitStreams(hashed(seed, unit, purpose), self.defended.device)

    def reseed(self, seed: int) -> None:
        """Restarts what the defense draws outside of a run."""
        if isinstance(self.defended.model, Defense):
            self.defended.model.reseed(seed)

    @property
    def streams_are(self) -> str:
        """``image``, or ``unit`` where a work unit's images share a stream: draws then depend on the unit."""
        return "image" if self.per_image and self.defended.device.type == "cpu" else "unit"


def _try(forward: Forward, x: torch.Tensor, what: str) -> torch.Tensor:
    """Logits of `x`, or one line on why not: each architecture has its own complaint about a size."""
    try:
        return forward(x)
    except (RuntimeError, ValueError, AssertionError) as error:
        shape = " x ".join(map(str, x.shape[2:]))
        raise ConfigError(f"{what} fails on images of {shape}: {first_line(error)}") from None


def _silent(_: object) -> None:
    pass
