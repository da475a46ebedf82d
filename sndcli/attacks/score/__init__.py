"""Attacks that see probabilities."""
