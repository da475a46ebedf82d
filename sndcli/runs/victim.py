"""The model under attack, bare and defended, ready to be asked; and its clean accuracy."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sndcli.datasets.base import ImageSet
from sndcli.defenses.base import Defense, settle_sources
from sndcli.defenses.parse import DefenseSpec, build
from sndcli.errors import ConfigError, DataError, first_line
from sndcli.models.classifier import Classifier
from sndcli.models.inference import (
    REDUCED,
    Forward,
    Precision,
    lower,
    measure_batch_size,
    optimise,
    sizes_to_compile,
)
from sndcli.models.inference import compiled as compiled_copy
from sndcli.models.opaque import Logits, Model, OpaqueModel, network_of
from sndcli.queries.draws import UNANSWERED, labels_of
from sndcli.runs.rounding import IMAGES, Rounding, measure
from sndcli.streams import ImageStreams, Purpose, Streams, UnitStreams, hashed

PASSES, COPIES, LOOKED_AT = 2, 8, 8  # that show whether a model draws: passes, copies of an image in each, images
ANSWERS = 9  # odd; whose majority says what a model that draws by itself calls an image
ROUNDING = 1e-5  # of the largest logit: how far two answers may lie apart and still be the same


@dataclass
class Victim:
    """The undefended and the defended model, ready to be asked.

    Attributes:
        model: the undefended one.
        undefended: asks it.
        defended: asks it behind the defense.
        per_image: whether every defense draws for each image from a stream of its own.
        draws_itself: whether two answers of `undefended` to one question were seen to differ.
        answers_to_name: unpaid answers that `labels` took a majority of.
        classes: K, known from `fit_to`.
        rounding: how much noise rounding makes, known from `fit_to`.
        exact: the undefended and the defended model in float32, until that is known.
    """

    model: Model
    undefended: Forward
    defended: Forward
    per_image: bool = True
    draws_itself: bool = False
    answers_to_name: int = 0
    classes: int = 0
    rounding: Rounding = field(default_factory=Rounding)
    exact: tuple[DefenseSpec, Forward, Forward] | None = None

    @classmethod
    def prepare(
        cls,
        model: Model,
        defense: DefenseSpec,
        device: torch.device,
        batch_size: int,
        precision: Precision = "fp32",
        compiled: bool = False,
    ) -> Victim:
        """Folds, moves and wraps; checks that a forward pass of the stated input size is finite.

        A `batch_size` of 0 is measured, without the defense and before compiling. An opaque model is left as it is.

        Raises:
            ConfigError: the model, behind the defense or not, cannot be asked; or an option is for torch networks.
            DataError: its scores are not finite.
        """
        asked, ready = _ready(model, device, precision, compiled)
        x = torch.rand(2, *model.input_size, generator=torch.Generator().manual_seed(0))
        logits = _try(Forward(asked, device), x, f"Model {model.name}")
        if not bool(logits.isfinite().all()):
            raise DataError(f"Model {model.name} returns NaN or infinite logits: its weights are broken.")
        exact = deepcopy(asked) if precision in REDUCED else None
        lower(asked, precision)
        batch_size = batch_size or (model.facts.batch_rows if isinstance(model, OpaqueModel) else 0)
        batch_size = batch_size or measure_batch_size(asked, model.input_size, device)
        if compiled and isinstance(model, Classifier):
            asked = ready = compiled_copy(model, device, sizes_to_compile(device, batch_size), precision)
            _try(Forward(asked, device, batch_size), x, f"Model {model.name}, compiled (--no-compile: it is not),")
        defended = build(defense, asked, device)
        lower(defended, precision)
        victim = cls(
            ready,
            Forward(asked, device, batch_size),
            Forward(defended, device, batch_size),
            settle_sources(defended),
            exact=None if exact is None else _exact(exact, defense, device, batch_size),
        )
        if defended is not asked:
            _try(victim.defended, x, f"Model {model.name} behind `--defense {defense.name}`")
        return victim

    @property
    def classifier(self) -> Classifier:
        """The undefended network.

        Raises:
            ConfigError: there is none, the model can only be asked.
        """
        return network_of(self.model)

    @property
    def random(self) -> bool:
        """Whether the undefended model may answer the same question differently."""
        return self.bare is None

    @property
    def bare(self) -> Forward | None:
        """Asks the model without any defense; None where it draws by itself, or a server may defend it."""
        known = not isinstance(self.model, OpaqueModel) or self.model.facts.bare
        return self.undefended if known and not self.draws_itself else None

    def labels(self, x: Tensor) -> Tensor:
        """int64 ``[M]``: what the undefended model calls `x` ``[M, C, H, W]``.

        Without a bare model it is the majority of nine unpaid answers, the smallest label of several; -1 where none of
        them was answered.
        """
        if self.bare is not None:
            return labels_of(self.bare(x))
        self.answers_to_name += ANSWERS * len(x)
        found = torch.stack([labels_of(self.undefended(x)) for _ in range(ANSWERS)], 1)
        classes = 1 + max(0, int(found.max())) if len(x) else 1
        counts = torch.stack([(found == label).sum(1) for label in range(classes)], 1)
        return torch.where((found == UNANSWERED).all(1), UNANSWERED, counts.argmax(1))

    def fit_to(self, data: ImageSet) -> None:
        """Checks that the data set's size and classes are the model's, and looks whether the model draws by itself.

        Raises:
            ConfigError: they are not.
        """
        size, name = data.size, self.model.name
        if size != self.model.input_size:
            raise ConfigError(f"Expected images of {self.model.input_size} for {name} but {data.name} has {size}.")
        if isinstance(self.model, OpaqueModel):
            self.classes = self.model.facts.classes
        else:
            self.classes = self.undefended(torch.zeros(1, *size)).shape[1]
        named = len(data.classes)
        if named != self.classes and not (data.outputs_may_be_more and named < self.classes):
            hint = " (--classes says which output a folder is)" if data.name.startswith("folder:") else ""
            raise ConfigError(f"Expected {self.classes} classes for {name} but {data.name} has {named}{hint}.")
        looked_at = data.readable(torch.arange(min(LOOKED_AT, len(data))))
        self.draws_itself = draws(self.undefended, data.pixels(looked_at))
        if self.exact is not None:
            (defense, *exact), self.exact = self.exact, None
            index = data.readable(torch.arange(min(IMAGES, len(data))))
            x, ids = data.pixels(index), data.ids[index].tolist()
            self.rounding = measure((exact[0], exact[1]), (self.undefended, self.defended), defense, x, ids)

    def streams(self, seed: int, image_ids: Tensor, unit: int, purpose: Purpose) -> Streams:
        """The streams of a work unit's images for a purpose; a defense with a stream of its own is restarted.

        On CUDA one stream serves the whole unit, whose number then counts.
        """
        if not self.per_image and purpose != "attack":
            self.reseed(hashed(seed, unit, purpose))
        if self.defended.device.type == "cpu":
            return ImageStreams(seed, image_ids.tolist(), purpose)
        return UnitStreams(hashed(seed, unit, purpose), self.defended.device)

    def reseed(self, seed: int) -> None:
        """Restarts what the defense draws outside of a run."""
        if isinstance(self.defended.model, Defense):
            self.defended.model.reseed(seed)

    @property
    def streams_are(self) -> str:
        """``image``, or ``unit`` where a work unit's images share a stream: draws then depend on the unit."""
        per_image = self.per_image and self.bare is not None
        return "image" if per_image and self.defended.device.type == "cpu" else "unit"


def draws(forward: Forward, x: Tensor) -> bool:
    """Whether a model draws by itself: repeated passes on `x` ``[n, C, H, W]`` differ by more than rounding.

    The state of torch's global generator is put back.
    """
    rows = x.repeat_interleave(COPIES, 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        answers = torch.stack([forward(rows) for _ in range(PASSES)], 1).nan_to_num()
    answers = answers.view(len(x), COPIES * PASSES, -1)
    apart = (answers - answers[:, :1]).abs()
    return bool((apart > ROUNDING * (1 + answers.abs().amax((1, 2), keepdim=True))).any()) if len(x) else False


def _ready(
    model: Model, device: torch.device, precision: Precision, compiled: bool
) -> tuple[Classifier | Logits, Model]:
    """The module that is asked, and the model that it belongs to.

    Raises:
        ConfigError: an option that an opaque model does not have.
    """
    if isinstance(model, Classifier):
        fast = optimise(model, device)
        return fast, fast
    if compiled or precision != "fp32":
        option = "--compile" if compiled else f"--precision {precision}"
        raise ConfigError(f"`{option}` is for torch networks, but {model.name} can only be asked.")
    model.to(device)
    return Logits(model), model


def _exact(
    network: Classifier | Logits, defense: DefenseSpec, device: torch.device, batch_size: int
) -> tuple[DefenseSpec, Forward, Forward]:
    """A copy in float32, bare and defended, that rounding is measured by."""
    defended = build(defense, network, device)
    settle_sources(defended)
    return defense, Forward(network, device, batch_size), Forward(defended, device, batch_size)


def _try(forward: Forward, x: torch.Tensor, what: str) -> torch.Tensor:
    """Logits of `x`, or one line on why not: each architecture has its own complaint about a size."""
    try:
        logits = forward(x)
        if logits.ndim != 2 or len(logits) != len(x) or not logits.shape[1]:
            raise ValueError(f"expected logits [{len(x)}, K] but got {list(logits.shape)}")
        return logits
    except (MemoryError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a user's network does
        shape = " x ".join(map(str, x.shape[2:]))
        raise ConfigError(f"{what} fails on images of {shape}: {first_line(error)}") from None
