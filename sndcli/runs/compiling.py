"""Whether the network of a run is compiled, where the user leaves that open.

A compiled network gives other last bits, so the choice is part of a run's config and id. It is made of the config, the
queries planned and whether there is a compiler: never of what is left to do, of a timing or of workers. A run that was
begun, or finished, with the other choice keeps that one.
"""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
import sysconfig
from dataclasses import replace
from pathlib import Path

from sndcli.errors import ConfigError, DataError
from sndcli.models.classifier import Classifier
from sndcli.models.opaque import Model
from sndcli.runs.config import RunConfig
from sndcli.runs.files import RunFiles

PAYS = 1_000_000  # queries on images of 32 x 32: some ten minutes on two cores, of which half a minute is for compiling
PIXELS = 32 * 32
OWN = ("rse", "pni", "set")  # defenses with networks of their own, which are not compiled


def settled(config: RunConfig, model: Model, source: str, out: Path, fresh: bool) -> RunConfig:
    """`config` with the choice made.

    Args:
        config: of the run.
        model: that is asked.
        source: of it.
        out: where the result goes: a folder, or its path.
        fresh: whether it starts anew.
    """
    plain, compiled = (replace(config, compiled=choice) for choice in (False, True))
    for known in (plain, compiled) if not fresh else ():
        if _begun(RunFiles(out, known)):
            return known
    return compiled if pays(config, model, source) and compiler(config.device) else plain


def _begun(files: RunFiles) -> bool:
    try:
        return files.finished() is not None or files.layout() is not None
    except (ConfigError, DataError):  # of another run, or damaged, which is told when it runs
        return False


def pays(config: RunConfig, model: Model, source: str) -> bool:
    """Whether the planned queries make up for compiling; not for a user's own code, which may not be compilable."""
    own = source.startswith("py:") or any(name in OWN for name in config.defense.names)
    if own or not isinstance(model, Classifier):
        return False
    queries = config.images * config.repeats * config.budget
    return queries * math.prod(model.input_size[1:]) >= PAYS * PIXELS


def compiler(device: str) -> bool:
    """Whether this machine has what torch compiles with: a C++ compiler and Python's headers; on CUDA also Triton."""
    found = any(shutil.which(name) for name in (os.environ.get("CXX"), "g++", "clang++") if name)
    headers = (Path(sysconfig.get_path("include")) / "Python.h").is_file()
    return found and headers and (device == "cpu" or importlib.util.find_spec("triton") is not None)
