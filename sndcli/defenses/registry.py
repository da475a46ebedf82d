"""Defenses with parameters of their own: name -> class, what it says of itself, and a line for lists."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import get_args, get_origin, get_type_hints

from sndcli.defenses import (
    augment,
    blacklight,
    coarse,
    gate,
    input_noise,
    model_set,
    output_noise,
    random_features,
    resize_pad,
    score_curve,
    smoothing,
    terms,
)
from sndcli.defenses.base import Defense
from sndcli.defenses.facts import Facts
from sndcli.defenses.terms import Term
from sndcli.errors import ConfigError, unknown
from sndcli.values import typed

Value = str | int | float | tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """A defense that is written with its parameters.

    Attributes:
        make: called with the model, for `around` what it is around too, keyword parameters and `generator`.
        facts: called with the keyword parameters; raises `ConfigError` where they cannot be. Its signature says which
            there are, in which order, of which type and with which defaults. One that is None by default is left out
            where it is not given.
        network: whether it takes the place of the model, so that it is innermost.
        around: whether it is written with a defense in parentheses.
        stateful: whether it remembers questions, in a store that the oracle keeps (`parse.guard`), outermost.
        usual: defaults that depend on other parameters, given those.
    """

    make: Callable[..., Defense]
    facts: Callable[..., Facts]
    network: bool = False
    around: bool = False
    stateful: bool = False
    usual: Callable[[Mapping[str, Value]], Mapping[str, Value]] = lambda _: {}

    @property
    def takes(self) -> dict[str, inspect.Parameter]:
        """The parameters, in order."""
        return dict(inspect.signature(self.facts).parameters)


ENTRIES: Mapping[str, Entry] = {
    "noise": Entry(input_noise.InputNoise, input_noise.facts, usual=input_noise.usual),
    "aug": Entry(augment.RandomAugment, augment.facts),
    "set": Entry(model_set.ModelSet, model_set.facts, network=True),
    "rnp": Entry(resize_pad.ResizePad, resize_pad.facts),
    "rfd": Entry(random_features.RandomFeatures, random_features.facts, network=True),
    "smooth": Entry(smoothing.Smoothing, smoothing.facts),
    "gate": Entry(gate.ConfidenceGate, gate.facts, around=True),
    "logit": Entry(output_noise.LogitNoise, output_noise.noise_facts),
    "rls": Entry(output_noise.LogitScaling, output_noise.scaling_facts),
    "aaa-linear": Entry(partial(score_curve.ScoreCurve, shape="linear"), score_curve.linear_facts),
    "aaa-sine": Entry(partial(score_curve.ScoreCurve, shape="sine"), score_curve.sine_facts),
    "jpeg": Entry(coarse.RandomJPEG, coarse.jpeg_facts),
    "bits": Entry(coarse.RandomLevels, coarse.bits_facts),
    "blacklight": Entry(blacklight.Blacklight, blacklight.facts, stateful=True),
}


def values_of(term: Term) -> dict[str, Value]:
    """The parameters of a defense of `ENTRIES`, as they are meant, defaults too, in order.

    Raises:
        ConfigError: an unknown one, one that does not parse or is out of its range, or one that is missing.
    """
    entry = ENTRIES[term.name]
    takes, hints = entry.takes, get_type_hints(entry.facts)
    first = next(iter(takes))
    given: dict[str, str] = {}
    for key, text in term.values.items():
        name = key or first
        if name not in takes:
            raise unknown(f"parameter of `{term.name}`", key, [*takes])
        if name in given:
            raise ConfigError(f"`{term}` gives `{name}` twice.")
        given[name] = text
    found: dict[str, Value] = {}
    for name, parameter in takes.items():
        if name in given:
            found[name] = _parsed(given[name], hints[name], f"`{name}` of `{term.name}`")
        elif parameter.default is parameter.empty:
            raise ConfigError(f"`{term.name}` needs `{name}`, as in `{term.name}:{name}=…`.")
        elif parameter.default is not None:
            found[name] = parameter.default
    found = {**entry.usual(found), **found}
    found = {name: found[name] for name in takes if name in found}
    if entry.around != bool(term.inner):
        needs = f"{term.name}:…(noise)` around another defense" if entry.around else f"{term.name}` without parentheses"
        raise ConfigError(f"Expected `{needs} but got `{term}`.")
    entry.facts(**found)
    return found


def canonical(term: Term) -> Term:
    """The one way of writing a defense: every parameter, in order. What is None by default stands where it is given.

    Raises:
        ConfigError: as `values_of`.
    """
    return Term(term.name, {key: _written(value) for key, value in values_of(term).items()}, term.inner)


def facts_of(term: Term) -> Facts:
    """What a defense of `ENTRIES` says of itself.

    Raises:
        ConfigError: as `values_of`.
    """
    return ENTRIES[term.name].facts(**values_of(term))


def _parsed(text: str, hint: object, what: str) -> Value:
    if get_origin(hint) is tuple:
        return tuple(terms.plain(part.strip()) for part in text.split("|"))
    kind = next((part for part in get_args(hint) if part is not type(None)), hint)
    value = typed(terms.plain(text), kind, what)
    assert isinstance(value, str | int | float)
    return value


def _written(value: Value) -> str:
    if isinstance(value, tuple):
        return "|".join(map(terms.escaped, value))
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return terms.escaped(str(value))
