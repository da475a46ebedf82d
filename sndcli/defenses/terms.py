"""How defenses are written: ``aug:flip=0.5,shift=2+noise:sigma=0.01``, ``gate:0.7(noise:sigma=0.05)``. Text only.

Names are joined by ``+``, innermost first. What follows a name's first colon are its values, ``key=value`` separated by
commas, lists with ``|`` between their members; a value without a key is of the first one. In values ``% , + ( ) |`` are
written as in addresses: ``%25 %2C %2B %28 %29 %7C``. What a gate is around stands in parentheses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from sndcli.errors import ConfigError
from sndcli.plugins import PATH

KEY = re.compile(r"[a-z_]+")
SPECIAL = "%,+()|"


@dataclass(frozen=True)
class Term:
    """One defense as it is written.

    Attributes:
        name: of the defense; the whole text of a ``py:`` path.
        values: key -> text, still escaped; the key of a value without one is empty.
        inner: what stands in parentheses; empty without any.
    """

    name: str
    values: Mapping[str, str] = field(default_factory=dict)
    inner: str = ""

    def __str__(self) -> str:
        text = self.name + (":" if self.values else "")
        text += ",".join(f"{key}={value}" if key else value for key, value in self.values.items())
        return text + (f"({self.inner})" if self.inner else "")


def parts(text: str) -> list[str]:
    """The texts between the ``+`` that stand outside of parentheses.

    Example:
        >>> parts("aug+gate:0.7(logit+rls)+snd")
        ['aug', 'gate:0.7(logit+rls)', 'snd']
    """
    found, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "+" and depth <= 0:
            found.append("")
        else:
            found[-1] += letter
    return found


def name_of(part: str) -> str:
    """The name of a defense, without what follows it.

    Example:
        >>> name_of("gate:0.7(logit)"), name_of("py:my_defenses:Gain")
        ('gate', 'py:my_defenses:Gain')
    """
    return part if part.startswith(PATH) else re.split(r"[:(]", part, maxsplit=1)[0]


def read(part: str) -> Term:
    """One defense.

    Raises:
        ConfigError: parentheses that are not closed, a key twice, or an empty value.

    Example:
        >>> read("noise:uniform,sigma=0.02").values
        {'': 'uniform', 'sigma': '0.02'}
    """
    if part.startswith(PATH):
        return Term(part)
    outside, opened, rest = part.partition("(")
    if (opened and (not rest.endswith(")") or not rest[:-1].strip())) or part.count("(") != part.count(")"):
        raise ConfigError(f"Expected a defense in parentheses, as in `gate:0.7(noise)`, but got `{part}`.")
    name, colon, body = outside.partition(":")
    values: dict[str, str] = {}
    for piece in body.split(",") if colon else ():
        key, equals, value = piece.partition("=")
        if not equals or not KEY.fullmatch(key.strip()):
            key, value = "", piece  # an address may have `=` in it
        key, value = key.strip(), value.strip()
        if not value or key in values:
            raise ConfigError(f"Expected `{name}:key=value,key=value` but got `{part}`.")
        values[key] = value
    return Term(name, values, rest[:-1] if opened else "")


def escaped(value: str) -> str:
    """A value as it is written.

    Example:
        >>> escaped("file:a,b.safetensors?arch=resnet20")
        'file:a%2Cb.safetensors?arch=resnet20'
    """
    return "".join(f"%{ord(letter):02X}" if letter in SPECIAL else letter for letter in value)


def plain(value: str) -> str:
    """A value as it is meant."""
    return unquote(value)
