"""Images as text and bytes, and answers as numbers."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence

import torch
from pydantic import JsonValue
from torch import Tensor

from sndcli.errors import ConfigError
from sndcli.models.opaque import Access
from sndcli.models.remote.exchange import BadAnswer
from sndcli.models.remote.settings import Answer, Encoding

MODES = (1, 3, 4)  # channels of a PNG: grey, RGB, RGBA


def png(image: Tensor) -> bytes:
    """A PNG of one image ``[C, H, W]``, C being 1, 3 or 4: clipped to [0, 1], then rounded to 8 bits."""
    from PIL import Image

    pixels = (image.clamp(0.0, 1.0) * 255).round().to(torch.uint8).cpu().permute(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray((pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).contiguous().numpy()).save(file, "PNG")
    return file.getvalue()


def fits_png(size: Sequence[int], what: str) -> None:
    """Checks that images of this size can be a PNG.

    Raises:
        ConfigError: they cannot.
    """
    if size[0] not in MODES:
        raise ConfigError(f"Expected images of 1, 3 or 4 channels for {what} in PNG but `size` is {list(size)}.")


def as_text(image: Tensor, encoding: Encoding) -> str:
    """One image ``[C, H, W]`` as base64 of a PNG, or as a JSON array."""
    if encoding == "png":
        return base64.b64encode(png(image)).decode()
    laid = image if encoding == "chw" else image.permute(1, 2, 0)
    return json.dumps(laid.cpu().tolist(), separators=(",", ":"))


def parsed(content: bytes) -> JsonValue:
    """JSON.

    Raises:
        BadAnswer: it is none.
    """
    try:
        found: JsonValue = json.loads(content)
    except (ValueError, RecursionError):
        raise BadAnswer(f"Expected JSON but got {shown(content)}.") from None
    return found


def shown(content: bytes) -> str:
    """The beginning of an answer, for people."""
    text = content[:80].decode("utf-8", "replace")
    return repr(text) + (" ..." if len(content) > 80 else "")


def access_of(answer: Answer) -> Access:
    """Labels alone, or scores."""
    return "labels" if answer == "label" else "scores"


def one_row(value: JsonValue, answer: Answer, classes: int, names: Sequence[str]) -> Tensor:
    """Scores ``[1, K]`` or the label ``[1]`` in an answer about one image.

    Understood are a list of K numbers; a label as a number, or as one of `names`; scores by label, as an object or as a
    list of objects with `label` and `score`. Of scores, all K must be there, unless only the label is wanted.

    Raises:
        BadAnswer: none of these.
    """
    if isinstance(value, list) and value and all(isinstance(part, Mapping) for part in value):
        value = {str(part.get("label")): part.get("score") for part in value if isinstance(part, Mapping)}
    if isinstance(value, list) and len(value) == 1 and answer == "label":
        value = value[0]
    if answer == "label" and isinstance(value, str | int) and not isinstance(value, bool):
        return torch.tensor([_label(value, classes, names)])
    scores = torch.full((1, classes), float("nan"))
    if isinstance(value, Mapping):
        for key, score in value.items():
            scores[0, _label(key, classes, names)] = _number(score)
        if answer == "label" and value:
            return scores.nan_to_num(-torch.inf).argmax(1)
        if bool(scores.isnan().any()):
            raise BadAnswer(
                f"Expected scores of all {classes} classes but got {len(value)}; "
                'with `answer = "label"` the best of them will do.'
            )
        return scores
    if isinstance(value, list) and len(value) == classes:
        scores[0] = torch.tensor([_number(score) for score in value])
        return scores.argmax(1) if answer == "label" else scores
    wanted = f"{classes} scores" if answer != "label" else f"a label or {classes} scores"
    raise BadAnswer(f"Expected {wanted} but got {shown(json.dumps(value).encode())}.")


def _number(value: JsonValue) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadAnswer(f"Expected a finite score but got {value!r:.80}.")
    return float(value)


def _label(value: str | int, classes: int, names: Sequence[str]) -> int:
    if isinstance(value, str) and value in names:
        return names.index(value)
    number = int(value) if isinstance(value, int) or value.isdecimal() else -1
    if not 0 <= number < classes:
        raise BadAnswer(
            f"Expected a label from 0 to {classes - 1}{' or its name' if names else ''} but got {value!r:.80}."
        )
    return number
