"""Everything that decides a run's figures, as frozen plain data."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

from sndcli import plugins
from sndcli.attacks.registry import FOOLBOX, spec_of
from sndcli.attacks.spec import options_of, told
from sndcli.datasets.load import Select
from sndcli.datasets.protocol import protocol_of
from sndcli.defenses.parse import DefenseSpec
from sndcli.defenses.trained import label
from sndcli.errors import ConfigError
from sndcli.models.inference import Precision
from sndcli.queries.stopping import Stop
from sndcli.runs.words import attack_words, defense_words, slug

PROTOCOL = 2  # raised whenever draws or definitions change, so that no file of an old law passes for a new one


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run's figures. What is not here (batch size, unit) must not.

    Attributes mirror the command line; `dataset_digest` and `model_digest` say which copy they were. `references`
    are (name, digest) of the attacker's own models; `eps_also` are further ε at which points are verified; `select_by`
    is name and digest of the model that chose the images, empty where the attacked one did. `target` is which label a
    targeted attack is after, empty for any but the true one. `unit` is how many images
    share a loop, None where the run settles it: nothing but time depends on it, so it is no part of the run's identity.
    `device` is the type of the device: on another than the CPU draws are shared by a unit and kernels round otherwise.
    `stop` is what ends an image's attack (see `queries.stopping`); `image_ids` are the images, in their order, where
    they were named and not chosen.
    """

    attack: str
    dataset: str
    dataset_source: str
    dataset_digest: str
    model: str
    model_digest: str
    defense: DefenseSpec = field(default_factory=DefenseSpec)
    engine: str = "native"
    preset: str | None = None
    settings: tuple[str, ...] = ()
    votes: int = 1
    norm: str = "l2"
    eps: float = 1.0
    eps_also: tuple[float, ...] = ()
    budget: int = 10_000
    budgets: tuple[int, ...] = ()
    images: int = 100
    select: Select = "correct"
    seed: int = 0
    repeats: int = 1
    verify: int = 100
    unit: int | None = None
    quantize: bool = False
    mismatch: bool = False
    boundary: bool = True
    precision: Precision = "fp32"
    compiled: bool = False
    references: tuple[tuple[str, str], ...] = ()
    select_by: str = ""
    target: str = ""
    device: str = "cpu"
    stop: Stop = "seen"
    image_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        spec = spec_of(self.attack)
        if self.norm not in spec.norms:
            raise ConfigError(
                f"Expected `--norm` of {self.attack} to be {' or '.join(spec.norms)} but got {self.norm}."
            )
        if self.engine not in ("native", "foolbox"):
            raise ConfigError(f"Expected `--engine` to be native or foolbox but got {self.engine}.")
        if self.engine == "foolbox" and self.attack not in FOOLBOX:
            raise ConfigError(f"`--engine foolbox` has {' and '.join(FOOLBOX)}, not {self.attack}.")
        if self.votes > self.budget >= 1:
            raise ConfigError(f"Expected `--budget` of at least one question of {self.votes} but got {self.budget}.")
        for name in ("budget", "votes", "repeats", "verify", "unit"):
            value: int | None = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"Expected `--{name}` to be at least 1 but got {value}.")
        if self.votes > 1 and self.defense.stateful:
            raise ConfigError(f"`--votes {self.votes}` repeats each question, which `{self.defense.name}` blocks.")
        if not 0 <= self.seed <= 2**63 - self.repeats:
            raise ConfigError(f"Expected `--seed` from 0 to {2**63 - self.repeats} but got {self.seed}.")
        for eps in (self.eps, *self.eps_also):
            if not 0 < eps < math.inf:
                raise ConfigError(f"Expected `--eps` to be a positive number but got {eps}.")
        if self.image_ids and (len(set(self.image_ids)) != self.images or self.select != "all"):
            raise ConfigError("Expected `--image-ids` to name each image once, and no --images or --select beside it.")
        if self.engine == "foolbox" and self.stop != "seen":
            raise ConfigError(f"`--engine foolbox` ends by its own rules: no --stop {self.stop}.")
        if self.engine == "foolbox" and (self.preset or self.settings):
            raise ConfigError("`--engine foolbox` runs Foolbox's attacks unmodified: no --preset, no --set.")
        if any(not 1 <= b <= self.budget for b in self.budgets):
            raise ConfigError(f"Expected `--budgets` between 1 and {self.budget} but got {list(self.budgets)}.")

    @property
    def report_points(self) -> list[int]:
        """Budgets that are reported: those asked for, else the paper's up to the budget; and the budget."""
        return sorted(
            {*(self.budgets or [b for b in protocol_of(self.dataset).budgets if b <= self.budget]), self.budget}
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; what only some runs have (as references) only where there is some.

        ``options`` are the hyper-parameters that preset and settings stand for, so that a preset whose numbers
        change is another run.
        """
        names = {"name": self.defense.label, "weights": label(self.defense.weights)}
        defense = asdict(self.defense) | names  # a digest says which, not a path
        if not self.defense.weights_digest and not self.defense.weights:
            del defense["weights"], defense["weights_digest"]
        plain = asdict(self) | {"defense": defense, "protocol": PROTOCOL}
        del plain["unit"]
        for name, usual in (("device", "cpu"), ("stop", "seen")):
            if plain[name] == usual:  # so that runs from before there was the field have the same ids
                del plain[name]
        if self.quantize:  # and points on the surface stay inside when they are rounded, which once they did not
            plain["rounded"] = "inside"
        plain["border"] = plain.pop("boundary")  # its name in version 0.1, so that the same runs have the same ids
        if self.engine == "native":
            plain["options"] = told(options_of(spec_of(self.attack), self.preset, self.settings, self.norm))
        own = plugins.identities(self.attack, self.defense.names)
        plain |= {"plugins": own} if own else {}
        often_empty = ("references", "eps_also", "select_by", "target", "image_ids")
        return {k: v for k, v in plain.items() if v or k not in often_empty}

    @property
    def run_id(self) -> str:
        """A hash of the whole config."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()[:12]

    @property
    def attacked(self) -> str:
        """The attack in words."""
        return attack_words(self.attack, self.engine, self.preset, self.settings, self.target)

    @property
    def defended(self) -> str:
        """The defense in words, and what of the run is not as usual."""
        return defense_words(
            self.defense, self.votes, self.quantize, self.precision, self.select, self.select_by or None
        )

    @property
    def file_name(self) -> str:
        """A readable name that no other config has."""
        model = slug(self.model.split("/")[-1])
        data = slug(self.dataset)
        parts = (slug(self.attacked), data, model, slug(self.defended), f"q{self.budget}", self.run_id[:8])
        return "_".join(parts) + ".parquet"
