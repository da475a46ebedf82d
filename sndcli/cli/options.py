"""Options that several commands share, and what turns them into objects. No torch at module level."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer

from sndcli.errors import ConfigError, SndError

if TYPE_CHECKING:
    from sndcli.datasets.base import ImageSet
    from sndcli.models.classifier import Classifier

P = ParamSpec("P")
R = TypeVar("R")

Dataset = Annotated[str, typer.Option(help="cifar10, imagenet, or folder:DIR (one folder a class).")]
DataDir = Annotated[
    Path | None,
    typer.Option(help="Where the full data set is (also SND_DATA). Without it, cifar10 is the images in the package."),
]
Download = Annotated[bool, typer.Option("--download", help="Fetch the data set into --data-dir first.")]
Model = Annotated[
    str,
    typer.Option(help="resnet20, resnet20-at, file:PATH?arch=resnet20[&mean=r,g,b&std=r,g,b|&norm=imagenet]"
                      "[&format=robustness], torchvision:NAME[/WEIGHTS], timm:NAME, or py:module:factory (imports and "
                      "runs that module). See docs/models.md."),
]  # fmt: skip
References = Annotated[
    list[str] | None,
    typer.Option("--reference", help="A model of the attacker's own (subspace), a source as of --model, or none; "
                 "repeatable. Default for cifar10: ref-vgg and ref-wide.", metavar="SOURCE"),
]  # fmt: skip
DefenseName = Annotated[
    str | None,
    typer.Option("--defense", help="none, snd, rnp, rse, pni or pni-shared; joined by +, outermost last: rnp+snd."),
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
Images = Annotated[int | None, typer.Option(help="How many images. Default 100; imagenet 250.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done, and about how long it takes.")]
SelectOption = Annotated[
    str, typer.Option("--select", help="correct (right on the undefended model) or all.", metavar="correct|all")
]
SelectBy = Annotated[
    str | None,
    typer.Option("--select-by", help="Images are chosen by this model, a source as of --model; default the attacked "
                 "one.", metavar="SOURCE"),
]  # fmt: skip
Seed = Annotated[int, typer.Option(help="Of the choice of images and of all randomness.")]
Repeats = Annotated[int, typer.Option(help="Repeat with seed, seed+1, ...")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
PrecisionOption = Annotated[str, typer.Option("--precision", help="fp32 or bf16.", metavar="fp32|bf16")]
BatchSize = Annotated[
    str, typer.Option(help="Rows a forward pass, or auto: measured. No effect on results on the CPU.")
]
Compile = Annotated[bool, typer.Option("--compile", help="Compile the network (on the CPU: needs a C++ compiler).")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Nothing on stderr but errors.")]
NoProgress = Annotated[bool, typer.Option("--no-progress", help="No progress bar.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]


def guarded(command: Callable[P, R]) -> Callable[P, R]:
    """Turns errors a user can act on into their lines and exit code, and Ctrl-C into 130."""

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except SndError as error:
            if kwargs.get("debug"):
                raise
            typer.echo(f"snd: {error}", err=True)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            typer.echo("snd: interrupted; what was finished is saved, the same command continues.", err=True)
            raise typer.Exit(130) from None

    return wrapper


def extends(base: Callable[..., Any], without: tuple[str, ...] = ()) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Gives a command the options of `base` too; they reach it as ``**given``.

    Args:
        base: a command.
        without: names of its parameters that are left out; they are passed as None.
    """

    def decorate(command: Callable[P, R]) -> Callable[P, R]:
        inherited = inspect.signature(base, eval_str=True).parameters
        own = inspect.signature(command, eval_str=True)
        mine = {k: v for k, v in own.parameters.items() if v.kind is not v.VAR_KEYWORD}
        merged = {k: v for k, v in inherited.items() if k not in without and k not in mine} | mine
        name = merged.pop("name").replace(annotation=inherited["name"].annotation)
        ordered = [name, *merged.values()]

        @functools.wraps(command)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            kwargs.update(dict.fromkeys(without))
            return command(*args, **kwargs)

        wrapper.__signature__ = own.replace(parameters=ordered)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {p.name: p.annotation for p in ordered}
        return wrapper

    return decorate


def note(text: str, quiet: bool = False) -> None:
    """A line on stderr."""
    if not quiet:
        typer.echo(text, err=True)


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
        above, _, below = part.partition("/")
        try:
            found.append(float(above) / float(below or 1))
        except (ValueError, ZeroDivisionError):
            raise ConfigError(f"Expected `--eps` to be a number such as 1.0 or 8/255 but got `{part}`.") from None
    return tuple(found)


def one_of(value: str, known: tuple[str, ...], option: str) -> Any:
    """`value` if it is known.

    Raises:
        ConfigError: it is not.
    """
    if value not in known:
        raise ConfigError(f"Expected `{option}` to be {' or '.join(known)} but got `{value}`.")
    return value


def batch_rows(text: str) -> int:
    """``--batch-size``: a number; 0 for ``auto``, which is measured once the model is loaded."""
    if text == "auto":
        return 0
    rows = count(text, "--batch-size")
    if rows < 1:
        raise ConfigError(f"Expected `--batch-size` to be at least 1 but got {rows}.")
    return rows


def victim_and_data(given: dict[str, Any]) -> tuple[Classifier, ImageSet]:
    """The model, and the data set brought to its input's size, that the options of a command name.

    Raises:
        ConfigError: an unknown name.
        DataError: data or weights are missing or broken.
    """
    from sndcli.datasets.folder import Reading
    from sndcli.datasets.load import data_dir_of, load
    from sndcli.models.preprocessing import whole
    from sndcli.models.sources import load_model

    model = load_model(given["model"])

    def warn(text: str) -> None:
        note(f"warning: {text}", given["quiet"])

    reading = Reading(model.preprocessing or whole(model.input_size[-1]), given.get("skip_broken", False), warn)
    return model, load(given["dataset"], data_dir_of(given["data_dir"]), given["download"], reading)


def interactive(quiet: bool, no_progress: bool) -> bool:
    """Whether a progress bar can be drawn."""
    return not quiet and not no_progress and sys.stderr.isatty()
