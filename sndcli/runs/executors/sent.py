"""What is sent to another process: a model, how its victim is made, and images."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sndcli.datasets.base import ImageSet
from sndcli.defenses.parse import DefenseSpec
from sndcli.errors import ConfigError, first_line
from sndcli.models.classifier import Classifier
from sndcli.models.inference import Precision
from sndcli.models.opaque import Model
from sndcli.models.sources import open_model
from sndcli.runs.victim import Victim


@dataclass(frozen=True)
class Opened:
    """A model as it was opened.

    Attributes:
        model: itself.
        source: from which a worker opens it where it cannot be sent; None: it cannot be opened again.
    """

    model: Model
    source: str | None = None

    def sent(self) -> Callable[[], Model]:
        """What gives the model in another process: its weights, or where to open it.

        Raises:
            ConfigError: neither can be.
        """
        if isinstance(self.model, Classifier):
            try:
                pickle.dumps(self.model)
            except Exception as error:  # whatever a user's network holds
                if self.source is None:
                    raise ConfigError(f"{self.model.name} cannot be sent to workers: {first_line(error)}.") from None
            else:
                return partial(_given, self.model)
        if self.source is None:
            raise ConfigError(f"{self.model.name} can only be asked in this process: leave out --workers.")
        return partial(open_model, self.source)


def _given(model: Model) -> Model:
    return model


@dataclass(frozen=True)
class Recipe:
    """How a victim is made, and what was seen of it, so that a worker's is the same.

    Attributes:
        defense, precision, compiled: as of `Victim.prepare`.
        rows: a forward pass.
        draws_itself, classes: as of `Victim`.
    """

    defense: DefenseSpec
    precision: Precision
    compiled: bool
    rows: int
    draws_itself: bool
    classes: int

    @classmethod
    def of(cls, victim: Victim, defense: DefenseSpec, precision: Precision, compiled: bool) -> Recipe:
        """Of a victim of this process."""
        return cls(defense, precision, compiled, victim.defended.batch_size, victim.draws_itself, victim.classes)

    def victim(self, model: Model, device: torch.device) -> Victim:
        """Makes it."""
        victim = Victim.prepare(model, self.defense, device, self.rows, self.precision, self.compiled)
        victim.draws_itself, victim.classes = self.draws_itself, self.classes
        return victim


def part_of(data: ImageSet, index: Tensor) -> ImageSet:
    """The images at these positions, in memory: a worker may not have the files they are from."""
    pixels = data.pixels(index)
    grey = (pixels * 255).round().to(torch.uint8)
    same = torch.equal(grey.to(torch.float32) / 255, pixels)  # a quarter of the bytes
    return ImageSet(data.name, data.source, grey if same else pixels, data.labels[index], data.ids[index], data.classes)
