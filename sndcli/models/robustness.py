"""Checkpoints of MadryLab's robustness library, as plain tensors.

Layout (their ``model_utils``, ``attacker``): a dictionary whose ``model`` (older: ``state_dict``) has been saved from
``DataParallel(AttackerModel)``, so the network stands in it twice, under ``module.model.`` and under
``module.attacker.model.``, beside the normalisation's ``new_mean`` and ``new_std``. Their forward pass clips images to
[0, 1] and then normalises, so classifiers from here do too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sndcli.errors import DataError, first_line
from sndcli.models.classifier import Normalisation

NETWORK, COPY = "module.model.", "module.attacker.model."
MEAN, STD = "module.normalizer.new_mean", "module.normalizer.new_std"


def read(path: Path, unsafe: bool = False) -> tuple[dict[str, torch.Tensor], Normalisation | None]:
    """The network's tensors under their own names, and the normalisation where the file has it.

    Args:
        path: of the checkpoint.
        unsafe: where the file is more than tensors and plain containers, unpickle it all the same. **That runs
            whatever code the file names**: only for files from someone you trust.

    Raises:
        DataError: no such file; it needs full unpickling and `unsafe` is off; or its two copies of the network
            differ.
    """
    checkpoint = _load(path, unsafe)
    state = next((checkpoint[key] for key in ("model", "state_dict") if key in checkpoint), None)
    if not isinstance(state, dict):
        raise DataError(f"{path} is no checkpoint of the robustness library: neither `model` nor `state_dict` in it.")
    network = {key.removeprefix(NETWORK): value for key, value in state.items() if key.startswith(NETWORK)}
    if not network or not all(isinstance(value, torch.Tensor) for value in network.values()):
        raise DataError(f"{path} is no checkpoint of the robustness library: no tensors `{NETWORK}*` in it.")
    copy = {key.removeprefix(COPY): value for key, value in state.items() if key.startswith(COPY)}
    differing = [key for key in copy if key not in network or not torch.equal(copy[key], network[key])]
    differing += [key for key in network if copy and key not in copy]
    if differing:
        raise DataError(f"{path} is corrupt: its two copies of the network differ in {', '.join(differing[:4])}.")
    if MEAN not in state or STD not in state:
        return network, None
    return network, Normalisation(*(tuple(map(float, state[key].flatten())) for key in (MEAN, STD)))


def _load(path: Path, unsafe: bool) -> dict[str, Any]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if not unsafe:
            raise DataError(
                f"{path} is more than tensors ({first_line(error)[:120]}).\n"
                "Reading it whole runs whatever code it names. If you trust where it is from, add &unsafe=1."
            ) from None
        try:
            loaded = torch.load(path, map_location="cpu", weights_only=False)
        except Exception as inner:
            raise DataError(f"{path} cannot be read: {first_line(inner)} (older files need `dill`).") from None
    if not isinstance(loaded, dict):
        raise DataError(f"{path} is no checkpoint of the robustness library: it holds no dictionary.")
    return loaded
