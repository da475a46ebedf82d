"""A setting: all that tells the runs of one row of a table from those of another, and its name in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from sndcli.defenses.parse import DefenseSpec
from sndcli.runs.config import PROTOCOL
from sndcli.runs.words import NORMS, attack_words, bound_words, defense_words, radius_words

__all__ = ["NORMS", "Setting", "setting_of"]

# What may differ among runs that are pooled: which images and seeds, how many, how far, and when it was.
VARIES = {
    "images", "seed", "repeats", "budget", "budgets", "verify", "unit", "mismatch", "border",
    "dataset_source", "version",
}  # fmt: skip
KNOWN = VARIES | {
    "attack", "engine", "dataset", "model", "defense", "votes", "norm", "eps", "preset", "settings", "options",
    "model_digest", "dataset_digest", "quantize", "select", "select_by", "precision", "compiled", "device",
    "references", "plugins", "protocol", "eps_also", "target",
}  # fmt: skip
UNUSED: tuple[object, ...] = (None, False, "", [], {}, ())  # what a config leaves out is as good as one of these


@dataclass(frozen=True)
class Setting:
    """Attack, victim and bound, with the digests that say which copies they were. Equal ones may be pooled.

    The words (`attacked`, `modelled`, `data`, `bound`, `defended`, and `label` for all of them) are the same wherever
    a setting is shown. Where several are shown, `labels.tell_apart` gives them the tags without which two would read
    alike.

    Attributes:
        attack, engine, dataset, model, defense: names.
        sigma: of ``snd``.
        beta: a of Beta(a, a), or None.
        votes: T, answers to a question.
        norm, eps: the bound.
        preset, settings: the attack's parameters.
        options: the hyper-parameters they stand for, as JSON; None where a file does not say.
        model_digest, dataset_digest: which copies.
        clip: whether the noisy image is clipped.
        weights, weights_digest: of a trained defense.
        quantize: whether queries were 8-bit images.
        select, select_by: which images, and the model that chose them where it was another.
        precision, compiled, device: how and on what networks computed.
        references: names and digests of the attacker's own models.
        plugins: as JSON.
        protocol: its number.
        eps_also: further ε at which points were verified.
        target: which label a targeted attack was after, empty for any but the true one.
        other: what else is in the config, as (key, JSON), sorted.
        model_tag, data_tag, tags: what is added to the words where settings are shown together that would read alike.
    """

    attack: str
    engine: str
    dataset: str
    model: str
    defense: str
    sigma: float
    beta: float | None
    votes: int
    norm: str
    eps: float
    preset: str | None = None
    settings: tuple[str, ...] = ()
    options: str | None = None
    model_digest: str = ""
    dataset_digest: str = ""
    clip: bool = False
    weights: str | None = None
    weights_digest: str | None = None
    quantize: bool = False
    select: str = "correct"
    select_by: str | None = None
    precision: str = "fp32"
    compiled: bool = False
    references: tuple[str, ...] = ()
    plugins: str | None = None
    protocol: int = PROTOCOL
    eps_also: tuple[float, ...] = ()
    device: str = "cpu"
    target: str = ""
    other: tuple[tuple[str, str], ...] = ()
    model_tag: str = field(default="", compare=False)
    data_tag: str = field(default="", compare=False)
    tags: tuple[str, ...] = field(default=(), compare=False)

    @property
    def attacked(self) -> str:
        """The attack in words: ``hsja``, ``hsja (foolbox)``, ``simba na (eps=0.1)``."""
        return attack_words(self.attack, self.engine, self.preset, self.settings, self.target)

    @property
    def modelled(self) -> str:
        """The model, with a digest where another of its name is shown."""
        return self.model + self.model_tag

    @property
    def data(self) -> str:
        """The data set, with a digest where another of its name is shown."""
        return self.dataset + self.data_tag

    @property
    def defended(self) -> str:
        """The defense in words, and what of a run is not as usual.

        Example:
            >>> Setting("hsja", "native", "cifar10", "resnet20", "snd", 0.01, 2.0, 10, "l2", 1.0).defended
            'snd 0.01 β=2, T=10'
            >>> Setting("hsja", "native", "cifar10", "resnet20", "snd", 0.0, None, 1, "l2", 1.0, quantize=True).defended
            'none, 8-bit'
        """
        words = defense_words(self._spec, self.votes, self.quantize, self.precision, self.select, self.select_by)
        return ", ".join([words, *self.tags])

    @property
    def bound(self) -> str:
        """``L2 ≤ 1``, ``L∞ ≤ 8/255``."""
        return bound_words(self.norm, self.eps)

    @property
    def radius(self) -> str:
        """ε: ``1``, ``8/255``."""
        return radius_words(self.norm, self.eps)

    @property
    def victim(self) -> str:
        """``snd 0.01 on resnet20``."""
        return f"{self.defended} on {self.modelled}"

    @property
    def label(self) -> str:
        """All of it: ``hsja against snd 0.01 on resnet20, cifar10, L2 ≤ 1``."""
        return f"{self.attacked} against {self.victim}, {self.data}, {self.bound}"

    @property
    def _spec(self) -> DefenseSpec:
        return DefenseSpec(self.defense, self.sigma, self.beta, self.clip)

    @property
    def pooled(self) -> Setting:
        """The setting that runs are pooled by: noise of length zero is no noise, by whatever name."""
        spec = self._spec.effective
        return replace(self, defense=spec.name, sigma=spec.sigma, beta=spec.beta, clip=spec.clip)

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        nested = {
            name: json.loads(text) for name, text in (("options", self.options), ("plugins", self.plugins)) if text
        }
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.compare and f.name != "other"}
        lists = {key: list(value) for key, value in plain.items() if isinstance(value, tuple)}
        more = {key: json.loads(text) for key, text in self.other}
        return more | plain | lists | nested | {"label": self.label}


def setting_of(config: Mapping[str, Any]) -> Setting:
    """The setting of a run.

    Args:
        config: as `RunConfig.as_dict` makes it, or as a file's metadata has it; older files lack some of it.
    """
    defense, of_defense = config["defense"], {"name", "sigma", "beta", "clip", "weights", "weights_digest"}
    rest = {key: value for key, value in config.items() if key not in KNOWN}
    rest |= {f"defense.{key}": value for key, value in defense.items() if key not in of_defense}
    return Setting(
        config["attack"], config["engine"], config["dataset"], config["model"], defense["name"], defense["sigma"],
        defense["beta"], config["votes"], config["norm"], config["eps"], config.get("preset"),
        tuple(config.get("settings") or ()), _json(config.get("options")), config.get("model_digest", ""),
        config.get("dataset_digest", ""), bool(defense.get("clip")), defense.get("weights") or None,
        defense.get("weights_digest") or None, bool(config.get("quantize")), config.get("select") or "correct",
        config.get("select_by") or None, config.get("precision") or "fp32", bool(config.get("compiled")),
        tuple(" ".join(pair) for pair in config.get("references") or ()), _json(config.get("plugins")),
        config.get("protocol", 1), tuple(config.get("eps_also") or ()), config.get("device") or "cpu",
        config.get("target") or "",
        tuple(sorted((key, json.dumps(value, sort_keys=True)) for key, value in rest.items() if value not in UNUSED)),
    )  # fmt: skip


def _json(value: object) -> str | None:
    return json.dumps(value, sort_keys=True) if value else None
