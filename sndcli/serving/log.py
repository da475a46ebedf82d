"""The request log: JSON lines, with hashes of the images as PNG."""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from torch import Tensor

from sndcli.errors import ConfigError

MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def png_hashes(x: Tensor) -> list[str]:
    """SHA-256 of each image as an 8-bit PNG that Pillow writes, without metadata.

    `x` is ``[M, C, H, W]`` in [0, 1], rounded to 8 bits: images that differ by less than that have one hash. Images
    of another number of channels than 1, 3 or 4 are one grey picture with a channel below the other.
    """
    from PIL import Image

    found = []
    for pixels in (x * 255).round().byte().cpu():
        channels, _, width = pixels.shape
        mode = MODES.get(channels, "L")
        laid = pixels.permute(1, 2, 0) if mode in ("RGB", "RGBA") else pixels.reshape(-1, width)
        file = io.BytesIO()
        Image.fromarray(laid.contiguous().numpy()).save(file, "PNG")
        found.append(hashlib.sha256(file.getvalue()).hexdigest())
    return found


class RequestLog:
    """Appends a line a request; a line is written at once, so that several processes can share a file.

    Raises:
        ConfigError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise ConfigError(f"The log {path} cannot be written: {error.strerror}.") from None
        self._lock = threading.Lock()

    def write(
        self, client: str, method: str, path: str, status: int, seconds: float, png: Sequence[str], error: str
    ) -> None:
        """One request: who asked what, how it was answered, and the images' hashes."""
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"), "client": client, "method": method,
            "path": path[:200], "status": status, "ms": round(1000 * seconds, 3), "images": len(png), "png": png,
        }  # fmt: skip
        text = json.dumps(line | ({"error": error} if error else {}))
        with self._lock:
            self._file.write(text.encode() + b"\n")
