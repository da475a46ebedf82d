"""Image classifiers of transformers: ``hf:DIR`` (a folder that was saved) or ``hf:OWNER/NAME`` (of the hub).

A model's own code (``trust_remote_code``) is never run. Nothing leaves the machine without ``--download``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sndcli.errors import ConfigError, DataError, first_line
from sndcli.models import query
from sndcli.models.answers import Answer
from sndcli.models.classifier import IDENTITY, Classifier, Normalisation
from sndcli.models.foreign import from_timm, made_of
from sndcli.models.offline import hub
from sndcli.models.preprocessing import USUAL_CROP, Preprocessing

RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers
BYTE = 1 / 255  # what pixels are multiplied by to lie in [0, 1]
WHOLE_FROM = 384  # side from which ConvNeXT's processor squashes instead of cropping


def from_hf(source: str, download: bool = False) -> Classifier:
    """A classifier with its image processor's size, crop and normalisation; timm's models go to timm.

    Raises:
        ConfigError: transformers is not installed, or the processor has no counterpart here.
        DataError: the model is not there, is no image classifier, or its weights do not fit.
    """
    name, options = query.split(source, "hf:", query.INPUT)
    folder = Path(name).expanduser()
    if folder.is_dir() and _is_timm(folder):
        return from_timm(f"timm:local-dir:{folder}{source.removeprefix(f'hf:{name}')}")
    try:
        from transformers import AutoImageProcessor, AutoModelForImageClassification
        from transformers.utils import logging
    except ImportError:
        raise ConfigError("`hf:` needs the package transformers: pip install 'sndcli[hf]'.") from None
    logging.disable_progress_bar()
    if not folder.is_dir() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise DataError(f"The folder {name} does not exist.")
    where = {"local_files_only": not download, "trust_remote_code": False}
    try:
        with hub(download):
            network, told = AutoModelForImageClassification.from_pretrained(
                str(folder) if folder.is_dir() else name, output_loading_info=True, **where
            )
            processor = _processor(AutoImageProcessor, str(folder) if folder.is_dir() else name, where)
    except Exception as error:  # transformers, huggingface_hub and safetensors each have their own
        asks = "" if download or folder.is_dir() else "\nWithout --download only what is on this machine is looked at."
        raise DataError(f"{name} cannot be loaded as an image classifier: {first_line(error)}{asks}") from None
    if told["missing_keys"]:
        missing = sorted(told["missing_keys"])
        raise DataError(f"{name} has no weights for {', '.join(missing[:4])}: it is no trained image classifier.")
    channels = int(getattr(network.config, "num_channels", 3))
    if processor is None and not ({"mean", "norm"} & options.keys() and "size" in options):
        raise ConfigError(f"{name} has no image processor: say size=… and norm=… or mean=…&std=… behind its name.")
    normalisation, preprocessing = (IDENTITY, None) if processor is None else _read(name, processor)
    called = f"{folder.resolve().name if folder.is_dir() else name.split('/')[-1]}@hf"
    return made_of(Answer(network), options, normalisation, preprocessing, called, (channels, 224, 224))


def _is_timm(folder: Path) -> bool:
    """Whether a saved model is timm's, whose config names one architecture."""
    try:
        return "architecture" in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def _processor(auto: Any, name: str, where: Mapping[str, bool]) -> Mapping[str, Any] | None:
    try:
        found: Mapping[str, Any] = auto.from_pretrained(name, **where).to_dict()
    except OSError:
        return None
    return found


def _read(name: str, p: Mapping[str, Any]) -> tuple[Normalisation, Preprocessing]:
    """What an image processor does, with the normalisation in units of the [0, 1] scale.

    Raises:
        ConfigError: it does something that has no counterpart.
    """
    if p.get("rescale_offset") or not p.get("do_rescale", True):
        raise ConfigError(f"The image processor of {name} does not scale pixels to [0, 1]; wrap the model with `py:`.")
    scale = float(p.get("rescale_factor", BYTE)) / BYTE
    mean, std = p.get("image_mean"), p.get("image_std")
    if not p.get("do_normalize", True) or mean is None or std is None:
        mean, std = (0.0,) * 3, (1.0,) * 3
    normalisation = Normalisation(tuple(m / scale for m in mean), tuple(s / scale for s in std))
    size, crop = p.get("size") or {}, p.get("crop_size") or {}
    interpolation = RESAMPLE.get(int(p.get("resample") or 2), "bilinear")
    if p.get("do_center_crop") and crop.get("height") == crop.get("width") is not None:
        resize = size.get("shortest_edge") or size.get("height")
        return normalisation, Preprocessing(crop["height"], resize or crop["height"], interpolation)
    if size.get("shortest_edge"):
        side = int(size["shortest_edge"])
        share = p.get("crop_pct")
        if share is None or side >= WHOLE_FROM:
            return normalisation, Preprocessing(side, side, interpolation, squash=share is not None)
        return normalisation, Preprocessing(side, int(side / (share or USUAL_CROP)), interpolation)
    if size.get("height") and size.get("height") == size.get("width"):
        return normalisation, Preprocessing(size["height"], size["height"], interpolation, squash=True)
    raise ConfigError(f"The image processor of {name} makes {size}, which is not supported; wrap the model with `py:`.")
