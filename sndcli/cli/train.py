"""``snd train ARCH``: train a victim, or the network of a trained defense, on CIFAR-10; resumable at every epoch."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sndcli.cli import options as o
from sndcli.cli.compiling import Compile, wished
from sndcli.cli.ranges import COUNT, WHOLE, Range

if TYPE_CHECKING:
    from sndcli.cli.output import Shown
    from sndcli.runs.listener import Listener
    from sndcli.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Train(o.LongTalk):
    """Train ARCH on the full CIFAR-10 train split, or on a proxy set; a rerun continues where it stopped.

    Example: snd train resnet20 --defense rse --data-dir data
    """

    arch: Annotated[str, typer.Argument(help="resnet20, resnet32, resnet56, ref-vgg or ref-wide.")] = "resnet20"
    defense: Annotated[
        str, typer.Option(help="none; rse, pni: their networks; at: on PGD images; gf: on noisy images.")
    ] = "none"
    preset: Annotated[str, typer.Option(help="affordable (two CPU cores) or paper.")] = "affordable"
    split: Annotated[str, typer.Option(help="train; or proxy: 2,000 test images, for reference models.")] = "train"
    data_dir: o.DataDir = None
    download: o.Download = False
    out: Annotated[Path | None, typer.Option(help="Checkpoint, log, weights. Default runs/ARCH[-DEFENSE].")] = None
    start: Annotated[
        str | None, typer.Option("--from", help="Start from this model's weights, or random. Default: the recipe's.")
    ] = None
    epochs: Annotated[int | None, COUNT, typer.Option(help="Default: the recipe's.")] = None
    lr: Annotated[float | None, Range(gt=0, le=10), typer.Option(help="Peak learning rate. Default: the recipe's.")] = (
        None
    )
    at_norm: Annotated[str | None, typer.Option(help="Ball of at: l2 (0.5) or linf (8/255). Default l2.")] = None
    pgd_steps: Annotated[
        int | None, COUNT, typer.Option(help="Gradients an image, of at and pni. Default: recipe's.")
    ] = None
    pgd: Annotated[str | None, typer.Option(help="PGD of at and pni in full: NORM:EPS:STEPS[:STEP].")] = None
    pixel_units: Annotated[
        bool | None,
        typer.Option("--pixel-units/--normalised-units", help="Where σ_init of rse is 0.2. Default: the pixel scale."),
    ] = None
    pgd_images: Annotated[int, WHOLE, typer.Option(help="Test images of the card's robust accuracy; 0: none.")] = 1000
    seed: o.Seed = 0
    device: o.Device = "auto"
    precision: o.PrecisionOption = "fp32"
    compiled: Compile = "auto"

    def run(self, listener: "Listener") -> "Shown":
        """Trains, or continues."""
        from sndcli.errors import ConfigError, unknown
        from sndcli.training.recipe import recipe_of

        o.one_of(self.split, ("train", "proxy"), "--split")
        recipe = recipe_of(self.arch, self.defense, self.preset, self.seed, self.split)
        if self.start is not None:
            recipe = replace(recipe, start="" if self.start == "random" else self.start)
        if self.epochs is not None:
            recipe = recipe.lasting(self.epochs)
        if self.lr is not None:
            recipe = replace(recipe, lr=self.lr)
        recipe = replace(recipe, bf16=o.one_of(self.precision, ("fp32", "bf16"), "--precision") == "bf16")
        if self.pixel_units is not None:
            if self.defense != "rse":
                raise ConfigError("`--pixel-units` and `--normalised-units` belong to `--defense rse`.")
            recipe = replace(recipe, pixel_units=self.pixel_units)
        recipe = _with_pgd(recipe, self.at_norm, self.pgd_steps, self.pgd)

        from sndcli.cli.output import Shown
        from sndcli.datasets import cifar10
        from sndcli.datasets.load import data_dir_of
        from sndcli.models.inference import resolve_device
        from sndcli.models.sources import ARCHITECTURES
        from sndcli.runs.lock import alone
        from sndcli.training.card import ship
        from sndcli.training.loop import Progress
        from sndcli.training.loop import train as run

        if self.arch not in ARCHITECTURES:
            raise unknown("architecture", self.arch, ARCHITECTURES)
        place = resolve_device(self.device)
        root = data_dir_of(self.data_dir)
        if self.download:
            root = root or Path("data")
            cifar10.download(root)
        train_set = cifar10.load("proxy" if self.split == "proxy" else "train", root)
        test_set = cifar10.load_shipped() if self.split == "proxy" else cifar10.load("test", root)
        name = self.arch if self.defense == "none" else f"{self.arch}-{self.defense}"
        folder = self.out or Path("runs") / name
        with alone(folder, folder), listener.progress(recipe.epochs, name) as update:

            def report(p: Progress) -> None:
                tested = f", test {100 * p.test_accuracy:.2f} %" if p.test_accuracy is not None else ""
                tested += f", robust {100 * p.robust_accuracy:.1f} %" if p.robust_accuracy is not None else ""
                text = f"epoch {p.epoch}, loss {p.loss:.3f}, train {100 * p.train_accuracy:.1f} %{tested}"
                done = p.epoch + p.step / p.steps if p.step < p.steps else p.epoch
                update(done, f"{text}, {p.images_per_s:.0f} images/s")

            model = run(recipe, train_set, test_set, folder, place, bool(wished(self.compiled)), report)
            listener.note("measuring for the card ...")
            weights = folder / f"{name}.safetensors"
            card = ship(recipe, model, weights, test_set, place, pgd_images=self.pgd_images)
        lines = [f"{weights}: {100 * card['accuracy']['value']:.2f} % of {len(test_set)} test images"]
        lines += [f"under PGD {r['pgd']}: {100 * r['value']:.1f} % of {r['n']}" for r in card["robust"]]
        return Shown({"schema": 1, "weights": str(weights), "card": card}, lambda: lines)


def _with_pgd(recipe: "Recipe", at_norm: str | None, steps: int | None, pgd: str | None) -> "Recipe":
    """The recipe with another PGD, where the options ask for one."""
    from sndcli.errors import ConfigError
    from sndcli.training.robustness import PGD

    if (at_norm, steps, pgd) == (None, None, None):
        return recipe
    if not recipe.pgd:
        raise ConfigError(f"`--defense {recipe.defense}` is trained without PGD: no --at-norm, --pgd-steps or --pgd.")
    if pgd is not None and (at_norm, steps) != (None, None):
        raise ConfigError("`--pgd` says all; give it without --at-norm and --pgd-steps.")
    if pgd is None:
        norm, eps, own_steps, *step = recipe.pgd.split(":")
        if at_norm is not None:
            if recipe.defense != "at":
                raise ConfigError("`--at-norm` belongs to `--defense at`.")
            norm, eps = o.one_of(at_norm, ("l2", "linf"), "--at-norm"), {"l2": "0.5", "linf": "8/255"}[at_norm]
            step = []
        pgd = ":".join([norm, eps, str(steps if steps is not None else own_steps), *([] if steps else step)])
    PGD.parse(pgd)
    return replace(recipe, pgd=pgd)
