"""Options that several commands share, as dataclasses that commands inherit. No torch at module level.

A command is a frozen dataclass: its fields are its options, as Typer reads them from the signature of its
constructor, and its ``run`` returns what is to be shown. So no option is lost on its way: mypy sees every field.
(Annotations must be objects here and not strings, hence no ``from __future__ import annotations``.)
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from sndcli.cli import complete, image_ids
from sndcli.cli.command import Command
from sndcli.cli.compiling import Compile, wished
from sndcli.cli.console import Console
from sndcli.cli.defaults import ConfigFile
from sndcli.cli.machines import ShardOptions
from sndcli.cli.ranges import COUNT, SEED
from sndcli.cli.remote import RemoteOptions
from sndcli.errors import ConfigError

if TYPE_CHECKING:
    from sndcli.defenses.parse import DefenseSpec
    from sndcli.runs.request import Request, Source

T = TypeVar("T", bound=str)

NORMS: tuple[Literal["l2", "linf"], ...] = ("l2", "linf")
PRECISIONS: tuple[Literal["fp32", "bf16"], ...] = ("fp32", "bf16")
SELECTIONS: tuple[Literal["correct", "all"], ...] = ("correct", "all")
STOPS: tuple[Literal["seen", "confirmed", "verified"], ...] = ("seen", "confirmed", "verified")
ENGINES: tuple[Literal["native", "foolbox"], ...] = ("native", "foolbox")

Dataset = Annotated[
    str,
    typer.Option(help="cifar10, imagenet, or folder:DIR (one folder a class).", autocompletion=complete.datasets),
]
DataDir = Annotated[
    Path | None,
    typer.Option(help="Where the full data set is (also SND_DATA). Without it, cifar10 is the images in the package."),
]
Download = Annotated[
    bool, typer.Option("--download", help="Fetch cifar10 into --data-dir first, and a model's weights from its hub.")
]
Classes = Annotated[
    Path | None,
    typer.Option(help="Which output each folder of folder:DIR is: one name a line in their order, or JSON."),
]
Model = Annotated[
    str,
    typer.Option(help="resnet20, another of `snd ls models`, file:PATH?arch=resnet20, torchvision:NAME, timm:NAME, "
                      "hf:DIR, onnx:FILE, torchscript:FILE?size=S, py:module:factory (imports and runs that module) or "
                      "http://HOST:PORT. What each takes: docs/models.md.",
                 autocompletion=complete.models),
]  # fmt: skip
References = Annotated[
    list[str] | None,
    typer.Option("--reference", help="A model of the attacker's own (subspace), a source as of --model, or none; "
                 "repeatable. Default for cifar10: ref-vgg and ref-wide.", metavar="SOURCE",
                 autocompletion=complete.models),
]  # fmt: skip
DefenseName = Annotated[
    str | None,
    typer.Option(
        "--defense",
        help="none, snd, rnp, rse, pni, others of `snd ls defenses` with parameters (aug:shift=2) or py:module:Class; "
        "joined by +, outermost last: aug+snd.",
        autocompletion=complete.defenses,
    ),
]
DefenseWeights = Annotated[
    str | None,
    typer.Option(help="Network of rse or pni: a name of the zoo or file:PATH. Default: the zoo's for --model."),
]
Sigma = Annotated[
    float | None, typer.Option(help="Noise of snd on the [0, 1] pixel scale; alone it means --defense snd.")
]
Beta = Annotated[float | None, typer.Option(help="Multiply the noise of each query by Beta(A, A).", metavar="A")]
Clip = Annotated[bool, typer.Option("--clip", help="Clip to [0, 1] after the noise.")]
SkipBroken = Annotated[bool, typer.Option("--skip-broken", help="Leave out pictures that cannot be decoded.")]
Images = Annotated[int | None, COUNT, typer.Option(help="How many images. Default 100; imagenet 250.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done, and about how long it takes.")]
SelectOption = Annotated[
    str, typer.Option("--select", help="correct (right on the undefended model) or all.", metavar="correct|all")
]
SelectBy = Annotated[
    str | None,
    typer.Option("--select-by", help="Images are chosen by this model, a source as of --model; default the attacked "
                 "one.", metavar="SOURCE", autocompletion=complete.models),
]  # fmt: skip
Seed = Annotated[int, SEED, typer.Option(help="Of the choice of images and of all randomness.")]
Repeats = Annotated[int, COUNT, typer.Option(help="Repeat with seed, seed+1, ...")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
PrecisionOption = Annotated[str, typer.Option("--precision", help="fp32 or bf16.", metavar="fp32|bf16")]
AllowRounding = Annotated[
    bool, typer.Option("--allow-rounding", help="Allow bf16 without a defense, which its rounding then is.")
]
BatchSize = Annotated[
    str, typer.Option(help="Rows a forward pass, or auto: measured. No effect on results on the CPU.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Nothing on stderr but errors.")]
Details = Annotated[bool, typer.Option("--details", help="All figures, not only seen, noisy, clean and floor.")]
NoProgress = Annotated[bool, typer.Option("--no-progress", help="No progress bar.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]


@dataclass(frozen=True, kw_only=True)
class Talk(Command):
    """Of commands that print a result."""

    json: Json = False
    quiet: Quiet = False
    debug: Debug = False
    config: ConfigFile = None

    @property
    def as_json(self) -> bool:
        """Whether the result is one JSON object."""
        return self.json

    def console(self) -> Console:
        """Quiet where asked to be."""
        return Console(quiet=self.quiet)


@dataclass(frozen=True, kw_only=True)
class LongTalk(Talk):
    """Of commands that take a while."""

    no_progress: NoProgress = False

    def console(self) -> Console:
        """Quiet where asked to be."""
        return Console(quiet=self.quiet, progress=not (self.quiet or self.no_progress))


@dataclass(frozen=True, kw_only=True)
class DataOptions(RemoteOptions):
    """Which images."""

    dataset: Dataset = "cifar10"
    data_dir: DataDir = None
    download: Download = False
    classes: Classes = None
    skip_broken: SkipBroken = False
    model: Model = "resnet20"

    def source(self) -> "Source":
        """Model and images.

        Raises:
            ConfigError: an option of the wrong kind.
        """
        from sndcli.runs.request import Source, explained

        with explained():
            return Source(
                model=self.model, dataset=self.dataset, data_dir=self.data_dir, download=self.download,
                classes=self.classes, skip_broken=self.skip_broken, remote=self.remote(),
            )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DefenseOptions:
    """Which defense, but for its noise."""

    defense: DefenseName = None
    defense_weights: DefenseWeights = None
    clip: Clip = False


@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """Where and how networks compute."""

    device: Device = "auto"
    precision: PrecisionOption = "fp32"
    allow_rounding: AllowRounding = False
    batch_size: BatchSize = "auto"
    compiled: Compile = "auto"

    def arithmetic(self) -> Literal["fp32", "bf16"]:
        """``--precision``.

        Raises:
            ConfigError: another.
        """
        return one_of(self.precision, PRECISIONS, "--precision")

    def check_rounding(self, defenses: "Iterable[DefenseSpec]") -> None:
        """Whether the precision may be used with each of these.

        Raises:
            ConfigError: it may not.
        """
        from sndcli.runs.rounding import check_rounding

        for defense in defenses:
            check_rounding(self.arithmetic(), defense, self.allow_rounding)


@dataclass(frozen=True, kw_only=True)
class NoiseOptions:
    """Which noise, where a command takes one."""

    sigma: Sigma = None
    beta: Beta = None


@dataclass(frozen=True, kw_only=True)
class AttackOptions(LongTalk, ShardOptions, MachineOptions, DefenseOptions, DataOptions):
    """What ``attack``, ``adaptive`` and ``sigma-sweep`` have in common."""

    name: Annotated[str, typer.Argument(help="See `snd ls attacks`.", autocompletion=complete.attacks)]
    quantize: Annotated[bool, typer.Option("--quantize", help="Queries are 8-bit images.")] = False
    images: Images = None
    select: SelectOption = "correct"
    select_by: SelectBy = None
    image_ids: Annotated[
        str | None,
        typer.Option(help="These images, in place of --images and --select: 3,17,42, or a file.", metavar="IDS"),
    ] = None
    budget: Annotated[
        str | None, typer.Option(help="Paid queries an image, at most: 10000 or 10k. Default 10k; imagenet 20k.")
    ] = None
    budgets: Annotated[
        str | None, typer.Option(help="Report points: a,b,c. Default 2k, 5k, 10k; imagenet 5k, 10k, 20k.")
    ] = None
    eps: Annotated[
        str | None,
        typer.Option(
            help="ε, or a,b,c: the first bounds the attack, the points are verified at all. Default 8/255 (linf); l2 "
            "by side: 1.0 up to 64 pixels, 5.0 from 160."
        ),
    ] = None
    norm: Annotated[str | None, typer.Option(help="l2 or linf; default the attack's own.")] = None
    engine: Annotated[str, typer.Option(help="native, or foolbox for ba and hsja.")] = "native"
    preset: Annotated[
        str | None, typer.Option(help="A parameter set of the attack.", autocompletion=complete.presets)
    ] = None
    reference: References = None
    target: Annotated[
        str | None,
        typer.Option(help="Targeted, on cifar10: the label wanted is next (after the true one), random, or a class.",
                     metavar="next|random|CLASS"),
    ] = None  # fmt: skip
    settings: Annotated[list[str] | None, typer.Option("--set", help="key=value of the attack; repeatable.")] = None
    stop: Annotated[
        str,
        typer.Option(help="What ends an image's attack: its own rule, paid repeats (score attacks), or unpaid draws.",
                     metavar="seen|confirmed|verified"),
    ] = "seen"  # fmt: skip
    verify: Annotated[int, COUNT, typer.Option(help="Fresh draws for success_noisy.")] = 100
    mismatch: Annotated[bool, typer.Option("--mismatch", help="Count P_mis (a second, unpaid forward).")] = False
    boundary: Annotated[
        bool, typer.Option("--boundary/--no-boundary", help="Find where the majority flips (unpaid).")
    ] = True
    seed: Seed = 0
    repeats: Repeats = 1
    unit: Annotated[
        int | None,
        COUNT,
        typer.Option(help="Images that share a loop and a part file. Default 100, or as it began."),
    ] = None
    out: Annotated[Path, typer.Option(help="A folder, or a .parquet file. A rerun continues.")] = Path("results")
    save_points: Annotated[
        bool, typer.Option("--save-points", help="Keep the final points beside the result, for galleries.")
    ] = False
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew.")] = False
    dry_run: DryRun = False

    def request(self, defense: "DefenseSpec", votes: int = 1) -> "Request":
        """What is asked for, typed.

        Raises:
            ConfigError: an option that does not parse or is out of its range.
        """
        from sndcli.runs.request import Request, explained

        with explained():
            return Request(
                attack=self.name, model=self.model, dataset=self.dataset, data_dir=self.data_dir,
                download=self.download, classes=self.classes, skip_broken=self.skip_broken, remote=self.remote(),
                defense=defense,
                engine=one_of(self.engine, ENGINES, "--engine"), preset=self.preset,
                settings=tuple(self.settings or ()),
                references=None if self.reference is None else tuple(self.reference), target=self.target or "",
                votes=votes, norm=None if self.norm is None else one_of(self.norm, NORMS, "--norm"),
                eps=radii(self.eps), budget=None if self.budget is None else count(self.budget, "--budget"),
                budgets=counts(self.budgets, "--budgets"), images=self.images,
                select=one_of(self.select, SELECTIONS, "--select"), select_by=self.select_by,
                image_ids=image_ids.read(self.image_ids), stop=one_of(self.stop, STOPS, "--stop"),
                seed=self.seed, repeats=self.repeats, verify=self.verify, unit=self.unit, quantize=self.quantize,
                mismatch=self.mismatch, boundary=self.boundary, device=self.device,
                precision=self.arithmetic(), allow_rounding=self.allow_rounding,
                batch_rows=batch_rows(self.batch_size), compiled=wished(self.compiled, self.shard is not None),
                out=self.out, fresh=self.fresh, save_points=self.save_points,
            )  # fmt: skip


def count(text: str, option: str) -> int:
    """A whole number such as ``10000``, ``10k`` or ``2kx10`` (2,000 questions of ten answers each).

    Raises:
        ConfigError: none of these.

    Example:
        >>> count("2kx10", "--budget")
        20000
    """
    matched = re.fullmatch(r"(-?\d+)(k?)(?:x(\d+))?", text.strip().lower())
    if matched is None:
        raise ConfigError(f"Expected `{option}` to be a whole number such as 10000, 10k or 2kx10 but got `{text}`.")
    digits, thousand, times = matched.groups()
    return int(digits) * (1000 if thousand else 1) * int(times or 1)


def counts(text: str | None, option: str) -> tuple[int, ...]:
    """Integers separated by commas."""
    return tuple(count(part.strip(), option) for part in text.split(",")) if text else ()


def radii(text: str | None) -> tuple[float, ...]:
    """Positive numbers or fractions such as 8/255, separated by commas; none where there is no text.

    Raises:
        ConfigError: anything else.
    """
    found = []
    for part in text.split(",") if text else ():
        above, fraction, below = part.partition("/")
        try:
            found.append(float(above) / (float(below) if fraction else 1))
        except (ValueError, ZeroDivisionError):
            raise ConfigError(f"Expected `--eps` to be a number such as 1.0 or 8/255 but got `{part}`.") from None
    return tuple(found)


def one_of(value: str, known: tuple[T, ...], option: str) -> T:
    """`value` if it is known.

    Raises:
        ConfigError: it is not.
    """
    for choice in known:
        if choice == value:
            return choice
    raise ConfigError(f"Expected `{option}` to be {' or '.join(known)} but got `{value}`.")


def batch_rows(text: str) -> int:
    """``--batch-size``: a number; 0 for ``auto``, which is measured once the model is loaded."""
    if text == "auto":
        return 0
    rows = count(text, "--batch-size")
    if rows < 1:
        raise ConfigError(f"Expected `--batch-size` to be at least 1 but got {rows}.")
    return rows
