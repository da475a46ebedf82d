"""`snd`: how well does a randomised defense hold against query-based black-box attacks, and what does it cost?

The public API is small: `attack` and `evaluate`, the defense that anyone can wrap a model in, the oracle that attacks
ask, and the classifier that carries its normalisation. Everything is imported on first use, so that importing this
package is instant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"
__all__ = [
    "PNI", "RSE", "Classifier", "Evaluation", "Facts", "Normalisation", "OpaqueModel", "Oracle", "ResizePad", "Result",
    "SmallNoise", "attack", "evaluate", "load_model", "one_image", "open_model",
]  # fmt: skip

if TYPE_CHECKING:
    from sndcli.api import Evaluation, Result, attack, evaluate
    from sndcli.attacks.one_image import one_image
    from sndcli.defenses.noise_layers import RSE
    from sndcli.defenses.parametric_noise import PNI
    from sndcli.defenses.resize_pad import ResizePad
    from sndcli.defenses.small_noise import SmallNoise
    from sndcli.models.classifier import Classifier, Normalisation
    from sndcli.models.opaque import Facts, OpaqueModel
    from sndcli.models.sources import load_model, open_model
    from sndcli.queries.oracle import Oracle

_HOMES = {
    "Evaluation": "sndcli.api",
    "Result": "sndcli.api",
    "attack": "sndcli.api",
    "evaluate": "sndcli.api",
    "Classifier": "sndcli.models.classifier",
    "Normalisation": "sndcli.models.classifier",
    "Oracle": "sndcli.queries.oracle",
    "PNI": "sndcli.defenses.parametric_noise",
    "RSE": "sndcli.defenses.noise_layers",
    "ResizePad": "sndcli.defenses.resize_pad",
    "SmallNoise": "sndcli.defenses.small_noise",
    "Facts": "sndcli.models.opaque",
    "OpaqueModel": "sndcli.models.opaque",
    "load_model": "sndcli.models.sources",
    "open_model": "sndcli.models.sources",
    "one_image": "sndcli.attacks.one_image",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sndcli' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
