"""From ``--defense``, ``--sigma`` and ``--beta`` to a defended model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from sndcli import plugins
from sndcli.defenses import blacklight, model_set, registry, terms, trained
from sndcli.defenses.base import Defense
from sndcli.defenses.small_noise import SmallNoise
from sndcli.errors import ConfigError, unknown
from sndcli.models.classifier import Classifier
from sndcli.models.opaque import Logits, Model, OpaqueModel
from sndcli.queries.guard import Guard

NAMES = ("none", "snd", *trained.NAMES, *registry.ENTRIES)
STATEFUL = tuple(name for name, entry in registry.ENTRIES.items() if entry.stateful)
NETWORKS = (*trained.NAMES, *(name for name, entry in registry.ENTRIES.items() if entry.network))


@dataclass(frozen=True)
class DefenseSpec:
    """A defense as a user writes it.

    Attributes:
        name: ``none`` or names joined by ``+``, outermost last, each with its parameters (`terms`).
        sigma: of ``snd``; 0 without it.
        beta: a of Beta(a, a), or None.
        clip: clip after the noise.
        weights: of a trained defense: a name of the zoo or ``file:PATH``; filled in by `settle`.
        weights_digest: a short hash of them, or of the members of a set; filled in by `settle`.
    """

    name: str = "none"
    sigma: float = 0.0
    beta: float | None = None
    clip: bool = False
    weights: str = ""
    weights_digest: str = ""

    @property
    def parts(self) -> list[str]:
        """What is joined, innermost first."""
        return terms.parts(self.name)

    @property
    def names(self) -> list[str]:
        """Names without parameters, innermost first; those in parentheses after what they stand in."""
        return _names(self.name)

    @property
    def random(self) -> bool:
        """Whether two passes on one image can differ."""
        return self.sigma > 0 or any(_random(part) for part in self.parts)

    @property
    def stateful(self) -> bool:
        """Whether it remembers questions, so that the oracle needs its `guard`."""
        return any(terms.name_of(part) in STATEFUL for part in self.parts)

    @property
    def noise(self) -> float:
        """σ of all noise of the covariance σ² I on the image: of ``snd``, and of such kinds of ``noise``; 0 for none.

        Example:
            >>> parse("noise:uniform+snd", 0.01, None).noise, parse("noise:grey", None, None).noise
            (0.01414213562373095, 0.0)
        """
        own = [registry.facts_of(term).sigma for term in map(terms.read, self.parts) if term.name in registry.ENTRIES]
        return math.hypot(self.sigma, *own)

    @property
    def only_noise(self) -> bool:
        """Whether `noise` is all there is."""
        parts = [part for part in self.effective.parts if terms.name_of(part) not in ("snd", *STATEFUL)]
        return all(terms.name_of(part) == "noise" and registry.facts_of(terms.read(part)).sigma for part in parts)

    @property
    def effective(self) -> DefenseSpec:
        """The same without what does nothing: ``snd`` of σ = 0, and ``none`` beside others."""
        if self.sigma:
            return self
        name = "+".join(part for part in self.parts if part not in ("none", "snd")) or "none"
        return replace(self, name=name, beta=None, clip=False)

    @property
    def label(self) -> str:
        """`name`, but for the folders of files in it."""
        return "+".join(map(_label, self.parts))

    @property
    def words(self) -> str:
        """What it is called wherever it is shown, but for which weights it has.

        Example:
            >>> DefenseSpec("snd", 0.01, 2.0).words, DefenseSpec("snd", 0.0).words, DefenseSpec("rnp+snd", 0.02).words
            ('snd 0.01 β=2', 'none', 'rnp+snd 0.02')
        """
        spec = self.effective
        text = spec.label + (f" {spec.sigma:g}" if spec.sigma else "")
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
    parts = _read(chosen)
    chosen = "+".join(parts)
    if "none" in parts[1:] or (parts[0] == "none" and len(parts) > 1):
        raise ConfigError(f"`none` stands alone, but `--defense` is `{chosen}`.")
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
    name = terms.name_of(part)
    if name not in NETWORKS:
        return spec
    if isinstance(model, OpaqueModel):
        raise ConfigError(
            f"`--defense {name}` is a network of its own, but {model.name} can only be asked: "
            "snd and rnp go in front of any model."
        )
    if name == "set":
        return replace(spec, weights_digest=model_set.digest_of(_members(part), model.input_size))
    if name not in trained.NAMES:
        return spec
    source = spec.weights or trained.default_source(part, model.name)
    weights = trained.read(source, part)
    if weights.model.input_size != model.input_size:
        raise ConfigError(
            f"Expected {source} to take images of {model.input_size} but it takes {weights.model.input_size}."
        )
    return replace(spec, weights=source, weights_digest=weights.digest)


def guard(spec: DefenseSpec, images: int, size: Sequence[int], seed: int) -> Guard | None:
    """What a stateful defense keeps of `images` attackers, one an image of `size` (C, H, W); None for other defenses.

    Args:
        seed: of the deployment, that is of the run.
    """
    for term in map(terms.read, spec.parts):
        if term.name in STATEFUL:
            values = registry.values_of(term)
            policy, threshold = values["policy"], values["threshold"]
            assert isinstance(policy, str)
            assert isinstance(threshold, int)
            return blacklight.guard(policy, threshold, images, size, seed)
    return None


def build(spec: DefenseSpec, model: Classifier | Logits, device: torch.device) -> nn.Module:
    """The defended model, drawing its noise on `device`.

    A defense without randomness is still wrapped, so that σ = 0 runs the same code. A name that is not ours is that
    of an installed package, or ``py:module:Class?key=value``: it is called with the model, a generator and the values.
    """
    defended: nn.Module = model
    for part in spec.parts:
        defended = _around(defended, part, spec, model, device)
    return defended


def _around(
    inside: nn.Module, part: str, spec: DefenseSpec, model: Classifier | Logits, device: torch.device
) -> nn.Module:
    """One defense around `inside`, which is `model` or what stands before it already."""
    generator, term = torch.Generator(device), terms.read(part)
    if part == "none":
        return inside
    if part == "snd":
        return SmallNoise(inside, spec.sigma, spec.beta, generator=generator, clip=spec.clip)
    if part in trained.NAMES:
        source = spec.weights or trained.default_source(part, model.name)
        return trained.defend(trained.read(source, part), part, device, generator)
    if term.name not in registry.ENTRIES:
        made = _foreign(part, inside, generator)
        if not isinstance(made, Defense):
            raise ConfigError(f"Expected the defense `{part}` to make a sndcli.defenses.base.Defense.")
        return made
    if term.name == "set":
        mean = registry.values_of(term)["mean"]
        assert isinstance(mean, int)
        assert isinstance(model, Classifier)  # `settle` refuses any other
        return model_set.assemble(_members(part), mean, model.input_size, device, generator)
    entry, values = registry.ENTRIES[term.name], registry.values_of(term)
    if not entry.around:
        return entry.make(inside, **values, generator=generator)
    inner = inside
    for each in terms.parts(term.inner):
        inner = _around(inner, each, spec, model, device)
    return entry.make(inside, inner, **values, generator=generator)


def _read(text: str, within: str = "") -> list[str]:
    """The parts of a defense as it is written, each in its one way.

    Args:
        text: what is joined by ``+``.
        within: the name of the gate that it stands in.

    Raises:
        ConfigError: an unknown name, a parameter that cannot be, a network that is not innermost, or a part twice.
    """
    found: list[str] = []
    for written in terms.parts(text):
        term = terms.read(written)
        if within and (term.name in (*NETWORKS, *STATEFUL) or term.name in ("none", "snd")):
            hint = "write noise:sigma=0.01" if term.name == "snd" else "it can stand beside it, joined by +"
            raise ConfigError(f"`{term.name}` cannot stand in a `{within}`: {hint}.")
        if term.name in registry.ENTRIES:
            term = registry.canonical(term)
            term = replace(term, inner="+".join(_read(term.inner, term.name))) if term.inner else term
        elif term.name not in NAMES:
            if not plugins.known(plugins.DEFENSES, written):
                raise unknown("defense", term.name, [*NAMES, *plugins.names(plugins.DEFENSES)])
        elif term.values or term.inner:
            own = " (its noise is --sigma, --beta and --clip)" if term.name == "snd" else ""
            raise ConfigError(f"`{term.name}` takes no parameters{own}, but `--defense` is `{text}`.")
        if term.name in NETWORKS and any(terms.name_of(part) not in STATEFUL for part in found):
            raise ConfigError(
                f"`{term.name}` is a network, so it is innermost: write it first, as in `{term.name}+snd`."
            )
        found.append(str(term))
    found.sort(key=lambda part: terms.name_of(part) in STATEFUL)  # it sees questions before all others do
    if len({*found}) < len(found) or sum(terms.name_of(part) in STATEFUL for part in found) > 1:
        raise ConfigError(f"Expected each defense once but `--defense` is `{text}`.")
    return found


def _names(text: str) -> list[str]:
    found = []
    for part in terms.parts(text):
        term = terms.read(part)
        found += [term.name, *(_names(term.inner) if term.inner else ())]
    return found


def _random(part: str) -> bool:
    """Whether a defense can answer twice differently, but for ``snd``, whose noise is not in its name."""
    term = terms.read(part)
    if term.name in registry.ENTRIES:
        return registry.facts_of(term).random and (not term.inner or any(map(_random, terms.parts(term.inner))))
    return part not in ("none", "snd")


def _members(part: str) -> tuple[str, ...]:
    models = registry.values_of(terms.read(part))["models"]
    assert isinstance(models, tuple)
    return models


def _label(part: str) -> str:
    if terms.name_of(part) != "set":
        return part
    models = "|".join(terms.escaped(trained.label(source.partition("?")[0])) for source in _members(part))
    return part.replace("|".join(map(terms.escaped, _members(part))), models)


def _foreign(part: str, model: nn.Module, generator: torch.Generator) -> nn.Module:
    """A defense of somebody else around `model`."""
    make = plugins.load(plugins.DEFENSES, part)
    if not callable(make):
        raise ConfigError(f"Expected the defense `{part}` to be a class or a function of (model, generator).")
    parameters = plugins.parameters_of(part, make, given=2) if part.startswith(plugins.PATH) else {}
    made: nn.Module = make(model, generator, **parameters)
    return made
