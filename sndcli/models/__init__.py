"""Victims: networks that map images in [0, 1] to logits, and where they come from."""
