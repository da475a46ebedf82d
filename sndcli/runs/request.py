"""What a user asks for, typed and checked: shared by the command line and the Python API.

A request names things (a model's source, a data set); `prepare` turns it into a `Job`, which holds them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass

from sndcli.datasets.load import Select
from sndcli.defenses.parse import DefenseSpec
from sndcli.errors import ConfigError, wanted
from sndcli.models.inference import Precision
from sndcli.models.remote.settings import Remote
from sndcli.queries.stopping import Stop

Norm = Literal["l2", "linf"]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Count = Annotated[int, Field(ge=1, lt=2**31)]
Radius = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]


@dataclass(frozen=True, kw_only=True, config={"extra": "forbid"})
class Source:
    """A model and the images it is asked about.

    Attributes:
        model: a source such as ``resnet20`` or ``file:PATH?arch=resnet20``.
        dataset: ``cifar10``, ``imagenet`` or ``folder:DIR``.
        data_dir: where the full data set is.
        download: fetch the data set, and weights that are not on this machine.
        classes: a file that says which output of the model each folder of pictures is.
        skip_broken: leave out pictures that cannot be decoded.
        remote: how a model at an address is asked.
    """

    model: Text = "resnet20"
    dataset: Text = "cifar10"
    data_dir: Path | None = None
    download: bool = False
    classes: Path | None = None
    skip_broken: bool = False
    remote: Remote = Remote()


@dataclass(frozen=True, kw_only=True, config={"extra": "forbid"})
class Machine:
    """Where and how networks compute; nothing but time depends on it, on the CPU.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ...
        precision: of the networks' arithmetic; a run's figures may depend on it.
        batch_rows: rows a forward pass; 0: measured.
        compiled: whether networks are compiled; None: where the planned queries pay for it (see `compiling`).
        allow_rounding: a reduced precision is allowed without a defense, which its rounding then is.
    """

    device: Text = "auto"
    precision: Precision = "fp32"
    batch_rows: Annotated[int, Field(ge=0, lt=2**31)] = 0
    compiled: bool | None = None
    allow_rounding: bool = False


@dataclass(frozen=True, kw_only=True, config={"extra": "forbid"})
class Request(Source, Machine):
    """An attack on a (defended) model.

    Attributes:
        attack: its name.
        defense: of the first run.
        engine: ``native``, or ``foolbox`` for the attacks that it has.
        preset: a parameter set of the attack; None: its default.
        settings: ``key=value`` of its options.
        references: sources of the attacker's own models; None: those of the data set.
        target: which label it is after: ``next``, ``random`` or a class; empty: any but the true one.
        votes: answers to a question, all paid.
        norm: None: the attack's own.
        eps: the first bounds the attack, submitted points are verified at all; none: the data set's.
        budget: paid queries an image, at most; None: the data set's.
        budgets: report points; none: the data set's up to the budget.
        images: how many; None: as many as published evaluations of the data set have.
        select: which images.
        select_by: source of the model that chooses them; None: the attacked one.
        image_ids: the images themselves, in this order, in the place of `images` and `select`.
        stop: what ends an image's attack.
        seed: of the choice of images and of all randomness.
        repeats: with seed, seed + 1, ...
        verify: fresh draws for `success_noisy`.
        unit: images that share a loop and a part file; None: as the run began, else 100.
        quantize: queries are 8-bit images.
        mismatch: count P_mis.
        boundary: find where the majority flips.
        out: a folder, or a ``.parquet`` file.
        fresh: start anew.
        save_points: keep the final points beside the result.
    """

    attack: Text
    defense: DefenseSpec = DefenseSpec()
    engine: Literal["native", "foolbox"] = "native"
    preset: str | None = None
    settings: tuple[str, ...] = ()
    references: tuple[str, ...] | None = None
    target: str = ""
    votes: Count = 1
    norm: Norm | None = None
    eps: tuple[Radius, ...] = ()
    budget: Count | None = None
    budgets: tuple[Count, ...] = ()
    images: Count | None = None
    select: Select = "correct"
    select_by: str | None = None
    image_ids: tuple[Annotated[int, Field(ge=0)], ...] = ()
    stop: Stop = "seen"
    seed: Seed = 0
    repeats: Count = 1
    verify: Count = 100
    unit: Count | None = None
    quantize: bool = False
    mismatch: bool = False
    boundary: bool = True
    out: Path = Path("results")
    fresh: bool = False
    save_points: bool = False


@contextmanager
def explained() -> Iterator[None]:
    """Says in one line what is wrong with a request that is made inside.

    Raises:
        ConfigError: a field is not of its type or out of its range.
    """
    try:
        yield
    except ValidationError as error:
        raise told(error) from None


def told(error: ValidationError) -> ConfigError:
    """The first thing that is wrong: what was expected and what was given."""
    first = error.errors()[0]
    name = "--" + str(first["loc"][0]).replace("_", "-") if first["loc"] else "the request"
    return ConfigError(f"Expected `{name}` to be {wanted(error)} but got `{first['input']}`.")
