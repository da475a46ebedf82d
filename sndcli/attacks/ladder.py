"""The ladder: what an attacker who suspects a randomised defense would try, all at the same price.

Rungs are the published attack, its questions asked T times (the paper's adaptive attack), its probes widened, its
searches stopped at the noise, and the noise-aware attacks. Every rung pays for at most the same number of queries.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from sndcli.attacks.registry import AnyAttack, spec_of
from sndcli.errors import ConfigError, unknown

VOTES = (1, 5, 10)


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
    options = {option.name for option in fields(spec.presets[_chosen(spec, preset, norm)].options)}
    wider = [change for change in spec.wider if _key(change) in options]
    found += [Rung(change, name, preset, (*settings, change), ours=True) for change in wider]
    if spec.floor and sigma > 0 and _key(spec.floor) in options:
        floor = spec.floor.format(f"{sigma:g}")
        found.append(Rung(floor, name, preset, (*settings, floor), ours=True))
        if wider:
            wide = wider[-1]
            found.append(Rung(f"{wide}, {floor}", name, preset, (*settings, wide, floor), ours=True))
    if not spec.noise_aware():  # of an attack that is itself, the ladder is of the chosen preset
        found += [_knowing(own, spec, own, sigma_hat) for own in spec.presets if spec.noise_aware(own)]
    relatives = [(spec_of(other), other_preset) for other, other_preset in spec.relatives.items()]
    return found + [_knowing(other.name, other, p, sigma_hat) for other, p in relatives if norm in other.norms]


def _chosen(spec: AnyAttack, preset: str | None, norm: str) -> str:
    """The preset of a run.

    Raises:
        ConfigError: an unknown one.
    """
    chosen = preset or spec.default_preset(norm)
    if chosen not in spec.presets:
        raise unknown(f"preset of {spec.name}", chosen, spec.presets)
    return chosen


def _key(setting: str) -> str:
    """Which option a setting is of."""
    return setting.partition("=")[0]


def _knowing(name: str, spec: AnyAttack, preset: str | None, sigma_hat: str) -> Rung:
    """A preset that is told the noise, where it can be."""
    told = (spec.told.format(sigma_hat),) if spec.told and spec.noise_aware(preset) else ()
    return Rung(name, spec.name, preset, told, ours=spec.presets[preset or spec.default_preset()].ours)
