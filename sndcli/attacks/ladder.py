"""The ladder: what an attacker who suspects a randomised defense would try, all at the same price.

Rungs are the published attack, its questions asked T times (the paper's adaptive attack), its probes widened, its
searches stopped at the noise, and the noise-aware attacks. Every rung pays for at most the same number of queries.
"""

from __future__ import annotations

from dataclasses import dataclass

from sndcli.attacks.registry import AttackSpec, noise_aware, spec_of
from sndcli.errors import ConfigError

VOTES = (1, 5, 10)

# What scales an attack's probes; base values are those of its first preset.
PROBES: dict[str, tuple[str, ...]] = {
    "hsja": ("probe_scale=30", "probe_scale=1000"),
    "sign-opt": ("beta=0.01", "beta=0.1"),
    "geoda": ("probe=0.002", "probe=0.02"),
    "ba": ("spherical_step=0.1",),
    "bandit-td": ("fd_eta=0.1", "fd_eta=1"),
    "nes": ("probe=0.03", "probe=0.1"),
    "simba": ("epsilon=0.5",),
    "simba-dct": ("epsilon=0.5",),
}
# What ends an attack's searches at the noise; {} is σ̂.
FLOORS: dict[str, str] = {"hsja": "floor={}", "geoda": "tolerance={}", "rays": "tolerance={}"}
# Other attacks that belong on its ladder.
RELATIVES: dict[str, tuple[str, ...]] = {"hsja": ("hsja-na", "popskipjump")}


@dataclass(frozen=True)
class Rung:
    """One attacker.

    Attributes:
        name: as tables show it.
        attack: its name in the registry.
        preset: or None for the attack's first.
        settings: ``key=value`` of its options.
        votes: T.
        ours: whether it is not a published attack.
    """

    name: str
    attack: str
    preset: str | None = None
    settings: tuple[str, ...] = ()
    votes: int = 1
    ours: bool = False


def rungs(
    name: str, preset: str | None, settings: tuple[str, ...], norm: str, sigma_hat: str, sigma: float
) -> list[Rung]:
    """The ladder of an attack.

    Args:
        name: of the attack.
        preset: of its published form.
        settings: of every rung of that form.
        norm: rungs that do not have it are left out.
        sigma_hat: what the noise-aware rungs know: a number, or ``estimate``.
        sigma: width at which the rungs with a floor end their searches.

    Raises:
        ConfigError: an attack without a ladder.
    """
    if name == "null":
        raise ConfigError("`null` has no ladder: it does not attack.")
    spec = spec_of(name)
    found = [Rung(f"T={votes}", name, preset, settings, votes) for votes in VOTES]
    found += [Rung(change, name, preset, (*settings, change), ours=True) for change in PROBES.get(name, ())]
    if name in FLOORS and sigma > 0:
        floor = FLOORS[name].format(f"{sigma:g}")
        found.append(Rung(floor, name, preset, (*settings, floor), ours=True))
        if name in PROBES:
            wide = PROBES[name][-1]
            found.append(Rung(f"{wide}, {floor}", name, preset, (*settings, wide, floor), ours=True))
    found += [Rung(aware, name, aware, _knows(spec, aware, sigma_hat), ours=True) for aware in _aware(spec)]
    for other in RELATIVES.get(name, ()):
        if norm in spec_of(other).norms:
            own = (f"sigma_hat={sigma_hat}",) if other == "hsja-na" else ()
            found.append(Rung(other, other, "share" if other == "popskipjump" else None, own, ours=True))
    return found


def _aware(spec: AttackSpec) -> list[str]:
    """Presets of a published attack that know of the noise."""
    return [] if noise_aware(spec.name) else [preset for preset in spec.presets if noise_aware(spec.name, preset)]


def _knows(spec: AttackSpec, preset: str, sigma_hat: str) -> tuple[str, ...]:
    import importlib

    has_scale = hasattr(importlib.import_module(spec.module).OPTIONS[preset], "sigma_hat")
    return (f"sigma_hat={sigma_hat}",) if has_scale else ()
