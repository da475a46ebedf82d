"""Labelled images as uint8 tensors with stable ids."""
