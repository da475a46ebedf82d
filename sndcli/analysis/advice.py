"""Which attack to run next, as a command."""

from __future__ import annotations

from sndcli.analysis.setting import Setting
from sndcli.attacks.registry import find, noise_aware


def next_command(setting: Setting) -> str:
    """What tells more than this attack did: one that knows of the noise, or a ladder where it does already.

    It asks for the same, labels or scores, in the same norm.

    Example:
        >>> from dataclasses import replace
        >>> hsja = Setting("hsja", "native", "cifar10", "resnet20", "snd", 0.01, None, 1, "l2", 1.0)
        >>> next_command(hsja), next_command(replace(hsja, attack="simba"))
        ('snd attack hsja-na', 'snd attack nes-na')
    """
    if noise_aware(setting.attack, setting.preset):
        return f"snd adaptive {setting.attack} --ladder"
    spec = find(setting.attack)
    if spec is not None and spec.access == "scores":
        return "snd attack nes-na" + (" --norm linf" if setting.norm == "linf" else "")
    return "snd attack rays --preset na" if setting.norm == "linf" else "snd attack hsja-na"
