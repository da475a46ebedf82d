"""The Python API: one attack, or several against several noises, over the same road as the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import pyarrow as pa
import torch
from torch import Tensor, nn

from sndcli.analysis.summary import Summary, outcomes, summarise
from sndcli.attacks.registry import spec_of
from sndcli.attacks.spec import options_of
from sndcli.datasets.base import ImageSet
from sndcli.defenses.parse import DefenseSpec, parse, settle
from sndcli.errors import ConfigError
from sndcli.models.classifier import Classifier, Normalisation
from sndcli.models.inference import Precision, resolve_device
from sndcli.models.opaque import Model as Opened
from sndcli.models.opaque import OpaqueModel
from sndcli.models.reference import Reference
from sndcli.models.sources import digest, load_model, open_model
from sndcli.runs import points
from sndcli.runs.config import RunConfig
from sndcli.runs.job import Job
from sndcli.runs.listener import Listener

Norm = Literal["l2", "linf"]
Model = str | nn.Module | OpaqueModel


@dataclass(frozen=True)
class Result:
    """What an attack reached; rows are in the order of the images.

    Attributes:
        attack: its name.
        defense: what it was up against.
        labels: int64 ``[N]``, what the undefended model calls the submitted points.
        points: float32 ``[N, C, H, W]`` in [0, 1], as submitted at the end; the clean image where none was.
        submitted: bool ``[N]``, whether there is a point.
        distances: float64 ``[N]`` of the submitted points from their images, in the attack's norm; inf where none.
        queries: int64 ``[N]``, paid.
        seen: bool ``[N]``, whether some paid query inside ε was answered with a wrong label.
        noisy: bool ``[N]``, whether the submitted point, moved out to ε, errs in at least half of fresh draws.
        rows: the figures with their intervals, one a report point: ``row.rate("success_noisy")``, ``row.as_dict()``.
    """

    attack: str
    defense: str
    labels: Tensor
    points: Tensor
    submitted: Tensor
    distances: Tensor
    queries: Tensor
    seen: Tensor
    noisy: Tensor
    rows: Sequence[Summary]
    _table: pa.Table

    def to_arrow(self) -> pa.Table:
        """The rows of the result file, one an image; written as Parquet it is one that ``snd report`` reads."""
        return self._table

    def __repr__(self) -> str:
        return f"Result({self.attack} against {self.defense}: {int(self.noisy.sum())} of {len(self.noisy)} noisy)"


def attack(
    name: str,
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    sigma: float | None = None,
    defense: str | None = None,
    beta: float | None = None,
    clip: bool = False,
    budget: int = 2000,
    budgets: Sequence[int] = (),
    eps: float = 1.0,
    norm: Norm | None = None,
    preset: str | None = None,
    settings: Mapping[str, object] | None = None,
    references: Sequence[Model] = (),
    votes: int = 1,
    seed: int = 0,
    verify: int = 100,
    boundary: bool = True,
    device: str = "auto",
    batch_rows: int = 0,
    precision: Precision = "fp32",
    allow_rounding: bool = False,
    listener: Listener | None = None,
) -> Result:
    """Attacks a (defended) classifier on given images, and verifies what was submitted.

    Args:
        name: of the attack, see ``snd ls attacks``.
        model: a `Classifier`, any torch module from pixels in [0, 1] to logits, a source such as ``"resnet20"``, or an
            `OpaqueModel`.
        x: images ``[N, C, H, W]``, uint8 or floating point in [0, 1].
        y: int64 ``[N]``, their labels.
        sigma: of the noise; alone it means the defense ``snd``.
        defense: as of ``--defense``: ``snd``, ``rnp``, ``aug:shift=2``, ..., joined by ``+``.
        beta: multiplies the noise of each query by Beta(β, β).
        clip: to [0, 1] after the noise.
        budget: paid queries an image, at most.
        budgets: report points beside it.
        eps: ε.
        norm: the attack's own by default.
        preset: a parameter set of the attack.
        settings: its options by name.
        references: the attacker's own models, for the attacks that take them.
        votes: answers to a question, all paid.
        seed: of all randomness. The result of an image depends on its row, the seed and the other arguments.
        verify: fresh draws.
        boundary: find where the majority flips.
        device: ``auto``, ``cpu``, ``cuda``, ...
        batch_rows: rows a forward pass; 0: measured.
        precision: of the network's arithmetic.
        allow_rounding: a reduced precision is allowed without a defense, which its rounding then is.
        listener: told how it goes.

    Raises:
        ConfigError: an unknown name or something that cannot be.
        ValueError: images or labels of the wrong shape, type or range.

    Example:
        >>> import sndcli
        >>> class Bright(nn.Module):  # label 1 where the mean is above 0.55: a half-space at a distance of 0.69
        ...     def forward(self, x):
        ...         return torch.stack([x.mean((1, 2, 3)) * 0 + 0.55, x.mean((1, 2, 3))], 1)
        >>> x, y = torch.full((2, 3, 8, 8), 0.5), torch.tensor([0, 0])
        >>> found = sndcli.attack("hsja", Bright(), x, y, budget=1000, batch_rows=8)
        >>> found
        Result(hsja against none: 2 of 2 noisy)
        >>> found.labels.tolist(), bool((found.distances < 1.0).all())
        ([1, 1], True)
    """
    classifier = _classifier(model, x)
    spec, chosen = parse(defense, sigma, beta, clip), spec_of(name)
    networks = [_network(reference, x) for reference in references]
    if networks and not (chosen.references or chosen.warm_start):
        raise ConfigError(f"`{name}` takes no reference models.")
    if chosen.access == "scores" and isinstance(classifier, OpaqueModel) and classifier.facts.access == "labels":
        raise ConfigError(f"`{name}` needs scores, but {classifier.name} answers with labels alone.")
    text = tuple(f"{key}={value}" for key, value in (settings or {}).items())
    options_of(chosen, preset, text, norm or chosen.norms[0])
    data = _images(x, y, classifier)
    place = resolve_device(device)
    config = RunConfig(
        attack=name, dataset=data.name, dataset_source=data.source, dataset_digest=data.digest(),
        model=classifier.name, model_digest=digest(classifier), defense=settle(spec, classifier), preset=preset,
        settings=text, votes=votes, norm=norm or chosen.norms[0], eps=eps, budget=budget,
        budgets=(*budgets, budget), images=len(data), select="all", seed=seed, verify=verify, boundary=boundary,
        precision=precision, references=tuple((network.name, digest(network)) for network in networks),
        device=place.type,
    )  # fmt: skip
    with TemporaryDirectory() as folder:
        job = Job(
            data=data, model=classifier, config=config, device=place, batch_rows=batch_rows, out=Path(folder),
            references=[Reference(network, place) for network in networks], save_points=True,
            listener=listener or Listener(), allow_rounding=allow_rounding,
        )  # fmt: skip
        run = job.run(config.defense)
        kept = points.read(points.path_of(run.path))
    return _result(run.table, kept, config)


@dataclass(frozen=True)
class Evaluation:
    """Several attacks against several noises on the same images.

    Attributes:
        results: by (attack, σ).
    """

    results: Mapping[tuple[str, float], Result]

    @property
    def rows(self) -> list[Summary]:
        """The figures of all results, one a report point."""
        return [row for result in self.results.values() for row in result.rows]

    def worst(self) -> Mapping[float, Tensor]:
        """σ -> bool ``[N]``: images on which any of the attacks succeeds, noisy, after the fact."""
        found: dict[float, Tensor] = {}
        for (_, sigma), result in self.results.items():
            found[sigma] = found.get(sigma, torch.zeros_like(result.noisy)) | result.noisy
        return found


def evaluate(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    attacks: Sequence[str] = ("hsja", "hsja-na"),
    sigmas: Sequence[float] = (0.0, 0.01),
    budget: int = 2000,
    eps: float = 1.0,
    seed: int = 0,
    listener: Listener | None = None,
) -> Evaluation:
    """Runs each attack against each σ of the Small Noise Defense: a published attack beside one that knows of it.

    Args:
        model, x, y, budget, eps, seed, listener: as of `attack`.
        attacks: names.
        sigmas: widths of the noise; 0 is the bare model.

    Raises:
        ConfigError, ValueError: as `attack`.
    """
    classifier = _classifier(model, x)  # loaded once for all
    return Evaluation({
        (name, sigma): attack(name, classifier, x, y, sigma=sigma, budget=budget, eps=eps, seed=seed, listener=listener)
        for name in attacks
        for sigma in sigmas
    })  # fmt: skip


def _classifier(model: Model, x: Tensor) -> Opened:
    if isinstance(model, str):
        return open_model(model)
    return model if isinstance(model, OpaqueModel) else _network(model, x)


def _network(model: Model, x: Tensor) -> Classifier:
    """A torch network.

    Raises:
        ConfigError: the model can only be asked.
    """
    if isinstance(model, OpaqueModel):
        raise ConfigError(f"Expected a torch network as a reference, but {model.name} can only be asked.")
    if isinstance(model, str):
        return load_model(model)
    if isinstance(model, Classifier):
        return model
    channels = x.shape[1]
    plain = Normalisation((0.0,) * channels, (1.0,) * channels)
    return Classifier(model, plain, tuple(x.shape[1:]), type(model).__name__)


def _images(x: Tensor, y: Tensor, model: Opened) -> ImageSet:
    """A data set of given images.

    Raises:
        ValueError: they are none.
    """
    if x.ndim != 4 or not len(x) or y.shape != x.shape[:1]:
        raise ValueError(f"Expected `x` [N, C, H, W] and `y` [N] but got {tuple(x.shape)} and {tuple(y.shape)}.")
    if x.dtype != torch.uint8:
        x = x.detach().to(torch.float32)
        if not bool(((x >= 0) & (x <= 1)).all()):  # false for NaN, too
            raise ValueError(f"Expected `x` in [0, 1] but got values from {x.min():g} to {x.max():g}.")
    labels = y.detach().cpu().to(torch.int64)
    data = ImageSet("images", f"{len(x)} given images", x.cpu(), labels, torch.arange(len(x)), ())
    if isinstance(model, OpaqueModel):
        outputs = model.facts.classes
    else:
        with torch.no_grad():
            outputs = model(data.pixels(torch.arange(1)).to(model.mean.device)).shape[1]
    if not bool(((labels >= 0) & (labels < outputs)).all()):
        raise ValueError(f"Expected `y` from 0 to {outputs - 1} but got values from {labels.min()} to {labels.max()}.")
    return replace(data, classes=tuple(str(k) for k in range(outputs)))


def _result(table: pa.Table, kept: points.Points, config: RunConfig) -> Result:
    order = torch.argsort(kept.image_id)
    table = table.take(pa.array(order.tolist()))
    hits = outcomes(table, config.budget)
    keys = [(config.seed, image) for image in range(len(order))]
    defense: DefenseSpec = config.defense
    return Result(
        attack=config.attack, defense=defense.words,
        labels=kept.bare_label[order], points=kept.submitted[order], submitted=kept.has_submitted[order],
        distances=torch.tensor([d[-1] for d in table.column("distance_submitted").to_pylist()], dtype=torch.float64),
        queries=torch.tensor(table.column("queries").to_pylist()),
        seen=torch.tensor([hits["success_seen"][key] for key in keys]),
        noisy=torch.tensor([hits["success_noisy"][key] for key in keys]),
        rows=summarise([table]), _table=table,
    )  # fmt: skip
