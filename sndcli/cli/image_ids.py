"""``--image-ids``: which images, by their numbers."""

import re
from pathlib import Path

from sndcli.errors import ConfigError


def read(text: str | None) -> tuple[int, ...]:
    """Numbers of images, separated by commas or white space, or in a file of them; none where there is no text.

    Raises:
        ConfigError: anything else, or a file that cannot be read.
    """
    if text is None:
        return ()
    told, path = text, Path(text)
    if not re.fullmatch(r"[\d,\s]+", text):
        try:
            told = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise ConfigError(
                f"Expected `--image-ids` to be numbers such as 3,17,42, or a file of them, but got `{text}`."
            ) from None
    parts = told.replace(",", " ").split()
    if not parts or not all(part.isdecimal() for part in parts):
        wrong = next((part for part in parts if not part.isdecimal()), "nothing")
        raise ConfigError(f"Expected `--image-ids` to be whole numbers but got `{wrong}`.")
    return tuple(map(int, parts))
