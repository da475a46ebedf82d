"""``py:package.module:factory``: a model that a user's own code makes. Importing the module runs it."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sndcli import plugins
from sndcli.errors import ConfigError, first_line
from sndcli.models import query
from sndcli.models.answers import Answer, kind_of, probe, scaled, tensor_of
from sndcli.models.classifier import IDENTITY, Classifier
from sndcli.models.foreign import made_of
from sndcli.models.opaque import Facts, Model, OpaqueModel

USUAL = (3, 32, 32)  # input of what does not say its own
ROWS = 64  # a call of a function of which nothing is known


class Called(OpaqueModel):
    """A Python function from images to scores or labels; what it prints goes to stderr.

    Args:
        facts: of the model.
        function: takes images ``[N, C, H, W]``: a torch module on its device, anything else on the CPU.
        scale: done to images in [0, 1] first.
    """

    def __init__(self, facts: Facts, function: Callable[[Tensor], object], scale: Callable[[Tensor], Tensor]) -> None:
        super().__init__(facts)
        self._function, self._scale, self._device = function, scale, torch.device("cpu")

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """See `OpaqueModel.__call__`."""
        with contextlib.redirect_stdout(sys.stderr):
            return tensor_of(self._function(self._scale(images.to(self._device))))

    def to(self, device: torch.device) -> None:
        """Moves a torch module."""
        if isinstance(self._function, nn.Module):
            self._function.to(device)
            self._device = device


def from_python(source: str) -> Model:
    """Imports a module that the user names, from the working directory too, and calls a factory in it.

    The factory takes no arguments and returns a `Classifier`, an `OpaqueModel`, a torch module, or anything that can be
    called with images. What is not told by options is read from attributes: ``input_size`` (else 3 x 32 x 32),
    ``classes`` and ``digest``. A torch module whose output is scores becomes a `Classifier`.

    Raises:
        ConfigError: it cannot be imported, called, or returns something else.
    """
    rest, options = query.split(source, "py:", query.ASKED)
    module_name, _, factory_name = rest.partition(":")
    if not factory_name:
        raise ConfigError(f"Expected `py:package.module:factory` but got `{source}`.")
    with contextlib.redirect_stdout(sys.stderr):  # stdout is ours: tables and JSON
        model = _made(rest, module_name, factory_name)
        if isinstance(model, OpaqueModel):
            if options:
                raise ConfigError(f"`{rest}` returns an OpaqueModel, which says everything itself: no options.")
            return model
        if isinstance(model, Classifier):
            if not options:
                return model
            return made_of(
                model.network, options, model.normalisation, model.preprocessing, model.name, model.input_size,
                model.clamp,
            )  # fmt: skip
        if not callable(model):
            raise ConfigError(f"Expected `py:{rest}` to return a model but got {type(model).__name__}.")
        return _wrapped(model, f"py:{rest}", module_name, factory_name, options)


def _made(rest: str, module_name: str, factory_name: str) -> Any:
    factory = plugins.imported(f"py:{rest}", module_name, factory_name)
    if not callable(factory):
        raise ConfigError(f"`py:{rest}` is not callable.")
    try:
        return factory()
    except TypeError as error:
        raise ConfigError(f"`py:{rest}` cannot be called without arguments: {first_line(error)}.") from None
    except Exception as error:  # whatever the user's code does
        raise ConfigError(f"`py:{rest}` fails: {type(error).__name__}: {first_line(error)}.") from None


def _wrapped(model: Any, what: str, module_name: str, name: str, options: dict[str, str]) -> Model:
    """A classifier where `model` is a torch module with scores, else an opaque model."""
    size = _input_size(model, options)
    scale = scaled(options, size[0])
    if isinstance(model, nn.Module):
        model.eval()

    try:
        with torch.no_grad():
            raw = model(scale(probe(size)))
    except Exception as error:  # whatever the user's code does
        if isinstance(model, nn.Module):
            return made_of(model, _of_network(options), IDENTITY, None, name, size)  # told when it is prepared
        shape = " x ".join(map(str, size))
        raise ConfigError(f"{what} fails on images of {shape}: {type(error).__name__}: {first_line(error)}") from None
    try:
        answers = tensor_of(raw)
    except TypeError as error:
        raise ConfigError(f"{what} is no classifier: {error}.") from None
    said = str(getattr(model, "classes", "")) if isinstance(getattr(model, "classes", None), int) else ""
    access, classes, score = kind_of(answers, ({"classes": said} if said else {}) | options, what)
    if isinstance(model, nn.Module) and access == "scores":
        network = model if isinstance(raw, Tensor) and score == "logits" else Answer(model, score)
        return made_of(network, _of_network(options), IDENTITY, None, name, size)
    facts = Facts(
        name=name, input_size=size, classes=classes, access=access, score=score,
        digest=_digest(model, module_name, options), preprocessing=query.preprocessing(options, None), batch_rows=ROWS,
    )  # fmt: skip
    return Called(facts, model, scale)


def _input_size(model: Any, options: dict[str, str]) -> tuple[int, ...]:
    channels, height, width = getattr(model, "input_size", USUAL)
    chosen = query.preprocessing(options, None)
    if chosen is not None:
        height = width = chosen.size
    return (query.channels(options) or channels, height, width)


def _of_network(options: dict[str, str]) -> dict[str, str]:
    """What of the options still has to be done for a network, which says the rest itself."""
    return {key: value for key, value in options.items() if key in query.INPUT}


def _digest(model: Any, module_name: str, options: dict[str, str]) -> str:
    """A short hash of the module's file, the options, the model's own ``digest``, and a torch module's tensors."""
    h = hashlib.sha256(repr((module_name, sorted(options.items()), getattr(model, "digest", None))).encode())
    spec = importlib.util.find_spec(module_name)
    if spec is not None and spec.origin and Path(spec.origin).is_file():
        h.update(Path(spec.origin).read_bytes())
    if isinstance(model, nn.Module):
        for key, tensor in sorted(model.state_dict().items()):
            h.update(key.encode())
            h.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return h.hexdigest()[:16]
