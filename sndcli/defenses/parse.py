"""From ``--defense``, ``--sigma`` and ``--beta`` to a defended model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from sndcli import plugins
from sndcli.defenses.base import Defense
from sndcli.defenses.small_noise import SmallNoise
from sndcli.errors import ConfigError, unknown
from sndcli.models.classifier import Classifier

NAMES = ("none", "snd")


@dataclass(frozen=True)
class DefenseSpec:
    """A defense as a user writes it.

    Attributes:
        name: ``none`` or names joined by ``+``, outermost last.
        sigma: of ``snd``; 0 without it.
        beta: a of Beta(a, a), or None.
        clip: clip after the noise.
    """

    name: str = "none"
    sigma: float = 0.0
    beta: float | None = None
    clip: bool = False

    @property
    def random(self) -> bool:
        """Whether two passes on one image can differ."""
        return self.sigma > 0 or any(part not in NAMES for part in self.name.split("+"))


def parse(name: str | None, sigma: float | None, beta: float | None, clip: bool = False) -> DefenseSpec:
    """Resolves the options: a `sigma` alone means ``snd``; ``snd`` alone means σ = 0.01.

    Raises:
        ConfigError: an unknown name, a negative σ, or options that contradict each other.
    """
    if sigma is not None and not 0 <= sigma < float("inf"):
        raise ConfigError(f"Expected `--sigma` to be a number >= 0 but got {sigma}.")
    if beta is not None and not 0 < beta < float("inf"):
        raise ConfigError(f"Expected `--beta` to be a number > 0 but got {beta}.")
    chosen = name if name is not None else ("snd" if sigma is not None else "none")
    for part in chosen.split("+"):
        if part not in NAMES and part not in plugins.names(plugins.DEFENSES):
            raise unknown("defense", part, [*NAMES, *plugins.names(plugins.DEFENSES)])
    if "snd" not in chosen.split("+"):
        if sigma or beta is not None:
            raise ConfigError(f"`--sigma` and `--beta` belong to `snd`, but `--defense {chosen}` has none.")
        return DefenseSpec(chosen)
    return DefenseSpec(chosen, 0.01 if sigma is None else sigma, beta, clip)


def build(spec: DefenseSpec, model: Classifier, device: torch.device) -> nn.Module:
    """The defended model, drawing its noise on `device`.

    A defense without randomness is still wrapped, so that σ = 0 runs the same code. A name that is not ours is that
    of an installed package: its entry point is called with the model and a generator.
    """
    defended: nn.Module = model
    for part in spec.name.split("+"):
        if part == "snd":
            defended = SmallNoise(defended, spec.sigma, spec.beta, generator=torch.Generator(device), clip=spec.clip)
        elif part not in NAMES:
            defended = plugins.load(plugins.DEFENSES, part)(defended, torch.Generator(device))
            if not isinstance(defended, Defense):
                raise ConfigError(f"Expected the defense `{part}` to make a sndcli.defenses.base.Defense.")
    return defended
