"""``snd train ARCH``: train a victim on CIFAR-10; resumable at every epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sndcli.commands import options as o
from sndcli.commands.progress import progress_bar


@o.guarded
def train(
    arch: Annotated[str, typer.Argument(help="resnet20, resnet32, resnet56, ref-vgg or ref-wide.")] = "resnet20",
    data_dir: o.DataDir = None,
    download: o.Download = False,
    out: Annotated[Path | None, typer.Option(help="Checkpoint, log and weights. Default runs/ARCH.")] = None,
    split: Annotated[str, typer.Option(help="train; or proxy: 2,000 test images, for reference models.")] = "train",
    start: Annotated[str, typer.Option("--from", help="Start from this model's weights.")] = "",
    epochs: Annotated[int | None, typer.Option(help="Default: the recipe's.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate. Default: the recipe's.")] = None,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    compiled: o.Compile = False,
    quiet: o.Quiet = False,
    no_progress: o.NoProgress = False,
    debug: o.Debug = False,  # noqa: ARG001
) -> None:
    """Train ARCH on the full CIFAR-10 train split, or on a proxy set; a rerun continues where it stopped.

    Example: snd train resnet20 --data-dir data --download
    """
    from dataclasses import replace

    from sndcli.datasets import cifar10
    from sndcli.datasets.load import data_dir_of
    from sndcli.errors import ConfigError, unknown
    from sndcli.inference import resolve_device
    from sndcli.models.sources import ARCHITECTURES, save_weights
    from sndcli.training.loop import Progress, evaluate
    from sndcli.training.loop import train as run
    from sndcli.training.recipe import recipe_for

    if arch not in ARCHITECTURES:
        raise unknown("architecture", arch, ARCHITECTURES)
    o.one_of(split, ("train", "proxy"), "--split")
    recipe = replace(recipe_for(split), arch=arch, start=start, seed=seed)
    if epochs is not None:
        if epochs < 1:
            raise ConfigError(f"Expected `--epochs` to be at least 1 but got {epochs}.")
        recipe = replace(recipe, epochs=epochs, small_epochs=epochs * recipe.small_epochs // recipe.epochs)
    if lr is not None:
        if not 0 < lr <= 10:
            raise ConfigError(f"Expected `--lr` to be in (0, 10] but got {lr}.")
        recipe = replace(recipe, lr=lr)
    place = resolve_device(device)
    root = data_dir_of(data_dir)
    if download:
        root = root or Path("data")
        cifar10.download(root)
    train_set = cifar10.load("proxy" if split == "proxy" else "train", root)
    test_set = cifar10.load_shipped() if split == "proxy" else cifar10.load("test", root)
    folder = out or Path("runs") / arch
    bar = o.interactive(quiet, no_progress)
    with progress_bar(recipe.epochs, arch, bar, not (quiet or no_progress)) as update:

        def report(p: Progress) -> None:
            tested = f", test {100 * p.test_accuracy:.2f} %" if p.test_accuracy is not None else ""
            text = f"epoch {p.epoch}, loss {p.loss:.3f}, train {100 * p.train_accuracy:.1f} %{tested}"
            done = p.epoch + p.step / p.steps if p.step < p.steps else p.epoch
            update(done, f"{text}, {p.images_per_s:.0f} images/s")

        model = run(recipe, train_set, test_set, folder, place, compiled, report)
    weights = folder / f"{arch}.safetensors"
    save_weights(model, arch, weights)
    typer.echo(f"{weights}: {100 * evaluate(model, test_set, place):.2f} % of {len(test_set)} test images")
