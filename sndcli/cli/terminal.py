"""The process around a command: what it may print where the terminal has no UTF-8, and how it ends when told to."""

from __future__ import annotations

import codecs
import signal
import sys
from types import FrameType
from typing import NoReturn

# What the program prints beyond ASCII, in ASCII; other characters become "?".
PLAIN = {
    "≤": "<=", "≥": ">=", "≠": "!=", "σ": "sigma", "ε": "eps", "β": "beta", "δ": "delta", "Δ": "difference",
    "θ": "theta", "π": "pi", "√": "sqrt ", "×": "x", "±": "+-", "–": "-", "—": "-", "−": "-", "…": "...", "∞": "inf", "→": "->",
    "‖": "|", "°": " deg", "·": "*", "²": "^2", "½": "1/2", "₂": "2", "⁻": "^-", "\u0302": "^",
}  # fmt: skip
FALLBACK = "sndcli-ascii"


class Terminated(KeyboardInterrupt):
    """SIGTERM: what is finished is saved, as on Ctrl-C."""


def in_ascii(error: UnicodeError) -> tuple[str, int]:
    """An error handler of codecs: what cannot be encoded becomes ASCII."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(PLAIN.get(c, "?") for c in error.object[error.start : error.end]), error.end


def prepare() -> None:
    """Before a command: streams that cannot show a character print another, and SIGTERM ends as Ctrl-C does."""
    codecs.register_error(FALLBACK, in_ascii)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # what tests put in their place may have none
        if reconfigure is not None:
            reconfigure(errors=FALLBACK)
    signal.signal(signal.SIGTERM, _terminate)


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated
