"""Names of the attacks and where they live. Importing this file imports no torch."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from sndcli import plugins
from sndcli.attacks.spec import API, Access, AttackSpec, Options
from sndcli.errors import ConfigError, unknown

AnyAttack = AttackSpec[Options]  # whatever its options are; they go back to where they came from


@dataclass(frozen=True)
class Entry:
    """What is listed of an attack before its module is imported, whose ``SPEC`` has the same and all else."""

    name: str
    module: str
    access: Access
    norms: tuple[str, ...]
    presets: tuple[str, ...]
    summary: str
    by_norm: Mapping[str, str] = field(default_factory=dict)


ATTACKS = {
    entry.name: entry
    for entry in (
        Entry(
            "hsja", "sndcli.attacks.decision.hsja", "labels", ("l2", "linf"), ("authors", "art"),
            "HopSkipJump (Chen, Jordan, Wainwright 2020)",
        ),
        Entry(
            "hsja-na", "sndcli.attacks.decision.hsja_na", "labels", ("l2", "linf"), ("sequential", "majority"),
            "HopSkipJump that knows of the noise (ours)",
        ),
        Entry(
            "popskipjump", "sndcli.attacks.decision.popskipjump", "labels", ("l2",), ("authors", "share"),
            "PopSkipJump (Simon-Gabriel, Sheikh, Krause 2021)",
        ),
        Entry(
            "ba", "sndcli.attacks.decision.boundary", "labels", ("l2",), ("foolbox", "art", "art12", "art13", "na"),
            "Boundary Attack (Brendel, Rauber, Bethge 2018)",
        ),
        Entry(
            "sign-opt", "sndcli.attacks.decision.sign_opt", "labels", ("l2",), ("authors", "saving", "na"),
            "Sign-OPT (Cheng, Singh, Chen, Chen, Liu, Hsieh 2020)",
        ),
        Entry(
            "ars-opt", "sndcli.attacks.decision.ars_opt", "labels", ("l2",), ("authors", "large"),
            "ARS-OPT: Sign-OPT with momentum (Xu, Cheng, Xu, Xuan, Ma 2026)",
        ),
        Entry(
            "geoda", "sndcli.attacks.decision.geoda", "labels", ("l2", "linf"), ("authors", "raw-224", "step1", "na"),
            "GeoDA (Rahmati, Moosavi-Dezfooli, Frossard, Dai 2020)",
        ),
        Entry(
            "cgba", "sndcli.attacks.decision.cgba", "labels", ("l2",), ("authors", "full", "h"),
            "CGBA: a boundary point found on a half-circle (Reza, Rahmati, Wu, Dai 2023)",
        ),
        Entry(
            "surfree", "sndcli.attacks.decision.surfree", "labels", ("l2",),
            ("authors", "example", "full", "orthogonal"),
            "SurFree: circles through the boundary, no gradient (Maho, Furon, Le Merrer 2021)",
        ),
        Entry(
            "rays", "sndcli.attacks.decision.rays", "labels", ("linf", "l2"), ("authors", "na"),
            "RayS (Chen, Gu 2020)",
        ),
        Entry(
            "simba", "sndcli.attacks.score.simba", "scores", ("l2",), ("pixel", "fitted", "na"),
            "SimBA (Guo, Gardner, You, Wilson, Weinberger 2019)",
        ),
        Entry(
            "simba-dct", "sndcli.attacks.score.simba_dct", "scores", ("l2",), ("dct", "dct-fitted", "dct-na"),
            "SimBA along low-frequency DCT directions",
        ),
        Entry(
            "bandit-td", "sndcli.attacks.score.bandit", "scores", ("l2", "linf"), ("l2", "linf"),
            "Bandits with time and data priors (Ilyas, Engstrom, Madry 2019)", {"linf": "linf"},
        ),
        Entry(
            "nes", "sndcli.attacks.score.nes", "scores", ("l2", "linf"), ("authors", "margin"),
            "Natural evolution strategies (Ilyas, Engstrom, Athalye, Lin 2018)",
        ),
        Entry(
            "nattack", "sndcli.attacks.score.nattack", "scores", ("linf", "l2"), ("authors", "slow", "na"),
            "NATTACK (Li, Li, Wang, Zhang, Gong 2019)",
        ),
        Entry(
            "nes-na", "sndcli.attacks.score.nes_na", "scores", ("l2", "linf"), ("near", "first"),
            "NES that knows of the noise, and steps onto the surface of the ball (ours)",
        ),
        Entry(
            "subspace", "sndcli.attacks.score.subspace", "scores", ("linf", "l2"), ("linf", "l2", "authors"),
            "Subspace attack with reference models (Guo, Yan, Zhang 2019)", {"l2": "l2"},
        ),
        Entry(
            "square", "sndcli.attacks.score.square", "scores", ("l2", "linf"), ("paper", "autoattack", "na"),
            "Square Attack (Andriushchenko, Croce, Flammarion, Hein 2020)", {"linf": "autoattack"},
        ),
        Entry(
            "transfer", "sndcli.attacks.decision.transfer", "labels", ("l2", "linf"), ("momentum",),
            "A point made on the attacker's own networks, sent once (Dong, Liao, Pang, Su, Zhu, Hu, Li 2018)",
        ),
        Entry(
            "null", "sndcli.attacks.decision.null", "labels", ("l2", "linf"), ("default",),
            "Resends the clean image: the floor of every success rate",
        ),
    )
}  # fmt: skip

FOOLBOX = ("hsja", "ba")
REFERENCES = {"cifar10": ("ref-vgg", "ref-wide")}  # dataset -> zoo names of reference models


def spec_of(name: str) -> AnyAttack:
    """The attack called `name`: ours, one that an installed package registered, or that of a ``py:module:NAME``.

    Raises:
        ConfigError: no such attack; names the nearest. Or one of a package that was written for another `API`.
    """
    if name in ATTACKS:
        return cast("AnyAttack", importlib.import_module(ATTACKS[name].module).SPEC)
    if not plugins.known(plugins.ATTACKS, name):
        raise unknown("attack", name, [*ATTACKS, *plugins.names(plugins.ATTACKS)])
    if name.startswith(plugins.PATH):
        spec = _from_path(name)
    else:
        spec = plugins.load(plugins.ATTACKS, name)
        if not isinstance(spec, AttackSpec) or spec.name != name:
            raise ConfigError(
                f"Expected the entry point `{name}` of {plugins.ATTACKS} to be an AttackSpec of that name."
            )
    if spec.api != API:
        raise ConfigError(
            f"`{name}` was written for api={spec.api} of AttackSpec; this snd has api={API}. See docs/extending.md."
        )
    return spec


def _from_path(path: str) -> AnyAttack:
    """The attack at ``py:module:NAME``: an `AttackSpec`, or a function for one image (`sndcli.one_image`)."""
    if plugins.located(path)[2]:
        raise ConfigError(f"Expected the options of an attack as `--set key=value`, not in `{path}`.")
    found = plugins.load(plugins.ATTACKS, path)
    if isinstance(found, AttackSpec):
        return found
    if not callable(found):
        raise ConfigError(f"Expected `{path}` to be an AttackSpec or a function f(predict, x, y).")
    from sndcli.attacks.one_image import one_image

    return one_image(found)


def find(name: str) -> AnyAttack | None:
    """As `spec_of`; None where a result's attack cannot be had here, as that of a package which is not installed."""
    try:
        return spec_of(name)
    except ConfigError:
        return None


def noise_aware(name: str, preset: str | None = None) -> bool:
    """Whether an attack knows of the noise; without a preset, by its first. False where it is not known here."""
    spec = find(name)
    return spec is not None and spec.noise_aware(preset)
