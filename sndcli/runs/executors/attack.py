"""The work of a run: units of it are attacked in this process, or a worker is sent what it needs for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from sndcli.datasets.base import ImageSet
from sndcli.models.classifier import Classifier
from sndcli.models.opaque import Model
from sndcli.models.reference import Reference
from sndcli.runs.config import RunConfig
from sndcli.runs.executors.base import Parcel
from sndcli.runs.executors.sent import Opened, Recipe, part_of
from sndcli.runs.unit import Attacker, Finished, Tell, Unit


@dataclass(frozen=True)
class Attacking:
    """The work of one run.

    Attributes:
        attacker: of this process.
        opened: the undefended model, as it was opened.
        units: all that are to be done, for their images.
    """

    attacker: Attacker
    opened: Opened
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
            references=[deepcopy(each.model).cpu() for each in a.references],
            recipe=Recipe.of(a.victim, c.defense, c.precision, c.compiled),
            save_points=a.save_points, debug=a.debug, parts=a.parts if same_machine else None,
        )  # fmt: skip
        return Parcel(c.model_digest, self.opened.sent(), there)


@dataclass(frozen=True, kw_only=True)
class AttackThere:
    """Attacks units in another process.

    Attributes:
        config, references, save_points, debug, parts: as of `Attacker`.
        data: the images of the units alone.
        position: where each position of the whole data is in these.
        recipe: of the victim.
    """

    config: RunConfig
    data: ImageSet
    position: dict[int, int]
    references: Sequence[Classifier]
    recipe: Recipe
    save_points: bool
    debug: bool
    parts: Path | None

    def __call__(self, model: Model, device: torch.device) -> Callable[[Unit, Tell], Finished]:
        """What attacks a unit here."""
        victim = self.recipe.victim(model, device)
        references = [Reference(network, device) for network in self.references]
        attacker = Attacker(self.config, self.data, victim, references, self.save_points, self.debug, self.parts)
        return lambda unit, tell: attacker(replace(unit, index=tuple(self.position[k] for k in unit.index)), tell)
