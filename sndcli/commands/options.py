"""Options that several commands share, and what turns them into objects. No torch at module level."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer

from sndcli.errors import ConfigError, SndError

P = ParamSpec("P")
R = TypeVar("R")

Dataset = Annotated[str, typer.Option(help="cifar10")]
DataDir = Annotated[
    Path | None,
    typer.Option(help="Where the full data set is (also SND_DATA). Without it, the images in the package."),
]
Download = Annotated[bool, typer.Option("--download", help="Fetch the data set into --data-dir first.")]
Model = Annotated[
    str,
    typer.Option(help="resnet20, resnet20-at, file:PATH?arch=resnet20[&mean=r,g,b&std=r,g,b|&norm=imagenet], "
                      "torchvision:NAME[/WEIGHTS], or py:module:factory (imports and runs that module)."),
]  # fmt: skip
References = Annotated[
    list[str] | None,
    typer.Option("--reference", help="A model of the attacker's own (subspace), a source as of --model, or none; "
                 "repeatable. Default for cifar10: ref-vgg and ref-wide.", metavar="SOURCE"),
]  # fmt: skip
DefenseName = Annotated[
    str | None,
    typer.Option("--defense", help="none, snd, rse, pni or pni-shared; joined by +, outermost last: pni+snd."),
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
Images = Annotated[int, typer.Option(help="How many images.")]
SelectOption = Annotated[
    str, typer.Option("--select", help="correct (right on the undefended model) or all.", metavar="correct|all")
]
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
    """
    matched = re.fullmatch(r"(-?\d+)(k?)(?:x(\d+))?", text.strip().lower())
    if matched is None:
        raise ConfigError(f"Expected `{option}` to be a whole number such as 10000, 10k or 2kx10 but got `{text}`.")
    digits, thousand, times = matched.groups()
    return int(digits) * (1000 if thousand else 1) * int(times or 1)


def counts(text: str | None, option: str) -> tuple[int, ...]:
    """Integers separated by commas."""
    return tuple(count(part.strip(), option) for part in text.split(",")) if text else ()


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


def interactive(quiet: bool, no_progress: bool) -> bool:
    """Whether a progress bar can be drawn."""
    return not quiet and not no_progress and sys.stderr.isatty()
