"""Figures from result files: pure functions, no model, no drawing."""
