"""Where a figure comes from: by what command, of which commit and versions."""

from __future__ import annotations

import platform
import shlex
import shutil
import subprocess
import sys
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import torch

import sndcli
from sndcli import __version__, plugins
from sndcli.runs.config import RunConfig

PACKAGES = ("torchvision", "numpy", "scipy", "pyarrow")
PACKAGE = Path(sndcli.__file__).parent
SECONDS = 10.0  # that git may take


def versions(config: RunConfig, device: torch.device) -> dict[str, str]:
    """What a figure may depend on beyond the config: packages, those of plug-ins too, and the device.

    Args:
        config: of the run; Foolbox counts where it is the engine.
        device: where the networks computed.
    """
    used = [*PACKAGES, *(["foolbox"] if config.engine == "foolbox" else [])]
    return {
        "sndcli": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{package: version(package) for package in used},
        **plugins.packages(config.attack, config.defense.names),
        "device": device_name(device),
    }


def device_name(device: torch.device) -> str:
    """Where networks compute, as ``cpu x86_64`` or ``cuda NVIDIA H100``."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return f"{device.type} {name}"


def command_line() -> str:
    """The command as it was typed, quoted for a shell; a program that is not ours by its name, without a folder."""
    program = Path(sys.argv[0])
    name = "snd" if program == PACKAGE / "__main__.py" else program.name
    return shlex.join([name, *sys.argv[1:]])


@lru_cache(maxsize=1)
def commit() -> str | None:
    """Git's hash of the package where it is run from a checkout, ``-dirty`` where it was changed since; else None."""
    git = shutil.which("git")
    if git is None or not (PACKAGE.parent / ".git").exists():
        return None
    try:
        head = _ask(git, "rev-parse", "HEAD")
        changed = _ask(git, "status", "--porcelain", "--untracked-files=no", "--", PACKAGE.name)
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{head}-dirty" if changed else head


def _ask(git: str, *arguments: str) -> str:
    command = [git, "-C", str(PACKAGE.parent), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS)
    return done.stdout.strip()
