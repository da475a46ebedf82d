"""Names of the attacks and where they live. Importing this file imports no torch."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, fields, replace
from typing import Any

from sndcli import plugins
from sndcli.errors import ConfigError, unknown


@dataclass(frozen=True)
class AttackSpec:
    """What the command line needs to know about an attack without importing it.

    Attributes:
        name: as on the command line.
        module: holds ``OPTIONS`` (name of preset -> options dataclass) and ``run(oracle, streams, options)``.
        access: ``labels`` or ``scores``.
        norms: norms it supports, the first is the default.
        presets: names of parameter sets; the first is the default, or the one that is named like the norm.
        summary: one line for ``snd ls attacks``.
        references: whether ``run`` also takes reference models, the attacker's own.
        by_norm: (norm, preset): norms with a default of their own.
    """

    name: str
    module: str
    access: str
    norms: tuple[str, ...]
    presets: tuple[str, ...]
    summary: str
    references: bool = False
    by_norm: tuple[tuple[str, str], ...] = ()

    def default_preset(self, norm: str | None) -> str:
        """The preset of a run in this norm that names none."""
        named = norm if norm in self.presets else self.presets[0]
        return dict(self.by_norm).get(norm or self.norms[0], named or "")


ATTACKS = {
    spec.name: spec
    for spec in (
        AttackSpec(
            "hsja", "sndcli.attacks.decision.hsja", "labels", ("l2", "linf"), ("authors", "art"),
            "HopSkipJump (Chen, Jordan, Wainwright 2020)",
        ),
        AttackSpec(
            "hsja-na", "sndcli.attacks.decision.hsja_na", "labels", ("l2",), ("sequential", "majority"),
            "HopSkipJump that knows of the noise (ours)",
        ),
        AttackSpec(
            "popskipjump", "sndcli.attacks.decision.popskipjump", "labels", ("l2",), ("authors", "share"),
            "PopSkipJump (Simon-Gabriel, Sheikh, Krause 2021)",
        ),
        AttackSpec(
            "ba", "sndcli.attacks.decision.boundary", "labels", ("l2",), ("foolbox", "art", "art12", "art13", "na"),
            "Boundary Attack (Brendel, Rauber, Bethge 2018)",
        ),
        AttackSpec(
            "sign-opt", "sndcli.attacks.decision.sign_opt", "labels", ("l2",), ("authors", "saving", "na"),
            "Sign-OPT (Cheng, Singh, Chen, Chen, Liu, Hsieh 2020)",
        ),
        AttackSpec(
            "geoda", "sndcli.attacks.decision.geoda", "labels", ("l2", "linf"), ("authors", "raw-224", "step1", "na"),
            "GeoDA (Rahmati, Moosavi-Dezfooli, Frossard, Dai 2020)",
        ),
        AttackSpec(
            "rays", "sndcli.attacks.decision.rays", "labels", ("linf", "l2"), ("authors", "na"),
            "RayS (Chen, Gu 2020)",
        ),
        AttackSpec(
            "simba", "sndcli.attacks.score.simba", "scores", ("l2",), ("pixel", "fitted", "na"),
            "SimBA (Guo, Gardner, You, Wilson, Weinberger 2019)",
        ),
        AttackSpec(
            "simba-dct", "sndcli.attacks.score.simba", "scores", ("l2",), ("dct", "dct-fitted", "dct-na"),
            "SimBA along low-frequency DCT directions",
        ),
        AttackSpec(
            "bandit-td", "sndcli.attacks.score.bandit", "scores", ("l2", "linf"), ("l2", "linf"),
            "Bandits with time and data priors (Ilyas, Engstrom, Madry 2019)",
        ),
        AttackSpec(
            "nes", "sndcli.attacks.score.nes", "scores", ("l2", "linf"), ("authors", "margin"),
            "Natural evolution strategies (Ilyas, Engstrom, Athalye, Lin 2018)",
        ),
        AttackSpec(
            "subspace", "sndcli.attacks.score.subspace", "scores", ("linf", "l2"), ("linf", "l2", "authors"),
            "Subspace attack with reference models (Guo, Yan, Zhang 2019)", references=True,
        ),
        AttackSpec(
            "square", "sndcli.attacks.score.square", "scores", ("l2", "linf"), ("paper", "autoattack", "na"),
            "Square Attack (Andriushchenko, Croce, Flammarion, Hein 2020)", by_norm=(("linf", "autoattack"),),
        ),
        AttackSpec(
            "null", "sndcli.attacks.decision.null", "labels", ("l2", "linf"), ("default",),
            "Resends the clean image: the floor of every success rate",
        ),
    )
}  # fmt: skip

# Attack -> presets that know of the noise. A published attack with other numbers (`--set`) is not one.
NOISE_AWARE: dict[str, tuple[str, ...]] = {
    "hsja-na": ("sequential", "majority"),
    "popskipjump": ("authors", "share"),
    "ba": ("na",),
    "sign-opt": ("na",),
    "geoda": ("na",),
    "rays": ("na",),
    "simba": ("na", "dct-na"),
    "simba-dct": ("dct-na", "na"),
    "square": ("na",),
}
FOOLBOX = ("hsja", "ba")
REFERENCES = {"cifar10": ("ref-vgg", "ref-wide")}  # dataset -> zoo names of reference models


def spec_of(name: str) -> AttackSpec:
    """The attack called `name`: ours, or one that an installed package registered under `plugins.ATTACKS`.

    Raises:
        ConfigError: no such attack; names the nearest.
    """
    if name in ATTACKS:
        return ATTACKS[name]
    installed = plugins.names(plugins.ATTACKS)
    if name not in installed:
        raise unknown("attack", name, [*ATTACKS, *installed])
    spec = plugins.load(plugins.ATTACKS, name)
    if not isinstance(spec, AttackSpec) or spec.name != name:
        raise ConfigError(f"Expected the entry point `{name}` of {plugins.ATTACKS} to be an AttackSpec of that name.")
    return spec


def noise_aware(attack: str, preset: str | None = None) -> bool:
    """Whether an attack knows of the noise; without a preset, by its first."""
    known = NOISE_AWARE.get(attack, ())
    return (preset or ATTACKS[attack].presets[0]) in known if known else False


def options_of(spec: AttackSpec, preset: str | None, settings: tuple[str, ...] = (), norm: str | None = None) -> Any:
    """The options dataclass of an attack: a preset, changed by ``key=value`` settings.

    Without a preset it is `AttackSpec.default_preset`.

    Raises:
        ConfigError: an unknown preset or key, or a value that does not parse.
    """
    presets = importlib.import_module(spec.module).OPTIONS
    chosen = preset or spec.default_preset(norm)
    if chosen not in presets:
        raise unknown(f"preset of {spec.name}", chosen, presets)
    options = presets[chosen]
    types = {field.name: type(getattr(options, field.name)) for field in fields(options)}
    changes: dict[str, Any] = {}
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator:
            raise ConfigError(f"Expected `--set key=value` but got `{setting}`.")
        if key not in types:
            raise unknown(f"option of {spec.name}", key, types)
        try:
            kind = types[key]
            changes[key] = text.lower() in ("1", "true", "yes") if kind is bool else kind(text)
        except ValueError:
            raise ConfigError(f"Expected `{key}` to be a {types[key].__name__} but got `{text}`.") from None
    return replace(options, **changes)
