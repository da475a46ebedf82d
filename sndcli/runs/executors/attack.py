"""The work of a run: units of it are attacked in this process, or a worker is sent what it needs for them."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from sndcli.datasets.base import ImageSet
from sndcli.errors import ConfigError, first_line
from sndcli.models.classifier import Classifier
from sndcli.models.opaque import Model
from sndcli.models.reference import Reference
from sndcli.models.sources import open_model
from sndcli.runs.config import RunConfig
from sndcli.runs.executors.base import Parcel
from sndcli.runs.unit import Attacker, Finished, Tell, Unit
from sndcli.runs.victim import Victim


@dataclass(frozen=True)
class Attacking:
    """The work of one run.

    Attributes:
        attacker: of this process.
        model: the undefended one, as it was opened.
        source: from which a worker opens it, where it can only be asked; None: it cannot be opened again.
        units: all that are to be done, for their images.
    """

    attacker: Attacker
    model: Model
    source: str | None
    units: Sequence[Unit]

    def here(self, unit: Unit, tell: Tell) -> Finished:
        """See `Work.here`."""
        return self.attacker(unit, tell)

    def parcel(self, same_machine: bool) -> Parcel[Unit, Finished]:
        """See `Work.parcel`."""
        a, c = self.attacker, self.attacker.config
        used = sorted({position for unit in self.units for position in unit.index})
        there = AttackThere(
            config=c, data=part_of(a.data, torch.tensor(used, dtype=torch.int64)),
            position=dict(zip(used, range(len(used)), strict=True)),
            references=[each.model.cpu() for each in a.references], made=made_of(a.victim),
            save_points=a.save_points, debug=a.debug, parts=a.parts if same_machine else None,
        )  # fmt: skip
        return Parcel(c.model_digest, sent(self.model, self.source), there)


@dataclass(frozen=True)
class Made:
    """What was seen of a victim when it was made, so that a worker's is the same.

    Attributes:
        rows: a forward pass.
        draws_itself, classes: as of `Victim`.
    """

    rows: int
    draws_itself: bool
    classes: int


@dataclass(frozen=True, kw_only=True)
class AttackThere:
    """Attacks units in another process.

    Attributes:
        config, references, save_points, debug, parts: as of `Attacker`.
        data: the images of the units alone.
        position: where each position of the whole data is in these.
        made: how this process made its victim.
    """

    config: RunConfig
    data: ImageSet
    position: dict[int, int]
    references: Sequence[Classifier]
    made: Made
    save_points: bool
    debug: bool
    parts: Path | None

    def __call__(self, model: Model, device: torch.device) -> Callable[[Unit, Tell], Finished]:
        """What attacks a unit here."""
        c, made = self.config, self.made
        victim = Victim.prepare(model, c.defense, device, made.rows, c.precision, c.compiled)
        victim.draws_itself, victim.classes = made.draws_itself, made.classes
        references = [Reference(network, device) for network in self.references]
        attacker = Attacker(c, self.data, victim, references, self.save_points, self.debug, self.parts)
        return lambda unit, tell: attacker(replace(unit, index=tuple(self.position[k] for k in unit.index)), tell)


def made_of(victim: Victim) -> Made:
    """How a victim was made."""
    return Made(victim.defended.batch_size, victim.draws_itself, victim.classes)


def part_of(data: ImageSet, index: Tensor) -> ImageSet:
    """The images at these positions, in memory: a worker may not have the files they are from."""
    pixels = data.pixels(index)
    grey = (pixels * 255).round().to(torch.uint8)
    same = torch.equal(grey.to(torch.float32) / 255, pixels)  # a quarter of the bytes
    return ImageSet(data.name, data.source, grey if same else pixels, data.labels[index], data.ids[index], data.classes)


def sent(model: Model, source: str | None) -> Callable[[], Model]:
    """What gives the model in another process: its weights, or where to open it.

    Raises:
        ConfigError: neither can be.
    """
    if isinstance(model, Classifier):
        try:
            pickle.dumps(model)
        except Exception as error:  # whatever a user's network holds
            if source is None:
                raise ConfigError(f"{model.name} cannot be sent to workers: {first_line(error)}.") from None
        else:
            return partial(_given, model)
    if source is None:
        raise ConfigError(f"{model.name} can only be asked in this process: leave out --workers.")
    return partial(open_model, source)


def _given(model: Model) -> Model:
    return model
