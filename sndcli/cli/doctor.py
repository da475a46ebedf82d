"""``snd doctor``: versions, device, data, and whether the basics hold on this machine."""

from __future__ import annotations

import time

import typer

from sndcli.cli import options as o


@o.guarded
def doctor(device: o.Device = "auto", debug: o.Debug = False) -> None:  # noqa: ARG001
    """Check this installation: exit code 0 if all is well, 1 if not."""
    import importlib.metadata

    import torch

    from sndcli.datasets import cifar10
    from sndcli.datasets.load import data_dir_of
    from sndcli.defenses.parse import DefenseSpec
    from sndcli.errors import SndError
    from sndcli.models.inference import measure_batch_size, resolve_device
    from sndcli.models.sources import load_model
    from sndcli.runs.accuracy import accuracy
    from sndcli.runs.victim import Victim

    for package in ("sndcli", "torch", "torchvision", "numpy", "scipy", "pyarrow", "typer", "foolbox"):
        try:
            typer.echo(f"{package:12} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            typer.echo(f"{package:12} not installed")
    place = resolve_device(device)
    typer.echo(f"{'device':12} {place}, {torch.get_num_threads()} threads")
    root = data_dir_of(None)
    try:
        typer.echo(f"{'SND_DATA':12} {cifar10.load('test', root).source if root else 'not set'}")
    except SndError as error:
        typer.echo(f"{'SND_DATA':12} {error}")

    data = cifar10.load_shipped()
    model = load_model("resnet20")
    victim = Victim.prepare(model, DefenseSpec("snd", 0.01), place, 128)
    start = time.perf_counter()
    value = accuracy(victim.undefended, data, [0])[0]
    rate = len(data) / (time.perf_counter() - start)
    best = measure_batch_size(victim.undefended.model, (3, 32, 32), place)
    typer.echo(f"{'forward':12} {rate:.0f} images/s, best batch {best}")
    x = data.pixels(torch.arange(64))
    together = victim.undefended(x)
    apart = torch.cat([victim.undefended(row[None]) for row in x])
    twice = victim.defended(x[:1].repeat(2, 1, 1, 1))
    checks = {
        "resnet20 classifies the shipped images (> 88 %)": value > 0.88,
        "a row gets the same bits whatever its batch": place.type != "cpu" or bool((together == apart).all()),
        "two copies of an image in one batch get different noise": bool((twice[0] != twice[1]).any()),
    }
    for text, good in checks.items():
        typer.echo(f"{'ok' if good else 'FAILED':12} {text}")
    if not all(checks.values()):
        raise typer.Exit(1)
