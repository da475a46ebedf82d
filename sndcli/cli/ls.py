"""``snd ls``: what there is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from sndcli.cli import complete
from sndcli.cli import options as o

if TYPE_CHECKING:
    from sndcli.cli.output import Shown
    from sndcli.models.zoo import Card
    from sndcli.runs.listener import Listener

KINDS = "uniform, laplace, sign, salt-pepper, contrast, brightness, gamma, grey, chroma, low, high"
DEFENSES = {
    "none": "the bare model",
    "snd": "Small Noise Defense: Gaussian noise on every query (--sigma, --beta)",
    "rnp": "random resizing and padding, a new geometry for every query: border=grey (mean), sizes=rounded (whole)",
    "rse": "Random Self-Ensemble: noise before every convolution, five passes a query (--defense-weights)",
    "pni": "Parametric Noise Injection: learned weight noise, a draw for each query (--defense-weights)",
    "pni-shared": "the same, one draw for all queries of a forward pass, as its authors evaluate",
    "noise": "noise of another shape or place: kind=gauss (" + KINDS + "), sigma, p, f",
    "aug": "a random flip and shift of every query, as in training: flip=0.5, shift=2 pixels",
    "set": "a random network for every query: models=A|B|C, sources as of --model; mean=1 of them",
    "rfd": "noise on what one layer puts out, a draw for every query: nu, layer=the last before the linear one",
    "smooth": "a vote of n=25 noisy passes, sigma=0.1, for one query",
    "gate": "another defense where the model is unsure: gate:tau(INNER), e.g. gate:0.7(noise:sigma=0.05)",
    "logit": "noise on the logits: tau=1",
    "rls": "random scaling of the logits, which keeps labels: low=0.5, high=10",
    "aaa-linear": "AAA: scores whose margin falls where it should rise, labels kept, nothing random: tau=4",
    "aaa-sine": "the same along a sine: tau=6",
    "jpeg": "JPEG of a random quality for every query: low=85, high=98",
    "bits": "a grid of levels=32 grey levels at a random offset for every query",
    "blacklight": "blocks queries that share threshold=25 of 50 hashes with an earlier one: policy=reject (ban:K, log)",
}


DATASETS = {
    "cifar10": "the full test split with --data-dir or --download, else 1,200 shipped test images",
    "imagenet": "validation pictures in folders by synset under --data-dir, all or some of them",
    "folder:…": "any pictures, one folder a class",
}

Row = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Ls(o.Talk):
    """List attacks, defenses, models or datasets, one a line.

    Example: snd ls attacks
    """

    what: Annotated[str, typer.Argument(help="attacks, defenses, models or datasets.", autocompletion=complete.kinds)]

    def run(self, listener: "Listener") -> "Shown":  # noqa: ARG002
        """One row a name."""
        from sndcli.cli.output import Shown

        kinds = {"attacks": _attacks, "defenses": _defenses, "models": _models, "datasets": _datasets}
        rows, lines = kinds[o.one_of(self.what, tuple(kinds), "snd ls")]()
        return Shown({"schema": 1, "rows": rows}, lambda: lines)


def _attacks() -> tuple[Sequence[Row], Sequence[str]]:
    from sndcli import plugins
    from sndcli.attacks.registry import ATTACKS, AnyAttack, Entry, spec_of
    from sndcli.errors import ConfigError, first_line

    rows: list[Row] = []
    lines: list[str] = []
    listed: list[Entry | AnyAttack] = [*ATTACKS.values()]
    refused: dict[str, str] = {}  # which keeps no other from being listed
    for name in sorted({*plugins.names(plugins.ATTACKS)} - {*ATTACKS}):
        try:
            listed.append(spec_of(name))
        except ConfigError as error:
            refused[name] = first_line(error)
    for spec in listed:
        usual = {preset: norm for norm, preset in spec.by_norm.items()}
        presets = ", ".join(f"{p} (default of {usual[p]})" if p in usual else p for p in spec.presets)
        lines.append(f"{spec.name:11} {spec.access:6} {'/'.join(spec.norms):8} {spec.summary}; presets: {presets}")
        rows.append({"name": spec.name, "access": spec.access, "norms": spec.norms, "summary": spec.summary,
                     "presets": tuple(spec.presets)})  # fmt: skip
    rows += [{"name": name, "error": text} for name, text in refused.items()]
    return rows, lines + [f"{name:11} {text}" for name, text in refused.items()]


def _defenses() -> tuple[Sequence[Row], Sequence[str]]:
    from sndcli import plugins
    from sndcli.errors import ConfigError, first_line

    rows, lines = _named(DEFENSES, 10)
    found = [*rows]
    told = [*lines]
    for name in plugins.names(plugins.DEFENSES):
        try:
            summary = plugins.summary(plugins.load(plugins.DEFENSES, name)) or "of an installed package"
            found.append({"name": name, "summary": summary})
        except ConfigError as error:  # which keeps no other from being listed
            summary = first_line(error)
            found.append({"name": name, "error": summary})
        told.append(f"{name:10}  {summary}")
    return found, told


def _models() -> tuple[Sequence[Row], Sequence[str]]:
    from sndcli.models import zoo
    from sndcli.models.sources import PREFIXES

    cards = {name: zoo.card(name) for name in zoo.available()}
    rows = [{"name": name, "card": card} for name, card in cards.items()]
    lines = [f"{name:13} {_summary(card)}" for name, card in cards.items()]
    return [*rows, *({"name": f"{prefix}…"} for prefix in PREFIXES)], [*lines, *(f"{prefix}…" for prefix in PREFIXES)]


def _datasets() -> tuple[Sequence[Row], Sequence[str]]:
    return _named(DATASETS, 8)


def _named(known: Mapping[str, str], width: int) -> tuple[Sequence[Row], Sequence[str]]:
    rows = [{"name": name, "summary": text} for name, text in known.items()]
    return rows, [f"{name:{width}}  {text}" for name, text in known.items()]


def _summary(card: "Card") -> str:
    """A card of the zoo in a line."""
    text = f"{card['arch']}, {100 * card['accuracy']['value']:.2f} % of {card['accuracy']['n']} test images"
    for robust in card["robust"]:
        text += f"; {100 * robust['value']:.1f} % under PGD {robust['pgd']}"
    return text + (f"; --defense {card['defense']}" if card["defense"] in ("rse", "pni") else "")
