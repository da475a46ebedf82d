"""Recipes of `snd train`."""
