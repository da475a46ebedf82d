"""Attacks that see labels."""
