"""A run: its config, work units, verification, files and cost."""
