"""Randomised defenses: wrappers that draw fresh randomness for every row of a batch."""

from sndcli.defenses.resize_pad import ResizePad
from sndcli.defenses.small_noise import SmallNoise

__all__ = ["ResizePad", "SmallNoise"]
