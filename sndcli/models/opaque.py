"""A model that can only be asked: pixels in, scores or labels out.

`Classifier` is a torch network whose layers may be folded, copied and differentiated. An `OpaqueModel` is anything
else: a graph of another runtime, a compiled function, a server. It is never copied and never traced, and it has no
gradient. Inside the program both look alike, because `Logits` makes a module of an opaque model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from sndcli.errors import ConfigError
from sndcli.models.classifier import Classifier
from sndcli.models.preprocessing import Preprocessing

Access = Literal["scores", "labels"]
Score = Literal["logits", "probabilities"]
NO_LABEL = -1  # of a row that was not answered
SURE = 200.0  # logit of an answered label over all others, whose probabilities are then 0 in float32


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What an opaque model says of itself before it is asked anything.

    Attributes:
        name: how results call it.
        input_size: ``(C, H, W)`` of its images.
        classes: K, how many labels there are.
        digest: a short text that is another one whenever answers may be; it is part of a run's identity.
        access: what it answers, scores of all classes or labels alone.
        score: what the scores are. Score attacks work on probabilities, which logits are turned into.
        bare: whether its answers are those of an undefended model. Where they are not, or nobody knows (a server),
            what a run says of the undefended model is null, and images are chosen by a majority of answers.
        batch_rows: images a call, at most, where no ``--batch-size`` is given; 0: measured by asking it, which is
            only for models that cost nothing but time.
        rows_a_request: images that are sent together, where they are sent.
        eight_bits: whether it is sent images rounded to 8 bits; a run then counts distances of those.
        preprocessing: how pictures are brought to `input_size`, where the model has a way of its own.
    """

    name: str
    input_size: tuple[int, ...]
    classes: int
    digest: str
    access: Access = "scores"
    score: Score = "logits"
    bare: bool = True
    batch_rows: int = 0
    rows_a_request: int = 1
    eight_bits: bool = False
    preprocessing: Preprocessing | None = None

    def __post_init__(self) -> None:
        if len(self.input_size) != 3 or min(self.input_size) < 1:
            raise ConfigError(f"Expected the input of {self.name} to be C x H x W but got {self.input_size}.")
        if self.classes < 2:
            raise ConfigError(f"Expected {self.name} to have at least 2 classes but got {self.classes}.")


class OpaqueModel(ABC):
    """Anything that maps images to scores or labels.

    Args:
        facts: what it says of itself.

    Example:
        >>> class Dark(OpaqueModel):
        ...     def __call__(self, images):
        ...         return (images.mean((1, 2, 3)) < 0.5).long()
        >>> model = Dark(Facts(name="dark", input_size=(1, 4, 4), classes=2, digest="1", access="labels"))
        >>> model(torch.zeros(2, 1, 4, 4))
        tensor([1, 1])
        >>> Logits(model)(torch.zeros(1, 1, 4, 4)).softmax(1)
        tensor([[0., 1.]])
    """

    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    @property
    def name(self) -> str:
        """How results call it."""
        return self.facts.name

    @property
    def input_size(self) -> tuple[int, ...]:
        """``(C, H, W)``."""
        return self.facts.input_size

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How pictures are brought to `input_size`, where the model has a way of its own."""
        return self.facts.preprocessing

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """Answers about N images.

        Args:
            images: float32 ``[N, C, H, W]``, on the pixel scale [0, 1]. With a defense on this side its noise may lead
                a little out of it; a remote model clips, and rounds where bytes are sent.

        Returns:
            float ``[N, K]``, or int64 ``[N]`` where `Facts.access` is ``labels``. A row that was not answered is NaN,
            or `NO_LABEL`: it ends the attack on its image with an error status and never counts as a label.

        Raises:
            IncompleteError: there is nobody to ask any more. The run stops and can be resumed.
        """

    def sent(self) -> dict[str, int | float]:
        """What was sent to whoever answers, in numbers; nothing where the answers are computed here."""
        return {}

    def to(self, device: torch.device) -> None:  # noqa: B027 (most have nothing to move)
        """Moves what computes to `device`, where that is ours to say; images come from there and answers go there."""


Model = Classifier | OpaqueModel


def network_of(model: Model) -> Classifier:
    """The torch network of a model.

    Raises:
        ConfigError: it has none, it can only be asked.
    """
    if isinstance(model, OpaqueModel):
        raise ConfigError(f"This needs a torch network, but {model.name} can only be asked.")
    return model


class Logits(nn.Module):
    """An opaque model as a module from ``[M, C, H, W]`` to logits ``[M, K]``.

    Probabilities become their logarithms, labels a logit of `SURE` over all others, and a row that was not answered
    is NaN.
    """

    def __init__(self, model: OpaqueModel) -> None:
        super().__init__()
        self.opaque = model

    @property
    def name(self) -> str:
        """How results call the model."""
        return self.opaque.name

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[M, K]`` of `x`.

        Raises:
            ValueError: the answers are not of the shape or type that the model's facts promise.
        """
        facts = self.opaque.facts
        answers = self.opaque(x).to(x.device)
        if facts.access == "labels":
            return _one_hot(answers, len(x), facts)
        if answers.shape != (len(x), facts.classes) or not answers.is_floating_point():
            raise ValueError(
                f"Expected {facts.name} to answer with scores of shape {(len(x), facts.classes)} but got "
                f"{answers.dtype} {tuple(answers.shape)}."
            )
        answers = answers.float()
        if facts.score == "probabilities":
            answers = log_probabilities(answers)
        return answers


def log_probabilities(probabilities: Tensor) -> Tensor:
    """Natural logarithms, finite; NaN stays NaN. The softmax of them is the probabilities again."""
    return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()


def _one_hot(labels: Tensor, rows: int, facts: Facts) -> Tensor:
    if labels.shape != (rows,) or labels.is_floating_point():
        raise ValueError(
            f"Expected {facts.name} to answer with {rows} labels but got {labels.dtype} {tuple(labels.shape)}."
        )
    labels = labels.long()
    if rows and not NO_LABEL <= int(labels.min()) <= int(labels.max()) < facts.classes:
        raise ValueError(
            f"Expected labels of {facts.name} from 0 to {facts.classes - 1} but got values from {labels.min()} to "
            f"{labels.max()}."
        )
    logits = torch.zeros(rows, facts.classes, device=labels.device)
    logits.scatter_(1, labels.clamp_min(0)[:, None], SURE)
    logits[labels == NO_LABEL] = float("nan")
    return logits
