"""The suite of a league: which defenses are audited, on which model, images and bound. Read from TOML, nothing unknown.

::

    budget = 2000
    images = 50
    [[defense]]
    name = "SND 0.01"
    spec = "snd"
    sigma = 0.01
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sndcli.defenses.parse import DefenseSpec, parse
from sndcli.errors import ConfigError, DataError, wanted
from sndcli.runs.battery import Access

Name = Annotated[str, Field(min_length=1, max_length=60, pattern=r"^[^|\n]+$")]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, lt=2**31)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DefenseEntry(_Strict):
    """A defense as a suite names it.

    Attributes:
        name: in the league.
        spec: as ``--defense`` takes it.
        sigma, beta: of ``snd``.
        weights: as ``--defense-weights`` takes them.
        model: a source, where the defense is another network (as adversarial training is).
        cite: where it was published: title, year, and an address if there is one.
        claimed: robust accuracy that its authors report, under whatever attack.
        sweep: a parameter and the values it takes, each a line of its own.
        family: defenses of one family are joined by a line in pictures; default: those of one sweep.
        yardsticks: whether published attacks are run beside the battery's; default the suite's.
    """

    name: Name
    spec: Annotated[str, Field(min_length=1)] | None = None
    sigma: Annotated[float, Field(ge=0)] | None = None
    beta: Annotated[float, Field(gt=0)] | None = None
    weights: str | None = None
    model: str | None = None
    cite: str = ""
    claimed: Share | None = None
    sweep: dict[str, list[float]] = {}
    family: str | None = None
    yardsticks: bool | None = None


class ModelEntry(_Strict):
    """A model as a suite names it: a name in the league, and its source where that is another."""

    name: Name
    source: str | None = None


class Suite(_Strict):
    """A league's settings.

    Attributes:
        battery: of the audits; leagues of different batteries are different leagues.
        dataset: as ``--dataset`` takes it.
        norm, eps, budget, images, seed: of all audits; None: those of `snd audit`.
        access: what the table claims something of.
        reference: networks of the attacker's own; None: those of the data set.
        yardsticks: whether published attacks are run beside.
        against: names of the defenses that all others are tested against.
        model: whose defenses they are; a defense that is another network is compared with the first one's bare network.
        defense: in the order in which they are run.
    """

    battery: Literal["snd-1"] = "snd-1"
    dataset: str = "cifar10"
    norm: Literal["l2", "linf"] = "l2"
    eps: Annotated[float, Field(gt=0)] | None = None
    budget: Count | None = None
    images: Count | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    access: list[Access] = ["labels", "both"]
    reference: list[str] | None = None
    yardsticks: bool = True
    against: list[str] = ["none", "SND 0.01"]
    model: list[ModelEntry] = [ModelEntry(name="resnet20")]
    defense: Annotated[list[DefenseEntry], Field(min_length=1)]

    @property
    def seen(self) -> Access:
        """What the attacker of the audits sees."""
        return self.access[0] if len(set(self.access)) == 1 else "both"


@dataclass(frozen=True)
class Row:
    """One defense on one model.

    Attributes:
        name: in the league.
        family: lines of one sweep have the same.
        spec: the defense.
        model: source of the model.
        own_model: whether that is another network than the league's.
        cite, claimed: as the suite has them.
        yardsticks: whether published attacks are run.
    """

    name: str
    family: str
    spec: DefenseSpec
    model: str
    own_model: bool
    cite: str
    claimed: float | None
    yardsticks: bool


def read(path: Path) -> tuple[Suite, tuple[Row, ...]]:
    """A suite, and its rows in order.

    Raises:
        DataError: the file is missing, or no TOML.
        ConfigError: a key that is unknown, a value that cannot be, or a name twice; says where.
    """
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        raise DataError(f"{path} cannot be read.") from None
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path} is no TOML: {error}") from None
    try:
        suite = Suite.model_validate(told)
    except ValidationError as error:
        raise _explained(path, error, told) from None
    rows = tuple(_rows(path, suite))
    names = [row.name for row in rows]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"{path}: the name `{twice}` stands twice.")
    missing = next((name for name in suite.against if name not in names), None)
    if missing is not None:
        raise ConfigError(f"{path}: `against` names `{missing}`, which is no defense of the suite.")
    return suite, rows


def _explained(path: Path, error: ValidationError, told: dict[str, object]) -> ConfigError:
    """The first thing that is wrong, and which entry it is in."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if not isinstance(part, int)]
    entries = told.get(place[0]) if place else None
    number = next((part for part in first["loc"] if isinstance(part, int)), None)
    entry = entries[number] if isinstance(entries, list) and number is not None and number < len(entries) else None
    named = f" of `{entry['name']}`" if isinstance(entry, dict) and "name" in entry else ""
    key = ".".join(place)
    if first["type"] == "extra_forbidden":
        return ConfigError(f"{path}: unknown key `{key}`{named}.")
    return ConfigError(f"{path}: expected `{key}`{named} to be {wanted(error)} but got `{first['input']}`.")


def _rows(path: Path, suite: Suite) -> Iterator[Row]:
    for model in suite.model:
        for entry in suite.defense:
            shared = entry.model or model.source or model.name
            tail = f", {model.name}" if len(suite.model) > 1 else ""
            for name, text, sigma in _swept(entry):
                try:
                    spec = parse(text, sigma, entry.beta, weights=entry.weights)
                except ConfigError as error:
                    raise ConfigError(f"{path}: `{entry.name}`: {error}") from None
                yield Row(
                    name + tail, (entry.family or entry.name) + tail, spec, shared, entry.model is not None,
                    entry.cite, entry.claimed,
                    suite.yardsticks if entry.yardsticks is None else entry.yardsticks,
                )  # fmt: skip


def _swept(entry: DefenseEntry) -> Iterator[tuple[str, str | None, float | None]]:
    """Name, defense and σ of each line of an entry."""
    if not entry.sweep:
        yield entry.name, entry.spec or (None if entry.sigma is not None else "none"), entry.sigma
        return
    if len(entry.sweep) > 1:
        raise ConfigError(f"Expected one parameter in the sweep of `{entry.name}` but got {len(entry.sweep)}.")
    ((key, values),) = entry.sweep.items()
    of_snd = entry.spec is None or "snd" in entry.spec.split("+")
    for value in values:
        name = f"{entry.name} {value:g}"
        if key == "sigma" and of_snd:
            yield name, entry.spec or "snd", value
        else:
            text = entry.spec or "none"
            yield name, f"{text}{',' if ':' in text else ':'}{key}={value:g}", entry.sigma
