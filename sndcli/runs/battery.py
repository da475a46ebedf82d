"""The battery ``snd-1`` of `snd audit`: which attacks, in which order, on which images. Nothing of it is an option.

Any change of content, order or constants makes another battery; results of different ones are never ranked together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

BATTERY = "snd-1"
Access = Literal["labels", "scores", "both"]
ACCESSES: tuple[Access, ...] = ("labels", "scores", "both")
Role = Literal["transfer", "champion", "attack", "yardstick"]
YARDSTICK_IMAGES = 50  # the first of all, at most
VERIFY = 40  # draws beside each run's points; three times as many about clean images
FINAL = 200  # draws that say what is claimed


@dataclass(frozen=True)
class Step:
    """One attack of the battery.

    Attributes:
        attack, preset: which.
        access: what it is told by the model.
        role: ``transfer`` sends a point made on the attacker's own networks; the ``champion`` is the attack that the
            queries are counted of, and runs on the bare model too; an ``attack`` gets the images that no step before
            it broke; a ``yardstick`` says what a published evaluation would have said.
        references: whether it needs networks of the attacker's own.
    """

    attack: str
    preset: str
    access: Literal["labels", "scores"]
    role: Role
    references: bool = False

    @property
    def name(self) -> str:
        """``hsja-na sequential``."""
        return f"{self.attack} {self.preset}"

    @property
    def survivors(self) -> bool:
        """Whether only images that stand are attacked."""
        return self.role == "attack"

    def serves(self, access: Access) -> bool:
        """Whether an attacker of this access has it; one who sees scores sees labels too."""
        return access in ("both", self.access) or self.role == "transfer"


L2 = (
    Step("transfer", "momentum", "labels", "transfer", references=True),
    Step("hsja-na", "sequential", "labels", "champion"),
    Step("nes-na", "near", "scores", "champion"),
    Step("square", "na", "scores", "attack"),
    Step("popskipjump", "share", "labels", "attack"),
    Step("subspace", "l2", "scores", "attack", references=True),
    Step("hsja", "authors", "labels", "yardstick"),
    Step("square", "autoattack", "scores", "yardstick"),
)
LINF = (
    Step("transfer", "momentum", "labels", "transfer", references=True),
    Step("rays", "na", "labels", "champion"),
    Step("nes-na", "near", "scores", "champion"),
    Step("square", "na", "scores", "attack"),
    Step("subspace", "linf", "scores", "attack", references=True),
    Step("hsja", "authors", "labels", "yardstick"),
    Step("square", "autoattack", "scores", "yardstick"),
)


def battery(norm: str, access: Access, references: bool, yardsticks: bool) -> tuple[Step, ...]:
    """The steps, in order.

    Args:
        norm: ``l2`` or ``linf``.
        access: of the attacker.
        references: whether there are networks of the attacker's own.
        yardsticks: whether published attacks are run too.
    """
    return tuple(
        step
        for step in (LINF if norm == "linf" else L2)
        if step.serves(access) and (references or not step.references) and (yardsticks or step.role != "yardstick")
    )


def claims(access: Access) -> tuple[Access, ...]:
    """The kinds of access that an audit says something of."""
    return ("labels", "both") if access == "both" else (access,)


def before(steps: Sequence[Step], step: Step) -> list[Step]:
    """The steps before one that decide which images it gets: with labels alone those of labels, else all."""
    access: Access = "labels" if step.access == "labels" else "both"
    return [other for other in steps[: steps.index(step)] if other.serves(access)]
