"""``snd doctor``: versions, device, data, and whether the basics hold on this machine."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from sndcli.cli import options as o
from sndcli.cli.remote import RemoteOptions

if TYPE_CHECKING:
    from sndcli.cli.output import Shown
    from sndcli.runs.listener import Listener

PACKAGES = ("sndcli", "torch", "torchvision", "numpy", "scipy", "pyarrow", "typer", "foolbox")


@dataclass(frozen=True, kw_only=True)
class Doctor(o.LongTalk, RemoteOptions):
    """Check this installation, or with --model a remote model: exit code 0 if all is well, 2 if not.

    Example: snd doctor --attack py:my_attacks:SPEC --defense py:my_defenses:Gain
    """

    device: o.Device = "auto"
    model: Annotated[
        str | None, typer.Option(help="Look at this remote model instead.", metavar="http://HOST:PORT")
    ] = None
    attack: Annotated[
        str | None, typer.Option(help="Check this attack instead: budget, batch, seeds, success on a half-space.")
    ] = None
    preset: Annotated[str | None, typer.Option(help="Preset of --attack. Default: its first.")] = None
    defense: Annotated[
        str | None, typer.Option(help="Check this defense instead: fresh draws for each row, seeds, shapes.")
    ] = None

    def run(self, listener: "Listener") -> "Shown":
        """What is installed, how fast it is, and whether rows and draws are what they must be.

        Raises:
            ConfigError: a check failed.
        """
        if self.model is not None:
            return self._remote(self.model, listener)
        if self.attack is not None or self.defense is not None:
            return self._conformance(listener)
        import torch

        from sndcli.cli.output import Shown
        from sndcli.datasets import cifar10
        from sndcli.datasets.load import data_dir_of
        from sndcli.defenses.parse import DefenseSpec
        from sndcli.errors import ConfigError, SndError
        from sndcli.models.inference import measure_batch_size, reproducible_kernels, resolve_device
        from sndcli.models.sources import load_model
        from sndcli.runs.accuracy import accuracy
        from sndcli.runs.victim import Victim

        facts = _versions()
        place = resolve_device(self.device)
        facts["device"] = f"{place}, {torch.get_num_threads()} threads"
        root = data_dir_of(None)
        try:
            facts["SND_DATA"] = cifar10.load("test", root).source if root else "not set"
        except SndError as error:
            facts["SND_DATA"] = str(error)

        data = cifar10.load_shipped()
        victim = Victim.prepare(load_model("resnet20"), DefenseSpec("snd", 0.01), place, 128)
        start = time.perf_counter()
        value = accuracy(victim.undefended, data, [0])[0]
        rate = len(data) / (time.perf_counter() - start)
        best = measure_batch_size(victim.undefended.model, (3, 32, 32), place)
        facts["forward"] = f"{rate:.0f} images/s, best batch {best}"
        x = data.pixels(torch.arange(64))
        with reproducible_kernels():
            together = victim.undefended(x)
            apart = torch.cat([victim.undefended(row[None]) for row in x])
            twice = victim.defended(x[:1].repeat(2, 1, 1, 1))
        same = (together == apart).all(1)
        checks = {
            "resnet20 classifies the shipped images (> 88 %)": value > 0.88,
            "two copies of an image in one batch get different noise": bool((twice[0] != twice[1]).any()),
            "a row has the same logits whatever its batch, but for rounding": torch.allclose(
                together, apart, atol=1e-3
            ),
        }
        if place.type == "cpu":
            checks["a row gets the same bits whatever its batch"] = bool(same.all())
        else:
            facts["bits"] = f"the same for {int(same.sum())} of {len(x)} rows in another batch; not promised here"
        failed = [text for text, good in checks.items() if not good]
        if failed:
            for name, text in facts.items():
                listener.note(f"{name:12} {text}")
            raise ConfigError("This installation does not do: " + "; ".join(failed) + ".")
        lines = [*(f"{name:12} {text}" for name, text in facts.items()), *(f"{'ok':12} {text}" for text in checks)]
        return Shown({"schema": 1, "facts": facts, "checks": checks}, lambda: lines)

    def _remote(self, source: str, listener: "Listener") -> "Shown":
        """What a remote model shows of itself."""
        from sndcli.cli.endpoint import examined
        from sndcli.errors import ConfigError
        from sndcli.models.opaque import OpaqueModel
        from sndcli.models.sources import open_model

        if not source.startswith(("http://", "https://")):
            raise ConfigError(f"Expected `--model http://HOST:PORT[/PATH]` but got `{source}`.")
        model = open_model(source, remote=self.remote())
        assert isinstance(model, OpaqueModel)
        return examined(model, listener)

    def _conformance(self, listener: "Listener") -> "Shown":
        """What `sndcli.testing` finds of an attack, a defense or both."""
        from sndcli.attacks.registry import spec_of
        from sndcli.cli.output import Shown
        from sndcli.defenses.parse import build, parse
        from sndcli.errors import ConfigError
        from sndcli.models.classifier import IDENTITY, Classifier
        from sndcli.testing import SHAPE, attack_checks, defense_checks

        found = attack_checks(spec_of(self.attack), self.preset) if self.attack is not None else []
        if self.defense is not None:
            spec = parse(self.defense, None, None)
            found += defense_checks(
                lambda model, generator: build(spec, Classifier(model, IDENTITY, SHAPE, "half-space"), generator.device)
            )
        lines = [f"{'ok' if check.good else 'NO':4} {check.name}" for check in found]
        failed = [check for check in found if not check.good]
        if failed:
            for line in lines:
                listener.note(line)
            what = " ".join(name for name in (self.attack, self.defense) if name is not None)
            told = "; ".join(f"{check.name}: {check.advice}" for check in failed)
            raise ConfigError(f"{what} fails {len(failed)} of {len(found)} checks.\n{told}.")
        return Shown({"schema": 1, "checks": {check.name: check.good for check in found}}, lambda: lines)


def _versions() -> dict[str, str]:
    import importlib.metadata

    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
