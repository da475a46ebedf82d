"""From ``--defense``, ``--sigma`` and ``--beta`` to a defended model."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from sndcli import plugins
from sndcli.defenses import trained
from sndcli.defenses.base import Defense
from sndcli.defenses.resize_pad import ResizePad
from sndcli.defenses.small_noise import SmallNoise
from sndcli.errors import ConfigError, unknown
from sndcli.models.classifier import Classifier
from sndcli.models.opaque import Logits, Model, OpaqueModel

NAMES = ("none", "snd", "rnp", *trained.NAMES)


@dataclass(frozen=True)
class DefenseSpec:
    """A defense as a user writes it.

    Attributes:
        name: ``none`` or names joined by ``+``, outermost last.
        sigma: of ``snd``; 0 without it.
        beta: a of Beta(a, a), or None.
        clip: clip after the noise.
        weights: of a trained defense: a name of the zoo or ``file:PATH``; filled in by `settle`.
        weights_digest: a short hash of them; filled in by `settle`.
    """

    name: str = "none"
    sigma: float = 0.0
    beta: float | None = None
    clip: bool = False
    weights: str = ""
    weights_digest: str = ""

    @property
    def parts(self) -> list[str]:
        """Names, innermost first."""
        return self.name.split("+")

    @property
    def random(self) -> bool:
        """Whether two passes on one image can differ."""
        return self.sigma > 0 or any(part not in ("none", "snd") for part in self.parts)

    @property
    def effective(self) -> DefenseSpec:
        """The same without what does nothing: ``snd`` of σ = 0, and ``none`` beside others."""
        if self.sigma:
            return self
        name = "+".join(part for part in self.parts if part not in ("none", "snd")) or "none"
        return replace(self, name=name, beta=None, clip=False)

    @property
    def words(self) -> str:
        """What it is called wherever it is shown, but for which weights it has.

        Example:
            >>> DefenseSpec("snd", 0.01, 2.0).words, DefenseSpec("snd", 0.0).words, DefenseSpec("rnp+snd", 0.02).words
            ('snd 0.01 β=2', 'none', 'rnp+snd 0.02')
        """
        spec = self.effective
        text = spec.name + (f" {spec.sigma:g}" if spec.sigma else "")
        return text + (f" β={spec.beta:g}" if spec.beta is not None else "") + (" clipped" if spec.clip else "")


def parse(
    name: str | None, sigma: float | None, beta: float | None, clip: bool = False, weights: str | None = None
) -> DefenseSpec:
    """Resolves the options: a `sigma` alone means ``snd``; ``snd`` alone means σ = 0.01.

    `weights` are those of a trained defense (``rse``, ``pni``), by default the zoo's for the model.

    Raises:
        ConfigError: an unknown name, a negative σ, or options that contradict each other.

    Example:
        >>> spec = parse(None, 0.02, None)
        >>> spec.name, spec.sigma
        ('snd', 0.02)
    """
    if sigma is not None and not 0 <= sigma < float("inf"):
        raise ConfigError(f"Expected `--sigma` to be a number >= 0 but got {sigma}.")
    if beta is not None and not 0 < beta < float("inf"):
        raise ConfigError(f"Expected `--beta` to be a number > 0 but got {beta}.")
    chosen = name if name is not None else ("snd" if sigma is not None else "none")
    parts = chosen.split("+")
    for k, part in enumerate(parts):
        if part not in NAMES and not plugins.known(plugins.DEFENSES, part):
            raise unknown("defense", part, [*NAMES, *plugins.names(plugins.DEFENSES)])
        if part in trained.NAMES and k:
            raise ConfigError(f"`{part}` is a network, so it is innermost: write it first, as in `{part}+snd`.")
        if part == "none" and len(parts) > 1:
            raise ConfigError(f"`none` stands alone, but `--defense` is `{chosen}`.")
    if len({*parts}) < len(parts):
        raise ConfigError(f"Expected each defense once but `--defense` is `{chosen}`.")
    if weights and parts[0] not in trained.NAMES:
        raise ConfigError(
            f"`--defense-weights` belong to {', '.join(trained.NAMES)}, but `--defense {chosen}` has none."
        )
    if "snd" not in parts:
        if sigma or beta is not None:
            raise ConfigError(f"`--sigma` and `--beta` belong to `snd`, but `--defense {chosen}` has none.")
        if clip:
            raise ConfigError(f"`--clip` belongs to `snd`, but `--defense {chosen}` has none.")
        return DefenseSpec(chosen, weights=weights or "")
    return DefenseSpec(chosen, 0.01 if sigma is None else sigma, beta, clip, weights or "")


def settle(spec: DefenseSpec, model: Model) -> DefenseSpec:
    """Says which weights a trained defense has, by name and by digest; other defenses stay as they are.

    Raises:
        ConfigError: weights for another defense or another input size, or a model that can only be asked.
        DataError: weights that are missing or broken.
    """
    part = spec.parts[0]
    if part not in trained.NAMES:
        return spec
    if isinstance(model, OpaqueModel):
        raise ConfigError(
            f"`--defense {part}` is a network of its own, but {model.name} can only be asked: "
            "snd and rnp go in front of any model."
        )
    source = spec.weights or trained.default_source(part, model.name)
    weights = trained.read(source, part)
    if weights.model.input_size != model.input_size:
        raise ConfigError(
            f"Expected {source} to take images of {model.input_size} but it takes {weights.model.input_size}."
        )
    return replace(spec, weights=source, weights_digest=weights.digest)


def build(spec: DefenseSpec, model: Classifier | Logits, device: torch.device) -> nn.Module:
    """The defended model, drawing its noise on `device`.

    A defense without randomness is still wrapped, so that σ = 0 runs the same code. A name that is not ours is that
    of an installed package, or ``py:module:Class?key=value``: it is called with the model, a generator and the values.
    """
    defended: nn.Module = model
    for part in spec.parts:
        generator = torch.Generator(device)
        if part == "snd":
            defended = SmallNoise(defended, spec.sigma, spec.beta, generator=generator, clip=spec.clip)
        elif part == "rnp":
            defended = ResizePad(defended, generator=generator)
        elif part in trained.NAMES:
            source = spec.weights or trained.default_source(part, model.name)
            defended = trained.defend(trained.read(source, part), part, device, generator)
        elif part not in NAMES:
            defended = _foreign(part, defended, generator)
            if not isinstance(defended, Defense):
                raise ConfigError(f"Expected the defense `{part}` to make a sndcli.defenses.base.Defense.")
    return defended


def _foreign(part: str, model: nn.Module, generator: torch.Generator) -> nn.Module:
    """A defense of somebody else around `model`."""
    make = plugins.load(plugins.DEFENSES, part)
    if not callable(make):
        raise ConfigError(f"Expected the defense `{part}` to be a class or a function of (model, generator).")
    parameters = plugins.parameters_of(part, make, given=2) if part.startswith(plugins.PATH) else {}
    made: nn.Module = make(model, generator, **parameters)
    return made
