"""Classifiers from other packages: ``torchvision:NAME[/WEIGHTS]``, ``timm:NAME``, ``py:package.module:factory``."""

from __future__ import annotations

import contextlib
import importlib
import sys
from typing import Any

from torch import nn

from sndcli.errors import ConfigError, DataError, first_line, unknown
from sndcli.models import query
from sndcli.models.classifier import IDENTITY, IMAGENET, Classifier, Normalisation
from sndcli.models.preprocessing import Preprocessing, of_timm, of_torchvision, usual


def from_torchvision(source: str) -> Classifier:
    """``torchvision:NAME``, ``/WEIGHTS`` or ``/random``; preprocessing and normalisation are the weights' own.

    Raises:
        ConfigError: an unknown name.
        DataError: the weights are not in torch's cache and cannot be downloaded.
    """
    from torchvision import models

    rest, options = query.split(source, "torchvision:", query.INPUT)
    name, _, weights_name = rest.partition("/")
    names = models.list_models(module=models)
    if name not in names:
        raise unknown("torchvision model", name, names)
    enum = models.get_model_weights(name)
    available = [weights.name for weights in enum]
    if weights_name == "random":
        network = models.get_model(name, weights=None)
        return _classifier(network, options, IMAGENET, usual(224), f"{name}@random")
    if weights_name and weights_name not in available:
        raise unknown(f"weights of {name}", weights_name, [*available, "random"])
    weights = enum[weights_name] if weights_name else enum.DEFAULT
    transforms = weights.transforms()
    try:
        network = models.get_model(name, weights=weights)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"The weights {weights.name} of {name} could not be downloaded: {first_line(error)}.\n"
            f"Put the file of {weights.url} into the torch hub cache, or use `torchvision:{name}/random`."
        ) from None
    normalisation = Normalisation(tuple(transforms.mean), tuple(transforms.std))
    return _classifier(network, options, normalisation, of_torchvision(transforms), f"{name}@{weights.name}")


def from_timm(source: str) -> Classifier:
    """``timm:NAME`` with pretrained weights, or ``timm:NAME/random``; the data config is the model's own.

    Raises:
        ConfigError: timm is not installed, or has no such model.
        DataError: the weights cannot be downloaded.
    """
    try:
        import timm
        from timm.data import resolve_model_data_config
    except ImportError:
        raise ConfigError("`timm:` needs the package timm: pip install 'sndcli[timm]'.") from None
    name, options = query.split(source, "timm:", ("pretrained", *query.INPUT))
    bare = name.removesuffix("/random")
    pretrained = query.flag(options, "pretrained", default=True) and bare == name
    if not timm.is_model(bare):
        raise unknown("timm model", bare, timm.list_models(pretrained=pretrained))
    try:
        network = timm.create_model(bare, pretrained=pretrained)
    except Exception as error:  # huggingface_hub, httpx and torch.hub each have their own
        raise DataError(
            f"The weights of timm's {bare} could not be loaded: {first_line(error)}.\n"
            f"Fetch them where there is a network, or use `timm:{bare}/random`."
        ) from None
    config = resolve_model_data_config(network)
    normalisation = Normalisation(tuple(config["mean"]), tuple(config["std"]))
    preprocessing = query.preprocessing(options, None) if "size" in options else of_timm(config)
    return _classifier(network, options, normalisation, preprocessing, f"{bare}@{'timm' if pretrained else 'random'}")


def from_python(source: str) -> Classifier:
    """Imports a module that the user names and calls a factory in it: this runs that code.

    The factory takes no arguments and returns a torch module or a `Classifier`. A plain module is taken to map [0, 1]
    pixels at its attribute ``input_size`` (else 3 x 32 x 32) to logits, unless the options say otherwise.

    Raises:
        ConfigError: it cannot be imported, called, or returns something else.
    """
    rest, options = query.split(source, "py:", query.INPUT)
    module_name, _, factory_name = rest.partition(":")
    if not factory_name:
        raise ConfigError(f"Expected `py:package.module:factory` but got `{source}`.")
    with contextlib.redirect_stdout(sys.stderr):  # stdout is ours: tables and JSON
        try:
            factory: Any = importlib.import_module(module_name)
            for part in factory_name.split("."):
                factory = getattr(factory, part)
        except Exception as error:  # whatever the module does when it is imported
            raise ConfigError(f"`{source}` cannot be imported: {first_line(error)}.") from None
        if not callable(factory):
            raise ConfigError(f"`{source}` is not callable.")
        try:
            model = factory()
        except TypeError as error:
            raise ConfigError(f"`{source}` cannot be called without arguments: {first_line(error)}.") from None
        except Exception as error:  # whatever the user's code does
            raise ConfigError(f"`{source}` fails: {type(error).__name__}: {first_line(error)}.") from None
    if isinstance(model, Classifier):
        if not options:
            return model
        return _classifier(
            model.network, options, model.normalisation, model.preprocessing, model.name, model.input_size, model.clamp
        )
    if not isinstance(model, nn.Module):
        raise ConfigError(f"Expected `{source}` to return a torch module but got {type(model).__name__}.")
    size = tuple(getattr(model, "input_size", (3, 32, 32)))
    return _classifier(model, options, IDENTITY, None, factory_name, size)


def _classifier(
    network: nn.Module,
    options: dict[str, str],
    normalisation: Normalisation,
    preprocessing: Preprocessing | None,
    name: str,
    size: tuple[int, ...] = (3, 224, 224),
    clamp: bool = False,
) -> Classifier:
    """A classifier whose defaults the options of its source override."""
    chosen = query.preprocessing(options, preprocessing)
    size = (size[0], chosen.size, chosen.size) if chosen else size
    return Classifier(network, query.normalisation(options, normalisation), size, name, chosen, clamp)
