"""What a shell offers when a name is half typed. Nothing here imports torch, or a plug-in's code.

Where several names are joined, as in ``hsja,hsja-na`` or ``rnp+snd``, the last of them is completed.
"""

from collections.abc import Iterable

import typer

from sndcli import plugins

PREFIXES = ("file:", "torchvision:", "timm:", "hf:", "onnx:", "torchscript:", "py:", "http://", "https://")
DATASETS = ("cifar10", "imagenet", "folder:")
DEFENSES = (
    "none",
    "snd",
    "rse",
    "pni",
    "pni-shared",
    "noise",
    "aug",
    "set",
    "rnp",
    "rfd",
    "smooth",
    "gate",
    "logit",
    "rls",
    "aaa-linear",
    "aaa-sine",
    "jpeg",
    "bits",
    "blacklight",
)  # as defenses.parse, whose import would import torch


def attacks(incomplete: str) -> list[str]:
    """Names of attacks, ours and of installed packages; several separated by commas."""
    from sndcli.attacks.registry import ATTACKS

    return _last(incomplete, ",", [*ATTACKS, *plugins.names(plugins.ATTACKS)])


def defenses(incomplete: str) -> list[str]:
    """Names of defenses, joined by +."""
    return _last(incomplete, "+", [*DEFENSES, *plugins.names(plugins.DEFENSES)])


def models(incomplete: str) -> list[str]:
    """Names of the zoo, and how other sources begin."""
    from sndcli.models import zoo

    return _last(incomplete, "", [*zoo.available(), *PREFIXES])


def datasets(incomplete: str) -> list[str]:
    """Names of data sets."""
    return _last(incomplete, "", DATASETS)


def presets(ctx: typer.Context, incomplete: str) -> list[str]:
    """Presets of the attacks that stand on the line before; of all where there is none."""
    from sndcli.attacks.registry import ATTACKS

    named = (
        str(ctx.params.get("name") or " ".join(ctx.args)).replace(",", " ").split()
    )  # not parsed before a bare --preset
    chosen = [ATTACKS[name] for name in named if name in ATTACKS] or ATTACKS.values()
    return _last(incomplete, "", dict.fromkeys(preset for entry in chosen for preset in entry.presets))


def words(incomplete: str) -> list[str]:
    """What ``snd explain`` knows."""
    from sndcli.glossary import TERMS

    return _last(incomplete, "", dict.fromkeys(term.word for term in TERMS))


def kinds(incomplete: str) -> list[str]:
    """What ``snd ls`` lists."""
    return _last(incomplete, "", ("attacks", "defenses", "models", "datasets"))


def _last(incomplete: str, separator: str, names: Iterable[str]) -> list[str]:
    """`incomplete` with the name after its last `separator` completed; what stands before is not offered again."""
    before, joint, begun = incomplete.rpartition(separator) if separator else ("", "", incomplete)
    taken = before.split(separator) if before else []
    return [f"{before}{joint}{name}" for name in names if name.startswith(begun) and name not in taken]
