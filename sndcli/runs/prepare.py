"""From what a user asks for to a job: names become models, data and a config."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from sndcli.attacks.registry import REFERENCES, spec_of
from sndcli.attacks.spec import options_of
from sndcli.datasets.base import ImageSet
from sndcli.datasets.cifar10 import proxy_ids
from sndcli.datasets.folder import Reading
from sndcli.datasets.load import data_dir_of, load
from sndcli.datasets.protocol import protocol_of, usual_eps
from sndcli.defenses.parse import settle
from sndcli.errors import ConfigError
from sndcli.models.inference import resolve_device
from sndcli.models.opaque import Model, OpaqueModel
from sndcli.models.preprocessing import fitting
from sndcli.models.reference import Reference
from sndcli.models.sources import digest, load_model, open_model
from sndcli.runs.compiling import settled
from sndcli.runs.config import RunConfig
from sndcli.runs.job import Job
from sndcli.runs.listener import Listener
from sndcli.runs.request import Request, Source
from sndcli.runs.rounding import check_rounding
from sndcli.runs.targets import attackable, check_target

LINF_EPS = 8 / 255


def open_source(source: Source, listener: Listener) -> tuple[Model, ImageSet]:
    """The model, and the data set brought to its input's size.

    Raises:
        ConfigError: an unknown name.
        DataError: data or weights are missing or broken.
    """
    model = open_model(source.model, source.download, source.remote)
    return model, open_data(source, model, listener)


def open_data(source: Source, model: Model, listener: Listener) -> ImageSet:
    """The data set brought to the size of the model's input.

    Raises:
        ConfigError: an unknown name.
        DataError: data are missing or broken.
    """
    how = model.preprocessing or fitting(model.input_size)
    reading = Reading(replace(how, channels=model.input_size[0]), source.skip_broken, listener.warn)
    return load(source.dataset, data_dir_of(source.data_dir), source.download, reading, source.classes)


def prepare(
    request: Request,
    listener: Listener,
    debug: bool = False,
    opened: Callable[[], tuple[Model, ImageSet]] | None = None,
) -> Job:
    """Makes the job.

    Args:
        request: what is wanted.
        listener: told how it goes.
        debug: let an attack's exception through instead of marking its images.
        opened: gives the request's model and data set, each time the same, where several jobs share them.

    Raises:
        ConfigError: something that cannot be; told before anything slow is loaded where it can.
        DataError: data or weights are missing or broken.
    """
    r = request
    check_rounding(r.precision, r.defense, r.allow_rounding)
    spec = spec_of(r.attack)
    sources, target = _reference_sources(r), check_target(r.target, spec, r.dataset)
    usual = protocol_of(r.dataset)
    budget = r.budget if r.budget is not None else usual.budget
    budgets = r.budgets
    norm = r.norm or spec.norms[0]
    options = options_of(spec, r.preset, r.settings, norm)  # a wrong one is told before anything slow is loaded
    if (paid := spec.paid_for(options, budget, r.votes)) != budget:
        points = budgets or [b for b in usual.budgets if b <= budget]
        listener.note(f"{budget} queries by the authors' count are {paid} paid ones")
        budget, budgets = paid, tuple(spec.paid_for(options, b, r.votes) for b in points)
    if r.image_ids and (r.images is not None or r.select_by or r.select != "correct"):
        raise ConfigError("`--image-ids` says which images: no --images, --select or --select-by.")
    if r.select == "all" and r.select_by:
        raise ConfigError("`--select all` asks no model: no --select-by.")
    model = opened()[0] if opened else open_model(r.model, r.download, r.remote)
    if spec.access == "scores" and isinstance(model, OpaqueModel) and model.facts.access == "labels":
        raise ConfigError(f"`{r.attack}` needs scores, but {model.name} answers with labels alone.")
    eight_bits = isinstance(model, OpaqueModel) and model.facts.eight_bits
    if eight_bits and not r.quantize:
        listener.note(f"{model.name} is sent 8-bit images, so distances are of those")
    eps, *eps_also = r.eps or (usual_eps(r.dataset, model.input_size) if norm == "l2" else LINF_EPS,)
    data = opened()[1] if opened else open_data(r, model, listener)
    networks = [load_model(source, r.download) for source in sources]
    data = not_trained_on(data, sources)
    data = attackable(data, target) if target else data
    if r.image_ids:
        data.positions(r.image_ids)
    select_by, chooser = _chooser(r, model, data, listener)
    images = len(r.image_ids) or (r.images if r.images is not None else usual.images)
    device = resolve_device(r.device)
    config = RunConfig(
        attack=r.attack, dataset=data.name, dataset_source=data.source, dataset_digest=data.digest(),
        model=model.name, model_digest=digest(model), defense=settle(r.defense, model), engine=r.engine,
        preset=r.preset, settings=r.settings, votes=r.votes, norm=norm, eps=eps, eps_also=tuple(eps_also),
        budget=budget, budgets=budgets, images=images, select="all" if r.image_ids else r.select,
        seed=r.seed, repeats=r.repeats, verify=r.verify, unit=r.unit, quantize=r.quantize or eight_bits,
        mismatch=r.mismatch, boundary=r.boundary, precision=r.precision, compiled=bool(r.compiled), device=device.type,
        references=tuple((network.name, digest(network)) for network in networks), select_by=select_by,
        stop=r.stop, image_ids=r.image_ids, target=target,
    )  # fmt: skip
    if r.compiled is None:
        config = settled(config, model, r.model, r.out, r.fresh)
    references = [Reference(network, device) for network in networks]
    for reference in references:
        reference.check(data.size, len(data.classes))
    names = f"; references: {', '.join(network.name for network in networks)}" if networks else ""
    listener.note(f"data: {data.source}; model: {model.name} on {device}{names}")
    return Job(
        data=data, model=model, config=config, device=device, batch_rows=r.batch_rows, out=r.out, fresh=r.fresh,
        debug=debug, references=references, save_points=r.save_points, chooser=chooser, listener=listener,
        allow_rounding=r.allow_rounding,
        source=r.model,
    )  # fmt: skip


def not_trained_on(data: ImageSet, sources: Sequence[str]) -> ImageSet:
    """The images that none of the reference models in the package was trained on, where one of them is used."""
    if data.name != "cifar10" or not set(sources) & set(REFERENCES["cifar10"]):
        return data
    return data.without(proxy_ids(), "the images that reference models were trained on")


def _chooser(
    request: Request, model: Model, data: ImageSet, listener: Listener
) -> tuple[str, tuple[ImageSet, Model] | None]:
    """Who chooses the images where another than the attacked model does, and on which pixels.

    The other sees the pictures brought to its own input, so that images are those of its own runs.

    Raises:
        ConfigError: an unknown model.
        DataError: weights are missing or broken.
    """
    if not request.select_by:
        return "", None
    if data.name == "cifar10":  # whose images are the same for every model
        other, seen = open_model(request.select_by, request.download, request.remote), data
    else:
        other, seen = open_source(replace(request, model=request.select_by), listener)
    told = [(m.name, digest(m), d.digest()) for m, d in ((other, seen), (model, data))]
    if told[0] == told[1]:
        return "", None
    return " ".join(told[0][: 2 if told[0][2] == told[1][2] else 3]), (seen, other)


def _reference_sources(request: Request) -> list[str]:
    """Model sources of the attacker's own networks: those given (``none``: nothing), else the data set's.

    Raises:
        ConfigError: an attack that takes none; or a data set that has none in the package.
    """
    name, given, dataset = request.attack, request.references, request.dataset
    spec = spec_of(name)
    if not (spec.references or (spec.warm_start and given)):
        if given:
            raise ConfigError(f"`{name}` takes no reference models: no --reference.")
        return []
    if given is None and dataset not in REFERENCES:
        raise ConfigError(f"`{name}` on {dataset} needs --reference SOURCE, e.g. torchvision:resnet18; or none.")
    return [*REFERENCES[dataset]] if given is None else [source for source in given if source != "none"]
