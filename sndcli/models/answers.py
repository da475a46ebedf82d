"""What foreign code answers: a tensor, an array, a tuple, or an object with ``logits``; scores or labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sndcli.errors import ConfigError
from sndcli.models.classifier import IDENTITY
from sndcli.models.inference import ROW_MULTIPLE
from sndcli.models.opaque import Access, Score, log_probabilities
from sndcli.models.query import classes as classes_in
from sndcli.models.query import normalisation, score

SUMS = 1e-3  # how far the sum of probabilities may be from 1
ROWS = 2  # images that a model is asked about to see what it answers


def tensor_of(output: object) -> Tensor:
    """The tensor in what a model returns: itself, ``.logits``, ``["logits"]``, or the first of several.

    Raises:
        TypeError: there is none.
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, np.ndarray):
        return torch.as_tensor(output)
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if logits is not None:
        return tensor_of(logits)
    if isinstance(output, tuple | list) and output:
        return tensor_of(output[0])
    raise TypeError(f"it answers with {type(output).__name__}; expected a tensor, a tuple of them, or `.logits`")


class Answer(nn.Module):
    """A network whose output is not a plain tensor of logits.

    Args:
        network: with an output that `tensor_of` knows.
        score: what it is; probabilities become their logarithms.
    """

    def __init__(self, network: nn.Module, score: Score = "logits") -> None:
        super().__init__()
        self.network, self.score = network, score

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[M, K]``."""
        found = tensor_of(self.network(x))
        return found if self.score == "logits" else log_probabilities(found)


def scaled(options: dict[str, str], channels: int) -> Callable[[Tensor], Tensor]:
    """What ``mean`` and ``std`` or ``norm`` do to images ``[M, C, H, W]`` in [0, 1]; nothing where nothing is said."""
    chosen = normalisation(options, IDENTITY, channels)
    mean, std = (torch.tensor(numbers).view(1, -1, 1, 1) for numbers in (chosen.mean, chosen.std))
    plain = not bool(mean.any()) and bool((std == 1).all())
    return lambda x: x if plain else (x - mean.to(x)) / std.to(x)


def probe(input_size: tuple[int, ...]) -> Tensor:
    """Images ``[2, C, H, W]`` to see what a model answers."""
    return torch.rand(ROWS, *input_size, generator=torch.Generator().manual_seed(0))


def kind_of(answers: Tensor, options: dict[str, str], name: str) -> tuple[Access, int, Score]:
    """What answers to `probe` say: scores or labels, how many classes, and what the scores are.

    Scores that are not negative and add up to 1 are probabilities, unless the options say otherwise.

    Raises:
        ConfigError: they are neither scores nor labels; or labels, and nobody says of how many classes.
    """
    said = classes_in(options)
    if answers.shape == (ROWS,) and not answers.is_floating_point() and answers.dtype != torch.bool:
        if said is None:
            raise ConfigError(f"{name} answers with labels alone: say how many there are, as in {name}?classes=10.")
        return "labels", said, "logits"
    if answers.ndim != 2 or len(answers) != ROWS or not answers.is_floating_point() or answers.shape[1] < 2:
        raise ConfigError(
            f"Expected {name} to answer 2 images with scores [2, K] or whole labels [2] but got {answers.dtype} "
            f"{list(answers.shape)}."
        )
    if said is not None and said != answers.shape[1]:
        raise ConfigError(f"Expected {name} to have {said} classes but it answers with {answers.shape[1]} scores.")
    adds_up = bool((answers >= 0).all()) and bool(((answers.double().sum(1) - 1).abs() < SUMS).all())
    return "scores", answers.shape[1], score(options) or ("probabilities" if adds_up else "logits")


def padded(images: Tensor, multiple: int = ROW_MULTIPLE) -> Tensor:
    """Images with rows of zeros behind them, up to a multiple: a row then gets the same bits in any batch."""
    return F.pad(images, (0, 0, 0, 0, 0, 0, 0, -len(images) % multiple))
