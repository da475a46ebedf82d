"""The part of a model source behind its question mark: ``?size=224&resize=256&norm=imagenet``."""

from __future__ import annotations

from urllib.parse import parse_qs

from sndcli.errors import ConfigError, unknown
from sndcli.models.classifier import CIFAR10, IDENTITY, IMAGENET, Normalisation
from sndcli.models.opaque import Score
from sndcli.models.preprocessing import Preprocessing, usual

NORMALISATIONS = {"cifar10": CIFAR10, "imagenet": IMAGENET, "none": IDENTITY}
MOST, MOST_CLASSES = 4096, 1_000_000  # beyond which only a slip of the pen is meant
INPUT = ("mean", "std", "norm", "size", "resize", "interpolation")  # how pictures reach the network
ASKED = (*INPUT, "channels", "classes", "scores")  # of models that do not say it themselves


def split(source: str, prefix: str, known: tuple[str, ...]) -> tuple[str, dict[str, str]]:
    """What `prefix` names, and its options.

    Raises:
        ConfigError: an option that is not among `known`.
    """
    name, _, query = source.removeprefix(prefix).partition("?")
    options = {key: values[-1] for key, values in parse_qs(query, keep_blank_values=True).items()}
    for key in options:
        if key not in known:
            raise unknown(f"option of `{prefix}`", key, known)
    return name, options


def normalisation(options: dict[str, str], default: Normalisation, channels: int = 3) -> Normalisation:
    """From ``norm=NAME``, or ``mean`` and ``std``: a number a channel or one for all, decimals or fractions a/b.

    Raises:
        ConfigError: an unknown name, one of the two alone, no numbers, or not one for each channel.
    """
    if "norm" in options:
        if options["norm"] not in NORMALISATIONS:
            raise unknown("normalisation", options["norm"], NORMALISATIONS)
        default = NORMALISATIONS[options["norm"]]
    if ("mean" in options) != ("std" in options):
        raise ConfigError("Expected `mean` and `std` together, a number for each channel: mean=r,g,b&std=r,g,b.")
    if "mean" in options and "norm" not in options:
        try:
            default = Normalisation(_numbers(options["mean"], channels), _numbers(options["std"], channels))
        except (ValueError, ZeroDivisionError) as error:
            raise ConfigError(f"Expected mean=r,g,b&std=r,g,b with positive std: {error}") from None
    if default == IDENTITY:
        return Normalisation((0.0,) * channels, (1.0,) * channels)
    if len(default.mean) not in (1, channels):
        raise ConfigError(f"Expected mean and std of {channels} channels but got {len(default.mean)} numbers.")
    return default


def _numbers(text: str, channels: int) -> tuple[float, ...]:
    values = []
    for part in text.split(","):
        above, _, below = part.partition("/")
        values.append(float(above) / float(below or 1))
    return tuple(values * channels if len(values) == 1 else values)


def preprocessing(options: dict[str, str], default: Preprocessing | None) -> Preprocessing | None:
    """From ``size`` (the network's input), ``resize`` (the shorter side before the crop) and ``interpolation``.

    Raises:
        ConfigError: a value that cannot be, or `resize` for a network of no known size.
    """
    if not {"size", "resize", "interpolation"} & options.keys():
        return default
    size, resize = _whole(options, "size"), _whole(options, "resize")
    if size is None and default is None:
        raise ConfigError("Expected `size`, the side of the network's input, beside `resize` and `interpolation`.")
    before = default if default is not None and size in (None, default.size) else usual(size or 1)
    interpolation = options.get("interpolation", default.interpolation if default else before.interpolation)
    return Preprocessing(before.size, resize or before.resize, interpolation, before.squash and resize is None)


def flag(options: dict[str, str], key: str, default: bool = False) -> bool:
    """``key=1`` or ``key=0``.

    Raises:
        ConfigError: another value.
    """
    text = options.get(key, "1" if default else "0").lower()
    if text not in ("0", "1", "false", "true", ""):
        raise ConfigError(f"Expected `{key}` to be 0 or 1 but got `{text}`.")
    return text not in ("0", "false")


def classes(options: dict[str, str]) -> int | None:
    """``classes=K``, at least 2; None where it is not said.

    Raises:
        ConfigError: another value.
    """
    found = _whole(options, "classes", "")
    if found is not None and found < 2:
        raise ConfigError(f"Expected `classes` to be a whole number of at least 2 but got `{options['classes']}`.")
    return found


def channels(options: dict[str, str]) -> int | None:
    """``channels=1`` to ``4``; None where it is not said.

    Raises:
        ConfigError: another value.
    """
    return _whole(options, "channels", "")


def score(options: dict[str, str]) -> Score | None:
    """``scores=logits`` or ``scores=probabilities``; None where it is not said.

    Raises:
        ConfigError: another value.
    """
    text = options.get("scores")
    if text not in (None, "logits", "probabilities"):
        raise ConfigError(f"Expected `scores` to be logits or probabilities but got `{text}`.")
    return text  # type: ignore[return-value]


def _whole(options: dict[str, str], key: str, unit: str = " of pixels") -> int | None:
    if key not in options:
        return None
    most = MOST if unit else MOST_CLASSES
    if not options[key].isdecimal() or not 1 <= int(options[key]) <= most:
        raise ConfigError(f"Expected `{key}` to be a whole number{unit}, at most {most:,}, but got `{options[key]}`.")
    return int(options[key])
