"""Where a figure comes from: versions of what made it."""

from __future__ import annotations

import platform

import torch

from sndcli import __version__


def versions(device: torch.device) -> dict[str, str]:
    """What a figure may depend on beyond the config."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "sndcli": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": f"{device.type} {name}",
    }
