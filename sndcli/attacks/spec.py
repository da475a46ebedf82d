"""What an attack says of itself, in one object: everything that is known about it outside of its own file.

Flags, ladder, scales, documentation and plug-ins read it from here; nothing is guessed from how a name is spelled.
Importing this file imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, Field, asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, Generic, Literal, Protocol, TypeVar

from sndcli.errors import ConfigError, unknown

if TYPE_CHECKING:
    from sndcli.queries.oracle import Oracle
    from sndcli.streams import Streams

API = 1  # of `AttackSpec`; raised when an attack of another package would have to change

Access = Literal["labels", "scores"]
Scales = tuple[float | None, float | None]  # of probes and of searches


class Options(Protocol):
    """Hyper-parameters: a frozen dataclass of plain values, each with a default."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


OptionsT = TypeVar("OptionsT", bound=Options)
LATER = {"later": True}  # metadata of an option's field that came after runs had been kept


def told(options: Options) -> dict[str, object]:
    """Hyper-parameters by name, as a run's config has them: one that came `LATER` only where it is not as usual."""
    usual = {each.name: each.default for each in fields(options) if "later" in each.metadata}
    return {name: value for name, value in asdict(options).items() if name not in usual or value != usual[name]}


@dataclass(frozen=True)
class Preset(Generic[OptionsT]):
    """A set of hyper-parameters.

    Attributes:
        options: the hyper-parameters.
        noise_aware: whether the attack, with these, knows that answers may be random.
        source: the paper or code that they are from.
        ours: whether they are not published by anyone else.
        note: what they are, in a phrase or two.
    """

    options: OptionsT
    _: KW_ONLY
    noise_aware: bool = False
    source: str = ""
    ours: bool = False
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class AttackSpec(Generic[OptionsT]):
    """An attack and its facts.

    Attributes:
        name: as on the command line.
        access: what the oracle is asked for.
        norms: those it supports, the first is the default.
        presets: by name; the first is the default.
        summary: one line for ``snd ls attacks``.
        run: ``run(oracle, streams, options)``; with `references` these follow as a fourth argument.
        references: whether it takes reference models, the attacker's own.
        warm_start: whether it begins with them where some are given, as a fourth argument too, and else without.
        targeted: whether it can be after one label (``--target``): it asks the oracle's criterion alone, and a label
            attack starts from `Oracle.starts` where there are some.
        by_norm: norm -> preset, for norms with a default of their own.
        scales: ``scales(options, d, distance, sigma)``: how far it looks on images of d values at that L2 distance from
            the clean one, under noise σ. The first number is the standard deviation of a probe along the normal of the
            boundary, the second the L2 length of a search's last interval, both on the [0, 1] pixel scale and for the
            attack as it is some way in; None where there is no such thing. In L2 only.
        wider: settings that widen its probes, the widest last; of each preset those whose option it has.
        floor: a setting that ends its searches at the noise, with ``{}`` in the place of σ.
        told: a setting that tells its noise-aware presets the noise, with ``{}`` in the place of σ̂.
        relatives: other attacks that belong on its ladder -> their preset, or None.
        uses_eps: whether the points that it asks about or submits depend on ε; or the option that makes them do so.
        paid: ``paid(options, count, votes)``: queries that are paid for what its authors count as `count`, where that
            differs.
        api: form of this class that the attack was written for. An attack of another package is refused where it is
            not `API`.
    """

    name: str
    access: Access
    norms: tuple[str, ...]
    presets: Mapping[str, Preset[OptionsT]]
    summary: str
    run: Callable[Concatenate[Oracle, Streams, OptionsT, ...], None]
    references: bool = False
    warm_start: bool = False
    targeted: bool = False
    by_norm: Mapping[str, str] = field(default_factory=dict)
    scales: Callable[[OptionsT, int, float, float], Scales | None] | None = None
    wider: tuple[str, ...] = ()
    floor: str = ""
    told: str = ""
    relatives: Mapping[str, str | None] = field(default_factory=dict)
    uses_eps: bool | str = True
    paid: Callable[[OptionsT, int, int], int] | None = None
    api: int = 1  # a spec that does not say so is of the first form, whatever `API` is by then

    def __new__(cls, *former: object, **given: object) -> AttackSpec[OptionsT]:
        """Refuses the form of version 0.1, which named a module."""
        if former or "module" in given:
            raise ConfigError(
                "an AttackSpec names its `run=` and `presets={name: Preset(options)}`, and no `module` any more; "
                "see docs/extending.md"
            )
        return super().__new__(cls)

    def __post_init__(self) -> None:
        if self.access not in ("labels", "scores"):
            raise ConfigError(f"Expected `access` of {self.name} to be labels or scores but got {self.access}.")
        if not self.presets or not self.norms:
            raise ConfigError(f"Expected the attack `{self.name}` to have at least one norm and one preset.")
        for norm, preset in self.by_norm.items():
            if norm not in self.norms:
                raise unknown(f"norm of {self.name}", norm, self.norms)
            if preset not in self.presets:
                raise unknown(f"preset of {self.name}", preset, self.presets)

    def default_preset(self, norm: str | None = None) -> str:
        """The preset of a run in this norm that names none."""
        return self.by_norm.get(norm or self.norms[0], next(iter(self.presets)))

    def presets_for(self, norm: str) -> list[str]:
        """All presets but those that are the default of another norm alone."""
        others = {preset for other, preset in self.by_norm.items() if other != norm} - {self.default_preset(norm)}
        return [preset for preset in self.presets if preset not in others]

    def noise_aware(self, preset: str | None = None) -> bool:
        """Whether a preset knows of the noise, the first one where none is named."""
        found = self.presets.get(preset or next(iter(self.presets)))
        return found is not None and found.noise_aware

    def depends_on_eps(self, options: Mapping[str, object]) -> bool:
        """Whether the points of a run with these options, by name, depend on ε."""
        return bool(options.get(self.uses_eps)) if isinstance(self.uses_eps, str) else self.uses_eps

    def scales_at(self, options: OptionsT, d: int, distance: float, sigma: float) -> Scales:
        """As `scales`; ``(None, None)`` where nothing is known."""
        found = self.scales(options, d, distance, sigma) if self.scales else None
        return found or (None, None)

    def paid_for(self, options: OptionsT, count: int, votes: int = 1) -> int:
        """As `paid`; `count` where the authors count as we do."""
        return self.paid(options, count, votes) if self.paid else count


def options_of(
    spec: AttackSpec[OptionsT], preset: str | None, settings: tuple[str, ...] = (), norm: str | None = None
) -> OptionsT:
    """The hyper-parameters of an attack: a preset, changed by ``key=value`` settings.

    Without a preset it is `AttackSpec.default_preset`.

    Raises:
        ConfigError: an unknown preset or key, or a value that does not parse.
    """
    from sndcli.attacks.ranges import parsed  # pydantic is not needed to list attacks

    chosen = preset or spec.default_preset(norm)
    if chosen not in spec.presets:
        raise unknown(f"preset of {spec.name}", chosen, spec.presets)
    options = spec.presets[chosen].options
    return replace(options, **parsed(type(options), settings, spec.name))
